"""From the user's request to the questions that every picture of a run is judged by.

    builder = ChecklistBuilder(open_chat(profile.checklist.model), profile.checklist)
    checks = (await builder.build("two red stars above a boat")).checks

`CoveredChecklists` holds such a checklist to the words of the request (evaluator/coverage.py).

A style is a folder of templates: `checklist.txt` (the user message, with `{{request}}` as it is or `{{fenced_request}}`),
`left_out.txt` (asks again for the words that a first checklist left out, with `{{left_out}}`; if there is none, the same is
asked again and the reply sampled), and `reply.txt`, one word that names the format of the reply:

    json    {"reason": ..., "checks": [{"key_point": ..., "question": ...}]}, requested by schema. The style also has a
            `checklist_system.txt` with `{{keypoints}}` and `{{max_checks}}`. For models that follow instructions.
    lines   one `key_point | question` a line, no system message. For models that are trained on exactly this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from evaluator.keypoints import all_keypoints, find_keypoint
from evaluator.types import Check, Checklist
from redraft.chat import ChatModel, ChatReply, ChatRequest, Message, Usage
from redraft.errors import BadReply, ConfigError, InputError
from redraft.json_replies import read_json
from redraft.profiles import ChecklistConfig
from redraft.templates import fence, fill, fold_text, load_optional_template, load_template, placeholders

OVERALL = "overall"
"""Key point of the one question about the whole picture that is asked if no checklist could be had."""

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
        chat_request = self._chat_request(request, left_out)
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


def overall_check(request: str) -> Check:
    """The one question about the whole picture."""
    return Check(OVERALL, f"Does the picture show what was asked for?\n{fence(request)}")


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
