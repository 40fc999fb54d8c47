"""The chain-of-thought rewriter: ask, parse, guard, ask once more, or keep the user's own prompt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from core.chat import ChatModel, ChatRequest, Message, Usage
from core.errors import BackendError, BadReply
from core.profiles import RewriterConfig
from rewriter.guard import check_intent
from rewriter.limits import clean_prompt
from rewriter.parse import Parsed, parse_reply
from rewriter.styles import Style, load_style
from rewriter.types import Feedback, Rewrite

_SECOND_TRY = 1_000_003
"""Added to the seed of a second try, so that it never meets the seed of another candidate's first."""


@dataclass(frozen=True)
class _Try:
    """One reply, read and checked. `faults` is empty where its prompt may be used."""

    parsed: Parsed
    faults: tuple[str, ...]
    model: str
    usage: Usage = field(default_factory=Usage)
    findings: tuple[str, ...] = ()
    """`faults` with the names of the rules before them."""


class CoTRewriter:
    """A Rewriter over any chat model, in the style that the config names.

    Candidate i is sampled with seed + i at the config's temperature. Candidate 0 is greedy instead, so that one rewrite
    is the model's best guess and the same each time; with feedback it is sampled like the others, since the greedy
    answer is what just failed. A reply that cannot be read, or that the intent guard refuses, is answered by one more
    request with what was wrong; after that the user's own prompt stands in, with `fallback` set and findings kept.
    """

    def __init__(self, model: ChatModel, config: RewriterConfig) -> None:
        """Raises ConfigError where the style cannot be used."""
        self._model = model
        self._config = config
        self._style: Style = load_style(config.style)

    async def __call__(
        self, prompt: str, *, n: int = 1, seed: int = 0, feedback: Feedback | None = None
    ) -> list[Rewrite]:
        """At most `n` rewrites, at least one; equal prompts are told once, with their usage added up.

        Raises InputError for a prompt that cannot be used, and the model's BackendError where no candidate came
        through; where some did, the others are dropped and named in the findings of the first.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        prompt = clean_prompt(prompt)
        results = await asyncio.gather(*(self._candidate(prompt, i, seed + i, feedback) for i in range(n)))
        rewrites = [result for result in results if isinstance(result, Rewrite)]
        errors = [(i, result) for i, result in enumerate(results) if isinstance(result, BackendError)]
        if not rewrites:
            raise errors[0][1]
        unique = _unique(rewrites)
        dropped = tuple(f"dropped: candidate {i + 1} of {n} failed: {error}" for i, error in errors)
        unique[0] = replace(unique[0], findings=unique[0].findings + dropped)
        return unique

    async def _candidate(self, prompt: str, index: int, seed: int, feedback: Feedback | None) -> Rewrite | BackendError:
        if feedback is None:
            messages = self._style.ask(prompt)
        else:
            messages = self._style.ask_repair(prompt, feedback.prompt, feedback.failed)
        greedy = index == 0 and feedback is None
        try:
            first = await self._try(prompt, messages, seed, 0.0 if greedy else self._config.temperature)
        except BackendError as error:
            return error
        if not first.faults:
            return _rewrite(first)
        messages = self._style.ask_guard_repair(prompt, first.parsed.prompt or prompt, first.faults)
        try:
            second = await self._try(prompt, messages, seed + _SECOND_TRY, self._config.temperature)
        except BackendError as error:
            second = _Try(first.parsed, (str(error),), first.model, findings=(f"server: {error}",))
        usage = first.usage + second.usage
        if not second.faults:
            return replace(_rewrite(second), usage=usage, findings=first.findings)
        findings = tuple(dict.fromkeys(first.findings + second.findings))
        return Rewrite(prompt, second.parsed.thought, None, second.model, usage, findings, fallback=True)

    async def _try(self, prompt: str, messages: tuple[Message, ...], seed: int, temperature: float) -> _Try:
        request = ChatRequest(
            messages,
            max_tokens=self._config.max_tokens,
            temperature=temperature,
            top_p=self._config.top_p,
            seed=seed,
        )
        try:
            reply = await self._model(request)
        except BadReply as error:  # the model is there, so this is a bad reply, not a failed backend
            return _Try(Parsed("", None, str(error)), (str(error),), self._model.name, findings=(f"reply: {error}",))
        parsed = parse_reply(reply.text, reasoning=reply.reasoning, truncated=reply.truncated)
        model = reply.model or self._model.name
        if parsed.prompt is None:
            problem = parsed.problem or "The reply could not be read."
            return _Try(parsed, (problem,), model, reply.usage, (f"reply: {problem}",))
        found = check_intent(prompt, parsed.prompt, self._style.settings.guard)
        return _Try(parsed, tuple(f.message for f in found), model, reply.usage, tuple(str(f) for f in found))


def _rewrite(attempt: _Try) -> Rewrite:
    assert attempt.parsed.prompt is not None
    return Rewrite(attempt.parsed.prompt, attempt.parsed.thought, None, attempt.model, attempt.usage)


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
