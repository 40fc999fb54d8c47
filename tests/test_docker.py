"""The container files name what is there: packages, extras, options of the command, variables, the health check."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

from agent.cli import app
from agent.serve.settings import Bounds, read_tokens

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "scripts" / "docker"
LINES = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def compose() -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return value


def test_all_packages_and_all_files_that_an_install_reads_are_copied() -> None:
    copied = {source for line in instructions("COPY") for source in line.split()[:-1]}
    assert all((ROOT / source).exists() for source in copied)
    packages = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= copied
    assert {"pyproject.toml", "constraints.txt", PROJECT["project"]["readme"]} <= copied


def test_the_extras_are_the_project_s() -> None:
    [extras] = [line.removeprefix("EXTRAS=") for line in instructions("ARG") if line.startswith("EXTRAS=")]
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_python_is_one_that_the_project_runs_on() -> None:
    [version] = [line.removeprefix("PYTHON=") for line in instructions("ARG") if line.startswith("PYTHON=")]
    least = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert tuple(map(int, version.split("."))) >= tuple(map(int, least.split(".")))


def test_the_command_has_these_options() -> None:
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["redraft"]
    name, *arguments = json.loads(instructions("CMD")[-1])
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= options
    assert arguments[arguments.index("--port") + 1] == instructions("EXPOSE")[0]
    assert arguments[arguments.index("--data") + 1] in instructions("VOLUME")


def test_it_runs_as_nobody_special_and_its_health_is_a_route() -> None:
    assert instructions("USER") == ["10001"]
    [check] = instructions("HEALTHCHECK")
    [route] = re.findall(r"8765(/[a-z]+)", check)
    assert f'"{route}"' in (ROOT / "agent" / "serve" / "app.py").read_text()


def test_compose_builds_this_dockerfile_and_sets_variables_that_are_read() -> None:
    server = compose()["services"]["redraft"]
    build = server["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).resolve() == DOCKER / "Dockerfile"
    assert build["args"].keys() <= {line.partition("=")[0] for line in instructions("ARG")}
    documented = (ROOT / "docs" / "serving.md").read_text()
    assert all(f"`{name}`" in documented for name in server["environment"])
    assert read_tokens({"REDRAFT_TOKENS": f"ann:{'a' * 48}"})
    assert set(server["depends_on"]) <= set(compose()["services"])
    volumes = {place.partition(":")[0] for service in compose()["services"].values() for place in service["volumes"]}
    assert volumes == set(compose()["volumes"])


def test_a_container_is_given_longer_to_stop_than_the_server_takes() -> None:
    grace = compose()["services"]["redraft"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Bounds().drain_s
