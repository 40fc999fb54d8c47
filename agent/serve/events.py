"""Events of conversations, from the turns that make them to the clients that follow them."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from agent.chat.values import Clarify, Picture, Replied, TurnBegan, TurnEntry, TurnEvent
from agent.events import (
    ChecklistMade,
    Decided,
    ImageDrawn,
    Judged,
    NeedsAnswer,
    Planned,
    Pruned,
    RewriteMade,
    RunFinished,
    RunStarted,
    StepProgress,
    Warned,
)
from agent.serve.database import Database
from agent.serve.wire import PictureInfo, ServerEvent, TurnInfo
from agent.types import Attempt, passes
from evaluator.types import Verdict
from redraft.limits import CLIENT_LIMITS, Limits

BEAT_S = 15.0
_ROOM = 256
"""Events that wait for a slow listener; beyond that it reads them from the database again."""


_DELETED = ServerEvent(id=None, event="deleted", data={"turn": 0})


@dataclass(frozen=True)
class WireEvent:
    """One event of a turn. `key` names it within its turn: the same event has the same key after a restart.
    None: the event is not kept."""

    key: str | None
    name: str
    data: Mapping[str, Any]


class Broker:
    """Sends the events of conversations to the clients that follow them.

    `poll_s`: how often it looks for events of other servers; None if there are none. All methods belong to one event
    loop.
    """

    def __init__(self, database: Database, poll_s: float | None) -> None:
        self._database = database
        self._poll_s = poll_s
        self._listeners: defaultdict[str, set[asyncio.Queue[ServerEvent | None]]] = defaultdict(set)
        self._closed = False

    async def publish(self, conversation: str, turn: int, event: WireEvent, *, ends: str | None = None) -> None:
        """Keeps an event, if it has a key, and sends it. One that was kept before under its key is not sent again.
        `ends`: the id of the turn that is over with it."""
        number = None
        if event.key is not None:
            number = await self._database.add_event(
                conversation, turn, key=event.key, name=event.name, data=event.data, ends=ends
            )
            if number is None:
                return
        self.send(conversation, ServerEvent(id=number, event=event.name, data={"turn": turn, **event.data}))

    def send(self, conversation: str, event: ServerEvent) -> None:
        """Sends an event to the clients that are connected now."""
        for queue in self._listeners.get(conversation, ()):
            if not queue.full():  # kept ones are then read from the database; the others are not missed
                queue.put_nowait(event)

    def end(self, conversation: str) -> None:
        """The conversation is gone."""
        self.send(conversation, _DELETED)
        for queue in self._listeners.get(conversation, ()):
            _end(queue)

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        for queues in self._listeners.values():
            for queue in queues:
                _end(queue)

    def count_listeners(self) -> int:
        return sum(map(len, self._listeners.values()))

    async def follow(self, conversation: str, after: int) -> AsyncGenerator[ServerEvent | None]:
        """The conversation's events behind the one numbered `after`, for as long as the server runs and the
        conversation is there. None: nothing has happened for a while."""
        queue: asyncio.Queue[ServerEvent | None] = asyncio.Queue(_ROOM)
        self._listeners[conversation].add(queue)
        try:
            last = after
            quiet = BEAT_S  # it may have been deleted before we listened
            while not self._closed:
                if quiet >= BEAT_S:  # or at another server
                    quiet = 0.0
                    if not await self._database.has_conversation(conversation):
                        yield _DELETED
                        return
                # From here on nothing is missed: what comes meanwhile is in the queue.
                for row in await self._database.events(conversation, last):
                    last, quiet = row.seq, 0.0
                    yield ServerEvent(id=row.seq, event=row.name, data={"turn": row.turn, **row.data})
                while True:
                    wait_s = BEAT_S if self._poll_s is None else self._poll_s
                    try:
                        event = await asyncio.wait_for(queue.get(), wait_s)
                    except TimeoutError:
                        quiet += wait_s
                        if quiet >= BEAT_S:
                            yield None
                        break
                    if event is None:
                        return
                    if event.id is None:
                        yield event
                    elif event.id == last + 1:
                        last, quiet = event.id, 0.0
                        yield event
                    elif event.id > last:
                        break  # some are missing
        finally:
            self._listeners[conversation].discard(queue)
            if not self._listeners[conversation]:
                del self._listeners[conversation]


def _end(queue: asyncio.Queue[ServerEvent | None]) -> None:
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(None)


def run_id(conversation: str, folder: str) -> str:
    """The id of a turn's run, from its conversation and the name of its folder."""
    return f"{conversation}.{folder}"


def to_wire(
    event: TurnEvent | Replied | Clarify,
    conversation: str,
    limits: Limits,
    *,
    source: str | None = None,
    file: str | None = None,
) -> WireEvent:
    """An event as it goes over the wire (docs/serving.md has the table). `source`: hash of the picture that a starting run
    edits. `file`: hash of the picture file that a reply wrote."""
    match event:
        case TurnBegan():
            began = {name: value for name, value in asdict(event).items() if name != "turn"}
            return WireEvent("began", "turn_began", began)
        case RunStarted():
            run = run_id(conversation, event.run)
            data = {
                "run": run, "request": event.request, "seed": event.seed, "source": source,
                "limits": client_limits(limits),
            }  # fmt: skip
            return WireEvent(f"run {run}", "run_started", data)
        case StepProgress():
            return WireEvent(None, "progress", asdict(event))
        case ChecklistMade():
            listed = {
                "checks": [asdict(check) for check in event.checks],
                "unchecked": list(event.unchecked),
                "invented": [asdict(check) for check in event.invented],
            }
            return WireEvent("checklist", "checklist", listed)
        case Planned():
            plan = event.plan
            steps = [
                {
                    "instruction": s.instruction,
                    "region": s.region,
                    "area": s.area,
                    "draft": s.draft,
                    "drafted": s.drafted,
                }
                for s in plan.steps
            ]
            planned = {
                "round": event.round, "choice": plan.choice, "reason": plan.reason, "by": plan.by,
                "steps": steps, "at": plan.at,
            }  # fmt: skip
            return WireEvent(f"planned {event.round}", "planned", planned)
        case RewriteMade():
            made = event.rewrite
            rewrite = {
                "round": event.round, "thought": made.thought, "prompt": made.prompt,
                "negative_prompt": made.negative_prompt, "findings": list(made.findings), "fallback": made.fallback,
                "model": made.model,
            }  # fmt: skip
            return WireEvent(f"rewrite {event.round} {_short(made.prompt, made.thought)}", "rewrite", rewrite)
        case ImageDrawn():
            with Image.open(event.path) as picture:  # its header alone
                width, height = picture.size
            image = {
                "round": event.round, "prompt": event.prompt, "seed": event.seed, "image": event.image,
                "width": width, "height": height,
            }  # fmt: skip
            return WireEvent(f"image {event.round} {event.seed} {_short(event.prompt, event.image)}", "image", image)
        case Judged():
            return WireEvent(
                f"attempt {event.number}", "attempt", describe_attempt(event.number, event.attempt, limits.pass_at)
            )
        case Pruned():
            branches = [{"number": n, "confidence": b.confidence, "fate": b.fate} for n, b in event.branches]
            return WireEvent(f"pruned {event.round}", "pruned", {"round": event.round, "branches": branches})
        case Decided():
            decision = event.decision
            best = None if decision.best is None else decision.best + 1
            stop = None if decision.stop is None else decision.stop.value
            decided = {"round": event.round, "stop": stop, "best": best, "why": decision.why}
            return WireEvent(f"decided {event.round}", "decided", decided)
        case Warned():
            return WireEvent(f"warning {_short(event.text)}", "warning", {"text": event.text})
        case RunFinished():
            finished = {
                "run": run_id(conversation, event.trace.parent.name), "stop": event.stop.value, "why": event.why,
                "best": event.number, "image": None if event.attempt is None else event.attempt.image,
                "score": None if event.attempt is None else event.attempt.score, "error": event.error,
                "unchecked": list(event.unchecked),
            }  # fmt: skip
            return WireEvent("finished", "run_finished", finished)
        case Clarify():
            return WireEvent("clarify", "clarify", {"question": event.question, "choices": list(event.choices)})
        case Replied():
            pictures = [describe_picture(picture).model_dump() for picture, _ in event.shown]
            replied = {
                "entry": describe_entry(event.entry).model_dump(), "pictures": pictures,
                "current": event.entry.current, "file": file, "branch": event.branch,
            }  # fmt: skip
            return WireEvent("replied", "replied", replied)
        case NeedsAnswer():  # runs of conversations do not ask
            return WireEvent("asked", "warning", {"text": event.why})


def describe_attempt(number: int, made: Attempt, pass_at: float) -> dict[str, Any]:
    return {
        "number": number,
        "round": made.round,
        "kind": made.kind,
        "prompt": made.prompt,
        "seed": made.seed,
        "image": made.image,
        "parent": made.parent,
        "score": made.score,
        "failed": made.report.failed,
        "unchanged": made.unchanged,
        "draft": made.draft,
        "denoiser_steps": made.denoiser_steps,
        "verdicts": describe_verdicts(made.report.verdicts, pass_at),
        "readings": made.report.reading_rows(),
    }


def describe_verdicts(verdicts: Iterable[Verdict], pass_at: float) -> list[dict[str, Any]]:
    return [
        {
            "key_point": v.check.key_point,
            "question": v.check.question,
            "outcome": v.outcome.value,
            "probability": v.probability,
            "passed": passes(v, pass_at),
            "reason": v.reason,
            "region": v.region,
        }
        for v in verdicts
    ]


def client_limits(limits: Limits) -> dict[str, float]:
    """Those of the limits that clients may set."""
    return limits.model_dump(include=set(CLIENT_LIMITS))


def describe_entry(entry: TurnEntry) -> TurnInfo:
    data = {name: value for name, value in asdict(entry).items() if name in TurnInfo.model_fields}
    return TurnInfo.model_validate(data | {"run": _run_of(entry.run), "pictures": list(entry.pictures)})


def describe_picture(picture: Picture) -> PictureInfo:
    return PictureInfo.model_validate(asdict(picture) | {"run": _run_of(picture.run)})


def _run_of(folder: str | None) -> str | None:
    """Id of a run from its folder within the home of all conversations: conversation/turn-0001."""
    return None if folder is None else run_id(*folder.split("/", 1))


def _short(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:16]
