"""Signals in an event loop, on systems whose loops take them and on those that do not (Windows)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def handle_signals(*numbers: signal.Signals, call: Callable[[], None]) -> Iterator[None]:
    """Calls `call` in the running event loop at each of these signals, until the block ends.

    Windows' loops take no handlers: there Python's own handler passes the call on, and the old one is put back.
    """
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as undo:
        for number in numbers:
            try:
                loop.add_signal_handler(number, call)
                undo.callback(loop.remove_signal_handler, number)
            except NotImplementedError:
                before = signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))
                undo.callback(signal.signal, number, before)
        yield
