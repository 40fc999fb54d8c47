"""SFT triplets from requests or pictures, by a teacher behind any OpenAI-compatible server.

    python -m rewriter.train.teach IN OUT.jsonl --model NAME --base-url http://host:8000/v1

IN: a .txt file with one request per line; .jsonl or .parquet files or `datasets:NAME#SPLIT` with a field `request` (or
`prompt`, `text`, `caption`), or `image` (a path; if relative, from the file's folder), or both; or a folder of pictures.
OUT gets the triplets, one per line; what the filters refuse goes to OUT.rejected.jsonl with its reason. OUT.journal keeps
what was made: the same command resumes from it, and asks only about sources that are not in it, which includes those on
which a server failed.

    picture -> the request that a user would have typed   (only for pictures without a request)
    request -> thought and prompt, asked for and read with the student's own templates and parser
    filters -> readable; a thought of bounded length that does not hold the prompt; the intent guard; a critic's look

These are PromptEnhancer's filters. The paper's last step, people choosing between generated pictures, is left to
`rewriter.train.grpo`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError, BadReply, ConfigError, InputError
from redraft.files import open_atomically
from redraft.images import open_image
from redraft.journal import Journal
from redraft.json_replies import read_json
from redraft.openai_chat import OpenAIChat
from redraft.profiles import ModelConfig, ServerConfig
from redraft.records import DATASETS, BadRecord, LoadedRecords, Row, is_missing, load_records, text_field
from redraft.templates import fence, fill
from redraft.training import console, report_loaded, run
from rewriter.batch.tables import FIELDS, Reject, open_source
from rewriter.reply import Rules, parse_reply, review
from rewriter.request import clean_request
from rewriter.styles import Style
from rewriter.train.data import Triplet, as_triplet, join_negative, style_and_rules
from rewriter.train.script import at_least_one, first_mistake

_MAX_REQUEST = 1000
"""Longest request, in characters, that a teacher may make up for a picture."""
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class TeachSource:
    """What a triplet is made from: a request, a picture, or both. `key` tells sources apart from run to run."""

    key: str
    request: str | None = None
    picture: Image.Image | None = None


@dataclass(frozen=True)
class TeachSettings:
    """`rewrites`: answers asked for per source. `thought_chars` stands for the paper's 384 tokens."""

    rewrites: int = 1
    temperature: float = 0.7
    max_tokens: int = 1024
    thought_chars: int = 1600
    seed: int = 0


@dataclass(frozen=True)
class Rejected:
    """An answer that was not kept, and why."""

    request: str
    reason: str


class Teacher:
    """Makes triplets. `critic` None leaves the last filter out.

    Calls raise BackendError if a server failed: nothing is then known about the source.
    """

    def __init__(
        self,
        chat: ChatModel,
        critic: ChatModel | None,
        style: Style,
        *,
        rules: Rules | None = None,
        settings: TeachSettings | None = None,
    ) -> None:
        self._chat = chat
        self._critic = critic
        self._style = style
        self._rules = rules or Rules.of(style.settings.guard, None)
        self._settings = settings or TeachSettings()

    @property
    def name(self) -> str:
        return self._chat.name

    async def __call__(self, source: TeachSource) -> list[Triplet | Rejected]:
        """One for each rewrite that was asked for; of equal rewrites the first."""
        if source.request is not None:
            request = source.request
        else:
            assert source.picture is not None
            try:
                request = clean_request(await self._describe(source.picture, source.key), _MAX_REQUEST)
            except InputError as error:
                return [Rejected("", f"request: {error}")]
        answers = await asyncio.gather(*(self._answer(source, request, i) for i in range(self._settings.rewrites)))
        unique = {a.prompt if isinstance(a, Triplet) else a.reason: a for a in reversed(answers)}
        return list(reversed(unique.values()))

    async def _describe(self, picture: Image.Image, key: str) -> str:
        """The request that a user would have typed for `picture`; "" if the reply holds none. Thoughts never get in."""
        message = Message("user", (_template("request"), picture))
        chat_request = ChatRequest(
            (message,), max_tokens=400, temperature=self._settings.temperature, seed=self._seed(key)
        )
        try:
            reply = await self._chat(chat_request)
        except BadReply:
            return ""
        # A reply is asked for without tags: as if the server had split the thought off, if there was one.
        return parse_reply(reply.text, reasoning=reply.reasoning or "-", truncated=reply.truncated).prompt or ""

    async def _answer(self, source: TeachSource, request: str, index: int) -> Triplet | Rejected:
        s = self._settings
        messages = self._style.rewrite_messages(request)
        if source.picture is not None:
            last = messages[-1]
            content = (f"{last.content}\n\n{_template('picture')}", source.picture)
            messages = (*messages[:-1], replace(last, content=content))
        seed = self._seed(source.key) + index
        chat_request = ChatRequest(messages, max_tokens=s.max_tokens, temperature=s.temperature, seed=seed)
        try:
            reply = await self._chat(chat_request)
        except BadReply as error:
            return Rejected(request, f"reply: {error}")
        read = review(request, reply, self._rules)
        if read.prompt is None:
            return Rejected(request, read.findings[0])
        if problem := self._problem(request, read.thought, read.prompt):
            return Rejected(request, problem)
        if read.findings:
            return Rejected(request, f"guard: {read.findings[0]}")
        try:
            triplet = as_triplet(request, read.thought, join_negative(read.prompt, read.negative_prompt))
        except InputError as error:
            return Rejected(request, f"reply: {error}")
        return await self._criticise(triplet)

    def _problem(self, request: str, thought: str, prompt: str) -> str:
        if not thought:
            return "thought: there is none"
        if len(thought) > self._settings.thought_chars:
            return f"thought: {len(thought)} characters, more than {self._settings.thought_chars}"
        if _flat(prompt) in _flat(thought):
            return "thought: it holds the whole prompt"
        return "prompt: it is the request unchanged" if _flat(prompt) == _flat(request) else ""

    async def _criticise(self, triplet: Triplet) -> Triplet | Rejected:
        if self._critic is None:
            return triplet
        text = fill(
            _template("critic"),
            request=fence(triplet.request, "request"),
            thought=fence(triplet.thought, "thought"),
            rewrite=fence(triplet.prompt, "rewrite"),
        )
        chat_request = ChatRequest((Message("user", text),), max_tokens=400, schema=_Verdict.model_json_schema())
        try:
            verdict = read_json((await self._critic(chat_request)).text, _Verdict).value
        except ValueError as error:
            raise BadReply(f"the critic {self._critic.name} did not say keeps, fluent and sober") from error
        missed = [name for name in ("keeps", "fluent", "sober") if not getattr(verdict, name)]
        return Rejected(triplet.request, f"critic: not {', '.join(missed)}: {verdict.reason}") if missed else triplet

    def _seed(self, key: str) -> int:
        """One seed per source, so that the teacher's turn of phrase differs between sources."""
        digest = hashlib.sha256(f"{self._settings.seed}\0{key}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:4], "big") >> 1


class _Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str
    keeps: bool
    fluent: bool
    sober: bool


def _template(name: str) -> str:
    path = resources.files("rewriter.train") / "templates" / "teach" / f"{name}.txt"
    return path.read_text(encoding="utf-8").strip("\n")


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())


# The script


@dataclass(frozen=True)
class TeachItem:
    """A source that is not opened yet: its request, and where its picture is."""

    key: str
    request: str | None
    picture: Path | None

    def open(self) -> TeachSource:
        """Raises InputError for a picture that cannot be opened."""
        return TeachSource(self.key, self.request, None if self.picture is None else open_image(self.picture))


@dataclass
class Tally:
    """How a run went."""

    kept: int = 0
    rejected: list[str] = field(default_factory=list)
    """The reasons."""
    failed: int = 0
    failed_in_a_row: int = 0
    last: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` defaults to the process's arguments. Returns the exit code."""
    return run(teach, argv)


def teach(argv: Sequence[str]) -> None:
    """Asks the teacher about every source that is not done. Raises ConfigError, InputError, BackendError."""
    options = _parser().parse_args(argv)
    items = list({item.key: item for item in read_items(options.source, options.max_bad)}.values())
    if options.limit is not None:
        items = items[: options.limit]
    style, rules = style_and_rules(options.style, options.target)
    settings = TeachSettings(
        rewrites=options.rewrites,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        thought_chars=options.thought_chars,
        seed=options.seed,
    )
    chat = _chat(options, options.model)
    critic = None if options.no_critic else chat if options.critic is None else _chat(options, options.critic)
    teacher = Teacher(chat, critic, style, rules=rules, settings=settings)
    path = options.out.with_name(options.out.name + ".journal")
    if options.out.exists() and not path.exists():
        raise InputError(f"{options.out} was not written by this script (there is no {path.name}); name another OUT")
    with Journal(path, "teach", advice="name another OUT") as journal:
        todo = [item for item in items if item.key not in journal]
        console.print(f"{len(items):,} sources, {len(items) - len(todo):,} of them done before")
        try:
            tally = asyncio.run(
                teach_all(teacher, todo, journal, concurrency=options.concurrency, patience=options.patience)
            )
        finally:
            write_results(journal, options.out)
    why = ", ".join(f"{name} {count:,}" for name, count in count_reasons(tally.rejected).items())
    console.print(f"{tally.kept:,} triplets, {len(tally.rejected):,} rejected{f' ({why})' if why else ''}")
    if tally.failed:
        raise BackendError(
            f"{tally.failed:,} of {len(todo):,} sources could not be asked about; the same command tries them again. "
            f"The last: {tally.last}"
        )


async def teach_all(
    teacher: Teacher, items: Sequence[TeachItem], journal: Journal, *, concurrency: int, patience: int
) -> Tally:
    """Asks about all items; answers go to the journal as they come. Stops early if `patience` sources in a row failed:
    then the server is away."""
    tally, queue = Tally(), iter(items)

    async def work() -> None:
        for item in queue:
            if tally.failed_in_a_row >= patience:
                return
            try:
                source = await asyncio.to_thread(item.open)
                answers = await teacher(source)
            except InputError as error:
                answers = [Rejected(item.request or "", f"picture: {error}")]
            except BackendError as error:
                tally.failed += 1
                tally.failed_in_a_row += 1
                tally.last = str(error)
                continue
            tally.failed_in_a_row = 0
            triplets = [answer for answer in answers if isinstance(answer, Triplet)]
            rejected = [answer for answer in answers if isinstance(answer, Rejected)]
            value = {
                "triplets": [{**_fields(triplet), "source": item.key, "teacher": teacher.name} for triplet in triplets],
                "rejected": [{"request": r.request, "reason": r.reason, "source": item.key} for r in rejected],
            }
            await asyncio.to_thread(journal.put, item.key, value)
            tally.kept += len(triplets)
            tally.rejected += [answer.reason for answer in rejected]

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return tally


def write_results(journal: Journal, out: Path) -> None:
    """Writes everything that the journal holds to `out` and its file of rejected answers. Raises InputError."""
    for path, name in ((out, "triplets"), (out.with_name(out.name + ".rejected.jsonl"), "rejected")):
        rows = (row for entry in journal for row in entry.value[name])
        try:
            with open_atomically(path) as file:
                file.writelines((json.dumps(row, ensure_ascii=False) + "\n").encode() for row in rows)
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror or error}; nothing is lost, run it again"
            ) from error


def read_items(place: str, max_bad: float) -> Iterator[TeachItem]:
    """The sources in `place`. Raises InputError."""
    path = Path(place)
    if not place.startswith(DATASETS) and path.is_dir():
        pictures = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURES)
        if pictures:
            yield from (_item(None, picture) for picture in pictures)
            return
    loaded = _read_text(path) if path.suffix == ".txt" else load_records([place], _read_row, max_bad)
    yield from report_loaded(place, loaded).records


def _read_text(path: Path) -> LoadedRecords[TeachItem]:
    """One request per line, read as `redraft enhance` reads them: a line that cannot be used is named, the others count."""
    rows = list(open_source(str(path)).rows())
    bad = tuple(BadRecord(str(path), row.number, row.why) for row in rows if isinstance(row, Reject))
    good = [row for row in rows if not isinstance(row, Reject)]
    places = tuple((str(path), row.number) for row in good)
    return LoadedRecords(tuple(_item(row.request, None) for row in good), bad, places).within(1.0)


def _read_row(row: Row, source: str) -> TeachItem:
    image = None
    if not is_missing(row.get("image")):
        image = Path(source).parent / text_field(row, "image")
    name = next((name for name in FIELDS if not is_missing(row.get(name))), "request")
    if image is not None and is_missing(row.get(name)):
        return _item(None, image)
    return _item(clean_request(text_field(row, name)), image)


def _item(request: str | None, picture: Path | None) -> TeachItem:
    return TeachItem(make_key(request, picture), request, picture)


def make_key(request: str | None, picture: Path | None = None) -> str:
    """The key of a source: a hash of its request and of its picture's content. Raises InputError."""
    digest = hashlib.sha256((request or "").encode("utf-8", "surrogatepass") + b"\0")
    if picture is not None:
        try:
            with picture.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(f"cannot read the picture {picture}: {error.strerror}") from error
    return digest.hexdigest()[:16]


def count_reasons(rejected: Sequence[str]) -> dict[str, int]:
    """How often each filter refused: by the word before the colon, most often first."""
    return dict(Counter(reason.partition(":")[0] for reason in rejected).most_common())


def _fields(triplet: Triplet) -> dict[str, str]:
    return {"request": triplet.request, "thought": triplet.thought, "prompt": triplet.prompt}


def _chat(options: argparse.Namespace, model: str) -> ChatModel:
    try:
        server = ServerConfig(
            base_url=options.base_url,
            api_key_env=options.api_key_env,
            timeout_s=options.timeout,
            concurrency=options.concurrency,
        )
        return OpenAIChat(ModelConfig(kind="openai", model=model, server=server))
    except ValidationError as error:
        raise ConfigError(first_mistake(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rewriter.train.teach",
        description="Makes SFT triplets from requests or pictures with a teacher.",
    )
    parser.add_argument("source", metavar="IN", help="requests (.txt, .jsonl, .parquet, datasets:...) or pictures")
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="the .jsonl file for the triplets; the same command again resumes"
    )
    parser.add_argument("--model", required=True, help="the name that the server has for the teacher")
    parser.add_argument("--base-url", required=True, help="the server, such as http://host:8000/v1")
    parser.add_argument("--api-key-env", help="NAME of the environment variable that holds the API key")
    parser.add_argument("--critic", help="another model on the same server, for the last filter")
    parser.add_argument("--no-critic", action="store_true", help="leave the last filter out")
    parser.add_argument(
        "--style", default="promptenhancer", help="the student's style, whose templates the teacher is asked with"
    )
    parser.add_argument("--target", help="image model that the prompts are for: a name from rewriter/targets or a file")
    parser.add_argument("--rewrites", type=at_least_one, default=1, help="answers to ask for per source")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-tokens", type=at_least_one, default=1024)
    parser.add_argument(
        "--thought-chars", type=at_least_one, default=1600, help="longest thought to keep, in characters"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=at_least_one, help="use only this many sources, from the first")
    parser.add_argument("--concurrency", type=at_least_one, default=8, help="sources under way at once")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for one reply")
    parser.add_argument("--patience", type=at_least_one, default=10, help="stop after this many failures in a row")
    parser.add_argument("--max-bad", type=float, default=0.01, help="share of malformed records that is allowed")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
