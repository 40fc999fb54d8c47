"""Scoring an edit by yes/no questions about the picture after it, with any Judge, the smallest too."""

from __future__ import annotations

from collections.abc import Sequence

from evaluator.align import aggregate, feedback
from evaluator.edits.types import Edit, EditChecklistMaker, EditChecks, EditPass, EditScore
from evaluator.types import Check, Judge, Outcome, Verdict
from redraft.errors import BackendError

METHOD = "checks"


class CheckedEditJudge:
    """Puts an edit's questions to a judge that sees one picture at a time.

        followed = aggregate of the wanted checks' probabilities, on the picture after
        kept     = the same over the kept checks that the picture BEFORE passes: what was not there cannot be kept
        overall  = semantic = min(followed, kept), or followed alone where no kept check counts

    Checks are the edit's own, else `maker`'s. `aggregation` is one of `evaluator.align`'s. A check without an answer is
    left out and counted in `failed`; with no wanted one left, the score FAILED. Perceptual quality is not measured.
    """

    def __init__(
        self,
        judge: Judge,
        maker: EditChecklistMaker | None = None,
        *,
        aggregation: str = "mean",
        pass_at: float = 0.5,
    ) -> None:
        self._judge = judge
        self._maker = maker
        self._aggregation = aggregation
        self._pass_at = pass_at

    @property
    def name(self) -> str:
        return f"{METHOD}:{self._judge.name}"

    async def __call__(self, edit: Edit) -> EditScore:
        """Raises ValueError for an edit without checks where there is nobody to make some, and what the maker raises
        for an instruction that is none (InputError)."""
        checks = edit.checks
        if checks is None:
            if self._maker is None:
                raise ValueError("an edit without checks needs an EditChecklistMaker")
            try:
                checks = await self._maker(edit.source, edit.instruction)
            except BackendError as error:
                failure = EditPass(Outcome.FAILED, failure=f"no checklist: {error}")
                return EditScore(METHOD, Outcome.FAILED, failed=1, passes=(failure,))
        # Asked about one picture after the other: a judge in this process would run them so in any case.
        before = await self._judge(edit.source, edit.instruction, checks.kept) if checks.kept else []
        asked = (*checks.wanted, *checks.kept)
        after = await self._judge(edit.result, edit.instruction, asked) if asked else []
        wanted, kept = after[: len(checks.wanted)], after[len(checks.wanted) :]
        countable = [now for was, now in zip(before, kept, strict=True) if self._passes(was)]
        lost = [v for v in before if v.outcome is Outcome.FAILED]
        lost += [v for v in (*wanted, *countable) if v.outcome is Outcome.FAILED]
        followed, still = aggregate(wanted, self._aggregation), aggregate(countable, self._aggregation)
        if followed is None:
            return EditScore(METHOD, Outcome.FAILED, kept=still, failed=max(1, len(lost)), verdicts=tuple(after))
        semantic = followed if still is None else min(followed, still)
        return EditScore(
            METHOD,
            Outcome.SCORED,
            overall=semantic,
            followed=followed,
            kept=still,
            semantic=semantic,
            failed=len(lost),
            verdicts=tuple(after),
            feedback=feedback([*wanted, *countable], self._pass_at),
        )

    def _passes(self, verdict: Verdict) -> bool:
        return verdict.probability is not None and verdict.probability >= self._pass_at


def split_checks(before: Sequence[Check], after: Sequence[Check]) -> EditChecks:
    """An edit's checks from checklists of the scene before and after it, as a checklist maker gives them for the two
    prompts: what only the later one asks is wanted, what both ask is kept."""
    had = set(before)
    wanted = tuple(check for check in after if check not in had)
    return EditChecks(wanted, tuple(check for check in after if check in had))
