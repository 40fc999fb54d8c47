"""Real `redraft serve` processes on the mini profile, and pages in headless Chromium."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.serve.processes import Process, free_port

READY_S = 200
TOKEN = "a-token-for-tests-0123456789"
_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip


@contextmanager
def serve(folder: Path, env: dict[str, str] | None = None) -> Iterator[Process]:
    """A server, ready; killed at the end. The models may take long to load beside other work."""
    port = free_port()
    code = "from agent.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--port", str(port), "--data", str(folder / "data")]
    process = Process(command, port, folder / "log", env)
    try:
        process.start(READY_S)
        yield process
    finally:
        process.__exit__()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serve(tmp_path_factory.mktemp("serve")) as process:
        yield process


class Painted(Process):
    """A server with fakes for models, whose judge points and whose drawings can be held: tests/browser/driver.py."""

    def __init__(self, folder: Path) -> None:
        port, data = free_port(), folder / "data"
        self._hold = data.with_name("data.hold")
        super().__init__([sys.executable, "-m", "tests.browser.driver", str(data), str(port)], port, folder / "log")

    @contextmanager
    def holding(self, word: str) -> Iterator[None]:
        """Pictures whose prompt holds the word are not drawn meanwhile."""
        self._hold.write_text(word)
        try:
            yield
        finally:
            self._hold.unlink()


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Painted]:
    with Painted(tmp_path_factory.mktemp("painted")) as process:
        yield process


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = os.environ.get("REDRAFT_CHROMIUM", "/usr/bin/chromium")
        chromium = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Makes pages; at the end none has logged an error, but those that a test has said it expects."""
    contexts, wrong = [], []

    def make(url: str, *, offline: bool = False, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        if not offline:
            page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert wrong == []
