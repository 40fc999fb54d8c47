"""Chat models that score edits, by rubrics in words and numbers or by one digit, and `build_edit_judge`.

judge = build_edit_judge("editscore", chat=open_chat(config))
score = await judge(Edit(before, after, "make the hat red"))
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluator.edits.checks import CheckedEditJudge, EditChecklistBuilder
from evaluator.edits.types import Edit, EditJudge, EditPass, EditScore
from evaluator.types import Judge, Outcome
from redraft.chat import ChatModel, ChatRequest, Message, Part
from redraft.errors import BackendError, BadReply, ConfigError, one_line
from redraft.json_replies import json_objects
from redraft.templates import fence, fill, load_template, placeholders


class EditJudgeWording:
    """One template of a judging style, filled for an edit.

    Placeholders: `{{fenced_instruction}}` (needed if `asks_instruction`), `{{requirement}}` (the edit's, in the words of
    `requirement.txt`; empty if it has none), and with `scale` `{{low}}` and `{{high}}`. Raises ConfigError
    for others, and for a template that lacks what it needs.
    """

    def __init__(self, style: str, template: str, *, asks_instruction: bool, scale: bool) -> None:
        self._template = load_template("evaluator", style, template)
        self._wanted = placeholders(self._template)
        known = {"fenced_instruction", "requirement"} | ({"low", "high"} if scale else set())
        needed = {"fenced_instruction"} if asks_instruction else set()
        if self._wanted - known or needed - self._wanted:
            must = "must have {{fenced_instruction}}, and " if asks_instruction else ""
            others = ", ".join(f"{{{{{name}}}}}" for name in sorted(known - needed))
            raise ConfigError(
                f"{template}.txt of style {style!r} {must}may have {others}, but nothing else in double braces"
            )
        self._requirement = load_template("evaluator", style, "requirement") if "requirement" in self._wanted else ""

    def __call__(self, edit: Edit, **scale: str) -> str:
        requirement = ""
        if edit.requirement.strip() and self._requirement:
            requirement = fill(self._requirement, fenced_requirement=fence(edit.requirement, "requirement")) + "\n"
        values = {
            "fenced_instruction": fence(edit.instruction, "edit_instruction"),
            "requirement": requirement,
            **scale,
        }
        return fill(self._template, **{name: value for name, value in values.items() if name in self._wanted})


def pictures(edit: Edit, *, with_source: bool, text: str) -> tuple[Part, ...]:
    """What a judge is shown. The source comes first: all candidates of an edit then share a server's prefix cache."""
    before: tuple[Part, ...] = ("The picture before the edit:", edit.source, "The picture after the edit:")
    return (*(before if with_source else ()), edit.result, text)


@dataclass(frozen=True)
class RubricScores:
    """The scores in [0, 1] of a pass's numbers; None is "not measured"."""

    overall: float
    semantic: float
    perceptual: float
    followed: float | None = None
    kept: float | None = None


@dataclass(frozen=True)
class RubricCall:
    """One question to the judge: its template, the names of the numbers it answers with, and what it is shown."""

    template: str
    names: tuple[str, ...]
    sees_source: bool


@dataclass(frozen=True)
class Rubric:
    """A method: its calls, its scale, and its formula on numbers that are already mapped to [0, 1]."""

    name: str
    low: float
    high: float
    calls: tuple[RubricCall, ...]
    formula: Callable[[Mapping[str, float]], RubricScores]

    def parts(self, numbers: Mapping[str, float]) -> RubricScores:
        """The scores for the judge's numbers, one for each name of the calls."""
        return self.formula({name: (value - self.low) / (self.high - self.low) for name, value in numbers.items()})


def _weakest_link(share: Mapping[str, float]) -> RubricScores:
    semantic = min(share["success"], share["restraint"])
    perceptual = min(share["naturalness"], share["cleanness"])
    return RubricScores(math.sqrt(semantic * perceptual), semantic, perceptual, share["success"], share["restraint"])


def _sum_of_two(share: Mapping[str, float]) -> RubricScores:
    return RubricScores((share["following"] + share["quality"]) / 2, share["following"], share["quality"])


def _three_views(share: Mapping[str, float]) -> RubricScores:
    semantic = (share["followed"] + share["consistent"]) / 2
    return RubricScores(fmean(share.values()), semantic, share["clear"], share["followed"], share["consistent"])


_SEMANTIC_AND_PERCEPTUAL = (
    RubricCall("semantic", ("success", "restraint"), sees_source=True),
    RubricCall("perceptual", ("naturalness", "cleanness"), sees_source=False),
)

RUBRICS: Mapping[str, Rubric] = {
    rubric.name: rubric
    for rubric in (
        Rubric("editscore", 0, 25, _SEMANTIC_AND_PERCEPTUAL, _weakest_link),
        Rubric("viescore", 0, 10, _SEMANTIC_AND_PERCEPTUAL, _weakest_link),
        Rubric(
            "multireward",
            0,
            5,
            (
                RubricCall("followed", ("followed",), sees_source=True),
                RubricCall("consistent", ("consistent",), sees_source=True),
                RubricCall("clear", ("clear",), sees_source=False),
            ),
            _three_views,
        ),
        Rubric("editreward", 1, 4, (RubricCall("reward", ("following", "quality"), sees_source=True),), _sum_of_two),
    )
}


Reduction = Literal["mean_of_scores", "score_of_means"]
"""How passes become one score: the mean of each pass's scores (EditScore's way), or the scores of the mean numbers."""

_TRIES = 2
_MAX_TOKENS = 1024


class RubricEditJudge:
    """Asks for reasons and numbers, `passes` times at `temperature`, each pass with a seed of its own (seed, seed + 1,
    ...), and takes them together: S = mean over passes of the overall score (EditScore's self-ensemble; formulas in
    `evaluator/edits/judges.py`). All passes are asked at once; the chat model limits how many run.

    If a reply cannot be read, or its numbers lie outside the scale, the model is asked once more with another seed; then
    the pass FAILED. It is never replaced by a number. A pass counts only whole: with a semantic score but no perceptual
    one it FAILED. If no pass is left, the score FAILED.
    """

    def __init__(
        self,
        chat: ChatModel,
        method: str = "editscore",
        *,
        passes: int = 4,
        temperature: float = 0.7,
        seed: int = 0,
        reduction: Reduction = "mean_of_scores",
        style: str = "edit",
    ) -> None:
        """Raises ConfigError for an unknown method, fewer than one pass, or a style that cannot be used."""
        if method not in RUBRICS:
            raise ConfigError(f"unknown way of scoring edits {method!r}; there are {', '.join(RUBRICS)}")
        if passes < 1:
            raise ConfigError(f"an edit is scored in at least one pass, not {passes}")
        if passes > 1 and temperature <= 0:
            raise ConfigError("several passes at temperature 0 are all the same; raise the temperature, or ask once")
        self._chat = chat
        self._rubric = RUBRICS[method]
        self._passes = passes
        self._temperature = temperature
        self._seed = seed
        self._reduction: Reduction = reduction
        self._wordings = {
            call.template: EditJudgeWording(style, call.template, asks_instruction=call.sees_source, scale=True)
            for call in self._rubric.calls
        }

    @property
    def name(self) -> str:
        return f"{self._rubric.name}:{self._chat.name}"

    async def __call__(self, edit: Edit) -> EditScore:
        passes = await asyncio.gather(*(self._pass(edit, number) for number in range(self._passes)))
        return ensemble(self._rubric, passes, self._reduction)

    async def _pass(self, edit: Edit, number: int) -> EditPass:
        parts = await asyncio.gather(*(self._ask(edit, call, number) for call in self._rubric.calls))
        numbers = {name: value for part in parts for name, value in part.numbers.items()}
        raw = tuple(text for part in parts for text in part.raw)
        failures = [part.failure for part in parts if part.failure]
        if failures:
            return EditPass(Outcome.FAILED, raw=raw, failure="; ".join(failures))
        reasons = tuple(reason for part in parts for reason in part.reasons)
        return EditPass(Outcome.SCORED, numbers, reasons, raw)

    async def _ask(self, edit: Edit, call: RubricCall, number: int) -> EditPass:
        """One call of a pass."""
        low, high = f"{self._rubric.low:g}", f"{self._rubric.high:g}"
        text = self._wordings[call.template](edit, low=low, high=high)
        request = ChatRequest(
            (Message("user", pictures(edit, with_source=call.sees_source, text=text)),),
            max_tokens=_MAX_TOKENS,
            temperature=self._temperature if self._passes > 1 else 0.0,
            seed=self._seed + number,
            schema=_schema(self._rubric, len(call.names)),
        )
        raw: list[str] = []
        failure = ""
        for _ in range(_TRIES):
            try:
                reply = await self._chat(request)
                raw.append(reply.text)
                reason, values = read_scores(reply.text, self._rubric, len(call.names))
                return EditPass(
                    Outcome.SCORED, dict(zip(call.names, values, strict=True)), (reason,) if reason else (), tuple(raw)
                )
            except BadReply as error:
                failure = f"{call.template}: {error}"
            except BackendError as error:
                return EditPass(Outcome.FAILED, raw=tuple(raw), failure=f"{call.template}: {error}")
            # Other seeds than those of the passes, and sampled: a greedy second try would say the same again.
            retry_seed = self._seed + self._passes + number
            request = replace(request, seed=retry_seed, temperature=max(self._temperature, 0.3))
        return EditPass(Outcome.FAILED, raw=tuple(raw), failure=failure)


def ensemble(rubric: Rubric, passes: list[EditPass], reduction: Reduction = "mean_of_scores") -> EditScore:
    """The score of the whole passes together; FAILED ones are counted and left out.

    The feedback is what the judge said in the pass that scored lowest: the one that saw something amiss, if any did.
    """
    whole = [one_pass for one_pass in passes if one_pass.outcome is Outcome.SCORED]
    failed = len(passes) - len(whole)
    if not whole:
        return EditScore(rubric.name, Outcome.FAILED, failed=failed, passes=tuple(passes))
    each = [rubric.parts(one_pass.numbers) for one_pass in whole]
    overalls = [parts.overall for parts in each]
    if reduction == "score_of_means":
        names = whole[0].numbers
        each = [rubric.parts({name: fmean(one_pass.numbers[name] for one_pass in whole) for name in names})]
    return EditScore(
        method=rubric.name,
        outcome=Outcome.SCORED,
        overall=fmean(parts.overall for parts in each),
        followed=_mean([parts.followed for parts in each]),
        kept=_mean([parts.kept for parts in each]),
        semantic=fmean(parts.semantic for parts in each),
        perceptual=fmean(parts.perceptual for parts in each),
        spread=stdev(overalls) if len(overalls) > 1 else None,
        failed=failed,
        passes=tuple(passes),
        feedback=whole[overalls.index(min(overalls))].reasons,
    )


def read_scores(text: str, rubric: Rubric, count: int = 2) -> tuple[str, tuple[float, ...]]:
    """(reasoning, its `count` numbers) of a reply: its last JSON object that has them; other text is ignored.

    Raises BadReply if there is none, or a number lies outside the rubric's scale.
    """
    reply: _Reply | None = None
    for value in json_objects(text):
        with contextlib.suppress(ValidationError):
            read = _Reply.model_validate(value)
            reply = read if len(read.score) == count else reply
    if reply is None:
        raise BadReply(f"no JSON with reasoning and {count} numbers in {one_line(text)!r}")
    if not all(rubric.low <= value <= rubric.high for value in reply.score):
        raise BadReply(f"scores {list(reply.score)} outside {rubric.low:g} to {rubric.high:g}")
    return " ".join(reply.reasoning.split()), reply.score


_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Reply(BaseModel):
    """The reasoning comes first, so that the numbers follow from it."""

    model_config = ConfigDict(frozen=True)

    reasoning: str
    score: tuple[_Number, ...]


def _schema(rubric: Rubric, count: int) -> Mapping[str, object]:
    number = {"type": "number", "minimum": rubric.low, "maximum": rubric.high}
    return {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string"},
            "score": {"type": "array", "items": number, "minItems": count, "maxItems": count},
        },
        "required": ["reasoning", "score"],
        "additionalProperties": False,
    }


def _mean(values: list[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None


METHOD = "digit"
DIGITS = ("0", "1", "2", "3", "4", "5")


class DigitEditJudge:
    """One request an edit, one token a request (Edit-R1, arXiv 2510.16888). With p_k the probability of digit k:

        overall = (1/5) sum of k p_k / sum of p_k
        spread  = (1/5) standard deviation of k under p_k / sum of p_k

    The sum of p_k is the label mass: below `min_label_mass` the answer is no answer, and the score FAILED. The model
    must report the probability of each digit as a token of its own.
    """

    def __init__(self, chat: ChatModel, *, min_label_mass: float = 0.5, style: str = "edit") -> None:
        """Raises ConfigError for a style that cannot be used."""
        self._chat = chat
        self._min_label_mass = min_label_mass
        self._wording = EditJudgeWording(style, "digit", asks_instruction=True, scale=False)

    @property
    def name(self) -> str:
        return f"{METHOD}:{self._chat.name}"

    async def __call__(self, edit: Edit) -> EditScore:
        content = pictures(edit, with_source=True, text=self._wording(edit))
        request = ChatRequest((Message("user", content),), max_tokens=1, choices=DIGITS)
        try:
            reply = await self._chat(request)
        except BackendError as error:
            return _failed(str(error))
        if not reply.logprobs:
            return _failed(f"{self._chat.name} reported no token probabilities", reply.text)
        chances = [math.exp(reply.logprobs.get(digit, -math.inf)) for digit in DIGITS]
        mass = sum(chances)
        if not math.isfinite(mass):
            return _failed(f"the judge gave no usable probabilities ({chances})", reply.text)
        if mass <= 0 or mass < self._min_label_mass:
            why = f"the judge did not answer with a digit: together they had {mass:.3f} of the probability"
            return _failed(f"{why}, and min_label_mass is {self._min_label_mass:g}", reply.text)
        mean, deviation = expectation(chances)
        numbers = {f"p({digit})": chance for digit, chance in zip(DIGITS, chances, strict=True)}
        one = EditPass(Outcome.SCORED, {"expectation": mean, **numbers}, raw=(reply.text,))
        top = len(DIGITS) - 1
        return EditScore(METHOD, Outcome.SCORED, overall=mean / top, spread=deviation / top, passes=(one,))


def expectation(chances: list[float]) -> tuple[float, float]:
    """Mean and standard deviation of k = 0, 1, ..., if k has probability proportional to `chances[k]`."""
    mass = sum(chances)
    mean = sum(k * chance for k, chance in enumerate(chances)) / mass
    variance = sum((k - mean) ** 2 * chance for k, chance in enumerate(chances)) / mass
    return mean, math.sqrt(variance)


def _failed(why: str, raw: str = "") -> EditScore:
    one = EditPass(Outcome.FAILED, raw=(raw,) if raw else (), failure=why)
    return EditScore(METHOD, Outcome.FAILED, failed=1, passes=(one,))


Method = Literal["editscore", "viescore", "editreward", "multireward", "digit", "checks"]


def build_edit_judge(
    method: Method,
    *,
    chat: ChatModel | None = None,
    judge: Judge | None = None,
    passes: int = 4,
    aggregation: str = "mean",
    pass_at: float = 0.5,
) -> EditJudge:
    """The judge of edits for `method`.

    "checks" needs a `judge`, which may be one that can answer yes or no alone; a `chat` then makes the questions of
    edits that bring none. The others need a `chat` that sees pictures. `passes` is for the first four. Raises
    ConfigError.
    """
    if method == "checks":
        if judge is None:
            raise ConfigError('edits are scored by "checks" only if there is a judge for them')
        maker = EditChecklistBuilder(chat) if chat is not None else None
        return CheckedEditJudge(judge, maker, aggregation=aggregation, pass_at=pass_at)
    if chat is None:
        raise ConfigError(f'scoring edits by "{method}" needs a judge model that can chat; "checks" does not')
    if method == "digit":
        return DigitEditJudge(chat)
    return RubricEditJudge(chat, method, passes=passes)
