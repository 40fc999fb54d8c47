"""Rewards of a rewrite's text, which need no picture and no model: each is a number in [0, 1], and can be checked by hand.

    text_rewards: ["coverage:1", "guard:0.5", "format:0.2", "length:0.3", "claims:0.3", "stock:0.2", "diversity:0.1"]

in a recipe of `rewriter.train.grpo` gives their weighted sum, alone or on top of a picture's reward. The terms:

| name | formula |
|---|---|
| coverage | covered / all content words of the request (`evaluator.coverage`) |
| guard | 1 / (1 + findings of the intent guard) |
| format | `rewriter.train.rewards.format_term` |
| form | 1 in the form that was asked for, or if none was, else 0; tags: (1 + distinct / all words of the negative prompt) / 2 |
| length | 1 from 48 to 110 fresh words (tags: 14 to 40); below words / 96, above half of 1 - (words - 110) / 110, at least 0 |
| claims | max(0, 1 - 4 added / max(fresh words, 40)): content words that the request has not, but for how it is shown |
| medium | 0 if the request names a medium (photograph, painting, ...) and the rewrite one of another kind, else 1 |
| repeats | max(0, 1 - 4 again / all) of its runs of four words, `again` those that it has said before; 1 for a text of fewer |
| unseen | max(0, 1 - words / 3) for words of what no picture can show, unless the request has them |
| stock | max(0, 1 - max(0, rate - base)), the rate in stock phrases per 100 words, unless the request has them |
| diversity | mean over the group's other rewrites of 1 - |A & B| / |A | B|, A and B their sets of words |
| novelty | 1 - the mean over its phrases of the share of the batch's other requests of which a rewrite has that phrase |

A step at the border of `length`, and claims by the word: with words / 40 and 1 - added / 12 GRPO bought fewer claims with
rewrites of 37 words; with 1 - again / all and the length of all words it bought the length by saying a sentence three times.
It also buys length by the same three sentences for every request: `novelty` sees that, but is in no recipe (docs/small.md).
A reply that cannot be read has 0 in every term. The words are in `text_words.toml`.
"""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from statistics import fmean
from typing import Any

from PIL import Image

from evaluator.coverage import find_coverage
from evaluator.types import Check
from redraft.chat import ChatReply
from redraft.errors import ConfigError
from rewriter.guard import check_intent
from rewriter.reply import Review, Rules, review
from rewriter.target import TARGET_OF_FORM, AnyForm, load_target
from rewriter.train.image_reward import RewardSample, RewardSource, ScoredSample, Scores, Wish
from rewriter.train.rewards import format_term

LOW, HIGH = 40, 120
"""Words of a rewrite in prose."""
LOW_TAGS, HIGH_TAGS = 8, 50
"""Words of a rewrite in tags, without its negative prompt: SDXL reads 75 tokens."""
_AIM = (48, 110)
"""The same for the reward: inside of these, as lengths spread."""
_AIM_TAGS = (14, 40)
_WORDS_A_CLAIM = 4
_PHRASE_END = re.compile(r"(?<![.!?,;:])[.!?,;:]++(?:\s+|\Z)|\n")
_RUN = 4
"""Words of a run that counts as said again."""
_REPEATS_COST = 4
_MOST_UNSEEN = 3
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def coverage(request: str, prompt: str) -> float:
    """The share of the request's content words that `prompt` has; 1 for a request without any."""
    read = find_coverage(request, (Check("other", prompt),))
    total = len(read.covered) + len(read.uncovered)
    return len(read.covered) / total if total else 1.0


def guard_term(findings: int) -> float:
    """1 / (1 + findings)."""
    return 1.0 / (1 + findings)


def form_term(form: AnyForm, read: Review) -> float:
    """1 if the rewrite has the `form` it was asked for, else 0. Half of it is for the negative prompt in tags: the share of its
    words that are not said again, 0 without one."""
    if form != "any" and "form" in read.broken_rules:
        return 0.0
    unwanted = _words(read.negative_prompt or "")
    return (1 + len(set(unwanted)) / max(1, len(unwanted))) / 2 if form == "tags" else 1.0


def length_term(words: int, low: int = _AIM[0], high: int = _AIM[1]) -> float:
    """1 from `low` to `high` words, outside at most a half, and less in proportion."""
    if words < low:
        return words / low / 2
    return 1.0 if words <= high else max(0.0, 1 - (words - high) / high) / 2


def added_claims(request: str, prompt: str) -> tuple[str, ...]:
    """The content words of `prompt` that the request has not, each once, but those that only say how it is shown."""
    craft = _word_lists().craft
    added = find_coverage(prompt, (Check("other", request),)).uncovered
    words = (word for phrase in added for word in _words(phrase))
    return tuple(word for word in dict.fromkeys(words) if word not in craft)


def claims_term(added: int, words: int) -> float:
    """max(0, 1 - 4 added / words), `words` being at least 40, so that a short rewrite gains nothing."""
    return max(0.0, 1 - _WORDS_A_CLAIM * added / max(words, LOW))


def other_media(request: str, prompt: str) -> tuple[str, ...]:
    """What `prompt` says of a medium that contradicts the request's: () if the request names none, or only that kind.

    >>> other_media("a watercolor of a fox", "A watercolor of a fox. The style is a natural photograph.")
    ('photograph',)
    """
    media = _word_lists().media
    wanted = {kind for kind, words in media.items() if words.search(request)}
    if not wanted:
        return ()
    return tuple(
        match[0].casefold() for kind, words in media.items() if kind not in wanted for match in words.finditer(prompt)
    )


def repeated_share(prompt: str) -> float:
    """The share of the runs of four words that stood before in `prompt`; 0 if there are none."""
    again = _repeats(_words(prompt))
    return sum(again) / len(again) if again else 0.0


def repeats_term(prompt: str) -> float:
    """max(0, 1 - 4 repeated_share)."""
    return max(0.0, 1 - _REPEATS_COST * repeated_share(prompt))


def count_fresh_words(prompt: str) -> int:
    """The words of `prompt` but those of runs of four words that stood before.

    >>> count_fresh_words("The light is even. The light is even, as is the sky.")
    8
    """
    words = _words(prompt)
    said = {at + i for at, again in enumerate(_repeats(words)) if again for i in range(_RUN)}
    return len(words) - len(said)


def _repeats(words: Sequence[str]) -> list[bool]:
    """Of each run of four words: whether it stood before."""
    runs = [tuple(words[i : i + _RUN]) for i in range(len(words) - _RUN + 1)]
    first = {run: at for at, run in reversed(list(enumerate(runs)))}
    return [first[run] < at for at, run in enumerate(runs)]


def unseen_words(request: str, prompt: str) -> tuple[str, ...]:
    """Words for what no picture can show that are not in the request, as often as they are there."""
    known = set(_words(request))
    return tuple(word for word in _words(prompt) if word in _word_lists().unseen and word not in known)


def unseen_term(words: int) -> float:
    """max(0, 1 - words / 3)."""
    return max(0.0, 1 - words / _MOST_UNSEEN)


def stock_phrases(request: str, prompt: str) -> tuple[str, ...]:
    """The stock phrases of `prompt` that are not in the request, as often as they are there."""
    known = request.casefold()
    return tuple(match[0] for match in _word_lists().stock.finditer(prompt.casefold()) if match[0] not in known)


def stock_rate(request: str, prompt: str) -> float:
    """Stock phrases per 100 words."""
    return 100 * len(stock_phrases(request, prompt)) / max(1, len(prompt.split()))


def stock_term(rate: float, base: float = 0.0) -> float:
    """max(0, 1 - max(0, rate - base)); `base` is the rate of good data."""
    return max(0.0, 1 - max(0.0, rate - base))


def diversity(group: Sequence[str]) -> list[float]:
    """For each text the mean distance 1 - |A & B| / |A | B| to the others by their words; 0 for a single one."""
    sets = [frozenset(_words(text)) for text in group]
    return [
        fmean(_distance(mine, other) for j, other in enumerate(sets) if j != i) if len(sets) > 1 else 0.0
        for i, mine in enumerate(sets)
    ]


def novelty(rewrites: Sequence[tuple[str, str]]) -> list[float]:
    """For each (request, prompt): 1 - the mean over the prompt's phrases, which punctuation ends, of the share of the other
    requests of which a prompt has that phrase; 1 for a prompt without phrases, and if there is no other request.

    >>> novelty([("a fox", "A fox. Soft light."), ("an owl", "An owl. Soft light."), ("a hen", "A hen. Dim light.")])
    [0.75, 0.75, 1.0]
    """
    phrases = [[part.casefold() for part in _PHRASE_END.split(prompt) if part.strip()] for _, prompt in rewrites]
    users: dict[str, set[str]] = {}
    for (request, _), parts in zip(rewrites, phrases, strict=True):
        for part in parts:
            users.setdefault(part, set()).add(request)
    others = len({request for request, _ in rewrites}) - 1
    if others < 1:
        return [1.0] * len(rewrites)
    return [1 - fmean((len(users[part]) - 1) / others for part in parts) if parts else 1.0 for parts in phrases]


def rate_candidates(request: str, candidates: Sequence[str]) -> list[float]:
    """2 coverage + guard + length + claims of each candidate, for `redraft enhance --n 4 --select
    rewriter.train.text_reward:rate_candidates`: the rewrite that keeps most and adds least."""
    return [
        2 * coverage(request, prompt)
        + guard_term(len(check_intent(request, prompt)))
        + length_term(count_fresh_words(prompt))
        + claims_term(len(added_claims(request, prompt)), count_fresh_words(prompt))
        for prompt in candidates
    ]


@dataclass(frozen=True)
class ReadSample:
    """A reply that was read and checked. `form`: what its target wants, else what its record asks for."""

    sample: RewardSample
    read: Review
    form: AnyForm


Term = Callable[[ReadSample, str], float]
"""(sample, its prompt) to the term's value."""

TERMS: Mapping[str, Term] = {
    "coverage": lambda s, prompt: coverage(s.sample.request, prompt),
    "guard": lambda s, _: guard_term(len(s.read.findings)),
    "format": lambda s, _: format_term(s.sample.reply, readable=True),
    "form": lambda s, _: form_term(s.form, s.read),
    "length": lambda s, prompt: length_term(count_fresh_words(prompt), *(_AIM_TAGS if s.form == "tags" else _AIM)),
    "claims": lambda s, prompt: claims_term(len(added_claims(s.sample.request, prompt)), count_fresh_words(prompt)),
    "medium": lambda s, prompt: float(not other_media(s.sample.request, prompt)),
    "repeats": lambda s, prompt: repeats_term(prompt),
    "unseen": lambda s, prompt: unseen_term(len(unseen_words(s.sample.request, prompt))),
    "stock": lambda s, prompt: stock_term(stock_rate(s.sample.request, prompt)),
}
"""Terms of one rewrite by itself."""
BATCH_TERMS = ("diversity", "novelty")
"""Terms of a rewrite among the others of its request, and of the other requests."""


@dataclass
class TextArguments:
    """Rewards of the text itself (`rewriter.train.text_reward`)."""

    text_rewards: list[str] = field(
        default_factory=list,
        metadata={"help": "Terms with their weights, `coverage:1 guard:0.5`; alone, or with a picture's reward."},
    )

    def __post_init__(self) -> None:
        if isinstance(self.text_rewards, str):
            self.text_rewards = [self.text_rewards]
        parse_terms(self.text_rewards)


def parse_terms(texts: Sequence[str]) -> dict[str, float]:
    """Names to weights. Raises ValueError for a name that does not exist and a weight that is no number."""
    known = (*TERMS, *BATCH_TERMS)
    weights = {}
    for text in texts:
        name, _, weight = text.partition(":")
        if name not in known:
            raise ValueError(f"text_rewards has {name!r}; there are {', '.join(known)}")
        weights[name] = float(weight or 1)
    return weights


class TextReward:
    """A RewardSource of text terms: the weighted sum, added to the rewards of `inner` if there is one.

    Without `inner` no picture is drawn: `alignment` is None, and so are the pictures of `draw`.
    """

    def __init__(self, weights: Mapping[str, float], rules: Rules, inner: RewardSource | None = None) -> None:
        if not weights:
            raise ConfigError("text_rewards is empty; name at least one term")
        self._weights = dict(weights)
        self._rules = rules
        self._by_form = {
            form: Rules.of(rules.guard, load_target(target), rules.form) for form, target in TARGET_OF_FORM.items()
        }
        self._inner = inner

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
        """The rewards of `samples`, in order; rewrites of equal requests are a group."""
        started = time.perf_counter()
        read = [self._read(sample) for sample in samples]
        terms = self._terms(read)
        if self._inner is not None:
            scores = await self._inner(samples)
            inner = scores.samples
        else:
            scores = Scores((), 0, 0, 0, (), 0.0, 0.0, 0.0)
            inner = tuple(_without_picture(each) for each in read)
        scored = (self._add(each, values) for each, values in zip(inner, terms, strict=True))
        return replace(scores, samples=tuple(scored), wall_s=time.perf_counter() - started)

    async def draw(self, wishes: Sequence[Wish]) -> list[Image.Image | None]:
        """The pictures of the inner reward; none without it."""
        return [None] * len(wishes) if self._inner is None else await self._inner.draw(wishes)

    def close(self) -> None:
        """Closes the inner reward."""
        if self._inner is not None:
            self._inner.close()

    def _read(self, sample: RewardSample) -> ReadSample:
        rules, form = self._rules, sample.form
        if rules.target is not None:
            form = rules.target.form
        elif form != "any":
            rules = self._by_form[form]
        return ReadSample(
            sample, review(sample.request, ChatReply(sample.reply, truncated=sample.truncated), rules), form
        )

    def _terms(self, read: Sequence[ReadSample]) -> list[dict[str, float]]:
        terms = []
        for each in read:
            prompt = each.read.prompt
            terms.append(
                {
                    name: 0.0 if prompt is None or name in BATCH_TERMS else TERMS[name](each, prompt)
                    for name in self._weights
                }
            )
        prompts = {i: each.read.prompt for i, each in enumerate(read) if each.read.prompt is not None}
        if "diversity" in self._weights:
            groups: dict[str, list[int]] = {}
            for i in prompts:
                groups.setdefault(read[i].sample.request, []).append(i)
            for places in groups.values():
                for i, value in zip(places, diversity([prompts[i] for i in places]), strict=True):
                    terms[i]["diversity"] = value
        if "novelty" in self._weights:
            values = novelty([(read[i].sample.request, prompt) for i, prompt in prompts.items()])
            for i, value in zip(prompts, values, strict=True):
                terms[i]["novelty"] = value
        return terms

    def _add(self, scored: ScoredSample, terms: Mapping[str, float]) -> ScoredSample:
        total = sum(self._weights[name] * value for name, value in terms.items())
        return replace(scored, reward=None if scored.reward is None else scored.reward + total, terms=terms)


def _without_picture(each: ReadSample) -> ScoredSample:
    read = each.read
    return ScoredSample(
        reward=0.0,
        alignment=None,
        format=format_term(each.sample.reply, readable=read.prompt is not None),
        prompt=read.prompt,
        thought=read.thought,
        negative_prompt=read.negative_prompt,
        findings=read.findings,
    )


@dataclass(frozen=True)
class _WordLists:
    craft: frozenset[str]
    unseen: frozenset[str]
    stock: re.Pattern[str]
    media: Mapping[str, re.Pattern[str]]


@cache
def _word_lists() -> _WordLists:
    text = (resources.files("rewriter.train") / "text_words.toml").read_text(encoding="utf-8")
    data: dict[str, Any] = tomllib.loads(text)
    phrases = "|".join(re.escape(phrase) for phrase in sorted(data["stock"], key=len, reverse=True))
    return _WordLists(
        frozenset(data["craft"].split()),
        frozenset(data["unseen"].split()),
        re.compile(rf"(?<!\w)(?:{phrases})(?!\w)"),
        {kind: re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) for kind, words in data["media"].items()},
    )


def _words(text: str) -> list[str]:
    return [match[0].casefold() for match in _WORD.finditer(text)]


def _distance(mine: frozenset[str], other: frozenset[str]) -> float:
    either = mine | other
    return 1 - len(mine & other) / len(either) if either else 0.0
