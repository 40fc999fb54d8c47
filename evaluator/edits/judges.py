"""Which judge of edits a profile's judge makes."""

from __future__ import annotations

from typing import Literal

from evaluator.edits.checked import CheckedEditJudge
from evaluator.edits.checklist import EditChecklistBuilder
from evaluator.edits.digit_judge import DigitEditJudge
from evaluator.edits.rubric_judge import RubricEditJudge
from evaluator.edits.types import EditJudge
from evaluator.types import Judge
from redraft.chat import ChatModel
from redraft.errors import ConfigError

Method = Literal["editscore", "viescore", "editreward", "digit", "checks"]


def edit_judge(
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
    edits that bring none. The others need a `chat` that sees pictures. `passes` is for the first three. Raises
    ConfigError.
    """
    if method == "checks":
        if judge is None:
            raise ConfigError('edits are scored by "checks" only where there is a judge for them')
        maker = EditChecklistBuilder(chat) if chat is not None else None
        return CheckedEditJudge(judge, maker, aggregation=aggregation, pass_at=pass_at)
    if chat is None:
        raise ConfigError(f'scoring edits by "{method}" needs a judge model that can chat; "checks" does not')
    if method == "digit":
        return DigitEditJudge(chat)
    return RubricEditJudge(chat, method, passes=passes)
