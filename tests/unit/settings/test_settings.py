"""Settings: defaults, what is refused and how it is said, secrets, and the page that lists them."""

from __future__ import annotations

import base64
import re
import shlex
import traceback
from pathlib import Path

import pytest
from click import BadParameter, Context
from pydantic import ValidationError
from redis.asyncio import ConnectionPool

from cycles_server.cli import main
from cycles_server.settings.admin import AdminSettings
from cycles_server.settings.common import CommonSettings, plane_port
from cycles_server.settings.loading import SettingError, load_settings
from cycles_server.settings.readers import Milliseconds, Port
from cycles_server.settings.runtime import RuntimeSettings

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
AES_KEY = base64.b64encode(bytes(range(32))).decode()
SECRET = "pa55-w0rd"


def error_line(**environ: str) -> str:
    """The line of the refusal; a test fails when there is none or more than one."""
    with pytest.raises(SettingError) as caught:
        load_settings(RuntimeSettings, environ)
    line = str(caught.value)
    assert "\n" not in line
    return line


# -- reading ---------------------------------------------------------------------------------------


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = load_settings(RuntimeSettings, {})
    assert settings.model_fields_set == set()
    for name, field in RuntimeSettings.model_fields.items():
        assert getattr(settings, name) == field.default, name


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_PORT", "9999")
    assert load_settings(RuntimeSettings).server_port == 9999
    assert load_settings(RuntimeSettings, {}).server_port == 7878
    assert RuntimeSettings().server_port == 7878  # the class alone looks at nothing


def test_each_setting_has_its_field_name_in_capitals() -> None:
    environ = {
        name.upper(): str(field.default or "0")
        for name, field in RuntimeSettings.model_fields.items()
    }
    environ |= {
        "EVIDENCE_SIGNING_RETIRED_KEYS": "[]",
        "LOGGING_STRUCTURED_FORMAT_CONSOLE": "ecs",
        "REDIS_URL": "redis://h",
        "WEBHOOK_SECRET_ENCRYPTION_KEY": AES_KEY,
    }
    assert load_settings(RuntimeSettings, environ).model_fields_set == set(
        RuntimeSettings.model_fields
    )


@pytest.mark.parametrize("name", [name.upper() for name in RuntimeSettings.model_fields])
def test_an_empty_value_counts_as_unset(name: str) -> None:
    assert load_settings(RuntimeSettings, {name: ""}) == load_settings(RuntimeSettings, {})
    assert load_settings(RuntimeSettings, {name: ""}).ignored() == []


def test_names_in_other_case_are_other_variables() -> None:
    assert load_settings(RuntimeSettings, {"redis_port": "x", "Redis_Port": "y"}).redis_port == 6379


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("FALSE", False), ("True", True), ("on", True), ("no", False), ("0", False)],
)
def test_switches(text: str, value: bool) -> None:
    settings = load_settings(RuntimeSettings, {"CYCLES_METRICS_TENANT_TAG_ENABLED": text})
    assert settings.cycles_metrics_tenant_tag_enabled is value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("CYCLES_RESPONSE_VALIDATION", "Enforce", "enforce"),
        ("LOGGING_STRUCTURED_FORMAT_CONSOLE", "ECS", "ecs"),
        ("CYCLES_KEY_LAYOUT", "buckets", "buckets"),
        ("LOG_LEVEL", "warn", "WARNING"),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("AUDIT_RETENTION_DAYS", "0", 0),
        ("SERVER_PORT", " 65535 ", 65535),
        ("AUDIT_SWEEP_CRON", "0  */5 * * * MON-FRI", "0 */5 * * * MON-FRI"),
        ("AUDIT_SWEEP_CRON", "-", "-"),
        ("EVIDENCE_SIGNING_RETIRED_KEYS", '[{"kid": "a"}]', [{"kid": "a"}]),
        ("EVIDENCE_SIGNING_RETIRED_KEYS", "[]", []),
        ("EVIDENCE_SIGNING_SIGNER_DID", "did:example:1", "did:example:1"),
        ("WEBHOOK_SECRET_ENCRYPTION_KEY", AES_KEY, AES_KEY),
        ("WEBHOOK_SECRET_ENCRYPTION_KEY", AES_KEY.rstrip("="), AES_KEY),
        ("REDIS_PASSWORD", " 007 ", " 007 "),
        ("ADMIN_API_KEY", "true", "true"),
        ("CYCLES_EXPIRY_INTERVAL_MS", str(2**63 - 1), 2**63 - 1),
    ],
)
def test_values_that_are_taken(name: str, text: str, value: object) -> None:
    assert getattr(load_settings(RuntimeSettings, {name: text}), name.lower()) == value


def test_ignored_names_what_was_set() -> None:
    environ = {
        name.upper(): str(RuntimeSettings.model_fields[name].default)
        for name in RuntimeSettings.IGNORED
    }
    environ["JAVA_OPTS"] = "-Xmx512m"
    environ["EVIDENCE_SERVER_ID"] = "https://cycles.example.com/v1"
    assert load_settings(RuntimeSettings, environ).ignored() == sorted(
        name.upper() for name in RuntimeSettings.IGNORED
    )
    assert load_settings(
        RuntimeSettings, {"JAVA_OPTS": "-Xmx512m", "REDIS_PORT": "1"}
    ).ignored() == ["JAVA_OPTS"]
    assert load_settings(RuntimeSettings, {}).ignored() == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("1500ms", 2),
        ("1m", 60),
        ("2H", 7200),
        ("PT1M5S", 65),
        ("20000", 20),
        ("0s", 0),
    ],
)
def test_grace_in_springs_notation(text: str, seconds: int) -> None:
    spring = {"SPRING_LIFECYCLE_TIMEOUT_PER_SHUTDOWN_PHASE": text}
    assert load_settings(RuntimeSettings, spring).cycles_shutdown_grace_seconds == seconds
    both = spring | {"CYCLES_SHUTDOWN_GRACE_SECONDS": "7"}
    assert load_settings(RuntimeSettings, both).cycles_shutdown_grace_seconds == 7


# -- planes ----------------------------------------------------------------------------------------


class OtherSettings(CommonSettings):
    server_port: Port = plane_port(7979)
    other_pause_ms: Milliseconds = 1000


def test_a_plane_has_a_port_of_its_own() -> None:
    assert load_settings(OtherSettings, {}).server_port == 7979
    assert load_settings(OtherSettings, {"SERVER_PORT": "81"}).server_port == 81
    with pytest.raises(ValidationError, match="server_port"):
        CommonSettings()  # type: ignore[call-arg]


def test_a_plane_reads_what_is_common_and_its_own() -> None:
    environ = {"REDIS_PORT": "7000", "OTHER_PAUSE_MS": "5", "JAVA_OPTS": "-Xmx512m"}
    other = load_settings(OtherSettings, environ)
    assert (other.redis_port, other.other_pause_ms) == (7000, 5)
    assert other.ignored() == ["JAVA_OPTS"]
    with pytest.raises(SettingError, match=r"^OTHER_PAUSE_MS='0' is not allowed"):
        load_settings(OtherSettings, {"OTHER_PAUSE_MS": "0"})


def test_a_plane_leaves_the_others_alone() -> None:
    environ = {"CYCLES_EXPIRY_INTERVAL_MS": "never", "EVIDENCE_PENDING_KEY": "elsewhere"}
    other = load_settings(OtherSettings, environ)
    assert not hasattr(other, "cycles_expiry_interval_ms")
    assert other.ignored() == []


# -- the address of the store ----------------------------------------------------------------------


def test_the_url_is_put_together_from_host_port_and_password() -> None:
    assert load_settings(RuntimeSettings, {}).redis_connection_url == "redis://localhost:6379"
    v6 = load_settings(RuntimeSettings, {"REDIS_HOST": "::1", "REDIS_PORT": "7000"})
    assert v6.redis_connection_url == "redis://[::1]:7000"


@pytest.mark.parametrize("password", ["simple", "a:b@c/d?e#f%41", "ünï cödé", "@", "%"])
def test_redis_py_reads_the_password_back(password: str) -> None:
    environ = {"REDIS_HOST": "cache.local", "REDIS_PORT": "6380", "REDIS_PASSWORD": password}
    pool = ConnectionPool.from_url(load_settings(RuntimeSettings, environ).redis_connection_url)
    assert pool.connection_kwargs["host"] == "cache.local"
    assert pool.connection_kwargs["port"] == 6380
    assert pool.connection_kwargs["password"] == password


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://user:p%40ss@h.example:6390/3",
        "redis://:pw@[2001:db8::1]:6379/0",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_a_url_wins_over_the_three(url: str) -> None:
    environ = {"REDIS_URL": url, "REDIS_HOST": "other", "REDIS_PASSWORD": "other"}
    assert load_settings(RuntimeSettings, environ).redis_connection_url == url
    ConnectionPool.from_url(url)


# -- refusals --------------------------------------------------------------------------------------

REFUSED = [
    *(
        (name, value, "a whole number from 1 to 65535")
        for name in ("SERVER_PORT", "REDIS_PORT")
        for value in ("0", "65536", "-1", "http", "80.0", "1_000", "٣٣", "9" * 5000, " ")
    ),
    *(
        (name, value, "a whole number of milliseconds")
        for name in (
            "CYCLES_EXPIRY_INTERVAL_MS",
            "CYCLES_MAINTENANCE_LEASE_TTL_MS",
            "CYCLES_MAINTENANCE_RENEW_INTERVAL_MS",
            "REDIS_POOL_MAX_WAIT_MS",
            "RESERVATION_CREATED_AT_INDEX_REPAIR_INTERVAL_MS",
        )
        for value in ("0", "-5", "5s", str(2**63))
    ),
    *(
        (name, "-1", "a whole number of milliseconds")
        for name in (
            "CYCLES_TENANT_CONFIG_CACHE_TTL_MS",
            "EVIDENCE_SIGNING_NBF_MS",
            "RESERVATION_CREATED_AT_INDEX_FAILURE_BACKOFF_MS",
            "RESERVATION_CREATED_AT_INDEX_INITIAL_DELAY_MS",
        )
    ),
    *(
        (name, "-1", "a whole number from 0")
        for name in (
            "CYCLES_EVENTS_EMIT_QUEUE_CAPACITY",
            "CYCLES_EVENTS_EMIT_THREADS",
            "CYCLES_SCHEDULER_POOL_SIZE",
        )
    ),
    *(
        (f"REDIS_POOL_{name}", "many", "a whole number from -1")
        for name in ("MAX_TOTAL", "MAX_IDLE", "MIN_IDLE")
    ),
    ("EVENT_TTL_DAYS", "0", "a whole number of days from 1"),
    ("DELIVERY_TTL_DAYS", "0", "a whole number of days from 1"),
    ("AUDIT_RETENTION_DAYS", "-1", "a whole number of days from 0"),
    ("CYCLES_MAX_BODY_BYTES", "1MB", "a whole number of bytes from 1"),
    ("CYCLES_MAX_BODY_VALUES", "99", "a whole number from 100"),
    ("CYCLES_MAX_BODY_DEPTH", "191", "a whole number from 8 to 190"),
    ("CYCLES_MAX_PAGE_BYTES", "1MB", "a whole number of bytes from 1024"),
    ("CYCLES_MAX_TARGET_BYTES", "255", "a whole number of bytes from 256"),
    ("CYCLES_MAX_HEAD_BYTES", "32k", "a whole number of bytes from 1024"),
    ("CYCLES_MAX_HEAD_LINES", "0", "a whole number from 8"),
    ("CYCLES_MAX_CONNECTIONS", "0", "a whole number from 1"),
    *(
        (f"CYCLES_{name}_TIMEOUT_SECONDS", "0", "a whole number of seconds from 1 to 86400")
        for name in ("HEAD", "BODY", "IDLE", "WRITE")
    ),
    ("CYCLES_WORKERS", "0", "a whole number from 1"),
    ("CYCLES_SHUTDOWN_GRACE_SECONDS", "30s", "a whole number of seconds from 0 to 86400"),
    ("CYCLES_PUBLIC_RATE_LIMIT_REQUESTS_PER_MINUTE", "0", "a whole number from 1"),
    *(
        ("SPRING_LIFECYCLE_TIMEOUT_PER_SHUTDOWN_PHASE", value, "30s, 500ms, 1m or PT30S")
        for value in ("soon", "-1s", "PT", "25h", "30 s")
    ),
    *(
        (name, "maybe", "true or false")
        for name, field in (
            (name.upper(), field) for name, field in RuntimeSettings.model_fields.items()
        )
        if field.annotation is bool
    ),
    *(
        (name, value, "six fields")
        for name in (
            "AUDIT_SWEEP_CRON",
            "EVENT_RETENTION_SWEEP_CRON",
            "RESERVATION_CREATED_AT_INDEX_SWEEP_CRON",
        )
        for value in ("0 3 * * *", "0 0 3 * * * 2026", "daily", "0 0 3 * * !")
    ),
    ("CYCLES_RESPONSE_VALIDATION", "on", "enforce, report or off"),
    ("LOGGING_STRUCTURED_FORMAT_CONSOLE", "gelf", "ecs or logstash"),
    ("CYCLES_KEY_LAYOUT", "cluster", "reference or buckets"),
    ("LOG_LEVEL", "verbose", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
    ("EVIDENCE_SIGNING_RETIRED_KEYS", "{}", "a JSON array"),
    ("EVIDENCE_SIGNING_RETIRED_KEYS", "[{]", "a JSON array"),
    ("EVIDENCE_SIGNING_RETIRED_KEYS", "[" * 100_000, "a JSON array"),
    ("REDIS_HOST", "redis://h", "a host name or an IP address"),
    ("REDIS_HOST", "a b", "a host name or an IP address"),
    *(
        ("REDIS_URL", value, "redis:// or rediss:// with")
        for value in (
            "localhost:6379",
            "http://h",
            "redis://",
            "redis://h:0",
            "redis://h:99999",
            "redis://h:port",
            "redis://h/zero",
            "redis://[::1",
            "unix://",
        )
    ),
]


@pytest.mark.parametrize(("name", "value", "allowed"), REFUSED)
def test_a_bad_value_is_refused_in_one_line(name: str, value: str, allowed: str) -> None:
    line = error_line(**{name: value})
    assert line.startswith(f"{name}={value[:80]!r}"[:-1])
    assert allowed in line.split("it must be ", 1)[1]
    assert len(line) < 400


def test_every_setting_that_can_be_wrong_is_tried() -> None:
    free_text = {
        name for name, field in RuntimeSettings.model_fields.items() if field.annotation is str
    }
    tried = {name.lower() for name, _, _ in REFUSED}
    assert set(RuntimeSettings.model_fields) - free_text <= tried


@pytest.mark.parametrize(
    "environ",
    [
        {"CYCLES_MAINTENANCE_LEASE_TTL_MS": "10000"},
        {"CYCLES_MAINTENANCE_RENEW_INTERVAL_MS": "30000"},
        {"CYCLES_MAINTENANCE_LEASE_TTL_MS": "5", "CYCLES_MAINTENANCE_RENEW_INTERVAL_MS": "5"},
    ],
)
def test_the_lease_is_renewed_before_it_ends(environ: dict[str, str]) -> None:
    line = error_line(**environ)
    lease = environ.get("CYCLES_MAINTENANCE_LEASE_TTL_MS", "30000")
    renew = environ.get("CYCLES_MAINTENANCE_RENEW_INTERVAL_MS", "10000")
    assert line == (
        f"CYCLES_MAINTENANCE_RENEW_INTERVAL_MS='{renew}' is not allowed: it must be less than "
        f"CYCLES_MAINTENANCE_LEASE_TTL_MS, which is {lease}"
    )


def test_a_value_cannot_forge_a_line() -> None:
    line = error_line(LOG_LEVEL="x\nERROR all is lost\x1b[2J")
    assert r"'x\nERROR all is lost\x1b[2J'" in line


@pytest.mark.parametrize("command", ["serve", "up"])
def test_the_command_line_allows_as_many_workers_as_the_setting(command: str) -> None:
    found = main.get_command(Context(main), command)
    [option] = [option for option in found.params if option.name == "workers"]
    assert load_settings(RuntimeSettings, {"CYCLES_WORKERS": "1024"}).cycles_workers == 1024
    assert option.type.convert("1024", option, None) == 1024
    assert "a whole number from 1 to 1024" in error_line(CYCLES_WORKERS="1025")
    with pytest.raises(BadParameter, match="1<=x<=1024"):
        option.type.convert("1025", option, None)


# -- secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBHOOK_SECRET_ENCRYPTION_KEY", SECRET),
        ("WEBHOOK_SECRET_ENCRYPTION_KEY", base64.b64encode(SECRET.encode()).decode()),
        ("WEBHOOK_SECRET_ENCRYPTION_KEY", SECRET + "é"),
        ("REDIS_URL", f"http://user:{SECRET}@h"),
        ("REDIS_URL", f"redis://:{SECRET}#1@h"),
        ("REDIS_URL", f"redis:/h?password={SECRET}"),
        ("REDIS_HOST", f"redis://:{SECRET}@h"),
        ("REDIS_PORT", f"redis://:{SECRET}@h"),
    ],
)
def test_a_refused_secret_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingError) as caught:
        load_settings(RuntimeSettings, {name: value})
    told = "".join(traceback.format_exception(caught.value))
    assert str(caught.value).startswith(f"{name} (value not shown) is not allowed")
    assert value not in told
    assert SECRET not in told


def test_printing_the_settings_shows_no_secret() -> None:
    settings = load_settings(
        RuntimeSettings,
        {
            "ADMIN_API_KEY": SECRET,
            "REDIS_PASSWORD": SECRET,
            "REDIS_URL": f"redis://:{SECRET}@h",
            "WEBHOOK_SECRET_ENCRYPTION_KEY": AES_KEY,
            "JAVA_OPTS": f"-Dkey={SECRET}",
        },
    )
    for text in (repr(settings), str(settings), f"{settings}"):
        assert SECRET not in text
        assert AES_KEY not in text
    assert settings.admin_api_key == SECRET


# -- the page --------------------------------------------------------------------------------------

_ROW = re.compile(r"^\| `([A-Z_]+)` \| (empty|`[^`]+`) \| (.+) \|$", re.MULTILINE)
_EXAMPLE = re.compile(r"^\$ export (\w+=.+)\n(.+)$", re.MULTILINE)


PLANES = {"runtime": RuntimeSettings, "admin": AdminSettings}


def _documented(plane: str) -> dict[str, tuple[str, str]]:
    """The rows that hold for a plane: those for every plane, and those below its own heading."""
    chapters = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    other = [f"The {name} plane" for name in PLANES if name != plane]
    rows = _ROW.findall("".join(text for text in chapters if not text.startswith(tuple(other))))
    assert len(rows) == len({name for name, _, _ in rows}), "a setting is listed twice"
    return {name: (default, meaning) for name, default, meaning in rows}


@pytest.mark.parametrize(
    ("plane", "name"), [(plane, name) for plane, cls in PLANES.items() for name in cls.model_fields]
)
def test_the_page_has_each_setting_with_its_default(plane: str, name: str) -> None:
    field = PLANES[plane].model_fields[name]
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    shown = "empty" if default in ("", None, []) else f"`{default}`"
    documented = _documented(plane)
    assert name.upper() in documented, f"docs/configuration.md has no row for {name.upper()}"
    assert documented[name.upper()] == (shown, field.description)


def test_the_page_has_no_other_settings() -> None:
    known = {name.upper() for settings in PLANES.values() for name in settings.model_fields}
    assert set().union(*map(_documented, PLANES)) == known


def _section(title: str) -> set[str]:
    """Field names of the settings below a heading of the page."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return {name.lower() for name, _, _ in _ROW.findall(section)}


@pytest.mark.parametrize("plane", PLANES)
def test_the_page_keeps_planes_and_the_ignored_apart(plane: str) -> None:
    settings = PLANES[plane]
    known, ignored = set(settings.model_fields), settings.IGNORED
    own = known - set(CommonSettings.model_fields) | {"server_port"}
    assert _section("Accepted and ignored") & known == ignored
    assert _section(f"The {plane} plane") == own - ignored
    assert _section("Every plane") == set(CommonSettings.model_fields) - ignored - {"server_port"}


def test_the_error_lines_of_the_page_are_real() -> None:
    examples = _EXAMPLE.findall(PAGE)
    assert len(examples) >= 5
    for assignment, line in examples:
        name, value = shlex.split(assignment)[0].split("=", 1)
        assert error_line(**{name: value}) == line
