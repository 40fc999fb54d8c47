"""A rewriter's reply: `parse_reply` splits it into thought and prompt, `review` also checks the prompt.

    >>> parse_reply("<think>a fox needs snow</think><answer>A red fox in fresh snow.</answer>").prompt
    'A red fox in fresh snow.'

Replies come as `<think>…</think><answer>…</answer>`, however mangled; the thought never gets into the prompt. A reply
that can be read in two ways is not read at all: the caller asks again or keeps the user's request. The rules:

1. Everything before the last `</think>` is thought, whether or not it was opened, answers included.
2. After it, the last complete `<answer>` that is not empty is the prompt. Text around it is dropped. If there is no
   `</think>` (many chat templates write `<think>` themselves), the answer must begin or end the reply: one in the
   middle may be a draft.
3. A `<think>` that is still open hides what follows it, with one exception: a complete answer that ends the reply and
   begins after a full stop or on a line of its own. Models that forget `</think>` write like that.
4. Text with half a pair of answer tags, or none, is the prompt only if a closed thought stands before it or the server
   split the reasoning off; or, with `<answer>` alone, if the reply begins with it.
5. A truncated reply yields only an answer that was complete, and not in a thought, before the cut. `review` makes one exception:
   if it was cut off in the negative prompt, for a target that takes one, the prompt before that is complete.

Styles whose models write no answer tags say so (`ReplyForm`): "bare" takes a reply without any tag of an answer as the
prompt, what comes before `</think>` aside; "json" reads an object with `thought` and `prompt`, and falls back on the tags.

All functions are pure and all values picklable, so that they run in any process.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from pydantic import BaseModel

from redraft.chat import ChatReply
from redraft.json_replies import read_json
from rewriter.guard import GuardSettings, check_intent, load_languages
from rewriter.target import Target

_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
_Z = f"[{_ZERO_WIDTH}]*"
_NAMES = "|".join(_Z.join(name) for name in ("thinking", "thought", "think", "reasoning", "answer"))
_TAG = re.compile(
    # A bracket on one side only still makes a tag: "<think" is never part of a prompt.
    rf"(?:<|&lt;|＜)(?:\s|/|{_Z[:-1]})*(?:{_NAMES}){_Z}(?:(?![\w-])[^<>＜＞&\n]*?(?:>|&gt;|＞)|)"
    rf"|(?<![\w<-])(?:/{_Z})?(?:{_NAMES}){_Z}(?:>|&gt;|＞)",
    re.IGNORECASE,
)
_TAG_CHARS = frozenset("<>&＜＞")
"""Text without any of them has no tag, and the slow look is saved."""
_CLOSES = re.compile(rf"(?:<|&lt;|＜)?(?:\s|{_Z[:-1]})*/", re.IGNORECASE)
# Patterns over replies take time that grows linearly with them, whatever is in them (tests/test_linear.py): what repeats
# is bounded, or cannot begin inside of a run of itself.
_CUT_TAG = re.compile(r"<\s{0,4}/?\s{0,4}[a-z]{0,8}\Z", re.IGNORECASE)
_AFTER_A_STOP = _ZERO_WIDTH + " \t\n\r\f\v\u00a0\u3000\"'”’)*`"
_STOPS = tuple(".!?:…。！？：>")
_SPECIAL_CHARS = 64
"""Longest special token that is looked for at the end of an answer."""
_LAYERS = 20
"""How many wraps (fences, quotes, preambles) are taken off an answer."""
_SPECIAL = re.compile(r"(?:<\|\w+\|>|</s>)\s*\Z")
_CODE_BLOCK = re.compile(r"\A(`{3,12}|~{3,12})[^\n`]*\n(.*?)\n?\1\Z", re.DOTALL)
_INLINE_CODE = re.compile(r"\A(`{1,3})([^`\n]+)\1\Z")
_BOLD = re.compile(r"\A(\*\*|__)([^*_]+)\1\Z")
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])(\s+)")
_SHORT_SENTENCE = 3
_DEFAULT = GuardSettings()
_WRAPS = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」", "『": "』", "‘": "’", "'": "'"}


@dataclass(frozen=True)
class Parsed:
    """A reply in parts. Exactly one of `prompt` and `problem` is None; `problem` is a plain sentence."""

    thought: str
    prompt: str | None
    problem: str | None = None


ReplyForm = Literal["tags", "bare", "json"]
"""How a style's model writes its replies."""


class JsonReply(BaseModel):
    """A reply in the form "json"."""

    thought: str = ""
    prompt: str


REPLY_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"thought": {"type": "string"}, "prompt": {"type": "string"}},
    "required": ["thought", "prompt"],
    "additionalProperties": False,
}
"""The schema that servers hold such a reply to."""


@dataclass(frozen=True)
class Rules:
    """What a reply is checked against: the guard's settings, and what the image model wants; and the form that it has."""

    guard: GuardSettings = _DEFAULT
    target: Target | None = None
    form: ReplyForm = "tags"

    @classmethod
    def of(cls, guard: GuardSettings, target: Target | None, form: ReplyForm = "tags") -> Rules:
        """The rules of a style for a target. The target counts tokens better than the guard estimates them, so the
        guard's own rule on length only stops what has no end."""
        if target is not None:
            guard = guard.model_copy(update={"max_tokens": max(16, 2 * target.max_tokens)})
        return cls(guard, target, form)


@dataclass(frozen=True)
class Review:
    """A reply, read and checked. Its prompt may be used if `faults` is empty.

    faults:       plain sentences, fit to be shown to the model.
    broken_rules: the name of the rule behind each fault.
    notices:      what the user should know, which no rewrite mends.
    """

    thought: str = ""
    prompt: str | None = None
    negative_prompt: str | None = None
    faults: tuple[str, ...] = ()
    broken_rules: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[str, ...]:
        """The faults with the names of their rules before them."""
        return tuple(f"{rule}: {fault}" for rule, fault in zip(self.broken_rules, self.faults, strict=True))


Reviewer = Callable[[str, ChatReply], Awaitable[Review]]
"""Reads the reply to the request that it is given."""


@dataclass(frozen=True)
class _Tag:
    start: int
    end: int
    closes: bool
    answer: bool


def parse_reply(
    text: str, *, reasoning: str | None = None, truncated: bool = False, form: ReplyForm = "tags"
) -> Parsed:
    """Splits a reply into thought and prompt. `reasoning` is what the server split off by itself. Never raises.

    >>> parse_reply("A red fox in fresh snow.", form="bare").prompt
    'A red fox in fresh snow.'
    """
    if form == "json" and not truncated and (read := _read_object(text)) is not None and _says_something(read.prompt):
        thought = "\n".join(part for part in (reasoning, _strip(read.thought)) if part)
        return Parsed(thought, clean_answer(read.prompt))
    tags = [_read_tag(match) for match in _TAG.finditer(text)]
    closings = [i for i, tag in enumerate(tags) if tag.closes and not tag.answer]
    rest = tags[closings[-1] + 1 :] if closings else tags
    rest_at = tags[closings[-1]].end if closings else 0
    # From `hidden` on a thought is open: from the start of the rest if thoughts were nested and not all closed.
    hidden = next((tag.start for tag in rest if not tag.answer), len(text))
    if _depth(tags[: len(tags) - len(rest)]) > 0:
        hidden = rest_at

    ended = bool(closings or reasoning) or (form == "bare" and not rest and not truncated)
    answer, problem = _find_answer(text, rest, hidden, rest_at, ended, truncated)
    prompt = clean_answer(answer) if answer is not None else None
    if prompt is not None and not _TAG_CHARS.isdisjoint(prompt) and _TAG.search(prompt):
        prompt, problem = None, "The answer held <think> or <answer> tags."
    return Parsed(_thought(text, tags, rest_at, hidden, reasoning), prompt, problem)


def review(request: str, reply: ChatReply, rules: Rules) -> Review:
    """Never raises for the texts."""
    parsed = parse_reply(reply.text, reasoning=reply.reasoning, truncated=reply.truncated, form=rules.form)
    if parsed.prompt is None and reply.truncated and rules.target is not None:
        # Small models find no end of a negative prompt; the prompt before it is whole.
        whole = rules.target.end_negative(reply.text)
        parsed = (
            parsed if whole is None else parse_reply(f"{whole}</answer>", reasoning=reply.reasoning, form=rules.form)
        )
    if parsed.prompt is None:
        problem = parsed.problem or "The reply could not be read."
        return Review(parsed.thought, None, None, (problem,), ("reply",))
    prompt, negative, target = drop_repeated_sentences(parsed.prompt, request), None, rules.target
    if target is not None:
        prompt, negative = target.split(prompt)
    problems = [(finding.rule, finding.message) for finding in check_intent(request, prompt, rules.guard)]
    if target is not None:
        problems += target.faults(request, prompt, negative)
    notice = None if target is None else target.notice(request)
    return Review(
        thought=parsed.thought,
        prompt=prompt,
        negative_prompt=negative,
        faults=tuple(message for _, message in problems),
        broken_rules=tuple(rule for rule, _ in problems),
        notices=() if notice is None else (notice,),
    )


@lru_cache(maxsize=64)  # a reply is read in steps, each of which asks for the same
def clean_answer(answer: str) -> str:
    """The bare prompt: no code fence, preamble ("Here is the prompt:"), bold or quotes around the whole."""
    answer = answer.replace("\r\n", "\n").replace("\r", "\n")
    for _ in range(_LAYERS):
        before = answer
        answer = _without_special(_strip(answer))
        if answer.count("```") == 1:  # the other half stood outside the tags
            answer = _without_last_fence(answer)
        if match := _preamble().match(answer):
            answer = answer[match.end() :]
        for wrap in (_CODE_BLOCK, _INLINE_CODE, _BOLD):
            if match := wrap.match(answer):
                answer = match[2]
        answer = _unquote(answer)
        if answer == before:
            break
    return answer


def drop_repeated_sentences(prompt: str, request: str) -> str:
    """`prompt` without the sentences of more than three words that stand before in it, letter for letter but for case, as small
    models write them; those of the request stay.

    >>> drop_repeated_sentences("A red fox. The light is even. The light is even.", "a fox")
    'A red fox. The light is even.'
    """
    wanted, said, kept = request.casefold(), set(), []
    sentences = _BETWEEN_SENTENCES.split(prompt)
    for sentence, gap in zip(sentences[::2], [*sentences[1::2], ""], strict=True):
        plain = sentence.casefold()
        if plain not in said or plain in wanted or len(plain.split()) <= _SHORT_SENTENCE:
            kept += [sentence, gap]
        said.add(plain)
    return "".join(kept).rstrip() if len(kept) < len(sentences) else prompt


def _read_object(text: str) -> JsonReply | None:
    try:
        return read_json(text, JsonReply).value
    except ValueError:
        return None


def _without_special(text: str) -> str:
    end = len(text)
    while match := _SPECIAL.search(text, max(0, end - _SPECIAL_CHARS), end):
        end = match.start()
    return text[:end]


def _without_last_fence(text: str) -> str:
    """Without a fence on a line of its own at the end."""
    head = text.rstrip().rstrip("`")
    bare = head.rstrip()
    return bare if len(head) < len(text.rstrip()) and "\n" in head[len(bare) :] else text


def _is_at_stop(text: str) -> bool:
    """Whether `text` ends after a full stop or on a new line, quotation marks and the like aside."""
    bare = text.rstrip(_AFTER_A_STOP)
    return not bare or bare.endswith(_STOPS) or "\n" in text[len(bare) :]


@cache
def _preamble() -> re.Pattern[str]:
    """What stands before a prompt in the languages that the guard knows: "Here is the prompt:"."""
    kinds = "|".join(pattern for language in load_languages() if language.chat for pattern in language.chat.preamble)
    return re.compile(rf"\A(?:\*\*)?(?:{kinds})(?:\*\*)?\s*", re.IGNORECASE)


def _find_answer(
    text: str, rest: list[_Tag], hidden: int, rest_at: int, thought_ended: bool, truncated: bool
) -> tuple[str | None, str | None]:
    """The prompt as it stands in the reply, or what is wrong with the reply. `rest`: tags after the last </think>."""
    spans = _complete(text, rest)
    full = [(start, end) for start, end in spans if _says_something(text[start:end])]
    visible = [(start, end) for start, end in full if end <= hidden]
    ends_reply = (
        bool(full)
        and not truncated
        and full[-1][1] == rest[-1].start
        and not _strip(text[rest[-1].end :]).strip("`")
        # "I write it in <answer> tags" opens no answer, even if a stray </answer> follows.
        and _is_at_stop(text[: rest[-2].start])
    )
    starts_reply = bool(rest) and rest[0].answer and not _strip(text[: rest[0].start]).strip("`")
    if visible and (thought_ended or ends_reply or starts_reply):
        return text[slice(*visible[-1])], None
    if hidden < len(text):
        if ends_reply:
            return text[slice(*full[-1])], None
        return None, "The thought was not closed with </think>."
    if visible:
        return None, "The reply had words on both sides of <answer>…</answer>, and no </think> before it."
    if truncated:
        return None, "The reply was cut off before </answer>."
    if spans or not _says_something(text[rest_at:]):
        return None, "The answer was empty."

    opening = next((tag for tag in reversed(rest) if not tag.closes), None)
    if opening is not None and (thought_ended or not _strip(text[rest_at : rest[0].start])):
        answer = _CUT_TAG.sub("", text[opening.end :].rstrip())
        if not _says_something(answer) and len(rest) > 1:  # <answer>X<answer>
            answer = text[rest[-2].end : opening.start]
    elif opening is None and thought_ended:
        answer = text[rest_at : rest[0].start] if rest else text[rest_at:]
    else:
        return None, "The reply had no <answer>…</answer>."
    return (answer, None) if _says_something(answer) else (None, "The answer was empty.")


def _complete(text: str, rest: list[_Tag]) -> list[tuple[int, int]]:
    """Where the text of each complete answer lies; of nested ones the innermost."""
    spans = []
    opening: int | None = None
    for tag in rest:
        if not tag.answer:
            opening = None  # an answer that runs across a <think> is none
        elif not tag.closes:
            opening = tag.end
        elif opening is not None:
            spans.append((opening, tag.start))
            opening = None
    return spans


def _read_tag(match: re.Match[str]) -> _Tag:
    # "<think/>" counts as an opening: that errs on the side of silence.
    text = match[0] if match[0].isascii() else re.sub(f"[{_ZERO_WIDTH}]", "", match[0])
    answer = "answer" in text.casefold()
    return _Tag(match.start(), match.end(), bool(_CLOSES.match(match[0])), answer)


def _depth(tags: list[_Tag]) -> int:
    """How many thoughts are open after `tags`; a closing tag too many counts for nothing."""
    depth = 0
    for tag in tags:
        if not tag.answer:
            depth = max(0, depth - 1) if tag.closes else depth + 1
    return depth


def _thought(text: str, tags: list[_Tag], rest_at: int, hidden: int, reasoning: str | None) -> str:
    first = next((tag for tag in tags if not tag.answer), None)
    # What stands before the first <think> is an echo of the request, not thought.
    start = first.start if first is not None and not first.closes else 0
    parts = (reasoning or "", text[start:rest_at], text[hidden:])
    return "\n".join(bare for part in parts if (bare := _strip(_TAG.sub("", part))))


def _says_something(text: str) -> bool:
    return any(ch.isalnum() for ch in clean_answer(text))


def _strip(text: str) -> str:
    return text.strip(_ZERO_WIDTH + " \t\n\r\f\v\u00a0\u3000")


def _unquote(text: str) -> str:
    """Without quotes around the whole. `"A" and "B"` is left alone, and so is every apostrophe."""
    close = _WRAPS.get(text[:1])
    if close is None or len(text) < 3 or not text.endswith(close):
        return text
    inner = text[1:-1]
    if close in "'’":
        stray = re.search(rf"(?<!\w)[{text[0]}{close}]|[{text[0]}{close}](?!\w)", inner)
        return text if stray else inner
    return text if text[0] in inner or close in inner else inner
