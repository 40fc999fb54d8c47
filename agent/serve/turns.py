"""Works on turns of conversations: those that were just posted, and those that a server left behind."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from agent.chat.conversation import Conversation, ConversationStatus
from agent.chat.journal import LogUnavailable
from agent.chat.values import Clarify, Replied, Tell, TurnBegan, TurnEvent
from agent.events import Event, ImageDrawn, Judged, Planned, RunFinished, RunStarted
from agent.runfolder import RunFolder
from agent.serve.database import LEASE_S, ConversationRow, TurnRow
from agent.serve.events import WireEvent, run_id, to_wire
from agent.serve.metrics import log, log_mistake
from agent.serve.wire import ServerEvent
from agent.types import Attempt
from evaluator.types import Report
from redraft.errors import InputError, RedraftError
from redraft.images import ImageStore, open_image
from redraft.journal import Occupied
from redraft.limits import Limits

if TYPE_CHECKING:
    from agent.serve.service import Service

_REPORT = TypeAdapter(Report)
_SCAN_S = 2.0
"""How often a server looks for turns that nobody holds any more, if there are several servers."""
_PATIENCE_S = 30.0
"""How long a turn waits in all for its conversation and its run (a server that lost them may not have noticed yet), and
for a database that cannot be used, before it fails."""
_AGAIN_S = (0.1, 1.0)
"""How soon it is tried again, at first and at last."""


@dataclass
class _UnderWay:
    turn: TurnRow
    task: asyncio.Task[None]
    conversation: Conversation | None = None
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True
        if self.conversation is not None:
            self.conversation.cancel()


class TurnWorker:
    """One task for each turn. A turn ends in the database in the same moment in which its last event is kept."""

    def __init__(self, service: Service) -> None:
        self.owner = secrets.token_hex(8)
        self._service = service
        self._turns: dict[str, _UnderWay] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._alone = True
        self._stopped = False

    def __len__(self) -> int:
        return len(self._turns)

    async def start(self, *, alone: bool) -> None:
        """Takes up what is left behind. `alone`: no other server uses this database."""
        self._alone = alone
        await self._claim(everything=alone)
        self._keeper = asyncio.create_task(self._keep())

    async def _claim(self, *, everything: bool) -> None:
        for turn in await self._service.database.claim_turns(self.owner, everything=everything):
            if turn.id in self._turns:
                continue
            log("turn taken up", conversation=turn.conversation, turn=turn.number)
            self.take(turn)

    def take(self, turn: TurnRow) -> None:
        """Begins to work on a turn that this server holds. If it is going down, the next one does."""
        if self._stopped:
            return
        task = asyncio.create_task(self._work(turn))
        self._turns[turn.id] = _UnderWay(turn, task, cancelled=turn.cancelled)
        task.add_done_callback(lambda _: self._turns.pop(turn.id, None))

    def cancel(self, conversation: str) -> None:
        for under_way in list(self._turns.values()):
            if under_way.turn.conversation == conversation:
                under_way.cancel()

    async def finish(self, seconds: float) -> None:
        """Waits until all turns are done, at most so long; the rest stays as it is."""
        tasks = [under_way.task for under_way in self._turns.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        await self.stop()

    async def stop(self) -> None:
        """Leaves the turns under way to the next server."""
        self._stopped = True
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        tasks = [under_way.task for under_way in self._turns.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=10)
            log("turns left for the next start", turns=len(tasks))
        try:
            await self._service.database.release(self.owner)
        except LogUnavailable as error:  # others then take the turns when this server has been silent for a while
            log_mistake("database", error)

    async def _keep(self) -> None:
        """Renews the leases, hears of cancellations at other servers, and looks for turns that nobody works on."""
        renewed = time.monotonic()
        idle: set[str] = set()
        while True:
            await asyncio.sleep(LEASE_S / 4 if self._alone else min(_SCAN_S, LEASE_S / 4))
            before = dict(self._turns)  # a turn that is accepted from here on may be missing in `held`
            try:
                held = await self._service.database.renew(self.owner)
                renewed = time.monotonic()
                for id, under_way in before.items():
                    if held.get(id) and not under_way.cancelled:
                        under_way.cancel()
                    if id not in held and not under_way.task.done():
                        under_way.task.cancel()  # another server has taken it, or it has just ended
                # Accepted, and its request was given up in the moment before it could be taken.
                forgotten = idle & (idle := held.keys() - self._turns.keys())
                for id in forgotten:
                    turn = await self._service.database.turn(id)
                    if turn is not None and id not in self._turns:
                        log("turn taken up", conversation=turn.conversation, turn=turn.number)
                        self.take(turn)
                if not self._alone and not self._service.draining:
                    await self._claim(everything=False)
            except LogUnavailable as error:
                log_mistake("database", error)
                if time.monotonic() - renewed > LEASE_S and not self._alone:
                    for under_way in list(self._turns.values()):
                        under_way.task.cancel()  # other servers have taken them by now

    async def _work(self, turn: TurnRow) -> None:
        service, started = self._service, time.monotonic()
        end = "failed"
        try:
            row = await service.database.conversation(turn.client, turn.conversation)
            if row is None:
                await service.database.end_turn(turn.id)
                return
            end = await self._converse(turn, row)
        except asyncio.CancelledError:
            end = "left"
            raise
        except RedraftError as error:
            log("turn failed", conversation=turn.conversation, turn=turn.number, error=type(error).__name__)
            await self._fail(turn, str(error))
        except Exception as error:  # noqa: BLE001 - the boundary: one turn's mistake must not be another's
            mistake = secrets.token_hex(4)
            log_mistake("turn", error, conversation=turn.conversation, turn=turn.number, id=mistake)
            await self._fail(turn, f"a mistake of the server's (log entry {mistake})")
        finally:
            service.metrics.turn(end)
            seconds = round(time.monotonic() - started, 3)
            log("turn", client=turn.client, conversation=turn.conversation, turn=turn.number, end=end, seconds=seconds)
        await service.sweep(turn.client)

    async def _fail(self, turn: TurnRow, error: str) -> None:
        """Ends a turn with an error: first in its log, so that the conversation shows it and goes on, then for those who
        listen. Until the database can be written again, the turn stays under way."""
        wait_s, last_s = _AGAIN_S
        while True:
            try:
                with suppress(InputError):  # a damaged log: it can be neither shown nor mended
                    await self._give_up(turn, error)
                event = WireEvent(f"failed {turn.id}", "failed", {"error": error})
                await self._service.broker.publish(turn.conversation, turn.number, event, ends=turn.id)
                return
            except LogUnavailable:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, last_s)

    async def _give_up(self, turn: TurnRow, error: str) -> None:
        row = await self._service.database.conversation(turn.client, turn.conversation)
        if row is not None:
            await self._service.conversation(row).give_up(error)

    async def _converse(self, turn: TurnRow, row: ConversationRow) -> str:
        """Works on a turn to its end: "replied" or "clarify"."""
        service = self._service
        served = service.served(row.profile)
        loop = asyncio.get_running_loop()

        def queued(ahead: int) -> None:
            event = ServerEvent(id=None, event="queue", data={"turn": turn.number, "ahead": ahead})
            loop.call_soon_threadsafe(service.broker.send, turn.conversation, event)

        conversation = service.conversation(row, served.for_run(turn.client, queued))
        under_way = self._turns[turn.id]
        under_way.conversation = conversation
        wait_s, left_s = _AGAIN_S[0], _PATIENCE_S
        while True:
            try:
                held = await service.database.turn(turn.id)
                under_way.cancelled = under_way.cancelled or (held is not None and held.cancelled)
                state = await conversation.read()
                enclosed = None if state.open is None else state.open.enclosed.limits
                limits = (enclosed or served.limits).changed(accept_at=state.accept_at or served.limits.accept_at)
                publish = TurnPublisher(service, under_way, conversation, limits)
                last = await _rest(conversation, turn, publish)
                if isinstance(last, Replied):
                    await self._settle(last, conversation, row)
                await publish.end(last)
                return "replied" if isinstance(last, Replied) else "clarify"
            except (Occupied, LogUnavailable):
                if left_s <= 0:
                    raise
                await asyncio.sleep(wait_s)
                left_s -= wait_s
                wait_s = min(2 * wait_s, _AGAIN_S[1])

    async def _settle(self, replied: Replied, conversation: Conversation, row: ConversationRow) -> None:
        """What a finished turn changes in the list of conversations."""
        if replied.branch is not None:
            await self._service.adopt_branch(row, replied.branch)
        pictures = (await conversation.view()).pictures
        entry = replied.entry
        # By their numbers, of which some may be missing if records are damaged.
        thumb = next((each.image for each in pictures if each.number == entry.current), None)
        await self._service.database.change_conversation(row.id, turns=entry.turn, thumb=thumb)


async def _rest(conversation: Conversation, turn: TurnRow, tell: Tell) -> Replied | Clarify:
    """Works on a turn, from wherever it stands, until the conversation is at rest again."""
    view = await conversation.view()
    last = _last_of(view, turn) or await conversation.turn(None, tell=tell)
    if last is None:
        raise InputError("the conversation's log does not have this turn")
    return last


def _last_of(view: ConversationStatus, turn: TurnRow) -> Replied | Clarify | None:
    """How a turn ended that was over before its end could be published; None if it is not over."""
    if view.turn != turn.number or view.pending is not None:
        return None
    return view.waiting or view.replied


class TurnPublisher:
    """Publishes the events of one turn, and puts their pictures into the client's store."""

    def __init__(self, service: Service, under_way: _UnderWay, conversation: Conversation, limits: Limits) -> None:
        self._service = service
        self._under_way = under_way
        self._turn = under_way.turn
        self._conversation = conversation
        self._limits = limits
        self._meter = service.metrics.run()
        self._run: RunFolder | None = None
        self._published: set[int] = set()
        """Numbers of the attempts that this server has published."""

    async def __call__(self, event: TurnEvent) -> None:
        if self._under_way.cancelled:
            self._conversation.cancel()
        source = None
        if not isinstance(event, TurnBegan):
            self._meter.see(event)
            source = await self._keep_pictures(event)
        await self._publish(event, source)

    async def _publish(self, event: TurnEvent, source: str | None = None) -> None:
        made = to_wire(event, self._turn.conversation, self._limits, source=source)
        if self._run is not None and self._run.path.name != f"turn-{self._turn.number:04d}" and made.key is not None:
            made = replace(made, key=f"{made.key} {self._run.path.name}")  # a turn may have several runs
        await self._service.broker.publish(self._turn.conversation, self._turn.number, made)

    async def end(self, last: Replied | Clarify) -> None:
        """Publishes what the turn ends with, and ends it."""
        turn, file, store = self._turn, None, self._conversation.store
        if isinstance(last, Replied) and last.entry.kind == "compare" and last.file is not None and last.file.is_file():
            path = last.file
            file = await asyncio.to_thread(lambda: store.put(open_image(path)))
        event = to_wire(last, turn.conversation, self._limits, file=file)
        if isinstance(last, Clarify):  # an answer continues the turn under another id
            event = replace(event, key=f"{event.key} {turn.id}")
        await self._service.broker.publish(turn.conversation, turn.number, event, ends=turn.id)

    async def _keep_pictures(self, event: Event) -> str | None:
        """Copies an event's pictures into the client's store. Returns the hash of the picture that a run edits."""
        store = self._conversation.store
        match event:
            case RunStarted():
                self._run, self._published = RunFolder(event.folder), set()
                id = run_id(self._turn.conversation, event.run)
                await self._service.runs.note(self._turn.client, id, self._turn.conversation, event.folder)
                if event.source is not None:
                    source = event.source
                    return await asyncio.to_thread(lambda: store.put(open_image(source)))
            case ImageDrawn():
                await asyncio.to_thread(store.adopt, event.image, self._images())
            case Planned():
                for step in event.plan.steps:
                    for picture in (step.area, step.drafted):
                        if picture is not None:
                            await asyncio.to_thread(store.adopt, picture, self._images())
            case Judged():
                # Again: of a picture that was drawn before a kill, it may be the first that is heard.
                await asyncio.to_thread(store.adopt, event.attempt.image, self._images())
                self._published.add(event.number)
            case RunFinished():
                await self._catch_up()
        return None

    async def _catch_up(self) -> None:
        """Publishes attempts that were made, and whose events were lost in a kill."""
        assert self._run is not None
        record = await asyncio.to_thread(self._run.read_record)
        for attempt in record["attempts"]:
            if attempt["number"] not in self._published:
                judged = _judged(attempt, self._run)
                await asyncio.to_thread(self._conversation.store.adopt, judged.attempt.image, self._images())
                await self._publish(judged)

    def _images(self) -> ImageStore:
        assert self._run is not None
        return ImageStore(self._run.images)


def _judged(record: dict[str, Any], run: RunFolder) -> Judged:
    """The event of an attempt, from run.json."""
    required = {"image": record["sha256"], "report": _REPORT.validate_python(record["report"])}
    names = (
        "round",
        "kind",
        "prompt",
        "seed",
        "parent",
        "negative_prompt",
        "root",
        "steps",
        "unchanged",
        "draft",
        "denoiser_steps",
    )
    attempt = Attempt(**required, **{name: record[name] for name in names if name in record})
    return Judged(record["number"], attempt, run.picture(record["number"], attempt))
