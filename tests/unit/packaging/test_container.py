"""Dockerfile and compose files: what they name exists, and the promises of an image are kept.

Static: neither Docker nor a network is needed.
"""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from cycles_server.cli import main
from cycles_server.settings.runtime import RuntimeSettings

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ("compose.yaml", "compose.prod.yaml")
SECRETS = ("REDIS_PASSWORD", "ADMIN_API_KEY")


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile and its arguments, on one line."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n", "", text))
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(name, arguments) for name, arguments in pairs]


DOCKERFILE = instructions((ROOT / "Dockerfile").read_text())
LAST_FROM = max(place for place, (name, _) in enumerate(DOCKERFILE) if name == "FROM")
FINAL = dict(DOCKERFILE[LAST_FROM:])
"""The image's own stage; of an instruction given twice, the last one."""


def compose(name: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / name).read_text())
    assert isinstance(document, dict)
    return document


def redis_options(name: str) -> dict[str, str]:
    program, *words = compose(name)["services"]["redis"]["command"]
    assert program == "redis-server"
    assert len(words) % 2 == 0
    return dict(zip(words[::2], words[1::2], strict=True))


# -- the image -------------------------------------------------------------------------------------


def test_the_image_starts_a_command_that_exists() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    scripts = config["options.entry_points"]["console_scripts"]
    [program] = json.loads(FINAL["ENTRYPOINT"])
    assert f"{program} = cycles_server.cli:main" in scripts
    [command] = json.loads(FINAL["CMD"])
    assert command in main.commands


def test_everything_the_builder_copies_is_let_through() -> None:
    copied = {
        source
        for name, arguments in DOCKERFILE[:LAST_FROM]
        if name == "COPY"
        for source in arguments.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text().split()
    assert copied == {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    for source in copied:
        assert (ROOT / source).exists(), source


def test_the_builder_copies_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    places = config["options"]["package_dir"].split("\n")
    folders = {place.partition("=")[2].strip() for place in places if place}
    ignore = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{folder}" for folder in folders} <= set(ignore)


def test_the_image_is_not_root_and_takes_nothing_but_the_environment_along() -> None:
    user, _, group = FINAL["USER"].partition(":")
    assert user.isdecimal() and group.isdecimal(), "a number, so that a policy can tell"
    assert int(user) > 0 < int(group)
    copies = [arguments for name, arguments in DOCKERFILE[LAST_FROM:] if name == "COPY"]
    assert copies == ["--from=builder /opt/cycles /opt/cycles"]
    installs = "apt-get", "apk ", "pip "
    runs = " ".join(arguments for name, arguments in DOCKERFILE[LAST_FROM:] if name == "RUN")
    assert not [word for word in installs if word in runs]


def test_what_is_installed_is_what_was_tested() -> None:
    install = next(arguments for name, arguments in DOCKERFILE if name == "RUN")
    assert "-c requirements.lock" in install
    assert (ROOT / "requirements.lock").exists()


def health_check(port: int) -> bool:
    """What the image's own check says about a server on this port."""
    check = json.loads(FINAL["HEALTHCHECK"].partition("CMD ")[2])
    assert check[:2] == ["python", "-c"]
    done = subprocess.run(
        [sys.executable, *check[1:]],
        env={"SERVER_PORT": str(port)},
        stderr=subprocess.DEVNULL,
        timeout=30,
    )
    return done.returncode == 0


def test_the_health_check_tells_a_live_server_from_a_dead_one() -> None:
    status = 200

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert health_check(server.server_port)
        status = 503
        assert not health_check(server.server_port)
        server.shutdown()
        thread.join()
    assert not health_check(server.server_port)
    assert asked == ["/actuator/health/liveness"] * 2


def test_the_image_tells_its_port_and_its_signal() -> None:
    assert FINAL["EXPOSE"] == str(RuntimeSettings.model_fields["server_port"].default)
    assert FINAL["STOPSIGNAL"] == "SIGTERM"


# -- compose ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPOSE)
def test_every_variable_of_the_server_is_a_setting(name: str) -> None:
    environment = compose(name)["services"]["server"]["environment"]
    assert {setting.lower() for setting in environment} <= set(RuntimeSettings.model_fields)
    # What stands there, or its default, is allowed; one without a default is the operator's.
    given = {
        setting.lower(): re.sub(r"\$\{\w+(?::-([^}]*))?[^}]*\}", r"\1", value)
        for setting, value in environment.items()
    }
    RuntimeSettings(**{setting: value for setting, value in given.items() if value})


@pytest.mark.parametrize("name", COMPOSE)
def test_redis_keeps_what_it_was_given(name: str) -> None:
    options = redis_options(name)
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] in ("everysec", "always")
    assert options["--hash-max-listpack-value"] == "256"
    [volume] = compose(name)["services"]["redis"]["volumes"]
    source, _, target = volume.partition(":")
    assert source in compose(name)["volumes"]
    assert target == "/data"


@pytest.mark.parametrize("name", COMPOSE)
def test_the_server_waits_for_redis_and_gets_time_to_stop(name: str) -> None:
    services = compose(name)["services"]
    assert services["server"]["depends_on"]["redis"]["condition"] == "service_healthy"
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "-e", "ping"]
    grace = RuntimeSettings.model_fields["cycles_shutdown_grace_seconds"].default
    assert int(services["server"]["stop_grace_period"].removesuffix("s")) > grace
    # A container's first process ignores a signal that it has no handler for, such as a stop
    # during the start.
    assert services["server"]["init"] is True


def test_production_demands_its_secrets() -> None:
    text = (ROOT / "compose.prod.yaml").read_text()
    for secret in SECRETS:
        uses = re.findall(rf"\$\{{{secret}[^}}]*\}}", text)
        assert uses
        assert all(use.startswith(f"${{{secret}:?set ") for use in uses), uses
    server = compose("compose.prod.yaml")["services"]["server"]["environment"]
    assert set(SECRETS) <= set(server)
    assert redis_options("compose.prod.yaml")["--requirepass"] == server["REDIS_PASSWORD"]


def test_production_is_locked_up() -> None:
    services = compose("compose.prod.yaml")["services"]
    server = services["server"]
    assert server["image"] == "ghcr.io/cycles-protocol/cycles-server:${CYCLES_VERSION:-latest}"
    assert server["environment"]["LOGGING_STRUCTURED_FORMAT_CONSOLE"] == "ecs"
    assert server["cap_drop"] == ["ALL"]
    # Several workers count together in files.
    assert any(mount.startswith("/tmp:") for mount in server["tmpfs"])
    for service in services.values():
        assert service["read_only"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == "unless-stopped"
        assert service["mem_limit"].endswith("g")


def test_a_full_redis_refuses_before_the_kernel_kills_it() -> None:
    limit = int(compose("compose.prod.yaml")["services"]["redis"]["mem_limit"].removesuffix("g"))
    full = int(redis_options("compose.prod.yaml")["--maxmemory"].removesuffix("gb"))
    assert full * 2 <= limit
