"""Real vLLM servers on this machine's CPU, started by the script that users start them with: `scripts/vllm_cpu`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / os.environ.get("VENV_VLLM", ".venv-vllm") / "bin" / "python"
SCRIPTS = ROOT / "scripts" / "vllm_cpu"
_START_S = 480
"""A start takes half a minute on two idle cores: mostly imports."""


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of the environment that holds vLLM."""
    if not PYTHON.is_file():
        pytest.fail(f"there is no {PYTHON}; build it: make vllm-install")
    return PYTHON


@pytest.fixture(scope="session")
def served(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A profile file that names a running rewriter and a running judge."""
    folder = tmp_path_factory.mktemp("vllm")
    ports = {"rewriter": _free_port(), "judge": _free_port()}
    with ExitStack() as exits:
        waits = [exits.enter_context(_serving(name, port, folder)) for name, port in ports.items()]
        for wait in waits:
            next(wait)
        text = (SCRIPTS / "profile.toml").read_text()
        for port, own in zip((8000, 8001), ports.values(), strict=True):
            assert text.count(f"127.0.0.1:{port}/") == 1
            text = text.replace(f"127.0.0.1:{port}/", f"127.0.0.1:{own}/")
        profile = folder / "served.toml"
        profile.write_text(text)
        yield profile


@contextmanager
def _serving(name: str, port: int, folder: Path) -> Iterator[Iterator[None]]:
    """A server that starts; advance what it yields to wait until it is up. Its process group ends with the block."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [SCRIPTS / "serve.sh", name, str(port)], stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield _until_up(process, f"http://127.0.0.1:{port}/health", log)
    finally:
        for kind, patience in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, kind)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                break


def _until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> Iterator[None]:
    until = time.monotonic() + _START_S
    while True:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                break
        if process.poll() is not None or time.monotonic() > until:
            end = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
            pytest.fail(f"the server of {url} did not come up; the end of its log:\n{end}")
        time.sleep(0.5)
    yield


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
