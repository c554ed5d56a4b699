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

import click
import pytest
import yaml

from cycles_server.cli import main
from cycles_server.planes.catalogue import DEFAULT, PLANES
from cycles_server.settings.common import port_of

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ("compose.yaml", "compose.prod.yaml")
SECRETS = ("REDIS_PASSWORD", "ADMIN_API_KEY")
SERVICES = {"server": DEFAULT, "admin": PLANES["admin"]}
"""What each of our services serves."""


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
    assert command in main.list_commands(click.Context(main))


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


def health_check(code: str, **environ: str) -> bool:
    """What the image's own check says."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        stderr=subprocess.DEVNULL,
        timeout=30,
    )
    return done.returncode == 0


def test_the_health_check_tells_a_live_server_from_a_dead_one() -> None:
    python, option, code = json.loads(FINAL["HEALTHCHECK"].partition("CMD ")[2])
    assert (python, option) == ("python", "-c")
    ports = " ".join(str(port_of(plane.settings)) for plane in PLANES.values())
    assert f"'{ports}'" in code
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
        named = {"SERVER_PORT": str(server.server_port)}
        assert health_check(code, **named)
        # No port is named: it is that of the plane that is there, the first or the second.
        for place in (f"{server.server_port} 1", f"1 {server.server_port}"):
            assert health_check(code.replace(ports, place))
        assert not health_check(code.replace(ports, "1 2"))
        status = 503
        assert not health_check(code, **named)
        server.shutdown()
        thread.join()
    assert not health_check(code, **named)
    assert asked == ["/actuator/health/liveness"] * 4


def test_the_image_tells_its_port_and_its_signal() -> None:
    ports = [str(port_of(plane.settings)) for plane in PLANES.values()]
    assert FINAL["EXPOSE"].split() == ports
    assert FINAL["STOPSIGNAL"] == "SIGTERM"


# -- compose ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", COMPOSE)
def test_every_variable_of_a_server_is_a_setting(name: str, service: str) -> None:
    environment = compose(name)["services"][service]["environment"]
    settings = SERVICES[service].settings
    assert {setting.lower() for setting in environment} <= set(settings.model_fields)
    # What stands there, or its default, is allowed; one without a default is the operator's.
    given = {
        setting.lower(): re.sub(r"\$\{\w+(?::-([^}]*))?[^}]*\}", r"\1", value)
        for setting, value in environment.items()
    }
    settings(**{setting: value for setting, value in given.items() if value})


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", COMPOSE)
def test_each_plane_is_served_from_the_one_image_on_its_port(name: str, service: str) -> None:
    services = compose(name)["services"]
    command = services[service].get("command", json.loads(FINAL["CMD"]))
    program = main.get_command(click.Context(main), command[0])
    context = program.make_context(command[0], command[1:])
    plane = SERVICES[service]
    assert context.params["plane"] == plane.name
    assert services[service]["image"] == services["server"]["image"]
    [port] = services[service]["ports"]
    assert port.startswith("127.0.0.1:")
    assert port.endswith(f":{port_of(plane.settings)}")


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


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", COMPOSE)
def test_a_server_waits_for_redis_and_gets_time_to_stop(name: str, service: str) -> None:
    services = compose(name)["services"]
    assert services[service]["depends_on"]["redis"]["condition"] == "service_healthy"
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "-e", "ping"]
    settings = SERVICES[service].settings
    grace = settings.model_fields["cycles_shutdown_grace_seconds"].default
    assert int(services[service]["stop_grace_period"].removesuffix("s")) > grace
    # A container's first process ignores a signal that it has no handler for, such as a stop
    # during the start.
    assert services[service]["init"] is True


def test_production_demands_its_secrets() -> None:
    text = (ROOT / "compose.prod.yaml").read_text()
    for secret in SECRETS:
        uses = re.findall(rf"\$\{{{secret}[^}}]*\}}", text)
        assert uses
        assert all(use.startswith(f"${{{secret}:?set ") for use in uses), uses
    for service in SERVICES:
        server = compose("compose.prod.yaml")["services"][service]["environment"]
        assert set(SECRETS) <= set(server)
        assert redis_options("compose.prod.yaml")["--requirepass"] == server["REDIS_PASSWORD"]


def test_production_is_locked_up() -> None:
    services = compose("compose.prod.yaml")["services"]
    for server in (services[service] for service in SERVICES):
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
