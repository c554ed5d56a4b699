"""What an operator sets for every plane: the store, the process, HTTP limits, logs, retention.

A setting's environment name is its field name in upper case. A plane's class adds its own
settings and names its port; :mod:`cycles_server.settings.loading` alone reads the environment. The
class itself takes what it is given and defaults for the rest, so that a test sees nothing of the
machine that it runs on.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import quote

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cycles_server.settings.readers import (
    INT32,
    INT64,
    AesKey,
    CallMilliseconds,
    Cron,
    Days,
    GraceSeconds,
    Host,
    LogLevel,
    PoolSize,
    Port,
    RedisUrl,
    SpringSeconds,
    Switch,
    WaitSeconds,
    choice,
    whole,
)

MOST_WORKERS = 1024
"""Server processes at most. Each keeps one processor busy, and machines of two sockets stay below
this number; one more digit is a slip, and would take all of the memory."""

_MOST_DEPTH = 190  # a JSON reader gives up a little further on
_PORT = "TCP port that the server listens on."

SECRETS = frozenset({"admin_api_key", "redis_password", "webhook_secret_encryption_key"})
"""Fields whose value no log line or error may carry; ``redis_url`` too, if it holds a password."""


def plane_port(default: int) -> Any:
    """The field of ``SERVER_PORT`` in a plane's class."""
    return Field(default=default, description=_PORT)


def port_of(plane: type[CommonSettings]) -> int:
    """A plane's own port, where ``SERVER_PORT`` names no other."""
    port: int = plane.model_fields["server_port"].default
    return port


def _below_lease(value: Any, info: ValidationInfo) -> Any:
    lease = info.data.get("cycles_maintenance_lease_ttl_ms", INT64)
    if value >= lease:
        raise ValueError(f"less than CYCLES_MAINTENANCE_LEASE_TTL_MS, which is {lease}")
    return value


class CommonSettings(BaseSettings):
    """The settings of every plane, checked; a plane's settings are a subclass.

    The descriptions are the text of ``docs/configuration.md``.

    Raises:
        pydantic.ValidationError: a value is not allowed (it does not print the value).
    """

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    IGNORED: ClassVar[frozenset[str]] = frozenset(
        {
            "delivery_ttl_days",
            "event_retention_sweep_cron",
            "event_ttl_days",
            "cycles_scheduler_pool_size",
            "java_opts",
            "redis_pool_max_idle",
            "redis_pool_max_total",
            "redis_pool_min_idle",
        }
    )
    """Fields that are read and checked, and change nothing in this plane."""

    # -- the store ---------------------------------------------------------------------------------

    redis_host: Host = Field(
        default="localhost", description="Host name or IP address of Redis or Valkey."
    )
    redis_port: Port = Field(default=6379, description="TCP port of Redis.")
    redis_password: str = Field(
        default="", repr=False, description="Password of Redis's default user; empty: none is sent."
    )
    redis_url: RedisUrl = Field(
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
        Literal["reference", "buckets"], choice("reference", "buckets")
    ] = Field(
        default="reference",
        description=(
            "Names of the keys: `reference` keeps those of the reference deployment and can share "
            "its Redis; `buckets` puts a hash tag before them, which a Redis Cluster needs. "
            "Changing it does not move data."
        ),
    )

    # -- the process -------------------------------------------------------------------------------

    server_port: Port = Field(description=_PORT)
    cycles_workers: Annotated[int, whole(1, MOST_WORKERS)] = Field(
        default=1,
        description=f"Number of server processes that share the port; {MOST_WORKERS} at most.",
    )
    cycles_shutdown_grace_seconds: GraceSeconds = Field(
        default=30,
        description=(
            "Seconds that requests in flight get to finish after the server was told to stop; "
            "0: they are cut off."
        ),
    )
    spring_lifecycle_timeout_per_shutdown_phase: SpringSeconds = Field(
        default=None,
        description=(
            "The same time under the reference's name and in its notation (`30s`, `500ms`, `1m`, "
            "`PT30S`), rounded up to seconds. Counts when `CYCLES_SHUTDOWN_GRACE_SECONDS` is unset."
        ),
    )

    # -- the contract and the operator -------------------------------------------------------------

    admin_api_key: str = Field(
        default="",
        repr=False,
        description=(
            "The operator's key, sent as `X-Admin-API-Key`: opens on-behalf-of calls, and closes "
            "metrics and API documents to everybody else. Empty: no such calls, and those pages "
            "are open; the admin plane answers every call of an operator with 500."
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
        Literal["enforce", "report", "off"], choice("enforce", "report", "off")
    ] = Field(
        default="report",
        description=(
            "When an answer of ours breaks the contract: `report` logs and counts it, `enforce` "
            "sends a 500 in its place as well, `off` does not look."
        ),
    )

    # -- what a request may be, and how long it may take -------------------------------------------

    cycles_max_body_bytes: Annotated[int, whole(1, INT32, "bytes")] = Field(
        default=1_048_576,
        description="Longest request body in bytes; a longer one is answered 413.",
    )
    cycles_max_body_values: Annotated[int, whole(100, INT32)] = Field(
        default=10_000,
        description=(
            "Most members and elements that all objects and arrays of a request body may hold "
            "together; a body with more is answered 400."
        ),
    )
    cycles_max_body_depth: Annotated[int, whole(8, _MOST_DEPTH)] = Field(
        default=128,
        description=(
            "How deep objects and arrays of a request body may stand inside each other, the body "
            "included; a deeper one is answered 400."
        ),
    )
    cycles_max_page_bytes: Annotated[int, whole(1024, INT32, "bytes")] = Field(
        default=1_048_576,
        description=(
            "Stored bytes after which a page of a list ends, however many rows were asked "
            "for; a row that is longer by itself has a page of its own."
        ),
    )
    cycles_max_target_bytes: Annotated[int, whole(256, INT32, "bytes")] = Field(
        default=16_384,
        description=(
            "Longest request target (path and query) in bytes; a longer one is answered 431."
        ),
    )
    cycles_max_head_bytes: Annotated[int, whole(1024, INT32, "bytes")] = Field(
        default=32_768,
        description=(
            "Most bytes of a request's target, header names and header values together; more are "
            "answered 431."
        ),
    )
    cycles_max_head_lines: Annotated[int, whole(8, INT32)] = Field(
        default=100, description="Most header lines of a request; more are answered 431."
    )
    cycles_max_connections: Annotated[int, whole(1, 1_000_000)] = Field(
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

    # -- logs --------------------------------------------------------------------------------------

    log_level: LogLevel = Field(
        default="INFO",
        description=(
            "Least severe level that is logged: `DEBUG`, `INFO`, `WARNING` (or `WARN`), `ERROR`, "
            "`CRITICAL`."
        ),
    )
    logging_structured_format_console: Annotated[
        Literal["", "ecs", "logstash"], choice("ecs", "logstash", also={"": ""})
    ] = Field(
        default="",
        description=(
            "Form of the log: `ecs` or `logstash` give one JSON object a line under those field "
            "names; empty gives plain lines."
        ),
    )

    # -- retention and maintenance -----------------------------------------------------------------

    event_ttl_days: Days = Field(
        default=90,
        description=("Days that an event record is kept; none is written yet."),
    )
    delivery_ttl_days: Days = Field(
        default=14,
        description=("Days that the record of a webhook delivery is kept; none is written yet."),
    )
    event_retention_sweep_cron: Cron = Field(
        default="0 30 3 * * *",
        description=(
            "When index entries of events and deliveries that are gone are removed: a cron "
            "expression of six fields, seconds first; `-`: never. None is written yet."
        ),
    )
    cycles_reference_replays: Switch = Field(
        default=False,
        description=(
            "Whether each first answer is also kept where and as the reference keeps it, so that a "
            "retry that reaches one of its servers gets that answer, and what it keeps of a "
            "funding is looked at, so that a retry here does not fund again; for the time of a "
            "change-over."
        ),
    )
    audit_sweep_cron: Cron = Field(
        default="0 0 3 * * *",
        description=(
            "When index entries of audit records that are gone are removed: a cron expression of "
            "six fields, seconds first; `-`: never."
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
        int, BeforeValidator(_below_lease), whole(1, INT32, "milliseconds")
    ] = Field(
        default=10_000,
        description=(
            "Milliseconds between two renewals of that lease by its owner; less than the lease."
        ),
    )

    # -- secrets in the store ----------------------------------------------------------------------

    webhook_secret_encryption_key: AesKey = Field(
        default="",
        repr=False,
        description=(
            "Base64 text of the 32-byte AES-256-GCM key that protects webhook signing secrets in "
            "Redis; the same on all planes. The runtime plane only checks its form."
        ),
    )

    # -- ignored by every plane --------------------------------------------------------------------

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
    cycles_scheduler_pool_size: Annotated[int, whole(0, INT32)] = Field(
        default=4, description="Threads for maintenance jobs; here they run in the event loop."
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
        """Arguments only; ``load_settings`` turns the environment into arguments."""
        return (init_settings,)

    @model_validator(mode="after")
    def _take_grace_from_spring(self) -> Self:
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
        return sorted(name.upper() for name in self.IGNORED & self.model_fields_set)
