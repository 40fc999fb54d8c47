"""SFT triplets from a teacher: what it is asked, and which of its answers are kept (after PromptEnhancer's filters).

    picture -> the request that a user would have typed   (only where there are pictures and no requests)
    request -> thought and rewrite, asked for and read with the student's own templates and parser
    filters -> readable; a thought of bounded length that does not hold the rewrite; the intent guard; a critic's look

The paper's last step, people choosing between generated pictures, is left to `rewriter.train.grpo`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BadReply, InputError
from redraft.templates import fence, fill
from rewriter.reply import Rules, review
from rewriter.request import clean_request
from rewriter.styles import Style
from rewriter.train.data import Triplet, as_triplet

_MAX_REQUEST = 1000
"""Longest request, in characters, that a teacher may make up for a picture."""


@dataclass(frozen=True)
class Source:
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

    async def __call__(self, source: Source) -> list[Triplet | Rejected]:
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

    async def _answer(self, source: Source, prompt: str, index: int) -> Triplet | Rejected:
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
