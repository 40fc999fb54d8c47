"""From the user's request to the questions that every picture of a run is judged by, held to the words of the request.

    make = CoveredChecklists(ChecklistBuilder(open_chat(profile.checklist.model), profile.checklist), asks_freely=True)
    made = await make("a red star between two blue circles")
    made.checks, made.unchecked, made.warnings

The model writes the checklist (`ChecklistBuilder`). Checks that ask about nothing in the request are dropped. The model is
asked once more for the words that are left out. Words that are still left out become a check of their own, in the user's own
words, if the judge can be asked any question; otherwise nobody checks them, and no picture of the request is accepted
(`CoveredChecklists`; what covers a word: evaluator/coverage.py).

A style is a folder of templates: `checklist.txt` (the user message, with `{{request}}` as it is or `{{fenced_request}}`),
`left_out.txt` (asks again for the words that a first checklist left out, with `{{left_out}}`; if there is none, the same is
asked again and the reply sampled), and `reply.txt`, one word that names the format of the reply:

    json    {"reason": ..., "checks": [{"key_point": ..., "question": ...}]}, requested by schema. The style also has a
            `checklist_system.txt` with `{{keypoints}}` and `{{max_checks}}`. For models that follow instructions.
    lines   one `key_point | question` a line, no system message. For models that are trained on exactly this.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from evaluator.coverage import Coverage, Lexicon, find_coverage, load_lexicon
from evaluator.keypoints import all_keypoints, find_keypoint
from evaluator.types import Check, Checklist, RequestChecks
from redraft.chat import ChatModel, ChatReply, ChatRequest, Message, Usage, open_chat
from redraft.errors import BadReply, ConfigError, InputError
from redraft.json_replies import read_json
from redraft.profiles import ChecklistConfig, Profile, load_part
from redraft.scope import Scope, open_scope
from redraft.templates import fence, fill, fold_text, load_optional_template, load_template, placeholders

OVERALL = "overall"
"""Key point of the one question about the whole picture that is asked if no checklist could be had."""
OWN_WORDS = "own_words"
"""Key point of the checks on the user's own words."""
AS_A_WHOLE = "no checklist could be made of the request; the picture is judged as a whole"

MAX_QUESTION = 400
"""Longest question in characters; a longer one is a model that lost its thread."""

_TRIES = 2
_RETRY_TEMPERATURE = 0.7
"""The second try is sampled: a greedy one would give the same reply again."""

_OPEN_QUESTION = re.compile(r"(what|which|who|whom|whose|where|when|why|how)\b", re.IGNORECASE)
_CHINESE = re.compile(r"^[^\u3040-\u30ff]*[\u4e00-\u9fff][^\u3040-\u30ff]*$")
"""Han characters without kana, which would make them Japanese."""
_CHINESE_YES_NO = re.compile(r"吗|是否|有没有|是不是|有无|能否")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")
_CUT = "the checklist breaks off; its whole entries are used, and what came behind them is not asked (raise max_tokens)"
_REPAIRED = "the checklist was JSON with mistakes, which were mended"
_SHOWN = 3
"""Invented checks that a warning names."""

FindLexicon = Callable[[str], Lexicon]
"""A request to what is known of its language."""
MendChecks = Callable[[str, Checklist], Checklist]
"""A request and its checklist to a better one."""


@dataclass(frozen=True)
class ChecklistResult:
    """A checklist and how it was made.

    `dropped` counts the entries of the reply that were not used (malformed, repeated or over the limit). `fallback` is
    True if `checks` is the one question about the whole picture. `warning` says if the reply was cut or repaired.
    """

    checks: Checklist
    fallback: bool = False
    dropped: int = 0
    raw: str = ""
    usage: Usage = field(default_factory=Usage)
    warning: str = ""


class ChecklistWriter(Protocol):
    """Asks a model for checks; `left_out` are the passages of the request that its first checklist did not ask about.

    After a bad reply the result is the one question about the whole picture. Raises BackendError if the model cannot be
    reached.
    """

    async def build(self, request: str, left_out: Sequence[str] = ()) -> ChecklistResult: ...


class ChecklistBuilder:
    """Asks a chat model for the checklist. Raises ConfigError, when it is made, if the style cannot be used."""

    def __init__(self, model: ChatModel, config: ChecklistConfig) -> None:
        self._model = model
        self._config = config
        self._template = load_template("evaluator", config.style, "checklist")
        if not placeholders(self._template) & {"request", "fenced_request"}:
            raise ConfigError(
                f"checklist.txt of style {config.style!r} needs {{{{request}}}} or {{{{fenced_request}}}}"
            )
        self._left_out = load_optional_template("evaluator", config.style, "left_out")
        if self._left_out is not None and "left_out" not in placeholders(self._left_out):
            raise ConfigError(f"left_out.txt of style {config.style!r} needs {{{{left_out}}}}")
        self._reply = _reply_format(config.style)
        self._system = None
        if self._reply == "json":
            listing = "\n".join(f"- {p.id}: {p.definition} ({p.question})" for p in all_keypoints())
            template = load_template("evaluator", config.style, "checklist_system")
            self._system = fill(template, keypoints=listing, max_checks=str(config.max_checks))

    async def build(self, request: str, left_out: Sequence[str] = ()) -> ChecklistResult:
        """The checks for `request` with the model's raw reply. `left_out`: passages that a first checklist did not ask about,
        which these checks are to be about.

        If the reply has no usable check, the model is asked once more, and then the one question about the whole picture
        is used. Raises InputError if the request is empty, and BackendError if the model cannot be reached.
        """
        if not request.strip():
            raise InputError("the request is empty; say what the picture should show")
        chat_request = await asyncio.to_thread(self._chat_request, request, left_out)
        raw, dropped, usage = "", 0, Usage()
        for attempt in range(_TRIES):
            try:
                reply: ChatReply = await self._model(chat_request)
            except BadReply as error:
                raw = str(error)
            else:
                raw, usage = reply.text, usage + reply.usage
                entries, malformed, warning = parse_json(raw) if self._reply == "json" else (*parse_lines(raw), "")
                checks = tuple(dict.fromkeys(entries))[: self._config.max_checks]
                dropped = malformed + len(entries) - len(checks)
                if checks:
                    return ChecklistResult(checks, dropped=dropped, raw=raw, usage=usage, warning=warning)
            chat_request = replace(chat_request, temperature=_RETRY_TEMPERATURE, seed=attempt + 1)
        return ChecklistResult((overall_check(request),), fallback=True, dropped=dropped, raw=raw, usage=usage)

    def _chat_request(self, request: str, left_out: Sequence[str]) -> ChatRequest:
        again = self._left_out if left_out else None
        template = again or self._template
        request = fold_text(request) if self._config.fold else request
        values = {"request": request, "fenced_request": fence(request)}
        values["left_out"] = fence("\n".join(left_out), "left_out")
        wanted = placeholders(template)
        user = fill(template, **{name: value for name, value in values.items() if name in wanted})
        messages = [Message("user", user)]
        if self._system is not None:
            messages.insert(0, Message("system", self._system))
        schema = _Reply.model_json_schema() if self._reply == "json" else None
        made = ChatRequest(tuple(messages), max_tokens=self._config.max_tokens, schema=schema)
        # The same words would get the same reply.
        return replace(made, temperature=_RETRY_TEMPERATURE, seed=_TRIES) if left_out and again is None else made


class CoveredChecklists:
    """A ChecklistMaker over a model that writes checks.

    `asks_freely`: whether the judge can be asked any question. `scope`: what the profile knows, if that is less than
    everything; words outside are unchecked, whatever is asked about them. `rules` mend what the
    model wrote, which is then not asked once more.
    """

    def __init__(
        self,
        writer: ChecklistWriter,
        *,
        asks_freely: bool = True,
        find_lexicon: FindLexicon | None = None,
        scope: Scope | None = None,
        rules: MendChecks | None = None,
    ) -> None:
        self._writer = writer
        self._asks_freely = asks_freely
        self._find_lexicon = find_lexicon or (lambda _: load_lexicon())
        self._scope = scope
        self._rules = rules

    async def __call__(self, request: str) -> RequestChecks:
        """Raises InputError if the request is empty, BackendError if the model cannot be reached."""
        # A long request takes milliseconds, which are not the event loop's.
        lexicon = await asyncio.to_thread(self._find_lexicon, request)
        outside = () if self._scope is None else await asyncio.to_thread(self._scope.words_outside, request)
        warnings = [] if self._scope is None or not outside else [self._scope.warn(outside)]
        made = await self._writer.build(request)
        if made.warning:
            warnings.append(made.warning)
        checks = made.checks if self._asks_freely or not made.fallback else ()
        coverage = await asyncio.to_thread(find_coverage, request, checks, lexicon)
        invented = coverage.invented
        if not self._asks_freely:
            # In another script than the request's nothing can be compared; such a judge has no other language.
            invented = tuple(check for check in checks if check in invented or not coverage.anchored_by[check])
        checks = _without(checks, invented)
        if self._rules is not None:
            checks = await asyncio.to_thread(self._rules, request, checks)
            coverage = await asyncio.to_thread(find_coverage, request, checks, lexicon)
        elif coverage.uncovered:
            checks += await self._ask_again(request, checks, coverage, invented=invented, lexicon=lexicon)
            coverage = await asyncio.to_thread(find_coverage, request, checks, lexicon)
        if self._asks_freely:
            checks += tuple(map(own_words_check, coverage.uncovered_phrases))
            checks = checks or (overall_check(request),)
        if any(check.key_point == OVERALL for check in checks):
            warnings.append(AS_A_WHOLE)
        if invented:
            warnings.append(_say_invented(invented))
        # A request without content words, such as "something nice", has nothing that a check could be about.
        left = coverage.uncovered if checks else await asyncio.to_thread(list_content_words, request, lexicon)
        if self._asks_freely:
            left = ()  # each is asked about in the user's own words
        unchecked = _in_order(request, (*left, *outside))
        if len(unchecked) > len(outside):
            warnings.append(say_unchecked(unchecked))
        return RequestChecks(checks, unchecked=unchecked, invented=invented, warnings=tuple(warnings))

    async def _ask_again(
        self, request: str, checks: Checklist, coverage: Coverage, *, invented: Checklist, lexicon: Lexicon
    ) -> Checklist:
        """More checks, of which each asks about words that `checks` leave out."""
        made = await self._writer.build(request, coverage.uncovered_phrases)
        if made.fallback:
            return ()
        new = _without(made.checks, (*checks, *invented))
        anchored = await asyncio.to_thread(find_coverage, request, (*checks, *new), lexicon)
        wanted = set(coverage.uncovered)
        new = _without(new, anchored.invented)
        return tuple(check for check in new if wanted.intersection(anchored.anchored_by[check]))


DetectLanguage = Callable[[str], str | None]
"""A text to the code of its language, None if it is not recognised."""


def open_checklists(
    profile: Profile, listing: ChatModel | None = None, *, detect_language: DetectLanguage | None = None
) -> CoveredChecklists:
    """What makes the checklists of `profile`; `listing` is its checklist model if that is open already.

    `detect_language` (the guard's, as a rule) picks the lexicon of a request if the profile names none; None: English.
    Raises ConfigError for settings that cannot be used, ModelMissing if weights are not in their place.
    """
    named = profile.checklist.lexicon
    own = None if named is None else load_part(named)

    def find_lexicon(request: str) -> Lexicon:
        if own is not None:
            lexicon: Lexicon = own()
            return lexicon
        return load_lexicon((detect_language(request) if detect_language else None) or "en")

    if profile.checklist.by == "rules":
        from evaluator.passages import PassageWriter

        writer: ChecklistWriter = PassageWriter(find_lexicon, profile.checklist.max_checks)
    else:
        listing = listing or open_chat(profile.checklist.model or profile.rewriter.model)
        writer = ChecklistBuilder(listing, profile.checklist)
    return CoveredChecklists(
        writer,
        asks_freely=profile.judge is None or profile.judge.asks_freely,
        find_lexicon=find_lexicon,
        scope=open_scope(profile),
        rules=None if profile.checklist.rules is None else load_part(profile.checklist.rules),
    )


def overall_check(request: str) -> Check:
    """The one question about the whole picture."""
    return Check(OVERALL, f"Does the picture show what was asked for?\n{fence(request)}")


def list_content_words(request: str, lexicon: Lexicon) -> tuple[str, ...]:
    """The words of a request that nothing checks if there are no checks; the whole request if it has no content words."""
    return find_coverage(request, (), lexicon).uncovered or (" ".join(request.split()),)


def say_unchecked(words: Sequence[str]) -> str:
    """The sentence for the user about words that nothing checks."""
    return f"nothing checks these words, so no picture will be accepted: {', '.join(words)}"


def own_words_check(phrase: str) -> Check:
    """A check on a passage of the request, as the user wrote it."""
    return Check(OWN_WORDS, f"Does the picture fit these words: {' '.join(phrase.split())}?")


def is_yes_no(question: str) -> bool:
    """Whether `question` can be answered with yes or no, as far as its form shows."""
    if not question or len(question) > MAX_QUESTION or not question.endswith(("?", "？")):
        return False
    if _CHINESE.match(question):
        return _CHINESE_YES_NO.search(question) is not None
    return _OPEN_QUESTION.match(question) is None


def parse_lines(text: str) -> tuple[list[Check], int]:
    """The checks in lines of `key_point | question`, and how many other lines there were. Empty lines do not count."""
    lines = [line for line in text.splitlines() if line.strip()]
    checks = []
    for line in lines:
        label, bar, question = _BULLET.sub("", line).partition("|")
        check = _check(label, question) if bar else None
        if check is not None:
            checks.append(check)
    return checks, len(lines) - len(checks)


def parse_json(text: str) -> tuple[list[Check], int, str]:
    """The checks in a JSON reply, how many entries were unusable, and a warning if the JSON was cut or had mistakes.

    Words and code fences around the JSON are ignored. If a reply was cut off, its complete entries still count.
    """
    try:
        reading = read_json(text, _Entries, cut_ok=True)
    except ValueError:
        return [], 0, ""
    checks = read_entries(reading.value.checks)
    warning = _CUT if reading.cut else _REPAIRED if reading.repaired else ""
    return checks, len(reading.value.checks) - len(checks), warning


def read_entries(entries: Sequence[object]) -> list[Check]:
    """The usable checks among the entries of a JSON reply."""
    checks = []
    for item in entries:
        try:
            entry = _Entry.model_validate(item)
        except ValidationError:
            continue
        check = _check(entry.key_point, entry.question)
        if check is not None:
            checks.append(check)
    return checks


class _Entries(BaseModel):
    checks: list[Any]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)

    key_point: str
    question: str


class _Reply(BaseModel):
    """The requested reply. The reason comes first, so that the model thinks before it lists."""

    model_config = ConfigDict(frozen=True)

    reason: str
    checks: list[_Entry]


def _check(label: str, question: str) -> Check | None:
    label, question = label.strip().strip("*`\"' "), " ".join(question.split())
    return Check(find_keypoint(label).id, question) if label and is_yes_no(question) else None


def _reply_format(style: str) -> Literal["json", "lines"]:
    word = load_template("evaluator", style, "reply").strip()
    if word == "json":
        return "json"
    if word == "lines":
        return "lines"
    raise ConfigError(f"reply.txt of checklist style {style!r} says {word!r}; it must say json or lines")


def _without(checks: Checklist, dropped: Sequence[Check]) -> Checklist:
    return tuple(check for check in checks if check not in dropped)


def _say_invented(invented: Checklist) -> str:
    shown = ", ".join(f'"{check.question}"' for check in invented[:_SHOWN])
    more = f" and {len(invented) - _SHOWN} more" if len(invented) > _SHOWN else ""
    return f"dropped from the checklist, because the request says nothing of it: {shown}{more}"


def _in_order(request: str, words: Sequence[str]) -> tuple[str, ...]:
    """The words, each once whatever its case, in the order of the request."""
    plain = request.casefold()
    each = {word.casefold(): word for word in reversed(words)}
    return tuple(sorted(each.values(), key=lambda word: plain.find(word.casefold())))
