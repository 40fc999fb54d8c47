"""A chat model that scores edits by one digit, read off its token probabilities (Edit-R1's training-free judge)."""

from __future__ import annotations

import math

from evaluator.edits.types import Edit, EditPass, EditScore
from evaluator.edits.wording import EditWording, pictures
from evaluator.types import Outcome
from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError

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
        self._wording = EditWording(style, "digit", asks_instruction=True, scale=False)

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
    """Mean and standard deviation of k = 0, 1, ..., where k has probability proportional to `chances[k]`."""
    mass = sum(chances)
    mean = sum(k * chance for k, chance in enumerate(chances)) / mass
    variance = sum((k - mean) ** 2 * chance for k, chance in enumerate(chances)) / mass
    return mean, math.sqrt(variance)


def _failed(why: str, raw: str = "") -> EditScore:
    one = EditPass(Outcome.FAILED, raw=(raw,) if raw else (), failure=why)
    return EditScore(METHOD, Outcome.FAILED, failed=1, passes=(one,))
