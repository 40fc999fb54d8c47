"""The chain-of-thought rewriter: ask, parse, guard, ask once more, or keep the user's request as the prompt.

rewriter = CoTRewriter(open_chat(config.model), config)
[rewrite] = await rewriter("three red stars")
rewrite.prompt, rewrite.thought, rewrite.findings
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

from redraft.chat import ChatModel, ChatReply, ChatRequest, Message, Usage
from redraft.errors import BackendError, BadReply, ConfigError
from redraft.profiles import BackendConfig, RewriterConfig
from rewriter.keep import reason_to_keep
from rewriter.reply import REPLY_SCHEMA, Review, Reviewer, Rules, review
from rewriter.request import clean_request
from rewriter.styles import Style, load_style
from rewriter.target import Target, load_target, target_of_generator
from rewriter.types import Feedback, Rewrite

SECOND_TRY = 1_000_003
"""Added to the seed of a second try, so that it never meets the seed of another candidate's first."""


@dataclass(frozen=True)
class Asking:
    """How a rewriter is asked and its replies are read: everything but the model. Pure, and the same for a single
    request, a batch and a cluster.

    Candidate i is sampled with seed + i at the config's temperature. Candidate 0 is greedy instead, so that one rewrite
    is the model's best guess and the same each time; with feedback it is sampled like the others, since the greedy
    answer is what just failed, and always if the config says so.
    """

    config: RewriterConfig
    style: Style
    rules: Rules

    @classmethod
    def of(cls, config: RewriterConfig, target: Target | None = None) -> Asking:
        """If `target` is None, the config's is used. Raises ConfigError if style or target cannot be used."""
        if target is None and config.target is not None:
            target = load_target(config.target)
        style = load_style(config.style)
        if config.system is not None:
            style = style.with_system(_read_system(config.system))
        if target is not None:
            if target.notes and style.system is None and not style.settings.forms:
                raise ConfigError(
                    f"this profile's rewriter was trained for one image model and cannot write for {target.name!r}; leave "
                    "--target out, or choose a profile whose rewriter is a general language model, such as "
                    "--profile workstation or --profile remote"
                )
            style = style.for_target(target)
        return cls(config, style, Rules.of(style.settings.guard, target, style.settings.reply))

    def keep(self, request: str) -> Rewrite | None:
        """The request as its own prompt, with the reason, if the style says that the model is not to be asked."""
        reason = reason_to_keep(request, self.style.settings.keep)
        if reason is None:
            return None
        return Rewrite(prompt=request, findings=(reason,), model=self.config.model.title, fallback=True, tries=0)

    def first(self, request: str, index: int, seed: int, feedback: Feedback | None = None) -> ChatRequest:
        """What the model is asked for candidate `index` of `request`."""
        if feedback is None:
            messages = self.style.rewrite_messages(request)
        else:
            messages = self.style.repair_messages(request, feedback.prompt, feedback.failed)
        greedy = self.config.greedy and index == 0 and feedback is None
        return self._chat_request(messages, seed + index, 0.0 if greedy else self.config.temperature)

    def second(self, request: str, index: int, seed: int, first: Review) -> ChatRequest:
        """What the model is asked after its first reply had faults."""
        messages = self.style.guard_repair_messages(request, first.prompt or request, first.faults)
        return self._chat_request(messages, seed + index + SECOND_TRY, self.config.temperature)

    def _chat_request(self, messages: tuple[Message, ...], seed: int, temperature: float) -> ChatRequest:
        return ChatRequest(
            messages,
            max_tokens=self.config.max_tokens,
            temperature=temperature,
            top_p=self.config.top_p,
            seed=seed,
            schema=REPLY_SCHEMA if self.style.settings.reply == "json" else None,
        )


_LONGEST_SYSTEM = 64_000


def _read_system(place: str) -> str:
    try:
        text = Path(place).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"rewriter.system: {place} cannot be read as UTF-8 text ({error})") from None
    if not text.strip() or len(text) > _LONGEST_SYSTEM:
        raise ConfigError(f"rewriter.system: {place} holds no text, or more than {_LONGEST_SYSTEM:,} characters")
    return text


def infer_target(config: RewriterConfig, generator: BackendConfig | None) -> Target | None:
    """The target of a rewriter that names none: the one of the generator's class, or of its model's name. None if the rewriter
    names one, if no target is known for the generator, or if the rewriter's style cannot ask for its prompts."""
    if config.target is not None or generator is None:
        return None
    target = target_of_generator(generator)
    style = load_style(config.style)
    if target is None or (style.system is None and not style.settings.forms):
        return None
    try:
        style.for_target(target)
    except ConfigError:
        return None
    return target


@dataclass(frozen=True)
class Try:
    """One reply, read and checked, and who gave it."""

    review: Review
    model: str
    usage: Usage = field(default_factory=Usage)


def conclude(request: str, first: Try, second: Try | None = None) -> Rewrite:
    """The rewrite that the tries make: the first that has no faults, else the request itself with all findings.

    `second` is None if the first had no faults.
    """
    last, usage = first, first.usage
    findings: tuple[str, ...] = ()
    if second is not None:
        last, usage, findings = second, first.usage + second.usage, first.review.findings
    read, tries = last.review, 1 if second is None else 2
    if not read.faults and read.prompt is not None:
        return Rewrite(
            prompt=read.prompt,
            thought=read.thought,
            negative_prompt=read.negative_prompt,
            model=last.model,
            usage=usage,
            findings=findings + read.notices,
            tries=tries,
        )
    return Rewrite(
        prompt=request,
        thought=read.thought,
        model=last.model,
        usage=usage,
        findings=tuple(dict.fromkeys(findings + read.findings + read.notices)),
        fallback=True,
        tries=tries,
    )


class CoTRewriter:
    """A Rewriter over any chat model, in the style that the config names; seeds and sampling as in `Asking`.

    If a reply cannot be read, or the guard refuses it, the model is asked once more with what was wrong; after that the
    request itself is the prompt, with `fallback` set and the findings kept. Replies are read by `reviewer`, in this
    process by default.
    """

    def __init__(
        self,
        model: ChatModel,
        config: RewriterConfig,
        *,
        target: Target | None = None,
        reviewer: Reviewer | None = None,
    ) -> None:
        """Raises ConfigError if the style or the target cannot be used."""
        self._model = model
        self._reviewer = reviewer
        self.asking = Asking.of(config, target)

    async def __call__(
        self, request: str, *, n: int = 1, seed: int = 0, feedback: Feedback | None = None
    ) -> list[Rewrite]:
        """At most `n` rewrites, at least one; of equal prompts one is kept, with their usage added up.

        Raises InputError if the request cannot be used, and the model's BackendError if every candidate failed; if only
        some failed, they are dropped and named in the findings of the first rewrite.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        request = clean_request(request)
        kept = self.asking.keep(request)
        if kept is not None:
            return [kept]
        if n == 1:  # no task of its own: in a batch there are millions of these
            results = [await self._candidate(request, 0, seed, feedback)]
        else:
            results = await asyncio.gather(*(self._candidate(request, i, seed, feedback) for i in range(n)))
        rewrites = [result for result in results if isinstance(result, Rewrite)]
        errors = [(i, result) for i, result in enumerate(results) if isinstance(result, BackendError)]
        if not rewrites:
            raise errors[0][1]
        unique = _unique(rewrites)
        dropped = tuple(f"dropped: candidate {i + 1} of {n} failed: {error}" for i, error in errors)
        unique[0] = replace(unique[0], findings=unique[0].findings + dropped)
        return unique

    async def _candidate(
        self, request: str, index: int, seed: int, feedback: Feedback | None
    ) -> Rewrite | BackendError:
        try:
            first = await self._try(request, self.asking.first(request, index, seed, feedback))
        except BackendError as error:
            return error
        if not first.review.faults:
            return conclude(request, first)
        try:
            second = await self._try(request, self.asking.second(request, index, seed, first.review))
        except BackendError as error:
            failed = replace(first.review, prompt=None, faults=(str(error),), broken_rules=("server",))
            second = Try(failed, first.model)
        return conclude(request, first, second)

    async def _try(self, request: str, chat_request: ChatRequest) -> Try:
        try:
            reply = await self._model(chat_request)
        except BadReply as error:  # the model is there, so this is a bad reply, not a failed backend
            return Try(Review(faults=(str(error),), broken_rules=("reply",)), self._model.name)
        read = await self._read(request, reply)
        return Try(read, reply.model or self._model.name, reply.usage)

    async def _read(self, request: str, reply: ChatReply) -> Review:
        if self._reviewer is None:
            # In a thread: the reply is foreign, and to read and check it takes up to a few tenths of a second.
            return await asyncio.to_thread(review, request, reply, self.asking.rules)
        return await self._reviewer(request, reply)


def _unique(rewrites: list[Rewrite]) -> list[Rewrite]:
    """One Rewrite a prompt, in order; of equal prompts one that is no fallback, with the usage of all."""
    kept: dict[str, Rewrite] = {}
    for new in rewrites:
        old = kept.get(new.prompt)
        if old is not None:
            best = new if old.fallback and not new.fallback else old
            new = replace(best, usage=old.usage + new.usage)
        kept[new.prompt] = new
    return list(kept.values())
