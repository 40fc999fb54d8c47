"""Runs: start one, follow its events, answer its questions, pick it up again after a kill."""

from __future__ import annotations

import asyncio
import functools
import secrets
import sqlite3
import threading
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot
from PIL import Image

from agent.decide import best_of
from agent.events import Event, NeedsAnswer, RunFinished, RunStarted, Warned
from agent.graph import STATE_TYPES, Clock, Context, State, build_graph
from agent.models import Models
from agent.runfolder import JOURNAL, RunFolder, RunLog, finished_record, list_runs, new_record, save_picture
from agent.strategies.choose import limits_of, open_strategy
from agent.strategies.galleries import remember
from agent.trace import write_trace
from agent.types import Answer, Attempt, Cost, Decision, StopReason, cost_of
from editors.backend import CANNOT, Ability, AdjustedBackend, ImageBackend
from evaluator.types import Check, RequestChecks
from redraft.errors import BackendError, ConfigError, InputError, one_line
from redraft.files import refuse_links
from redraft.images import ImageStore, fit_mask, open_image, save_png, to_rgb
from redraft.journal import DamagedJournal, OtherJournal, salvage
from redraft.limits import Limits
from redraft.options import MAX_SEED, DrawOptions
from redraft.profiles import Profile, SearchConfig
from redraft.spans import NO_SPAN, messages_of, open_span
from redraft.trust import grant_own
from rewriter.request import clean_request

_CHOICES: tuple[Answer, ...] = ("accept", "again", "stop")
_THREAD: RunnableConfig = {"configurable": {"thread_id": "run"}}
_NODES_PER_ROUND = 6
_REMEMBERED = 200
"""So many of the latest runs say what the generators of a gallery are good at."""
_BEGUN_FIELDS = (
    "format", "run", "created", "request", "seed", "ask", "limits", "profile", "versions", "stop", "source", "mask",
    "search", "size", "options", "references", "experience",
)  # fmt: skip
"""What `new_record` and `Run.start` write."""


@functools.lru_cache(maxsize=8)
def _compiled(retry_wait_s: float) -> CompiledStateGraph[State, Context, State, State]:
    """The graph without a checkpointer: compiling takes 25 ms, giving a copy of it one takes nothing."""
    return build_graph(retry_wait_s).compile()


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `best` is an index into `attempts`; `images` are their files, in the same order.

    `image` is a copy of the best picture, None if none was drawn. `error`: what failed, if stop is FAILED.
    """

    folder: Path
    request: str
    limits: Limits
    stop: StopReason
    why: str
    best: int | None
    attempts: tuple[Attempt, ...]
    images: tuple[Path, ...]
    image: Path | None
    trace: Path
    checklist: tuple[Check, ...]
    elapsed_s: float
    seed: int = 0
    unchecked: tuple[str, ...] = ()
    """The words of the request that no check asks about. With any of them, `stop` is never ACCEPTED."""
    warnings: tuple[str, ...] = ()
    """What went wrong on the way without ending the run."""
    error: str | None = None
    source: Path | None = None
    """The picture that was edited, if the user gave one; `request` is then the instruction."""
    pictures: tuple[RunResult, ...] = ()
    """If several pictures of the request were wanted (`n`), the result of each, this one among them."""

    @property
    def cost(self) -> Cost:
        """Pictures, denoiser steps, judgements and seconds."""
        return cost_of(self.attempts, self.elapsed_s)

    @property
    def best_attempt(self) -> Attempt | None:
        return None if self.best is None else self.attempts[self.best]


def choose_result(results: Sequence[RunResult]) -> RunResult:
    """The best of several results of one request, with all of them as its `pictures`; a single one as it is.

    A picture that was accepted comes before one that was not, then the higher score, then the earlier.
    """

    def rank(result: RunResult) -> tuple[bool, bool, float]:
        best = result.best_attempt
        score = None if best is None else best.score
        return result.stop is StopReason.ACCEPTED, best is not None, -1.0 if score is None else score

    best = max(results, key=rank)
    return best if len(results) == 1 else replace(best, pictures=tuple(results))


def require_able(
    options: DrawOptions,
    backend: ImageBackend,
    profile: Profile | None,
    *,
    references: int = 0,
    editing: bool = False,
) -> None:
    """Raises InputError if `backend`, the generator, or the editor of an edit, is not able to do what the user set."""
    name = backend.name if profile is None else f"the profile {profile.name!r}"
    for ability in _abilities_for(options, references, editing=editing):
        if ability not in backend.abilities:
            raise InputError(f"{_OPTION_OF[ability]}: {name} {CANNOT[ability]}")


def _abilities_for(options: DrawOptions, references: int, *, editing: bool) -> tuple[Ability, ...]:
    wanted: list[Ability] = []
    if options.steps is not None:
        wanted.append("step_count")
    if options.guidance is not None:
        wanted.append("guidance")
    if options.negative_prompt is not None:
        wanted.append("negative")
    if references:
        wanted.append("edit_references" if editing else "references")
    return tuple(wanted)


_OPTION_OF = {
    "step_count": "steps",
    "guidance": "guidance",
    "negative": "negative_prompt",
    "references": "references",
    "edit_references": "references",
}


def _adjust(models: Models, options: DrawOptions, references: tuple[Image.Image, ...], *, editing: bool) -> Models:
    """The models with generators, or for an edit the editor, that draw as the user set."""
    must = frozenset(_abilities_for(options, len(references), editing=editing))
    if not must:
        return models

    def adjusted(backend: ImageBackend) -> ImageBackend:
        return AdjustedBackend(backend, options.steps, options.guidance, references, must)

    if editing:
        assert models.editing is not None, "Run.start sees to it"
        return replace(models, editing=replace(models.editing, editor=adjusted(models.editing.editor)))
    gallery = {name: adjusted(backend) for name, backend in models.gallery.items()}
    return replace(models, generator=adjusted(models.generator), gallery=gallery)


def _read_size(options: DrawOptions, profile: Profile | None, source: tuple[int, int] | None) -> tuple[int, int] | None:
    return options.pixels(source) if profile is None else profile.pixels(options, source)


class Run:
    """One run and its folder. Make it with `start` or `open`, then iterate over `stream()`.

    A session belongs to one event loop at a time; `cancel` alone may be called from any thread.
    """

    def __init__(self, folder: RunFolder, models: Models, record: dict[str, Any], retry_wait_s: float) -> None:
        self.folder = folder
        self.models = models
        self.request: str = record["request"]
        self.seed: int = record["seed"]
        self.ask: bool = record["ask"]
        self.limits = Limits(**record["limits"])
        self.source: str | None = record.get("source")
        """Hash of the picture to edit, None for a run that draws; `mask` where it may be changed."""
        self.mask: str | None = record.get("mask")
        self.search = SearchConfig(**record.get("search", {}))
        self.experience: dict[str, dict[str, tuple[float, int]]] = record.get("experience", {})
        self.size: tuple[int, int] | None = None if record.get("size") is None else tuple(record["size"])
        self.options = DrawOptions(**record.get("options", {}))
        """What the user set; limits, search and size have it already."""
        self.references: tuple[str, ...] = tuple(record.get("references", ()))
        """Hashes of the pictures that the user gave to go by."""
        self._span = NO_SPAN
        self.result: RunResult | None = None
        """Set when `stream` has ended with RunFinished."""
        self._record = record
        self._retry_wait_s = retry_wait_s
        self._stop = threading.Event()
        self._warnings: list[str] = list(record.get("warnings", ()))
        self._mended: list[str] = []
        """What was damaged and is mended, to be said when the stream begins."""

    @classmethod
    def start(
        cls,
        request: str,
        models: Models,
        *,
        limits: Limits,
        out: Path,
        profile: Profile | None = None,
        seed: int | None = None,
        ask: bool = False,
        source: Image.Image | None = None,
        mask: Image.Image | None = None,
        search: SearchConfig | None = None,
        options: DrawOptions | None = None,
        references: Sequence[Image.Image] = (),
        folder: Path | None = None,
        retry_wait_s: float = 1.0,
    ) -> Run:
        """A new run in a new folder under `out`, or in `folder` itself. Raises InputError for a request or a folder
        that cannot be used.

        `options`: what the user set; it changes `limits`. `seed`: that of the options if they have none; None draws one. It
        is recorded, so that the run can be repeated. With a `source` the run edits it as `request` says, inside `mask` if
        there is one (L, white = change, of the source's size); that raises ConfigError if the models cannot edit.
        `references`: further pictures to go by. `search`: how the budget is used; None: as the options or the profile say.

        Raises InputError or ConfigError, with the mend, for what profile and models are not able to do.
        """
        options = options or DrawOptions()
        request = clean_request(request)
        if source is not None and models.editing is None:
            raise ConfigError("this profile cannot edit pictures; give it an [editor] section, or choose another")
        if mask is not None and source is None:
            raise InputError("a mask needs a picture that it belongs to")
        seed = options.seed if options.seed is not None else seed
        if seed is None:
            seed = secrets.randbelow(2**31)
        if not 0 <= seed <= MAX_SEED:
            raise InputError(f"the seed {seed} is not between 0 and {MAX_SEED}")
        limits = options.limits(limits)
        backend = models.generator if source is None or models.editing is None else models.editing.editor
        if limits.max_steps and (least := options.steps or backend.steps or 1) > limits.max_steps:
            raise InputError(
                f"max_steps {limits.max_steps}: one picture of {backend.name} takes {least} denoiser steps; allow as many"
            )
        size = _read_size(options, profile, None if source is None else source.size)
        given = tuple(map(to_rgb, references))
        require_able(options, backend, profile, references=len(given), editing=source is not None)
        if search is None:
            chosen = None if profile is None else profile.searching(options.search, editing=source is not None)
            search = SearchConfig() if chosen is None else chosen.search
        if source is not None:
            limits = limits_of(search, limits)
        run = RunFolder.create(out, request) if folder is None else RunFolder.at(folder)
        record = new_record(run, request=request, seed=seed, ask=ask, limits=limits, profile=profile)
        record["search"] = search.model_dump(mode="json")
        if "gallery" in (search.strategy, *(part.strategy for part in search.parts)):
            record["experience"] = remember(list_runs(out)[:_REMEMBERED])
        record["size"] = None if size is None else list(size)
        record["options"] = options.set_fields()
        store = ImageStore(run.images)
        record["references"] = [store.put(picture) for picture in given]
        if source is not None:
            source = to_rgb(source)
            record["source"] = store.put(source)
            record["mask"] = None if mask is None else store.put(fit_mask(mask, source.size))
            save_png(source, run.source, {})
        run.write_record(record)
        if profile is not None:
            grant_own(profile.demands())
        return cls(run, models, record, retry_wait_s)

    @classmethod
    def open(cls, path: Path, models: Models, *, retry_wait_s: float = 1.0) -> Run:
        """The run in the folder `path`, finished or not. Raises InputError if there is none."""
        folder = RunFolder.open(path)
        record, mended = folder.recover_record()
        run = cls(folder, models, record, retry_wait_s)
        if mended is not None:
            run._mend(mended)
        return run

    def cancel(self) -> None:
        """Ends the run after the current piece of work, with StopReason.CANCELLED and the best picture so far."""
        self._stop.set()

    async def run(self) -> RunResult:
        """Works to the end without events. Raises as `stream` does, and InputError if the run asks the user."""
        async for event in self.stream():
            if isinstance(event, NeedsAnswer):
                raise InputError(f"the run {self.folder.path} waits for an answer; use stream, or start it without ask")
        assert self.result is not None
        return self.result

    async def stream(self, answer: Answer | None = None) -> AsyncGenerator[Event]:
        """Works until the run is finished (last event RunFinished) or waits for the user (last event NeedsAnswer).

        A failing model or server ends the run with StopReason.FAILED, never with an exception; such a run can be
        opened and streamed again, and so can one whose process was killed or whose stream was left early.
        Raises UsageError if a setting turns out to be unusable, or if another process works on this run.
        """
        if answer is not None and answer not in _CHOICES:
            raise InputError(f"the answer {answer!r} is not one of {', '.join(_CHOICES)}")
        async with self._opened() as (graph, log):
            snapshot = await _settle(graph)
            snapshot = await self._reopened(graph, log, snapshot)
            pictures = await asyncio.to_thread(self._open_references)
            context = Context(
                models=_adjust(self.models, self.options, pictures, editing=self.source is not None),
                limits=self.limits,
                folder=self.folder,
                log=log,
                store=ImageStore(self.folder.images),
                strategy=open_strategy(self.search, editing=self.source is not None),
                size=self.size,
                negative_prompt=self.options.negative_prompt,
                references=pictures,
                experience=self.experience,
                span=self._span,
                clock=Clock(snapshot.values.get("elapsed_s", 0.0)),
                ask=self.ask,
                stop=self._stop,
            )
            begun = bool(snapshot.values)
            seen = len(snapshot.values.get("attempts", ()))
            if not snapshot.interrupts or answer is None:
                source = None if self.source is None else self.folder.source
                yield RunStarted(self.folder.path.name, self.folder.path, self.request, self.seed, begun, seen, source)
            for sentence in self._mended:
                yield Warned(sentence)
            self._mended = []
            error: str | None = None
            entry: State | Command[Any] | None = None
            if not begun:
                entry = {"request": self.request, "seed": self.seed, "round": 0, "attempts": [], "decision": None}
                if self.source is not None:
                    entry |= {"source": self.source, "mask": self.mask}
            elif snapshot.interrupts and answer is not None:
                entry = Command(resume=answer)
            if not begun or (snapshot.tasks and not (snapshot.interrupts and answer is None)):
                try:
                    config: RunnableConfig = {
                        **_THREAD,
                        # Rounds of drafts come on top, but each makes a picture.
                        "recursion_limit": _NODES_PER_ROUND * (self.limits.max_rounds + self.limits.max_images) + 10,
                    }
                    steps = graph.astream(entry, config, context=context, stream_mode="custom", durability="sync")
                    async with aclosing(cast(AsyncGenerator[Event], steps)) as events:
                        async for event in events:
                            if isinstance(event, Warned) and event.text not in self._warnings:
                                self._warnings.append(event.text)
                            yield event
                except BackendError as failure:
                    error = str(failure)
                except (GeneratorExit, asyncio.CancelledError):
                    context.left.set()  # stops the render thread, which nobody waits for any more
                    raise
                snapshot = await graph.aget_state(_THREAD)
            if error is None and snapshot.interrupts:
                yield self._question(log, snapshot)
                return
            yield await asyncio.to_thread(self._finish, log, snapshot, context, error)

    def _open_references(self) -> tuple[Image.Image, ...]:
        store = ImageStore(self.folder.images)
        return tuple(store.get(digest) for digest in self.references)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[CompiledStateGraph[State, Context, State, State], RunLog]]:
        """The graph on this run's checkpoints, and its journal. Raises Occupied if another process works on the run."""
        refuse_links(self.folder.path)
        about = {
            "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "redraft",
            "redraft.run": self.folder.name_without(self.request),
            "redraft.kind": "generate" if self.source is None else "edit",
            "gen_ai.input.messages": messages_of(self.request),
        }  # fmt: skip
        # Events are handed out between its beginning and its end, so that it is no span that others find by themselves.
        traced = open_span("invoke_agent redraft", about, current=False)
        with self.folder.lock(), self._open_log() as log, traced as self._span:
            self._note_begun(log)
            self.folder.sweep()
            await asyncio.to_thread(self._mend_pictures, log)
            if self.folder.checkpoints.exists():
                await self._mend_checkpoints(log)
            async with _open_checkpoints(self.folder.checkpoints) as saver:
                yield _compiled(self._retry_wait_s).copy({"checkpointer": saver}), log

    def _open_log(self) -> RunLog:
        """The journal, without the entries that are damaged: what they said is worked out again."""
        path = self.folder.journal
        try:
            log = RunLog(path)
        except (DamagedJournal, OtherJournal):
            lost = salvage(path, JOURNAL)
            lines = "a line of it is" if lost == 1 else f"{lost} lines of it are"
            self._mend(
                f"{path} is damaged: {lines} left out, and worked out again; as it was it is in {path.name}.damaged"
            )
            log = RunLog(path)
        return log

    def _note_begun(self, log: RunLog) -> None:
        if log.begun is None:
            begun = {name: value for name, value in self._record.items() if name in _BEGUN_FIELDS}
            log.put_begun({**begun, "stop": None})

    def _mend_pictures(self, log: RunLog) -> None:
        """Has pictures that are damaged or gone drawn again. The picture that is edited is taken from source.png."""
        store = ImageStore(self.folder.images)
        for key, image in list(log.images.items()):
            if not store.is_whole(image):
                store.path(image).unlink(missing_ok=True)
                log.put_lost(key)
                self._mend(f"the picture {image} is damaged or gone; it is drawn again")
        if self.source is not None and not store.is_whole(self.source):
            store.path(self.source).unlink(missing_ok=True)
            if store.put(open_image(self.folder.source)) != self.source:
                raise InputError(f"the picture that {self.folder.path} edits is damaged, and so is source.png")
            self._mend("the picture that is edited was damaged; it is taken from source.png")

    async def _mend_checkpoints(self, log: RunLog) -> None:
        """Sets checkpoints aside that cannot be read, or build on what the journal has lost. The run then begins anew, and
        finds everything that is whole in the journal."""
        file = self.folder.checkpoints
        try:
            async with _open_checkpoints(file) as saver:
                await _check_pages(saver)
                snapshot = await _compiled(self._retry_wait_s).copy({"checkpointer": saver}).aget_state(_THREAD)
                if not log.disagrees_with(snapshot.values):
                    return
            what = "say more than its journal"
        except InputError as error:
            if not isinstance(error, DamagedCheckpoints):
                raise
            what = f"are damaged ({one_line(error)})"
        except Exception as error:  # noqa: BLE001 - whatever damage makes SQLite, msgpack and LangGraph raise
            what = f"are damaged ({one_line(error)})"
        try:
            file.replace(file.with_name(f"{file.name}.damaged"))
            for ending in ("-wal", "-shm", "-journal"):
                file.with_name(file.name + ending).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"cannot mend {file}: {error.strerror or error}") from error
        self._mend(f"the checkpoints of the run {what}; it begins anew with what its journal holds")

    def _mend(self, sentence: str) -> None:
        self._mended.append(sentence)
        if sentence not in self._warnings:
            self._warnings.append(sentence)

    async def _reopened(
        self, graph: CompiledStateGraph[State, Context, State, State], log: RunLog, snapshot: StateSnapshot
    ) -> StateSnapshot:
        """A run that failed because nothing could be judged goes back to its judge; one that an earlier version left at a
        step that is no more, to what comes next."""
        decision = snapshot.values.get("decision")
        if snapshot.values and not snapshot.tasks and (decision is None or decision.stop is None):
            await graph.aupdate_state(_THREAD, {}, as_node="judge")
            return await graph.aget_state(_THREAD)
        if snapshot.tasks or decision is None or decision.stop is not StopReason.FAILED:
            return snapshot
        log.forget_unscored()
        await graph.aupdate_state(_THREAD, {"decision": None}, as_node="render")
        return await graph.aget_state(_THREAD)

    def _question(self, log: RunLog, snapshot: StateSnapshot) -> NeedsAnswer:
        decision: Decision = snapshot.values["decision"]
        attempts = log.attempts(snapshot.values["attempts"])
        best = decision.best
        attempt = None if best is None else attempts[best]
        path = None if best is None or attempt is None else self.folder.picture(best + 1, attempt)
        number = None if best is None else best + 1
        return NeedsAnswer(snapshot.values["round"], number, attempt, path, decision.why, _CHOICES)

    def _finish(self, log: RunLog, snapshot: StateSnapshot, context: Context, error: str | None) -> RunFinished:
        """Writes what the run leaves behind. Done again, it writes the same."""
        keys = list(snapshot.values.get("attempts", ()))
        attempts = log.attempts(keys)
        decision: Decision | None = snapshot.values.get("decision")
        if error is not None or decision is None or decision.stop is None:
            why = error or "the run was left before it was finished"
            decision = Decision(StopReason.FAILED, best_of(attempts, self.limits), why)
        stop = decision.stop
        assert stop is not None
        if stop is StopReason.FAILED:
            error = error or decision.why
        best = decision.best
        names = self.models.names
        checklist = log.checklist or RequestChecks(())
        # The journal has those of the checklist, also for a process that came after them.
        warnings = list(dict.fromkeys((*checklist.warnings, *self._warnings)))
        files = tuple(self.folder.picture(n, attempt) for n, attempt in enumerate(attempts, start=1))
        if best is not None:
            picture = context.store.get(attempts[best].image)
            save_picture(picture, self.folder.best, self.request, attempts[best], names)
        elapsed = snapshot.values.get("elapsed_s", 0.0) if error is None else context.clock.seconds()
        record = finished_record(
            self._record,
            folder=self.folder,
            log=log,
            keys=keys,
            attempts=attempts,
            best=best,
            stop=stop,
            why=decision.why,
            error=error,
            elapsed_s=elapsed,
            names=names,
            warnings=warnings,
        )
        self.folder.write_record(record)
        self._record = record
        write_trace(self.folder, record)
        self.result = RunResult(
            folder=self.folder.path,
            request=self.request,
            seed=self.seed,
            warnings=tuple(warnings),
            limits=self.limits,
            stop=stop,
            why=decision.why,
            best=best,
            attempts=tuple(attempts),
            images=files,
            image=None if best is None else self.folder.best,
            trace=self.folder.trace,
            checklist=checklist.checks,
            unchecked=checklist.unchecked,
            elapsed_s=elapsed,
            error=error,
            source=None if self.source is None else self.folder.source,
        )
        score = None if best is None else attempts[best].score
        self._span.set({"redraft.stop": stop.value, "redraft.images": len(attempts), "redraft.score": score})
        return RunFinished(
            stop=stop,
            why=decision.why,
            number=None if best is None else best + 1,
            attempt=None if best is None else attempts[best],
            path=None if best is None else files[best],
            trace=self.folder.trace,
            error=error,
            unchecked=checklist.unchecked,
        )


class DamagedCheckpoints(InputError):  # noqa: N818
    """SQLite cannot read a file of checkpoints."""


_OUTER_TROUBLES = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY,
    }
)  # fmt: skip
"""Errors of SQLite that say nothing about the file's content."""


class CheckedSerializer(JsonPlusSerializer):
    """Values with a checksum, which SQLite has none of: a changed bit is an error, and not another state."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        kind, data = super().dumps_typed(obj)
        return f"{kind}{_CRC}", data + b"%08x" % zlib.crc32(data)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, value = data
        if kind.endswith(_CRC):  # earlier versions wrote none
            kind, value, crc = kind.removesuffix(_CRC), value[:-8], value[-8:]
            if crc != b"%08x" % zlib.crc32(value):
                raise ValueError("a checksum does not fit")
        return super().loads_typed((kind, value))


_CRC = "+crc32"


async def _check_pages(saver: AsyncSqliteSaver) -> None:
    """Raises ValueError if pages of the file are damaged."""
    await saver.setup()
    async with saver.lock, saver.conn.execute("PRAGMA quick_check(1)") as rows:
        row = await rows.fetchone()
    if row is None or row[0] != "ok":
        raise ValueError(None if row is None else row[0])


class _Checkpoints(AsyncSqliteSaver):
    """The head of a thread is the checkpoint that was written last.

    LangGraph's own saver takes the one with the greatest name, and names are times: under a clock that stands behind
    that of an earlier process, nothing that is written would ever become the head.
    """

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        if get_checkpoint_id(config):
            return await super().aget_tuple(config)
        head = await self._head(config)
        return None if head is None else await super().aget_tuple({"configurable": head})

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        written = await super().aput(config, checkpoint, metadata, new_versions)
        if await self._head(config) != written["configurable"]:
            raise InputError("the checkpoint that was just written is not the newest of its run; start the run again")
        return written

    async def _head(self, config: RunnableConfig) -> dict[str, str] | None:
        await self.setup()
        thread = {
            "thread_id": str(config["configurable"]["thread_id"]),
            "checkpoint_ns": config["configurable"].get("checkpoint_ns", ""),
        }
        # SQLite numbers rows as they are written, and nothing is ever deleted here.
        sql = (
            "SELECT checkpoint_id FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ? "
            "ORDER BY rowid DESC LIMIT 1"
        )
        async with self.lock, self.conn.execute(sql, tuple(thread.values())) as rows:
            row = await rows.fetchone()
        return None if row is None else thread | {"checkpoint_id": str(row[0])}


@asynccontextmanager
async def _open_checkpoints(file: Path) -> AsyncIterator[AsyncSqliteSaver]:
    """LangGraph's checkpoints of a run, which bring values of STATE_TYPES back as they were. Raises InputError if they
    cannot be used."""
    try:
        async with aiosqlite.connect(str(file)) as connection:
            saver = _Checkpoints(connection, serde=CheckedSerializer(allowed_msgpack_modules=list(STATE_TYPES)))
            await saver.conn.execute("PRAGMA busy_timeout=30000")
            # No wait for the disk at each commit. After a loss of power the last checkpoints may be missing, never
            # torn; the run then repeats steps whose results it finds in the journal.
            await saver.conn.execute("PRAGMA synchronous=NORMAL")
            try:
                yield saver
            finally:
                await _finish_writes(saver)
    except sqlite3.Error as error:
        kind = InputError if error.sqlite_errorcode & 0xFF in _OUTER_TROUBLES else DamagedCheckpoints
        raise kind(f"cannot use {file}: {error}") from error


async def _finish_writes(saver: AsyncSqliteSaver) -> None:
    """Waits for writes under way, before the saver is closed.

    LangGraph does not wait for them if a stream is left early. A write that goes on while its connection is closed
    leaves a transaction open in SQLite, and the file locked for the rest of the process.
    """
    await asyncio.sleep(0)  # tasks that have not begun take their place at the lock
    async with saver.lock:
        await saver.conn.rollback()


async def _settle(graph: CompiledStateGraph[State, Context, State, State]) -> StateSnapshot:
    """The run's state, to go on from.

    If a step was cancelled, LangGraph may have saved a part of what it wrote, without the edge to the step behind
    it, and would then take it for finished and the thread for ended. Such a step is made to run again: a copy of the
    checkpoint leaves what it wrote behind.

    Whether there is anything left to do is `snapshot.tasks`, and not `snapshot.next`: that one leaves out a step whose
    results were saved and not yet made part of the state.
    """
    snapshot = await graph.aget_state(_THREAD)
    if any(task.error is not None for task in snapshot.tasks):
        await graph.aupdate_state(snapshot.config, None, as_node="__copy__")
        snapshot = await graph.aget_state(_THREAD)
    return snapshot


async def run_draw(
    request: str,
    models: Models,
    *,
    limits: Limits,
    out: Path,
    profile: Profile | None = None,
    seed: int | None = None,
) -> RunResult:
    """Draws one request to the end: `Run.start` and `Run.run` in one."""
    return await Run.start(request, models, limits=limits, out=out, profile=profile, seed=seed).run()


async def resume(path: Path, models: Models) -> RunResult:
    """Takes up the run in the folder `path` and goes to its end: `Run.open` and `Run.run` in one."""
    return await Run.open(path, models).run()
