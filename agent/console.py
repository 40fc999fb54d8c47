"""What all commands share: results on stdout and nothing else there, consoles, leaving after Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TextIO

from rich.console import Console
from rich.markup import escape as _escape_markup

from redraft.errors import printable

_PATIENCE_S = 1.0
"""After Ctrl-C the process waits this long for a worker that cannot be stopped. Nothing is lost by leaving it: every
finished piece of work is on disk."""


def escape(text: str) -> str:
    """Text of users and models for rich: no markup, and no control characters that could drive the terminal."""
    return _escape_markup(printable(text))


def leave_soon() -> None:
    """Ends the process after a short while, or at once at another Ctrl-C, whatever its threads are still at."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    timer = threading.Timer(_PATIENCE_S, os._exit, (130,))
    timer.daemon = True
    timer.start()


def open_console(file: TextIO) -> Console:
    return Console(file=file, highlight=False)


def write_json(value: Mapping[str, object], stdout: TextIO) -> None:
    stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


@contextlib.contextmanager
def stdout_for_results() -> Iterator[TextIO]:
    """The real stdout, while everything else in the process that writes there is sent to stderr: a model library that
    prints must not end up inside the result."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    # Folder names need not be Unicode; what has no UTF-8 becomes an escape, which JSON reads back.
    with open(kept, "w", encoding="utf-8", errors="backslashreplace") as stdout:
        try:
            yield stdout
            stdout.flush()
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
