"""What /metrics shows, for Prometheus, and the server's log.

Each server has its own registry. No metric carries a client's name.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agent.events import Decided, Event, ImageDrawn, Judged, RunFinished, RunStarted, StepProgress
from redraft.chat import Usage
from redraft.errors import one_line
from redraft.secrets import scrub, scrub_output

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._step = Histogram(
            "redraft_step_seconds", "Time a step of the loop took.", ["step"], registry=registry, buckets=_SECONDS
        )
        self._waited = Histogram(
            "redraft_image_queue_seconds", "Time a drawing waited in line.", registry=registry, buckets=_SECONDS
        )
        self._busy = Counter("redraft_image_worker_busy_seconds", "Time local image workers drew.", registry=registry)
        self._images = Counter("redraft_images", "Pictures drawn, by kind.", ["kind"], registry=registry)
        self._checks = Counter("redraft_checks", "Answers of the judge, by outcome.", ["outcome"], registry=registry)
        self._runs = Counter("redraft_runs", "Runs that ended, by reason.", ["stop"], registry=registry)
        self._turns = Counter("redraft_turns", "Turns that ended, by how.", ["end"], registry=registry)
        self._tokens = Counter("redraft_tokens", "Tokens of chat models.", ["model", "kind"], registry=registry)
        self._calls = Gauge("redraft_calls_under_way", "Calls of chat models.", ["model"], registry=registry)
        self._call = Histogram(
            "redraft_call_seconds", "Time a call of a chat model took.", ["model"], registry=registry, buckets=_SECONDS
        )
        self._requests = Counter("redraft_requests", "Requests, by status.", ["method", "status"], registry=registry)
        self._request = Histogram(
            "redraft_request_seconds", "Time until a request's answer began.", registry=registry, buckets=_SECONDS
        )

    def gauge(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A value that is read when /metrics is."""
        Gauge(name, what, registry=self.registry).set_function(read)

    def page(self) -> bytes:
        return generate_latest(self.registry)

    def request(self, method: str, status: int, seconds: float) -> None:
        self._requests.labels(method, str(status)).inc()
        self._request.observe(seconds)

    def turn(self, end: str) -> None:
        self._turns.labels(end).inc()

    @contextmanager
    def call(self, model: str) -> Iterator[None]:
        """Around a call of a chat model."""
        with self._calls.labels(model).track_inprogress(), self._call.labels(model).time():
            yield

    def tokens(self, model: str, usage: Usage) -> None:
        self._tokens.labels(model, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(model, "completion").inc(usage.completion_tokens)

    def run(self) -> RunMeter:
        return RunMeter(self)

    # agent.serve.queue.Watch

    def waited(self, seconds: float) -> None:
        self._waited.observe(seconds)

    def drew(self, pictures: int, seconds: float) -> None:
        del pictures  # counted by the events of runs, servers' pictures too
        self._busy.inc(seconds)


class RunMeter:
    """Follows the events of one run."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._step = ""
        self._since = 0.0
        self._edits = False

    def see(self, event: Event) -> None:
        m = self._metrics
        match event:
            case RunStarted(source=source):
                self._edits = source is not None
            case StepProgress(step=step, done=0):
                if step != self._step:
                    self._end(step)
            case ImageDrawn():
                m._images.labels("edit" if self._edits else "generate").inc()
            case Judged(attempt=attempt):
                for verdict in attempt.report.verdicts:
                    m._checks.labels(verdict.outcome.value).inc()
            case Decided():
                self._end("")
            case RunFinished(stop=stop):
                self._end("")
                m._runs.labels(stop.value).inc()

    def _end(self, follows: str) -> None:
        now = time.monotonic()
        if self._step:
            self._metrics._step.labels(self._step).observe(now - self._since)
        self._step, self._since = follows, now


LOGGER = "redraft.serve"


def log(event: str, **fields: object) -> None:
    """Writes one line: what happened, and small values about it."""
    logging.getLogger(LOGGER).info(event, extra={"fields": fields})


def log_mistake(event: str, error: BaseException, **fields: object) -> None:
    """A mistake of ours, with its traceback."""
    logging.getLogger(LOGGER).error(event, exc_info=error, extra={"fields": fields})


LONGEST = 8000
"""Characters of a line in the log."""


def _short(value: object) -> object:
    return value if not isinstance(value, str) or len(value) <= 200 else f"{value[:199]}…"


class Lines(logging.Formatter):
    """JSON lines, of at most LONGEST characters. Messages of exceptions and of other libraries may quote what a client
    sent: exceptions are named by type and place, records of other libraries by their place in the code, and both have
    their text only `with_messages`."""

    def __init__(self, *, with_messages: bool = False) -> None:
        super().__init__()
        self._messages = with_messages

    def format(self, record: logging.LogRecord) -> str:
        own = record.name == LOGGER
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage() if own else "library",
            **{name: _short(value) for name, value in getattr(record, "fields", {}).items()},
        }
        if not own:
            line |= {"logger": record.name, "at": f"{record.module}:{record.lineno} {record.funcName}"}
            if self._messages:
                line["message"] = one_line(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = self._error(record.exc_info[1])
        text = scrub(json.dumps(line, ensure_ascii=False, default=str))
        if len(text) > LONGEST:
            line.pop("error", None)
            text = scrub(json.dumps({**line, "cut": len(text)}, ensure_ascii=False, default=str))[:LONGEST]
        return text

    def _error(self, error: BaseException) -> list[dict[str, object]]:
        import traceback

        chain: list[dict[str, object]] = []
        now: BaseException | None = error
        while now is not None and len(chain) < 5:
            frames = traceback.extract_tb(now.__traceback__)[-8:]
            link: dict[str, object] = {
                "type": type(now).__name__,
                "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
            }
            if self._messages:
                link["message"] = one_line(now)
            chain.append(link)
            now = now.__cause__ or now.__context__
        return chain


def set_up_logs(*, with_prompts: bool) -> None:
    """Sends this process's logs to stderr as JSON lines."""
    scrub_output()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(with_messages=with_prompts))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(logging.INFO)
