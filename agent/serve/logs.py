"""Logs of a server: one JSON object a line on stderr. No prompts, no tokens, no file names of clients."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from redraft.errors import one_line

LOGGER = "redraft.serve"


def log(event: str, **fields: object) -> None:
    """Writes one line: what happened, and small values about it."""
    logging.getLogger(LOGGER).info(event, extra={"fields": fields})


def log_mistake(event: str, error: BaseException, **fields: object) -> None:
    """A mistake of ours, with its traceback."""
    logging.getLogger(LOGGER).error(event, exc_info=error, extra={"fields": fields})


class Lines(logging.Formatter):
    """JSON lines. Records of other libraries keep their text alone. A traceback names exceptions by type and place:
    their messages may quote what a client sent, and are left out unless `with_messages`."""

    def __init__(self, *, with_messages: bool = False) -> None:
        super().__init__()
        self._messages = with_messages

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.name != LOGGER:
            line["logger"] = record.name
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = self._error(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)

    def _error(self, error: BaseException) -> list[dict[str, object]]:
        import traceback

        chain: list[dict[str, object]] = []
        now: BaseException | None = error
        while now is not None and len(chain) < 5:
            frames = traceback.extract_tb(now.__traceback__)[-8:]
            told: dict[str, object] = {
                "type": type(now).__name__,
                "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
            }
            if self._messages:
                told["message"] = one_line(now)
            chain.append(told)
            now = now.__cause__ or now.__context__
        return chain


def set_up_logs(*, with_prompts: bool) -> None:
    """Sends this process's logs to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(with_messages=with_prompts))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(logging.INFO)
