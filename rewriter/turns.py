"""What a user wants with a request in a conversation about pictures: a new drawing, a change, an answer, …

There are two readers: `ChatReader` asks the rewriter's model, with `turn.txt` (which holds `{{situation}}`) and
`turn_system.txt` of the style's folder; `RuleReader` goes by fixed rules, for models that cannot read.

    await RuleReader()(TurnContext("make it blue", pictures=1, current=1))     # Turn("edit", "make it blue", ...)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BadReply, ConfigError
from redraft.json_replies import read_json
from redraft.profiles import RewriterConfig
from redraft.templates import fence, fill, load_template, placeholders, style_folder
from rewriter.plan import RULES

TurnKind = Literal[
    "draw", "edit", "ask", "undo", "redo", "again", "back", "compare", "accept", "save", "talk", "unclear"
]
NEW, CHANGE = "a new picture", "change this one"
_TRIES = 2
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_DRAW = re.compile(
    r"(?:please |now |ok(?:ay)?,? |can you |could you )*"
    r"(?:draw|paint|sketch|show|create|generate|imagine)\b(?: me)?|(?:a )?new (?:picture|drawing|image)\b|start over\b"
    r"|make (?:me )?(?:a|an|another|one) (?:picture|drawing|image)\b",
    re.IGNORECASE,
)
_PAINT = re.compile(r"(?:please |now |ok(?:ay)?,? |can you |could you )*paint\b", re.IGNORECASE)
"""Of something that is there it asks for a colour."""
_EDIT = re.compile(
    r"(?:(?:please|now|and|then|no|but|also|can you|could you|instead),? )*"
    r"(?:make|change|turn|add|remove|delete|erase|replace|swap|move|put|recolou?r|colou?r|resize|rotate|flip|write|give"
    r"|fill|enlarge|shrink|brighten|darken|sharpen|blur|crop|drop|take away|get rid|without|less|more|let"
    r"|(?:set|bring|shift|push) (?:the|this|that|these|those|all|every|each|it|them))\b",
    re.IGNORECASE,
)
_ASK = re.compile(
    r"(?:is|are|does|do|has|have|can you see|what|which|who|where|how|why|when)\b.*|.*[?？]\s*",
    re.IGNORECASE | re.DOTALL,
)
_UNDO = re.compile(
    r"(?:please )?(?:undo|revert|take (?:that|it) back|never ?mind)(?: that| it| this)?[.!]*", re.IGNORECASE
)
_REDO = re.compile(r"(?:please )?redo(?: that| it| this)?[.!]*", re.IGNORECASE)
_AGAIN = re.compile(
    r"(?:please |now )?(?:(?:try|draw|do)(?: it| that| this)? )?(?:again|once more|one more time)[.!]*"
    r"|another (?:try|version)[.!]*|re-?roll(?: it| that| this)?[.!]*",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"(?:hi|hello|hey|hallo|good (?:morning|afternoon|evening|day))(?: there| redraft)?[,.! ]*(?:how are you[?! ]*)?"
    r"|how are you(?: today)?[?! ]*",
    re.IGNORECASE,
)
_BYE = re.compile(r"(?:good)?bye(?: bye)?[.! ]*|see you(?: later| soon)?[.! ]*|good night[.! ]*", re.IGNORECASE)
_ABOUT = re.compile(
    r"(?:who|what) are you[?! ]*|what (?:can|do) you do(?: for me)?[?! ]*|help(?: me)?[?!. ]*|how does (?:this|it) work[?! ]*",
    re.IGNORECASE,
)
_ACCEPT = re.compile(
    r"(?:(?>i (?:like|love|take) (?:it|this|that)|that'?s it|(?:it |this |that )?looks? (?:good|great|perfect|nice)"
    r"|(?:many )?thanks(?: a lot| so much)?|thank you(?: so much| very much)?|ok(?:ay)?|yes|good|great|perfect|nice|cool"
    r"|wonderful|beautiful|awesome|done|accept(?:ed)?|it|this|that)\b[,.! ]*+)++",
    re.IGNORECASE,
)
_POINTING = re.compile(r"(?:it|this|that)[,.! ]*", re.IGNORECASE)
_SAVE = re.compile(r"(?:please )?save(?: (?:it|this|the picture))?(?: (?:as|to|in) (?P<path>\S+))?[.!]?", re.IGNORECASE)
_BACK = re.compile(r".*\b(?:back|return|use|take)\b.*", re.IGNORECASE)
_COMPARE = re.compile(r".*\b(?:compare|difference|which (?:one )?is better|better)\b.*", re.IGNORECASE)
_OTHER = re.compile(r"(?:no,? )?(?:not (?:this|that)(?: one)?,? )?the other (?:one|picture)[.!]*", re.IGNORECASE)


def wants_again(request: str) -> bool:
    """Whether a request asks for the same once more and for nothing else. "Redo" does if nothing can be undone."""
    words = " ".join(request.split())
    return _AGAIN.fullmatch(words) is not None or _REDO.fullmatch(words) is not None


_ANSWERS: tuple[tuple[TurnKind, re.Pattern[str]], ...] = (
    ("draw", re.compile(r"1|(?:(?:draw|make|yes,?) )?(?:a )?(?:new|another)(?: (?:one|picture))?[.!]*", re.IGNORECASE)),
    ("edit", re.compile(r"2|(?:change|edit)(?: (?:it|this|this one))?[.!]*|this(?: one)?[.!]*", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Turn:
    """What is wanted. `text`: the request, instruction or question, a path to save to, or of `talk` the answer. `numbers`:
    pictures that are spoken of. `unclear` comes with a `question` to the user and `choices` for the answer."""

    kind: TurnKind
    text: str = ""
    numbers: tuple[int, ...] = ()
    reason: str = ""
    question: str = ""
    choices: tuple[str, ...] = ()
    by: str = RULES
    fault: str = ""

    def __post_init__(self) -> None:
        # Checkpoints give lists back for tuples.
        for name in ("numbers", "choices"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


@dataclass(frozen=True)
class TurnContext:
    """A request, and what a reader must know to read it.

    request:  what the user wrote.
    pictures: how many pictures there are; they are numbered from 1.
    current:  number of the picture that the user looks at, 0 if there is none; `made_from` is its prompt or instruction.
    earlier:  what the user wrote before, the latest last.
    may_ask:  whether the user may be asked a question.
    question, answer: what the user was asked about the request, and the answer.
    picture:  the current one, for models that see.
    """

    request: str
    pictures: int = 0
    current: int = 0
    made_from: str = ""
    earlier: tuple[str, ...] = ()
    may_ask: bool = True
    question: str = ""
    answer: str = ""
    picture: Image.Image | None = None


def is_thanks(text: str) -> bool:
    """Whether a text praises or thanks, and asks for nothing."""
    words = " ".join(text.split())
    return _ACCEPT.fullmatch(words) is not None and _POINTING.fullmatch(words) is None


def answer_small_talk(text: str) -> str | None:
    """What is answered to a greeting, to thanks, or to a question about redraft itself; None for anything else.

    >>> answer_small_talk("Thanks!")
    'You are welcome.'
    """
    words = " ".join(text.split())
    if is_thanks(words):
        return "You are welcome." if "thank" in words.casefold() else "Say what you want to see, or what is to change."
    if _GREETING.fullmatch(words):
        return "Hello. Say what you want to see."
    if _BYE.fullmatch(words):
        return "Goodbye; everything is kept."
    if _ABOUT.fullmatch(words):
        return (
            "I draw what you describe, judge the picture point by point against your words, and change it as you say. "
            "/help lists the commands."
        )
    return None


class TurnReader(Protocol):
    """Reads what the user wants. Never raises for a bad reply: fixed rules read it then, and the turn says so.

    Raises BackendError if the model cannot be reached. If the user may not be asked, nothing is unclear.
    """

    async def __call__(self, context: TurnContext) -> Turn: ...


def open_turn_reader(model: ChatModel, config: RewriterConfig) -> TurnReader:
    """The reader of a profile's rewriter: its model if the style has a prompt for it, else rules."""
    if not (style_folder("rewriter", config.style) / "turn.txt").is_file():
        return RuleReader()
    return ChatReader(model, config, RuleReader())


class RuleReader:
    """A TurnReader by patterns of English. Deterministic. A subclass may know more edits by `knows_edit`."""

    def knows_edit(self, text: str) -> bool:
        """Whether `text` is certainly an instruction for an edit; of "paint …" the patterns cannot tell."""
        return False

    async def __call__(self, context: TurnContext) -> Turn:
        request = " ".join(context.request.split())
        if context.question:
            return await self._answered(context)
        answer = answer_small_talk(request)
        if answer is not None and not (context.current and is_thanks(request)):
            return Turn("talk", answer, reason="it asks for nothing")
        if _UNDO.fullmatch(request):
            return Turn("undo")
        if _REDO.fullmatch(request):
            return Turn("redo")
        if not context.current:
            return Turn("draw", context.request.strip(), reason="there is no picture yet")
        numbers = _numbers(request, context.pictures)
        if _AGAIN.fullmatch(request):
            return Turn("again", reason="it asks for the same again")
        if match := _SAVE.fullmatch(request):
            return Turn("save", match["path"] or "")
        if is_thanks(request):
            return Turn("accept")
        if _COMPARE.fullmatch(request) and (len(numbers) == 2 or (numbers and context.current not in numbers)):
            return Turn("compare", numbers=numbers if len(numbers) == 2 else (context.current, numbers[0]))
        if numbers and _BACK.fullmatch(request):
            return Turn("back", numbers=numbers[:1])
        known = self.knows_edit(request)
        if _DRAW.match(request) and not (known and _PAINT.match(request)):
            return Turn("draw", context.request.strip(), reason="it asks for a drawing")
        if known or _EDIT.match(request):
            return Turn("edit", context.request.strip(), reason="it names a change")
        if _ASK.fullmatch(request):
            return Turn("ask", context.request.strip(), reason="it is a question")
        if not context.may_ask:
            return Turn("draw", context.request.strip(), reason="it names no change of the picture")
        if _OTHER.fullmatch(request):
            return Turn("unclear", context.request.strip(), question="The other one of what? Say it in full, please.")
        question = f"Shall I draw {NEW} from this, or {CHANGE}?"
        return Turn("unclear", context.request.strip(), question=question, choices=(NEW, CHANGE))

    async def _answered(self, context: TurnContext) -> Turn:
        answer = " ".join(context.answer.split())
        for kind, pattern in _ANSWERS:
            if pattern.fullmatch(answer):
                return Turn(kind, context.request.strip(), reason="as the user answered")
        return await self(replace(context, request=context.answer, question="", answer="", may_ask=False))


class ChatReader:
    """A TurnReader that asks `model` for JSON. If a reply cannot be used, the model is asked once more; after that `rules`
    read the turn. Raises ConfigError for templates that cannot be used when it is made."""

    def __init__(self, model: ChatModel, config: RewriterConfig, rules: TurnReader) -> None:
        self._model = model
        self._config = config
        self._rules = rules
        self._template = load_template("rewriter", config.style, "turn")
        self._system = load_template("rewriter", config.style, "turn_system")
        if placeholders(self._template) != {"situation"} or placeholders(self._system):
            raise ConfigError(
                f"turn.txt of style {config.style!r} must hold {{{{situation}}}}, turn_system.txt no placeholder"
            )

    async def __call__(self, context: TurnContext) -> Turn:
        text = fill(self._template, situation=describe_context(context))
        shown = context.picture if self._config.sees else None
        content = text if shown is None else (shown, text)
        messages = (Message("system", self._system), Message("user", content))
        request = ChatRequest(messages, max_tokens=self._config.max_tokens, schema=_Reply.model_json_schema())
        fault = ""
        for attempt in range(_TRIES):
            try:
                reply = await self._model(request)
                turn = self._turn(read_json(reply.text, _Reply).value, context)
                return replace(turn, by=reply.model or self._model.name)
            except BadReply as error:
                fault = str(error)
            except ValidationError as error:
                fault = error.errors()[0]["msg"]
            except ValueError as error:
                fault = str(error)
            request = replace(request, temperature=0.7, seed=attempt + 1)
        turn = await self._rules(context)
        return replace(turn, fault=f"the reading of this turn could not be used ({fault}); fixed rules are used")

    def _turn(self, reply: _Reply, context: TurnContext) -> Turn:
        if reply.kind == "unclear" and (context.question or not context.may_ask or not reply.question.strip()):
            raise ValueError("the user cannot be asked, so something has to be chosen")
        if reply.kind == "talk" and not reply.text.strip():
            raise ValueError("the answer to the user is missing")
        if not context.current and reply.kind not in ("draw", "talk", "undo", "redo", "unclear"):
            raise ValueError("there is no picture yet")
        if any(not 1 <= number <= context.pictures for number in reply.numbers):
            raise ValueError(f"there are {context.pictures} pictures")
        wanted = {"back": 1, "compare": 2}.get(reply.kind, 0)
        if len(reply.numbers) < wanted:
            raise ValueError(f"{reply.kind} needs {wanted} picture numbers")
        text = reply.text.strip() or (context.request if reply.kind in ("draw", "edit", "ask") else "")
        return Turn(reply.kind, text, reply.numbers, reply.reason, reply.question.strip(), reply.choices)


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    reason: str = Field(max_length=2000)
    kind: TurnKind
    text: str = Field(default="", max_length=4000)
    numbers: tuple[int, ...] = Field(default=(), max_length=4)
    question: str = Field(default="", max_length=500)
    choices: tuple[str, ...] = Field(default=(), max_length=6)


def describe_context(context: TurnContext) -> str:
    """The context in words, with all that the user wrote fenced."""
    parts = []
    if context.current:
        parts.append(f"There are {context.pictures} pictures. The user looks at number {context.current}, made from:")
        parts.append(fence(context.made_from, "made_from"))
    else:
        parts.append("There is no picture yet.")
    if context.earlier:
        parts.append(f"What the user said before:\n{fence(chr(10).join(context.earlier), 'earlier')}")
    parts.append(f"What the user says now:\n{fence(context.request, 'said')}")
    if context.question:
        parts.append(
            f"You asked:\n{fence(context.question, 'asked')}\nThe user answered:\n{fence(context.answer, 'answer')}"
        )
    if context.question or not context.may_ask:
        parts.append('The user cannot be asked (again): "unclear" is not allowed.')
    return "\n\n".join(parts)


def _numbers(text: str, pictures: int) -> tuple[int, ...]:
    """The numbers of pictures that a text names, in its order."""
    words: Sequence[str] = re.findall(rf"\b(\d{{1,3}}|{'|'.join(_ORDINALS)}|last)\b", text.casefold())
    numbers = [
        pictures if word == "last" else _ORDINALS.index(word) + 1 if word in _ORDINALS else int(word) for word in words
    ]
    return tuple(number for number in numbers if 1 <= number <= pictures)
