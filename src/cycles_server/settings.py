"""What an operator sets: the environment read once, checked, and given names and types.

A setting's environment name is its field name in upper case. :func:`load_settings` is the only
place that reads the environment; ``Settings(...)`` itself takes what it is given and defaults for
the rest, so that a test sees nothing of the machine that it runs on.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from cycles_server.jobs.timetable import parse_cron

_INT32 = 2**31 - 1
_INT64 = 2**63 - 1
_MOST_DAYS = 1_000_000  # a date that far ahead still has a four-digit year
_MOST_GRACE_SECONDS = 86_400
_MOST_DEPTH = 190  # a JSON reader gives up a little further on
_SHOWN_CHARACTERS = 80
_ISO_TIME = r"pt(?=[0-9])(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?"

SECRETS = frozenset({"admin_api_key", "redis_password", "webhook_secret_encryption_key"})
"""Fields whose value no log line or error may carry; ``redis_url`` too, if it holds a password."""

IGNORED = frozenset(
    {
        "evidence_server_id",
        "evidence_pending_key",
        "event_ttl_days",
        "event_retention_sweep_cron",
        "delivery_ttl_days",
        "cycles_events_emit_queue_capacity",
        "cycles_events_emit_threads",
        "cycles_scheduler_pool_size",
        "cycles_tenant_config_cache_ttl_ms",
        "java_opts",
        "redis_pool_max_idle",
        "redis_pool_max_total",
        "redis_pool_min_idle",
        "reservation_created_at_index_enabled",
        "reservation_created_at_index_initial_delay_ms",
    }
)
"""Fields that are read and checked, and change nothing in this server."""


class SettingError(ValueError):
    """A setting has a value that is not allowed; ``str()`` is one line for the operator."""


# -- values: each reader takes the text of the environment and says what would be allowed ----------


def _whole(lowest: int, highest: int, unit: str = "") -> BeforeValidator:
    """Whole numbers from ``lowest`` to ``highest``, both included."""
    allowed = f"a whole number{unit and f' of {unit}'} from {lowest} to {highest}"

    def read(value: Any) -> int:
        # int() alone would also take 1_000 and other scripts' digits.
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text := str(value).strip()):
            raise ValueError(allowed)
        if not lowest <= (number := int(text)) <= highest:
            raise ValueError(allowed)
        return number

    return BeforeValidator(read)


def _choice(*words: str, also: Mapping[str, str] | None = None) -> BeforeValidator:
    """One of ``words`` in any case; ``also`` maps further spellings to one of them."""
    known = {word.lower(): word for word in words} | dict(also or {})
    allowed = f"{', '.join(words[:-1])} or {words[-1]}"

    def read(value: Any) -> str:
        text = str(value).strip().lower()
        if text not in known:
            raise ValueError(allowed)
        return known[text]

    return BeforeValidator(read)


def _switch(value: Any) -> bool:
    # The further words are those that the reference takes for a boolean.
    text = str(value).strip().lower()
    if text in ("true", "on", "yes", "1"):
        return True
    if text in ("false", "off", "no", "0"):
        return False
    raise ValueError("true or false")


def _below_lease(value: Any, info: ValidationInfo) -> Any:
    lease = info.data.get("cycles_maintenance_lease_ttl_ms", _INT64)
    if value >= lease:
        raise ValueError(f"less than CYCLES_MAINTENANCE_LEASE_TTL_MS, which is {lease}")
    return value


def _cron(value: str) -> str:
    allowed = "six fields (second, minute, hour, day of month, month, day of week), or - for never"
    fields = value.split()
    if value.strip() == "-":
        return "-"
    if len(fields) != 6 or not all(re.fullmatch(r"[0-9A-Za-z*?,/#-]+", part) for part in fields):
        raise ValueError(allowed)
    cron = " ".join(fields)
    try:
        parse_cron(cron)
    except ValueError:
        raise ValueError(allowed) from None
    return cron


def _host(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_.:-]+", text := value.strip()):
        raise ValueError("a host name or an IP address (a URL goes into REDIS_URL)")
    return text


def _redis_url(value: str) -> str:
    allowed = (
        "a URL: redis:// or rediss:// with [user:password@]host[:port][/database], or unix:// "
        "with the path of a socket; user and password percent-encoded"
    )
    if not value:
        return value
    try:
        parts = urlsplit(value.strip())
        port = parts.port
    except ValueError:
        raise ValueError(allowed) from None
    if parts.scheme == "unix":
        fits = len(parts.path) > 1
    else:
        fits = (
            parts.scheme in ("redis", "rediss")
            and bool(parts.hostname)
            and port != 0
            and re.fullmatch(r"(/[0-9]*)?", parts.path) is not None
        )
    if not fits:
        raise ValueError(allowed)
    return value.strip()


def _aes_key(value: str) -> str:
    allowed = "the base64 text of 32 bytes"
    if not value:
        return value
    padded = value.strip() + "=" * (-len(value.strip()) % 4)  # the reference does without, too
    try:
        size = len(base64.b64decode(padded, validate=True))
    except (binascii.Error, ValueError):
        raise ValueError(allowed) from None
    if size != 32:
        raise ValueError(allowed)
    return padded


def _json_array(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, list):
        raise ValueError("a JSON array")
    return value


def _spring_seconds(value: Any) -> int | None:
    """Spring's duration (``30s``, ``500ms``, ``1m``, ``PT30S``; a bare number is milliseconds) in
    seconds, rounded up."""
    if value is None:
        return None
    text = str(value).strip().lower()
    seconds = -1
    if match := re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|)", text):
        factor = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
        seconds = -(-int(match[1]) * factor[match[2]] // 1000)
    elif match := re.fullmatch(_ISO_TIME, text):
        hours, minutes, rest = (int(digits or 0) for digits in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if not 0 <= seconds <= _MOST_GRACE_SECONDS:
        raise ValueError(
            "a time of at most a day, such as 30s, 500ms, 1m or PT30S (a bare number is "
            "milliseconds)"
        )
    return seconds


Switch = Annotated[bool, BeforeValidator(_switch)]
Port = Annotated[int, _whole(1, 65535)]
Days = Annotated[int, _whole(1, _MOST_DAYS, "days")]
DaysOrForEver = Annotated[int, _whole(0, _MOST_DAYS, "days")]
Milliseconds = Annotated[int, _whole(1, _INT64, "milliseconds")]
Delay = Annotated[int, _whole(0, _INT64, "milliseconds")]
# Redis and the event loop take these as the time of one call or key: 24 days are plenty.
CallMilliseconds = Annotated[int, _whole(1, _INT32, "milliseconds")]
GraceSeconds = Annotated[int, _whole(0, _MOST_GRACE_SECONDS, "seconds")]
WaitSeconds = Annotated[int, _whole(1, _MOST_GRACE_SECONDS, "seconds")]
Cron = Annotated[str, BeforeValidator(_cron)]
PoolSize = Annotated[int, _whole(-1, _INT32)]
# NoDecode: pydantic-settings would parse the text itself, and its error names no setting of ours.
JsonArray = Annotated[list[Any], NoDecode, BeforeValidator(_json_array)]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_LEVELS = _choice(
    "DEBUG",
    "INFO",
    "WARNING",
    "ERROR",
    "CRITICAL",
    also={"trace": "DEBUG", "warn": "WARNING", "fatal": "CRITICAL"},
)


class Settings(BaseSettings):
    """Every setting of the runtime server, checked.

    The descriptions are the text of ``docs/configuration.md``.

    Raises:
        pydantic.ValidationError: a value is not allowed (it does not print the value).
    """

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    # -- the store --------------------------------------------------------------------------------

    redis_host: Annotated[str, BeforeValidator(_host)] = Field(
        default="localhost", description="Host name or IP address of Redis or Valkey."
    )
    redis_port: Port = Field(default=6379, description="TCP port of Redis.")
    redis_password: str = Field(
        default="", repr=False, description="Password of Redis's default user; empty: none is sent."
    )
    redis_url: Annotated[str, BeforeValidator(_redis_url)] = Field(
        default="",
        repr=False,
        description=(
            "Address of the store as one URL, for a user, TLS (`rediss://`), a database number or "
            "a socket (`unix://`). When set, the host, port and password above do not count."
        ),
    )
    redis_pool_max_wait_ms: CallMilliseconds = Field(
        default=2000,
        description=(
            "Milliseconds that a request waits for the store, connecting included, before it is "
            "answered with an error."
        ),
    )
    cycles_key_layout: Annotated[
        Literal["reference", "buckets"], _choice("reference", "buckets")
    ] = Field(
        default="reference",
        description=(
            "Names of the keys: `reference` keeps those of the reference deployment and can share "
            "its Redis; `buckets` puts a hash tag before them, which a Redis Cluster needs. "
            "Changing it does not move data."
        ),
    )
    cycles_reference_replays: Switch = Field(
        default=False,
        description=(
            "Whether each first answer is also kept where and as the reference keeps it, so that a "
            "retry that reaches one of its servers gets that answer; for the time of a change-over."
        ),
    )

    # -- HTTP and the process ---------------------------------------------------------------------

    server_port: Port = Field(default=7878, description="TCP port that the server listens on.")
    cycles_workers: Annotated[int, _whole(1, 1024)] = Field(
        default=1, description="Number of server processes that share the port."
    )
    cycles_shutdown_grace_seconds: GraceSeconds = Field(
        default=30,
        description=(
            "Seconds that requests in flight get to finish after the server was told to stop; "
            "0: they are cut off."
        ),
    )
    spring_lifecycle_timeout_per_shutdown_phase: Annotated[
        int | None, BeforeValidator(_spring_seconds)
    ] = Field(
        default=None,
        description=(
            "The same time under the reference's name and in its notation (`30s`, `500ms`, `1m`, "
            "`PT30S`), rounded up to seconds. Counts when `CYCLES_SHUTDOWN_GRACE_SECONDS` is unset."
        ),
    )
    cycles_max_body_bytes: Annotated[int, _whole(1, _INT32, "bytes")] = Field(
        default=1_048_576,
        description="Longest request body in bytes; a longer one is answered 413.",
    )
    cycles_max_body_values: Annotated[int, _whole(100, _INT32)] = Field(
        default=10_000,
        description=(
            "Most members and elements that all objects and arrays of a request body may hold "
            "together; a body with more is answered 400."
        ),
    )
    cycles_max_body_depth: Annotated[int, _whole(8, _MOST_DEPTH)] = Field(
        default=128,
        description=(
            "How deep objects and arrays of a request body may stand inside each other, the body "
            "included; a deeper one is answered 400."
        ),
    )
    cycles_max_page_bytes: Annotated[int, _whole(1024, _INT32, "bytes")] = Field(
        default=1_048_576,
        description=(
            "Stored bytes after which a page of reservations ends, however many rows were asked "
            "for; a row that is longer by itself has a page of its own."
        ),
    )
    cycles_max_target_bytes: Annotated[int, _whole(256, _INT32, "bytes")] = Field(
        default=16_384,
        description=(
            "Longest request target (path and query) in bytes; a longer one is answered 431."
        ),
    )
    cycles_max_head_bytes: Annotated[int, _whole(1024, _INT32, "bytes")] = Field(
        default=32_768,
        description=(
            "Most bytes of a request's target, header names and header values together; more are "
            "answered 431."
        ),
    )
    cycles_max_head_lines: Annotated[int, _whole(8, _INT32)] = Field(
        default=100, description="Most header lines of a request; more are answered 431."
    )
    cycles_max_connections: Annotated[int, _whole(1, 1_000_000)] = Field(
        default=4096,
        description=(
            "Connections of each worker. When more come, those that have waited longest for their "
            "client (a second at least) are closed; while as many requests are being served, "
            "further ones wait for as long as it takes. Liveness never waits."
        ),
    )
    cycles_head_timeout_seconds: WaitSeconds = Field(
        default=30,
        description=(
            "Seconds in which a client must have sent the head of a request it has begun, then "
            "408; and in which a new connection must begin one, then it is closed."
        ),
    )
    cycles_body_timeout_seconds: WaitSeconds = Field(
        default=60, description="Seconds in which a request's body must have arrived; then 408."
    )
    cycles_idle_timeout_seconds: WaitSeconds = Field(
        default=75,
        description=(
            "Seconds that a connection is kept open between two requests; more than the proxy in "
            "front of the server keeps it."
        ),
    )
    cycles_write_timeout_seconds: WaitSeconds = Field(
        default=30,
        description=(
            "Seconds that a client may take to read 64 KiB of an answer; then the connection is "
            "cut."
        ),
    )
    admin_api_key: str = Field(
        default="",
        repr=False,
        description=(
            "The operator's key, sent as `X-Admin-API-Key`: opens on-behalf-of calls, and closes "
            "metrics and API documents to everybody else. Empty: no such calls, and those pages "
            "are open."
        ),
    )
    cycles_spec: str = Field(
        default="",
        description=(
            "Path of an OpenAPI document to start on instead of the one that is built in; "
            "`--spec` on the command line does the same."
        ),
    )
    cycles_response_validation: Annotated[
        Literal["enforce", "report", "off"], _choice("enforce", "report", "off")
    ] = Field(
        default="report",
        description=(
            "When an answer of ours breaks the contract: `report` logs and counts it, `enforce` "
            "sends a 500 in its place as well, `off` does not look."
        ),
    )
    springdoc_api_docs_enabled: Switch = Field(
        default=True, description="Whether the contract is served under `/api-docs`."
    )
    springdoc_swagger_ui_enabled: Switch = Field(
        default=True,
        description="Whether the browsable contract is served under `/swagger-ui.html`.",
    )
    cycles_public_rate_limit_enabled: Switch = Field(
        default=True,
        description=(
            "Whether calls without a key (evidence and its key set, not health) are limited for "
            "each client address."
        ),
    )
    cycles_public_rate_limit_requests_per_minute: Annotated[int, _whole(1, _INT32)] = Field(
        default=300,
        description=(
            "Calls a minute that one client address (the peer of the socket) may make without a "
            "key, counted over all workers."
        ),
    )

    # -- logs and metrics -------------------------------------------------------------------------

    log_level: Annotated[Level, _LEVELS] = Field(
        default="INFO",
        description=(
            "Least severe level that is logged: `DEBUG`, `INFO`, `WARNING` (or `WARN`), `ERROR`, "
            "`CRITICAL`."
        ),
    )
    logging_structured_format_console: Annotated[
        Literal["", "ecs", "logstash"], _choice("ecs", "logstash", also={"": ""})
    ] = Field(
        default="",
        description=(
            "Form of the log: `ecs` or `logstash` give one JSON object a line under those field "
            "names; empty gives plain lines."
        ),
    )
    cycles_metrics_tenant_tag_enabled: Switch = Field(
        default=True,
        description=(
            "Whether the domain metrics carry the tenant as a label; switch it off when tenants "
            "are many and the series too numerous."
        ),
    )

    # -- retention and maintenance ----------------------------------------------------------------

    event_ttl_days: Days = Field(
        default=90,
        description=("Days that an event record is kept; this plane does not write any yet."),
    )
    delivery_ttl_days: Days = Field(
        default=14,
        description=(
            "Days that the record of a webhook delivery is kept; this plane does not write any yet."
        ),
    )
    event_retention_sweep_cron: Cron = Field(
        default="0 30 3 * * *",
        description=(
            "When index entries of events and deliveries that are gone are removed: a cron "
            "expression of six fields, seconds first; `-`: never. This plane does not write "
            "any yet."
        ),
    )
    audit_retention_days: DaysOrForEver = Field(
        default=400, description="Days that an audit entry is kept; 0: for ever."
    )
    audit_sweep_cron: Cron = Field(
        default="0 0 3 * * *",
        description=(
            "When index entries of audit records that are gone are removed: a cron expression of "
            "six fields, seconds first; `-`: never."
        ),
    )
    cycles_expiry_interval_ms: Milliseconds = Field(
        default=5000,
        description=(
            "Milliseconds between the end of one sweep that gives back the holds of lapsed "
            "reservations and the start of the next."
        ),
    )
    reservation_created_at_index_repair_interval_ms: Milliseconds = Field(
        default=300_000,
        description=(
            "Milliseconds between two scans that add missing reservations to the list index; the "
            "first runs at start."
        ),
    )
    reservation_created_at_index_failure_backoff_ms: Delay = Field(
        default=3_600_000,
        description=("Milliseconds to the next such scan after one that failed."),
    )
    reservation_created_at_index_sweep_cron: Cron = Field(
        default="0 45 3 * * *",
        description=(
            "When list index entries of reservations that are gone are removed: a cron expression "
            "of six fields, seconds first; `-`: never."
        ),
    )
    cycles_maintenance_lease_ttl_ms: CallMilliseconds = Field(
        default=30_000,
        description=(
            "Milliseconds after which another process may take over a maintenance job whose owner "
            "fell silent."
        ),
    )
    # Stands after the lease, which its check looks at. Of two readers the last one goes first.
    cycles_maintenance_renew_interval_ms: Annotated[
        int, BeforeValidator(_below_lease), _whole(1, _INT32, "milliseconds")
    ] = Field(
        default=10_000,
        description=(
            "Milliseconds between two renewals of that lease by its owner; less than the lease."
        ),
    )

    # -- evidence ---------------------------------------------------------------------------------

    evidence_server_id: str = Field(
        default="",
        description=(
            "Base URL under which this server issues evidence, `/v1` included; it serves "
            "stored evidence and does not issue any yet."
        ),
    )
    evidence_signing_signer_did: str = Field(
        default="",
        description=(
            "Public Ed25519 key that signs evidence, as 64 lower-case hex digits. Any other text "
            "is taken over as it is, and the key set is then not published (404)."
        ),
    )
    evidence_signing_kid: str = Field(
        default="",
        description=(
            "Id of that key in the published key set; empty: the key's first 16 hex digits."
        ),
    )
    evidence_signing_nbf_ms: Delay = Field(
        default=0, description="From when that key is valid, in milliseconds since 1970 UTC."
    )
    evidence_signing_retired_keys: JsonArray = Field(
        default=[],
        description=(
            "Earlier keys that stay published: a JSON array of objects with `signer_did`, `kid`, "
            "`nbf_ms` and `exp_ms` (milliseconds since 1970 UTC, the end excluded)."
        ),
    )
    evidence_pending_key: str = Field(
        default="evidence:pending",
        description=(
            "Redis key of the list where evidence waits for signing; nothing is put there yet."
        ),
    )
    evidence_store_key_prefix: str = Field(
        default="evidence:envelope:",
        description="What the Redis keys of signed evidence start with; the id follows.",
    )

    # -- for the other planes ---------------------------------------------------------------------

    webhook_secret_encryption_key: Annotated[str, BeforeValidator(_aes_key)] = Field(
        default="",
        repr=False,
        description=(
            "Base64 text of the 32-byte AES-256-GCM key that protects webhook signing secrets in "
            "Redis; the same on all planes. The runtime plane only checks its form."
        ),
    )

    # -- accepted and ignored: see IGNORED --------------------------------------------------------

    redis_pool_max_total: PoolSize = Field(
        default=128,
        description="Upper bound of a connection pool; here requests share one connection.",
    )
    redis_pool_max_idle: PoolSize = Field(
        default=32, description="Idle connections that a pool keeps at most; there is no pool here."
    )
    redis_pool_min_idle: PoolSize = Field(
        default=16,
        description="Idle connections that a pool keeps at least; there is no pool here.",
    )
    cycles_tenant_config_cache_ttl_ms: Delay = Field(
        default=60_000,
        description=(
            "Milliseconds that a tenant's defaults may be out of date; here a change counts at "
            "once."
        ),
    )
    cycles_events_emit_threads: Annotated[int, _whole(0, _INT32)] = Field(
        default=0,
        description=("Threads that write events; there are none here."),
    )
    cycles_events_emit_queue_capacity: Annotated[int, _whole(0, _INT32)] = Field(
        default=10_000,
        description="Events that may wait in memory before some are lost; here none wait there.",
    )
    cycles_scheduler_pool_size: Annotated[int, _whole(0, _INT32)] = Field(
        default=4, description="Threads for maintenance jobs; here they run in the event loop."
    )
    reservation_created_at_index_enabled: Switch = Field(
        default=False,
        description="Whether lists use the index by creation time; here they always do.",
    )
    reservation_created_at_index_initial_delay_ms: Delay = Field(
        default=5000,
        description="Milliseconds before the first scan for that index; here it runs at start.",
    )
    java_opts: str = Field(
        default="", repr=False, description="Flags of a Java virtual machine; there is none here."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only; :func:`load_settings` turns the environment into arguments."""
        return (init_settings,)

    @model_validator(mode="after")
    def _take_grace_from_spring(self) -> Settings:
        seconds = self.spring_lifecycle_timeout_per_shutdown_phase
        if seconds is not None and "cycles_shutdown_grace_seconds" not in self.model_fields_set:
            self.cycles_shutdown_grace_seconds = seconds
        return self

    @property
    def redis_connection_url(self) -> str:
        """The store's address as redis-py reads it. It may hold the password: never log it."""
        if self.redis_url:
            return self.redis_url
        host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
        login = f":{quote(self.redis_password, safe='')}@" if self.redis_password else ""
        return f"redis://{login}{host}:{self.redis_port}"

    def ignored(self) -> list[str]:
        """Environment names of the settings that were set and change nothing here, sorted."""
        return sorted(name.upper() for name in IGNORED & self.model_fields_set)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from ``environ``, by default the environment of the process.

    A variable with an empty value counts as not set; other variables are left alone.

    Raises:
        SettingError: the first setting, in the order of the class, with a value not allowed.
    """
    source = EnvSettingsSource(Settings)
    given = os.environ if environ is None else environ
    source.env_vars = {
        name.lower(): value for name, value in given.items() if value and name.isupper()
    }
    try:
        return Settings(**source())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    # Outside the except block: the traceback of a SettingError must not carry the value either.
    raise SettingError(_line(str(first["loc"][0]), first["input"], first["msg"]))


def _line(field: str, value: Any, message: str) -> str:
    allowed = message.removeprefix("Value error, ")
    shown = " (value not shown)" if _is_secret(field, str(value)) else f"={_short(value)}"
    return f"{field.upper()}{shown} is not allowed: it must be {allowed}"


def _is_secret(field: str, value: str) -> bool:
    # A URL with its password also ends up in the wrong one of Redis's settings.
    login = field.startswith("redis_") and ("@" in value or "password" in value.lower())
    return login or field in SECRETS


def _short(value: Any) -> str:
    """The value in quotes, its control characters escaped, cut when it is long."""
    text = str(value)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
