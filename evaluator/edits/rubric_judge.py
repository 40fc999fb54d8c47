"""A chat model that scores edits in words and numbers, several times over: EditScore, VIEScore, EditReward."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean, stdev
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluator.edits.rubrics import RUBRICS, Call, Rubric
from evaluator.edits.types import Edit, EditPass, EditScore
from evaluator.edits.wording import EditWording, pictures
from evaluator.pairs.replies import json_objects
from evaluator.types import Outcome
from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError, BadReply, ConfigError, one_line

Reduction = Literal["mean_of_scores", "score_of_means"]
"""How passes become one score: the mean of each pass's scores (EditScore's way), or the scores of the mean numbers."""

_TRIES = 2
_MAX_TOKENS = 1024


class RubricEditJudge:
    """Asks for reasons and numbers, `passes` times at `temperature`, each pass with a seed of its own (seed, seed + 1,
    ...), and takes them together: S = mean over passes of the overall score (EditScore's self-ensemble; formulas in
    `evaluator/edits/rubrics.py`). All passes are asked at once; the chat model limits how many run.

    A reply that cannot be read, or whose numbers lie outside the scale, is asked for once more with another seed, then
    its pass FAILED. It is never replaced by a number. A pass counts only whole: with a semantic score but no perceptual
    one it FAILED. Where no pass is left, the score FAILED.
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
            call.template: EditWording(style, call.template, asks_instruction=call.sees_source, scale=True)
            for call in self._rubric.calls
        }
        self._schema = _schema(self._rubric)

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

    async def _ask(self, edit: Edit, call: Call, number: int) -> EditPass:
        """One call of a pass, by itself."""
        low, high = f"{self._rubric.low:g}", f"{self._rubric.high:g}"
        text = self._wordings[call.template](edit, low=low, high=high)
        request = ChatRequest(
            (Message("user", pictures(edit, with_source=call.sees_source, text=text)),),
            max_tokens=_MAX_TOKENS,
            temperature=self._temperature if self._passes > 1 else 0.0,
            seed=self._seed + number,
            schema=self._schema,
        )
        raw: list[str] = []
        failure = ""
        for _ in range(_TRIES):
            try:
                reply = await self._chat(request)
                raw.append(reply.text)
                reason, values = read_scores(reply.text, self._rubric)
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
    """The score that whole passes come to together; FAILED ones are counted and left out.

    The feedback is what the judge said in the pass that scored lowest: the one that saw something amiss, if any did.
    """
    whole = [one for one in passes if one.outcome is Outcome.SCORED]
    failed = len(passes) - len(whole)
    if not whole:
        return EditScore(rubric.name, Outcome.FAILED, failed=failed, passes=tuple(passes))
    each = [rubric.parts(one.numbers) for one in whole]
    overalls = [parts.overall for parts in each]
    if reduction == "score_of_means":
        names = whole[0].numbers
        each = [rubric.parts({name: fmean(one.numbers[name] for one in whole) for name in names})]
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


def read_scores(text: str, rubric: Rubric) -> tuple[str, tuple[float, float]]:
    """(reasoning, the two numbers) of a reply: its last JSON object that has them; words around it do not matter.

    Raises BadReply where there is none, or a number lies outside the rubric's scale.
    """
    found: _Reply | None = None
    for value in json_objects(text):
        with contextlib.suppress(ValidationError):
            found = _Reply.model_validate(value)
    if found is None:
        raise BadReply(f"no JSON with reasoning and two numbers in {one_line(text)!r}")
    if not all(rubric.low <= value <= rubric.high for value in found.score):
        raise BadReply(f"scores {list(found.score)} outside {rubric.low:g} to {rubric.high:g}")
    return " ".join(found.reasoning.split()), found.score


_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Reply(BaseModel):
    """The reasoning comes first, so that the numbers follow from it."""

    model_config = ConfigDict(frozen=True)

    reasoning: str
    score: tuple[_Number, _Number]


def _schema(rubric: Rubric) -> Mapping[str, object]:
    number = {"type": "number", "minimum": rubric.low, "maximum": rubric.high}
    return {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string"},
            "score": {"type": "array", "items": number, "minItems": 2, "maxItems": 2},
        },
        "required": ["reasoning", "score"],
        "additionalProperties": False,
    }


def _mean(values: list[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None
