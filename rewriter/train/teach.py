"""SFT triplets from prompts or pictures, by a teacher behind any OpenAI-compatible server.

    python -m rewriter.train.teach IN OUT.jsonl --model NAME --base-url http://host:8000/v1

IN: a .txt file with one prompt a line; .jsonl or .parquet files or `datasets:NAME#SPLIT` with a field `prompt`, or
`image` (a path, beside the file where it is relative), or both; or a folder of pictures. OUT gets the triplets, one
a line; what the filters refuse goes with its reason to OUT.rejected.jsonl. Both are made from OUT.journal when the
command ends. The same command again goes on where it was: only sources that are not in the journal are asked about,
those that a server failed on among them.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from redraft.chat import ChatModel, ChatRequest, Message, OpenAIChat
from redraft.errors import BackendError, BadReply, ConfigError, InputError
from redraft.files import open_atomically
from redraft.images import open_image
from redraft.journal import Journal
from redraft.profiles import ModelConfig, ServerConfig
from redraft.records import DATASETS, Row, is_missing, load_records, text_field
from redraft.templates import fence, fill
from redraft.training import console, run, told
from rewriter.reply import Rules, review
from rewriter.request import clean_request
from rewriter.styles import Style
from rewriter.train.data import Triplet, as_triplet, style_and_rules
from rewriter.train.script import at_least_one, first_mistake

_MAX_REQUEST = 1000
"""Longest request, in characters, that a teacher may make up for a picture."""


@dataclass(frozen=True)
class TeachSource:
    """What a triplet is made from: a user's prompt, a picture, or both. `key` tells sources apart from run to run."""

    key: str
    prompt: str | None = None
    picture: Image.Image | None = None


@dataclass(frozen=True)
class TeachSettings:
    """`rewrites`: answers asked for of each source. `thought_chars` stands for the paper's 384 tokens."""

    rewrites: int = 1
    temperature: float = 0.7
    max_tokens: int = 1024
    thought_chars: int = 1600
    seed: int = 0


@dataclass(frozen=True)
class Rejected:
    """An answer that was not kept, and why."""

    prompt: str
    reason: str


class Teacher:
    """Makes triplets. `critic` None leaves the last filter out.

    Calls raise BackendError where a server failed: nothing is then known about the source.
    """

    def __init__(
        self,
        chat: ChatModel,
        critic: ChatModel | None,
        style: Style,
        rules: Rules | None = None,
        settings: TeachSettings | None = None,
    ) -> None:
        self._chat = chat
        self._critic = critic
        self._style = style
        self._rules = rules or Rules.of(style.settings.guard, None)
        self._settings = settings or TeachSettings()

    async def __call__(self, source: TeachSource) -> list[Triplet | Rejected]:
        """One for each rewrite that was asked for; of equal rewrites the first."""
        if source.prompt is not None:
            prompt = source.prompt
        else:
            assert source.picture is not None
            try:
                prompt = clean_request(await self._request_for(source.picture, source.key), _MAX_REQUEST)
            except InputError as error:
                return [Rejected("", f"request: {error}")]
        made = await asyncio.gather(*(self._answer(source, prompt, i) for i in range(self._settings.rewrites)))
        unique = {one.rewrite if isinstance(one, Triplet) else one.reason: one for one in reversed(made)}
        return list(reversed(unique.values()))

    async def _request_for(self, picture: Image.Image, key: str) -> str:
        message = Message("user", (_template("request"), picture))
        request = ChatRequest((message,), max_tokens=400, temperature=self._settings.temperature, seed=self._seed(key))
        try:
            return (await self._chat(request)).text.strip().strip('"“”')
        except BadReply:
            return ""

    async def _answer(self, source: TeachSource, prompt: str, index: int) -> Triplet | Rejected:
        s = self._settings
        messages = self._style.ask(prompt)
        if source.picture is not None:
            last = messages[-1]
            shown = (f"{last.content}\n\n{_template('picture')}", source.picture)
            messages = (*messages[:-1], replace(last, content=shown))
        seed = self._seed(source.key) + index
        request = ChatRequest(messages, max_tokens=s.max_tokens, temperature=s.temperature, seed=seed)
        try:
            reply = await self._chat(request)
        except BadReply as error:
            return Rejected(prompt, f"reply: {error}")
        read = review(prompt, reply, self._rules)
        if read.prompt is None:
            return Rejected(prompt, read.findings[0])
        if problem := self._problem(prompt, read.thought, read.prompt):
            return Rejected(prompt, problem)
        if read.findings:
            return Rejected(prompt, f"guard: {read.findings[0]}")
        try:
            triplet = as_triplet(prompt, read.thought, answer_of(read.prompt, read.negative_prompt))
        except InputError as error:
            return Rejected(prompt, f"reply: {error}")
        return await self._judged(triplet)

    def _problem(self, prompt: str, thought: str, rewrite: str) -> str:
        if not thought:
            return "thought: there is none"
        if len(thought) > self._settings.thought_chars:
            return f"thought: {len(thought)} characters, more than {self._settings.thought_chars}"
        if _flat(rewrite) in _flat(thought):
            return "thought: it holds the whole rewrite"
        return "rewrite: it is the request as it was" if _flat(rewrite) == _flat(prompt) else ""

    async def _judged(self, triplet: Triplet) -> Triplet | Rejected:
        if self._critic is None:
            return triplet
        text = fill(
            _template("critic"),
            request=fence(triplet.prompt, "request"),
            thought=fence(triplet.thought, "thought"),
            rewrite=fence(triplet.rewrite, "rewrite"),
        )
        request = ChatRequest((Message("user", text),), max_tokens=400, schema=_Verdict.model_json_schema())
        try:
            verdict = _Verdict.model_validate_json((await self._critic(request)).text)
        except ValidationError as error:
            raise BadReply(f"the critic {self._critic.name} did not say keeps, fluent and sober") from error
        missed = [name for name in ("keeps", "fluent", "sober") if not getattr(verdict, name)]
        return Rejected(triplet.prompt, f"critic: not {', '.join(missed)}: {verdict.reason}") if missed else triplet

    def _seed(self, key: str) -> int:
        """One seed a source, so that the teacher's turn of phrase differs between sources."""
        digest = hashlib.sha256(f"{self._settings.seed}\0{key}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:4], "big") >> 1


def answer_of(prompt: str, negative: str | None) -> str:
    """The answer that `rewriter.target.Target.split` takes apart into these."""
    return prompt if negative is None else f"{prompt}\nNegative prompt: {negative}"


def key_of(prompt: str | None, picture: bytes = b"") -> str:
    """The key of a source, by what it says and shows."""
    return hashlib.sha256((prompt or "").encode("utf-8", "surrogatepass") + b"\0" + picture).hexdigest()[:16]


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


def reasons(rejected: Sequence[str]) -> dict[str, int]:
    """How often each filter refused: by the word before the colon, most often first."""
    counts: dict[str, int] = {}
    for reason in rejected:
        name = reason.partition(":")[0]
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: -pair[1]))


_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class TeachItem:
    """A source that is not opened yet: what it says, and where its picture is."""

    key: str
    prompt: str | None
    picture: Path | None

    def open(self) -> TeachSource:
        """Raises InputError for a picture that cannot be opened."""
        return TeachSource(self.key, self.prompt, None if self.picture is None else open_image(self.picture))


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
    """The command line; `argv` in place of the process's own arguments. Returns the exit code."""
    return run(teach, argv)


def teach(argv: Sequence[str]) -> None:
    """Asks the teacher about every source that is not done. Raises ConfigError, InputError, BackendError."""
    options = _parser().parse_args(argv)
    items = list({item.key: item for item in read_items(options.source, options.max_bad)}.values())
    if options.limit is not None:
        items = items[: options.limit]
    style, rules = style_and_rules(options.style, options.target)
    settings = TeachSettings(
        options.rewrites, options.temperature, options.max_tokens, options.thought_chars, options.seed
    )
    chat = _chat(options, options.model)
    critic = None if options.no_critic else chat if options.critic is None else _chat(options, options.critic)
    teacher = Teacher(chat, critic, style, rules, settings)
    with open_journal(options.out) as journal:
        left = [item for item in items if item.key not in journal]
        console.print(f"{len(items):,} sources, {len(items) - len(left):,} of them done before")
        try:
            tally = asyncio.run(teach_all(teacher, left, journal, chat.name, options.concurrency, options.patience))
        finally:
            write_results(options.out, journal)
    why = ", ".join(f"{name} {count:,}" for name, count in reasons(tally.rejected).items())
    console.print(f"{tally.kept:,} triplets, {len(tally.rejected):,} rejected{f' ({why})' if why else ''}")
    if tally.failed:
        raise BackendError(
            f"{tally.failed:,} of {len(left):,} sources could not be asked about; the same command tries them again. "
            f"The last: {tally.last}"
        )


async def teach_all(
    teacher: Teacher, items: Sequence[TeachItem], journal: Journal, name: str, concurrency: int, patience: int
) -> Tally:
    """Asks about `items` and keeps what comes in `journal`; `name` is the teacher's. Stops early if `patience` sources
    in a row failed: the server is away."""
    tally, left = Tally(), iter(items)

    async def work() -> None:
        for item in left:
            if tally.failed_in_a_row >= patience:
                return
            try:
                source = await asyncio.to_thread(item.open)
                answers = await teacher(source)
            except InputError as error:
                answers = [Rejected(item.prompt or "", f"picture: {error}")]
            except BackendError as error:
                tally.failed += 1
                tally.failed_in_a_row += 1
                tally.last = str(error)
                continue
            tally.failed_in_a_row = 0
            triplets = [one for one in answers if isinstance(one, Triplet)]
            refusals = [one for one in answers if isinstance(one, Rejected)]
            kept = [{**_fields(one), "source": item.key, "teacher": name} for one in triplets]
            rejected = [{"prompt": one.prompt, "reason": one.reason, "source": item.key} for one in refusals]
            journal.put(item.key, {"triplets": kept, "rejected": rejected})
            tally.kept += len(triplets)
            tally.rejected += [one.reason for one in refusals]

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return tally


def read_items(place: str, max_bad: float) -> Iterator[TeachItem]:
    """The sources in `place`. Raises InputError."""
    path = Path(place)
    if not place.startswith(DATASETS) and path.is_dir():
        pictures = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURES)
        if pictures:
            yield from (_item(None, picture) for picture in pictures)
            return
    if path.suffix == ".txt":
        yield from (_item(clean_request(line), None) for line in _lines(path))
        return
    yield from told(place, load_records([place], _read, max_bad)).records


def open_journal(out: Path) -> Journal:
    """What was done for the file `out`. Raises InputError if `out` was made by something else."""
    path = out.with_name(out.name + ".journal")
    if out.exists() and not path.exists():
        raise InputError(f"{out} was not written by this script; name another OUT")
    return Journal(path, "teach", advice="name another OUT")


def write_results(out: Path, journal: Journal) -> None:
    """Writes the triplets and what was refused, in the order in which they came. Raises InputError."""
    for path, name in ((out, "triplets"), (out.with_name(out.name + ".rejected.jsonl"), "rejected")):
        rows = (row for entry in journal for row in entry.value[name])
        try:
            with open_atomically(path) as file:
                file.writelines((json.dumps(row, ensure_ascii=False) + "\n").encode() for row in rows)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; the same command tries again") from error


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start + 1}") from error


def _read(row: Row, source: str) -> TeachItem:
    image = None
    if not is_missing(row.get("image")):
        image = Path(source).parent / text_field(row, "image")
    if image is not None and is_missing(row.get("prompt")):
        return _item(None, image)
    return _item(clean_request(text_field(row, "prompt")), image)


def _item(prompt: str | None, picture: Path | None) -> TeachItem:
    # By its path and size: hashing a million pictures before the first is asked about would take hours.
    try:
        mark = b"" if picture is None else f"{picture.name}\0{picture.stat().st_size}".encode("utf-8", "surrogatepass")
    except OSError as error:
        raise InputError(f"cannot read the picture {picture}: {error.strerror}") from error
    return TeachItem(key_of(prompt, mark), prompt, picture)


def _fields(triplet: Triplet) -> dict[str, str]:
    return {"prompt": triplet.prompt, "thought": triplet.thought, "rewrite": triplet.rewrite}


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
        prog="python -m rewriter.train.teach", description="Makes SFT triplets from prompts or pictures with a teacher."
    )
    parser.add_argument("source", metavar="IN", help="prompts (.txt, .jsonl, .parquet, datasets:...) or pictures")
    parser.add_argument("out", metavar="OUT", type=Path, help="the .jsonl file of triplets, which is continued")
    parser.add_argument("--model", required=True, help="the teacher, as its server calls it")
    parser.add_argument("--base-url", required=True, help="the server, such as http://host:8000/v1")
    parser.add_argument("--api-key-env", help="NAME of the environment variable that holds the API key")
    parser.add_argument("--critic", help="another model behind the same server for the last filter")
    parser.add_argument("--no-critic", action="store_true", help="leave the last filter out")
    parser.add_argument("--style", default="promptenhancer", help="the student's style: its templates are asked with")
    parser.add_argument("--target", help="image model the rewrites are for: a name from rewriter/targets or a file")
    parser.add_argument("--rewrites", type=at_least_one, default=1, help="answers asked for of each source")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-tokens", type=at_least_one, default=1024)
    parser.add_argument("--thought-chars", type=at_least_one, default=1600, help="longest thought that is kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=at_least_one, help="only the first so many sources")
    parser.add_argument("--concurrency", type=at_least_one, default=8, help="sources asked about at once")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one reply")
    parser.add_argument("--patience", type=at_least_one, default=10, help="failures in a row after which to stop")
    parser.add_argument("--max-bad", type=float, default=0.01, help="share of malformed records that is allowed")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
