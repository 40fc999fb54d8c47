"""A turn of a conversation: an async function over the conversation's log and the run graph.

    read the request -+-> ask the user (the turn waits; the answer is read together with the request)
                      +-> do it: draw, edit, answer, undo, ... -> the turn's entry

Each step is written to the log before the next begins (`agent.chat.journal`), and is not repeated when the turn is taken
up after a kill. What draws is a run of its own (`agent.run`), in a folder that follows from the turn's number.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from agent.chat.commands import Command, help_text, parse_command, read_number
from agent.chat.journal import (
    Changes,
    ConversationLog,
    ConversationState,
    LogUnavailable,
    OpenTurn,
    Record,
    add_record,
    end_record,
    reading_record,
)
from agent.chat.values import Clarify, EntryKind, Picture, Replied, Tell, TurnBegan, TurnEntry
from agent.events import StepProgress
from agent.models import ConversationModels, RewritingModels
from agent.run import Run, RunResult, choose_result
from agent.runfolder import RunFolder
from agent.types import StopReason
from redraft.errors import BackendError, ConfigError, InputError, RedraftError
from redraft.images import ImageStore, open_image, open_mask, save_png
from redraft.journal import Occupied
from redraft.limits import Limits
from redraft.options import MAX_N, MAX_SEED, DrawOptions
from redraft.profiles import Profile
from rewriter.request import clean_request
from rewriter.turns import Turn, TurnContext
from rewriter.types import Rewrite

_SEEDS = 2**31
EARLIER = 6
"""How many earlier turns' requests the reader gets."""


@dataclass(frozen=True)
class TurnOutcome:
    """The result of a turn. `shown`: numbers of the pictures to show."""

    kind: EntryKind
    reply: str
    changes: Changes = field(default_factory=Changes)
    shown: tuple[int, ...] = ()
    run: str | None = None
    error: bool = False
    file: Path | None = None
    branch: str | None = None


@dataclass
class TurnWork:
    """Works on the open turn of a conversation.

    runs:        folder for the runs of this conversation, within `home`.
    own_files:   whether the user may name files of this machine.
    name_branch: gives a branch its name, from the one that the user wished for.
    make_branch: makes the branch of that name, as the state says; does nothing if it is there.
    """

    log: ConversationLog
    state: ConversationState
    name: str
    home: Path
    runs: Path
    store: ImageStore
    models: ConversationModels
    limits: Limits
    profile: Profile | None
    own_files: bool
    name_branch: Callable[[str | None], Awaitable[str]]
    make_branch: Callable[[str, ConversationState], Awaitable[None]]
    export: Callable[[ConversationState, Path | None], Path]
    list_others: Callable[[], list[str]]
    tell: Tell
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def turn(self) -> OpenTurn:
        assert self.state.open is not None
        return self.state.open

    async def record(self, record: Record) -> None:
        while True:
            try:
                await self.log.append(self.state.records, record)
            except Occupied:
                await self._take_settings()
            else:
                self.state = add_record(self.state, record)
                return

    async def _take_settings(self) -> None:
        """Catches up with settings that were changed beside this turn. Raises Occupied if somebody else works on it."""
        since = (await self.log.read())[self.state.records :]
        if not since or any(record["is"] != "settings" for record in since):
            raise Occupied("another process works on this conversation; wait for it")
        for record in since:
            self.state = add_record(self.state, record)

    async def finish(self) -> Replied | Clarify:
        """Continues the turn until it is finished or waits for an answer. Raises Occupied if another process works
        on it, LogUnavailable if what it does cannot be kept; what else goes wrong becomes the reply."""
        if not self.turn.is_read:
            await self._read()
        if self.turn.asks:
            return clarify_of(self.turn)
        turn, reading = self.turn, self.turn.reading
        command = None if turn.problem else parse_command(turn.request)
        kind: EntryKind = "mistake"
        text = reason = by = ""
        if command is not None:
            kind, text, by = _kind_of(command), " ".join(command.arguments), "command"
        elif reading is not None:
            kind, text, reason, by = reading.kind, reading.text, reading.reason, reading.by
            if kind == "draw" and isinstance(self.models, RewritingModels):
                kind, reason = "rewrite", f"{self.models.profile.name} draws nothing"
        await self.tell(TurnBegan(turn=turn.number, request=turn.request, kind=kind, text=text, reason=reason, by=by))
        try:
            if turn.problem:
                raise InputError(turn.problem)
            outcome = await self._do(reading, command)
        except (Occupied, LogUnavailable):
            raise
        except RedraftError as error:
            run = self._unfinished_run()
            hint = "" if run is None else "; when that is mended, say /again"
            outcome = TurnOutcome(kind, f"{error}{hint}", run=run, error=True)
        entry = TurnEntry(
            turn=turn.number,
            request=turn.request,
            kind=outcome.kind,
            reply=outcome.reply,
            current=outcome.changes.apply(self.state).current,
            pictures=outcome.shown,
            reason=reason,
            by=by,
            question=turn.question,
            answer=turn.answer,
            run=outcome.run,
            error=outcome.error,
        )
        await self.record(end_record(entry, outcome.changes, file=outcome.file, branch=outcome.branch))
        return reply_of(self.state, self.store)

    async def _read(self) -> None:
        turn = self.turn
        try:
            if parse_command(turn.request) is not None:
                return
            if not turn.request.strip():
                raise InputError("say what you want, or /help")
            if self.models.turn_reader is None:
                raise InputError("these models read no free text; use the commands, /help lists them")
            async with self.models.calls:
                reading = await self.models.turn_reader(await asyncio.to_thread(self._situation))
        except LogUnavailable:
            raise
        except RedraftError as error:
            await self.record(reading_record(turn.number, None, problem=str(error)))
            return
        asks = reading.kind == "unclear" and self.state.may_ask and not turn.question
        await self.record(reading_record(turn.number, reading, asks=asks))

    def _situation(self) -> TurnContext:
        state, turn, picture = self.state, self.turn, self.state.current_picture
        return TurnContext(
            request=turn.request,
            pictures=state.last_picture,
            current=state.current,
            made_from="" if picture is None else state.origin(picture),
            earlier=tuple(entry.request for entry in state.entries[-EARLIER:]),
            may_ask=state.may_ask and not turn.question,
            question=turn.question,
            answer=turn.answer,
            picture=None if picture is None else self.store.get(picture.image),
        )

    async def _do(self, reading: Turn | None, command: Command | None) -> TurnOutcome:
        if command is not None:
            return await self._do_command(command)
        assert reading is not None
        arguments: tuple[str, ...] = ()
        match reading.kind:
            case "unclear":
                return TurnOutcome("unclear", reading.question or "I do not understand; /help lists what I know.")
            case "talk":
                return TurnOutcome("talk", reading.text)
            case "draw" | "edit" | "ask":
                arguments = (reading.text,)
            case "save":
                arguments = (reading.text,) if reading.text else ()
            case "back" | "compare":
                arguments = tuple(map(str, reading.numbers[: 1 if reading.kind == "back" else 2]))
        return await self._do_command(Command(reading.kind, arguments))

    async def _do_command(self, command: Command) -> TurnOutcome:
        arguments = command.arguments
        first = arguments[0] if arguments else None
        match command.name:
            case "draw":
                return await self._draw(arguments[0])
            case "edit":
                return await self._edit(arguments[0])
            case "ask":
                return await self._answer(arguments[0])
            case "undo":
                return self._undo()
            case "redo":
                return self._redo()
            case "back":
                return self._back(self._picture_number(arguments[0]))
            case "compare":
                left, right = (self._picture_number(text) for text in arguments)
                return await asyncio.to_thread(self._compare, left, right)
            case "accept":
                return self._accept() if first is None else self._accept_from(first)
            case "save":
                return await asyncio.to_thread(self._save, first)
            case "branch":
                return await self._branch(first)
            case "seed":
                return self._seed(first)
            case "n":
                return self._number(first)
            case "questions":
                if first not in ("on", "off"):
                    raise InputError("/questions is used so: /questions on|off")
                may = "may" if first == "on" else "will not"
                return _set(f"you {may} be asked if something is unclear", may_ask=first == "on")
            case "open":
                return await asyncio.to_thread(self._open, arguments[0])
            case "mask":
                return await asyncio.to_thread(self._mask, arguments[0])
            case "again":
                return await self._again(first)
            case "list":
                return TurnOutcome("setting", self._list())
            case "export":
                if not self.own_files:
                    raise InputError("files of the server cannot be named here; download the conversation")
                path = await asyncio.to_thread(self.export, self.state, None if first is None else Path(first))
                return TurnOutcome("setting", f"exported to {path}", file=path)
            case "help":
                return TurnOutcome("setting", help_text())
            case "quit":
                return TurnOutcome("setting", "everything is kept")

    # Turns that draw

    async def _draw(self, request: str) -> TurnOutcome:
        if isinstance(self.models, RewritingModels):
            return await self._rewrite(self.models, request)
        return await self._make("draw", request)

    async def _edit(self, instruction: str) -> TurnOutcome:
        source = await asyncio.to_thread(self.store.get, self._looked_at().image)
        return await self._make("edit", instruction, source=source, mask=await self._mask_of(source))

    async def _again(self, seed_text: str | None) -> TurnOutcome:
        """Takes up the latest run, if it failed; otherwise makes the current picture once more, with another seed."""
        last = next((entry for entry in reversed(self.state.entries) if entry.run is not None), None)
        draws = not isinstance(self.models, RewritingModels)
        if draws and last is not None and last.error and last.run is not None and seed_text is None:
            return await self._continue("edit" if last.kind == "edit" else "draw", self.home / last.run)
        seed = secrets.randbelow(_SEEDS) if seed_text is None else _read_seed(seed_text)
        if isinstance(self.models, RewritingModels):
            if last_rewritten := next((e for e in reversed(self.state.entries) if e.kind == "rewrite"), None):
                return await self._rewrite(self.models, last_rewritten.request.removeprefix("/draw "), seed)
            raise InputError("nothing was rewritten yet; say what the picture should show")
        picture = self._looked_at()
        if picture.made == "given":
            raise InputError(f"picture {picture.number} was not drawn here; say what to draw, or how to change it")
        if picture.parent is None:
            return await self._make("draw", picture.made_from, seed=seed)
        source = await asyncio.to_thread(self.store.get, self.state.picture(picture.parent).image)
        own = None if picture.run is None or self.turn.enclosed.mask is not None else self.home / picture.run
        mask = await (self._mask_of(source) if own is None else self._mask_of_run(own))
        return await self._make("edit", picture.made_from, source=source, mask=mask, parent=picture.parent, seed=seed)

    async def _mask_of(self, source: Image.Image) -> Image.Image | None:
        """The mask that is set, for an edit of `source`. Raises InputError if it is of another size."""
        if self.state.mask is None:
            return None
        mask = await asyncio.to_thread(self.store.get, self.state.mask)
        if mask.size != source.size:
            raise InputError("the mask is for a picture of another size; give another, or /mask off")
        return mask

    async def _mask_of_run(self, folder: Path) -> Image.Image | None:
        """The mask that the edit in `folder` was made with."""

        def read() -> Image.Image | None:
            run = RunFolder.open(folder)
            digest = run.read_record().get("mask")
            return None if digest is None else ImageStore(run.images).get(digest)

        return await asyncio.to_thread(read)

    def _unfinished_run(self) -> str | None:
        """The latest run of this turn, if it came so far that /again can continue it."""
        folders = (self._run_folder(number) for number in range(MAX_N, 0, -1))
        return next((str(each.relative_to(self.home)) for each in folders if (each / "run.json").is_file()), None)

    def _run_folder(self, number: int = 1) -> Path:
        """The folder of the run with that number among those of this turn."""
        name = f"turn-{self.turn.number:04d}"
        return self.runs / (name if number == 1 else f"{name}-{number}")

    async def _make(
        self,
        kind: EntryKind,
        request: str,
        *,
        source: Image.Image | None = None,
        mask: Image.Image | None = None,
        parent: int | None = None,
        seed: int | None = None,
    ) -> TurnOutcome:
        """Works on the runs of this turn to their ends, one for each picture. Those that are there already are continued.

        `parent`: number of the picture that is edited, None for the current one. `seed`: of the first run, None for what
        came with the turn, or else the conversation's.
        """
        if isinstance(self.models, RewritingModels):
            self.models.profile.need_generator()  # raises: it has none
            raise ConfigError("there is no model here that draws")
        enclosed = self.turn.enclosed
        options = enclosed.options or DrawOptions()
        seeds = (enclosed.seed, options.seed, seed, self.state.seed)
        seed = next((each for each in seeds if each is not None), None)
        options = options.model_copy(update={"seed": seed, "accept_at": self.state.accept_at})
        references = [await asyncio.to_thread(self.store.get, digest) for digest in enclosed.references]
        results: list[RunResult] = []
        for number, each in enumerate(options.with_seeds(enclosed.n or self.state.n), start=1):
            folder = self._run_folder(number)
            if (folder / "run.json").is_file():
                run = Run.open(folder, self.models)
            elif results and self.stop.is_set():
                break
            else:
                run = await asyncio.to_thread(
                    Run.start,
                    request,
                    self.models,
                    limits=(enclosed.limits or self.limits).changed(accept_at=self.state.accept_at),
                    out=self.runs,
                    folder=folder,
                    profile=self.profile,
                    options=each,
                    references=references,
                    source=source,
                    mask=mask,
                )
            results.append(await self._follow(run))
            if results[-1].stop is StopReason.FAILED:
                break
        return await self._keep(kind, results, parent)

    async def _continue(self, kind: EntryKind, folder: Path) -> TurnOutcome:
        """Works on the run in `folder` to its end."""
        assert not isinstance(self.models, RewritingModels), "these have no runs"
        return await self._keep(kind, [await self._follow(Run.open(folder, self.models))], None)

    async def _follow(self, run: Run) -> RunResult:
        async with aclosing(run.stream()) as events:
            async for event in events:
                await self.tell(event)
                if self.stop.is_set():
                    run.cancel()
        assert run.result is not None
        return run.result

    async def _keep(self, kind: EntryKind, results: Sequence[RunResult], parent: int | None) -> TurnOutcome:
        """The pictures of these runs as the conversation's, in the order of the runs; the best is looked at."""
        pictures: dict[Path, Picture] = {}
        replies = []
        for result in results:
            best = result.best_attempt
            if result.stop is StopReason.FAILED or best is None or best.unchanged:
                hint = "; when that is mended, say /again" if result.stop is StopReason.FAILED else ""
                replies.append(f"{result.error or result.why}{hint}")
                continue
            picture = pictures[result.folder] = Picture(
                number=self.state.last_picture + len(pictures) + 1,
                image=await asyncio.to_thread(_keep_best, result, self.store),
                made="drawn" if result.source is None else "edited",
                made_from=result.request,
                parent=(parent or self.state.current or None) if result.source is not None else None,
                score=best.score,
                accepted=result.stop is StopReason.ACCEPTED,
                unchecked=result.unchecked,
                run=str(result.folder.relative_to(self.home)),
            )
            replies.append(_describe_result(result, picture))
        chosen = choose_result([each for each in results if each.folder in pictures] or results)
        failed = next((each for each in results if each.stop is StopReason.FAILED), None)
        run = str((failed or chosen).folder.relative_to(self.home))
        error = failed is not None or not pictures
        if not pictures:
            return TurnOutcome(kind, "\n".join(replies), run=run, error=error)
        looked_at = pictures[chosen.folder].number
        if len(pictures) > 1:
            replies.append(f"picture {looked_at} is the best of them; /back takes you to another")
        made = tuple(pictures.values())
        changes = Changes(pictures=made, look_at=looked_at)
        return TurnOutcome(kind, "\n".join(replies), changes, tuple(each.number for each in made), run, error)

    async def _rewrite(self, models: RewritingModels, request: str, seed: int | None = None) -> TurnOutcome:
        """The prompt that a profile without a generator makes of a request. With a `seed` it is another than the first."""
        await self.tell(StepProgress("rewrite", 1))
        request = clean_request(request)
        outside = () if models.scope is None else await asyncio.to_thread(models.scope.words_outside, request)
        if models.scope is not None and outside:
            rewrite = Rewrite(request, findings=(models.scope.warn(outside),), fallback=True)
        else:
            async with models.calls:
                rewrite = (await models.rewriter(request, n=1 if seed is None else 2, seed=seed or 0))[-1]
        lines = [rewrite.prompt]
        if rewrite.negative_prompt:
            lines.append(f"without: {rewrite.negative_prompt}")
        kept = "kept as you wrote it" if rewrite.fallback else "guard"
        lines += [f"{kept}: {finding}" for finding in rewrite.findings]
        if all(entry.kind != "rewrite" for entry in self.state.entries):
            lines.append(
                f"nothing is drawn: {models.profile.name} only rewrites; --profile mini, workstation or remote draws"
            )
        return TurnOutcome("rewrite", "\n".join(lines))

    # Turns that draw nothing

    async def _answer(self, question: str) -> TurnOutcome:
        picture = self._looked_at()
        if self.models.answerer is None:
            raise BackendError("there is no model here that answers questions about pictures")
        image = await asyncio.to_thread(self.store.get, picture.image)
        async with self.models.calls:
            return TurnOutcome("ask", await self.models.answerer(image, question))

    def _undo(self) -> TurnOutcome:
        if not self.state.trail:
            raise InputError("there is nothing to undo")
        before = self.state.trail[-1]
        if before == 0:
            return TurnOutcome("undo", "back at the beginning, before any picture", Changes(undo=True))
        return TurnOutcome("undo", f"back at picture {before}", Changes(undo=True), (before,))

    def _redo(self) -> TurnOutcome:
        if not self.state.undone:
            raise InputError("nothing was undone; /again draws the same once more")
        number = self.state.undone[-1]
        return TurnOutcome("redo", f"back at picture {number}", Changes(redo=True), (number,))

    def _back(self, number: int) -> TurnOutcome:
        return TurnOutcome("back", f"back at picture {number}", Changes(look_at=number), (number,))

    def _compare(self, left: int, right: int) -> TurnOutcome:
        from editors.changes import change_between

        pictures = [self.state.picture(number) for number in (left, right)]
        a, b = (self.store.get(picture.image).convert("RGB") for picture in pictures)
        scaled = b.resize((max(1, round(b.width * a.height / b.height)), a.height)) if b.height != a.height else b
        both = Image.new("RGB", (a.width + scaled.width + 8, a.height), "white")
        both.paste(a, (0, 0))
        both.paste(scaled, (a.width + 8, 0))
        path = self.runs / f"compare-{left}-{right}.png"
        save_png(both, path, {"Software": "redraft"})
        lines = [f"picture {p.number} ({p.made}): {_score_text(p)}, from: {self.state.origin(p)}" for p in pictures]
        change = change_between(a, b)
        same = "they look the same"
        lines.append(same if change.unchanged else f"they differ by {100 * change.mean:.1f}% on the whole")
        return TurnOutcome("compare", "\n".join(lines), shown=(left, right), file=path)

    def _accept(self) -> TurnOutcome:
        picture = self._looked_at()
        number = picture.number
        if picture.unchecked:
            return TurnOutcome("accept", f"picture {number} is taken; nothing checks: {', '.join(picture.unchecked)}")
        return TurnOutcome("accept", f"picture {number} is accepted", Changes(accepted=number))

    def _accept_from(self, text: str) -> TurnOutcome:
        score = read_number(text, "the score", 0.01, 1)
        return _set(f"pictures are accepted from a score of {score:g} on", accept_at=score)

    def _save(self, target: str | None) -> TurnOutcome:
        picture = self._looked_at()
        if not self.own_files:
            return TurnOutcome("save", f"picture {picture.number} is kept here; download it", shown=(picture.number,))
        own_name = f"{self.name}-{picture.number}.png"
        path = Path(target).expanduser() if target else Path(own_name)
        if path.is_dir():
            path = path / own_name
        if path.suffix.lower() != ".png":
            path = path.with_name(f"{path.name}.png")
        origin = self.state.origin(picture)
        chunks = {"Software": "redraft", "redraft:conversation": self.name, "redraft:made-from": origin}
        save_png(self.store.get(picture.image), path, chunks)
        return TurnOutcome("save", f"saved as {path}", file=path)

    async def _branch(self, wish: str | None) -> TurnOutcome:
        if self.turn.branch is None:
            await self.record({"is": "branch", "turn": self.turn.number, "name": await self.name_branch(wish)})
        name = self.turn.branch
        assert name is not None
        await self.make_branch(name, self.state)
        return TurnOutcome("branch", f"from here on this is the conversation {name}", branch=name)

    def _seed(self, text: str | None) -> TurnOutcome:
        if text is None:
            seed = self.state.seed
            return TurnOutcome("setting", "each drawing gets a new seed" if seed is None else f"the seed is {seed}")
        if text == "off":
            return _set("each drawing gets a new seed", seed=None)
        seed = _read_seed(text)
        return _set(f"the seed is {seed}", seed=seed)

    def _number(self, text: str | None) -> TurnOutcome:
        if text is None:
            return TurnOutcome("setting", f"each request gives {_count_pictures(self.state.n)}")
        number = read_number(text, "n, how many pictures are made,", 1, MAX_N)
        if number != int(number):
            raise InputError(f"n is a whole number, not {text[:40]!r}")
        return _set(f"each request gives {_count_pictures(int(number))}", n=int(number))

    def _open(self, file: str) -> TurnOutcome:
        path = self._own_file(file)
        number = self.state.last_picture + 1
        picture = Picture(number=number, image=self.store.put(open_image(path)), made="given", made_from=path.name)
        return TurnOutcome("given", f"picture {number} is {path.name}", Changes(pictures=(picture,)), (number,))

    def _mask(self, file: str) -> TurnOutcome:
        if file == "off":
            return _set("changes may be anywhere", mask=None)
        size = self.store.get(self._looked_at().image).size
        return _set("changes only where the mask is white", mask=self.store.put(open_mask(self._own_file(file), size)))

    def _list(self) -> str:
        lines = []
        for p in self.state.pictures:
            here = "> " if p.number == self.state.current else "  "
            of = f" of {p.parent}" if p.parent else ""
            accepted = ", accepted" if p.accepted else ""
            left = f"; nothing checks: {', '.join(p.unchecked)}" if p.unchecked else ""
            lines.append(f"{here}{p.number} {p.made}{of}, {_score_text(p)}{accepted}: {p.made_from}{left}")
        lines = lines or ["no pictures yet"]
        if self.own_files:
            lines.append("conversations: " + ", ".join(self.list_others()))
        return "\n".join(lines)

    def _looked_at(self) -> Picture:
        """The picture that the user looks at. Raises InputError if there is none."""
        picture = self.state.current_picture
        if picture is None:
            raise InputError("there is no picture yet; say what to draw, or bring one with /open FILE")
        return picture

    def _picture_number(self, text: str) -> int:
        if not self.state.pictures:
            raise InputError("there is no picture yet")
        value = read_number(text, "a picture's number", 1, self.state.last_picture)
        if value != int(value):
            raise InputError(f"there is no picture {text}")
        return self.state.picture(int(value)).number

    def _own_file(self, file: str) -> Path:
        if not self.own_files:
            raise InputError("files of the server cannot be named here; give the picture along with your request")
        return Path(file).expanduser()


def clarify_of(turn: OpenTurn) -> Clarify:
    """The question that a turn waits with."""
    assert turn.reading is not None
    return Clarify(turn.number, turn.reading.question, turn.reading.choices)


def reply_of(state: ConversationState, store: ImageStore) -> Replied:
    """The reply of the latest finished turn."""
    entry = state.entries[-1]
    pictures = [state.picture(number) for number in entry.pictures]
    shown = tuple((picture, store.path(picture.image)) for picture in pictures)
    return Replied(entry, shown, None if state.file is None else Path(state.file), state.branch)


def _read_seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= MAX_SEED):
        raise InputError(f"the seed is a whole number from 0 to {MAX_SEED}, or off, not {text[:40]!r}")
    return int(text)


def _kind_of(command: Command) -> EntryKind:
    match command.name:
        case "draw" | "edit" | "ask" | "undo" | "redo" | "back" | "compare" | "accept" | "save" | "branch" | "again":
            return command.name
        case "open":
            return "given"
    return "setting"


def _set(reply: str, **settings: object) -> TurnOutcome:
    return TurnOutcome("setting", reply, Changes(settings=settings))


def _keep_best(result: RunResult, store: ImageStore) -> str:
    """Puts the best picture of a run into the conversation's own store. Returns its hash."""
    best = result.best_attempt
    assert best is not None
    return store.put(ImageStore(result.folder / "state" / "images").get(best.image))


def _count_pictures(number: int) -> str:
    return "1 picture" if number == 1 else f"{number} pictures, each found by a run of its own"


def _describe_result(result: RunResult, picture: Picture) -> str:
    score = "without a score" if picture.score is None else f"score {picture.score:.2f}"
    count = len(result.attempts)
    made = "drawn" if result.source is None else "edited"
    drawn = f"{count} picture{'' if count == 1 else 's'} {made}, seed {result.seed}"
    return f"picture {picture.number}: {score}, {result.stop.value} ({result.why}); {drawn}"


def _score_text(picture: Picture) -> str:
    return "no score" if picture.score is None else f"score {picture.score:.2f}"
