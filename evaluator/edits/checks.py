"""Scoring an edit by yes/no questions about the picture after it: how they are made, and the judge that asks them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image
from pydantic import BaseModel

from evaluator.checklist import OVERALL, read_entries
from evaluator.combine import aggregate
from evaluator.coverage import find_coverage, load_lexicon
from evaluator.criteria.checks import write_feedback
from evaluator.edits.types import Edit, EditChecklistMaker, EditChecks, EditPass, EditScore
from evaluator.types import Check, Checklist, Judge, Outcome
from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError, BadReply, ConfigError, InputError
from redraft.json_replies import read_json
from redraft.templates import fence, fill, load_template

_TRIES = 2
_RETRY_TEMPERATURE = 0.7
_ENTRY = {
    "type": "object",
    "properties": {"key_point": {"type": "string"}, "question": {"type": "string"}},
    "required": ["key_point", "question"],
    "additionalProperties": False,
}
_SCHEMA = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "wanted": {"type": "array", "items": _ENTRY},
        "kept": {"type": "array", "items": _ENTRY},
    },
    "required": ["reason", "wanted", "kept"],
    "additionalProperties": False,
}


class EditChecklistBuilder:
    """Asks a vision-language chat model, which is shown the source picture, for the questions of an edit.

    If a reply has no usable wanted check, the model is asked once more; then one question about the whole is used. It is
    asked, too, if the instruction has words that no check asks about: nothing of it is lost.
    """

    def __init__(self, chat: ChatModel, *, max_checks: int = 8, max_tokens: int = 1024, style: str = "edit") -> None:
        """Raises ConfigError for a style that cannot be used."""
        if max_checks < 1:
            raise ConfigError(f"an edit is checked by at least one question, not {max_checks}")
        self._chat = chat
        self._max_checks = max_checks
        self._max_tokens = max_tokens
        self._template = load_template("evaluator", style, "checks")
        fill(self._template, fenced_instruction="", max_checks="")  # raises now rather than at the first edit

    async def __call__(self, source: Image.Image, instruction: str) -> EditChecks:
        """Raises InputError for an empty instruction, BackendError if the model cannot be reached."""
        if not instruction.strip():
            raise InputError("the instruction is empty; say what is to change in the picture")
        text = fill(
            self._template,
            fenced_instruction=fence(instruction, "edit_instruction"),
            max_checks=str(self._max_checks),
        )
        message = Message("user", (source, text))
        request = ChatRequest((message,), max_tokens=self._max_tokens, schema=_SCHEMA)
        for attempt in range(_TRIES):
            try:
                checks = self._read((await self._chat(request)).text)
            except BadReply:
                checks = EditChecks(())
            if checks.wanted:
                return await asyncio.to_thread(_cover, checks, instruction)
            request = replace(request, temperature=_RETRY_TEMPERATURE, seed=attempt + 1)
        return EditChecks((overall_edit_check(instruction),))

    def _read(self, text: str) -> EditChecks:
        try:
            reply = read_json(text, _Reply).value
        except ValueError:
            return EditChecks(())
        wanted = self._list(reply.wanted)
        # A question that is both wanted and kept would reward leaving the picture alone.
        return EditChecks(wanted, tuple(check for check in self._list(reply.kept) if check not in wanted))

    def _list(self, entries: Sequence[object]) -> Checklist:
        """The usable checks among `entries`, by the rules of all checklists."""
        return tuple(dict.fromkeys(read_entries(entries)))[: self._max_checks]


def _cover(checks: EditChecks, instruction: str) -> EditChecks:
    """The checks, with the one about the whole if they leave out words of the instruction."""
    if find_coverage(instruction, (*checks.wanted, *checks.kept), load_lexicon().for_edits()).complete:
        return checks
    return replace(checks, wanted=(*checks.wanted, overall_edit_check(instruction)))


class _Reply(BaseModel):
    wanted: list[Any]
    kept: list[Any] = []


class OverallEditChecks:
    """An EditChecklistMaker that asks one question about the whole edit, for judges that no model can help."""

    async def __call__(self, source: Image.Image, instruction: str) -> EditChecks:
        return EditChecks((overall_edit_check(instruction),))


def overall_edit_check(instruction: str) -> Check:
    """The one question that is asked if an edit has no checklist."""
    return Check(OVERALL, f"Does the picture look as if this had been done to it?\n{fence(instruction)}")


METHOD = "checks"


class CheckedEditJudge:
    """Puts an edit's questions to a judge that sees one picture at a time.

        followed = aggregate of the wanted checks' probabilities, on the picture after
        kept     = the same over the kept checks that the picture BEFORE passes: what was not there cannot be kept
        overall  = semantic = min(followed, kept), or followed alone if no kept check counts

    Checks are the edit's own, else `maker`'s. `aggregation` is one of `evaluator.combine`'s. A check without an answer is
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
        """Raises ValueError for an edit without checks if there is nobody to make them, and what the maker raises
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
        # One picture after the other: a judge in this process would run them so in any case.
        before = await self._judge(edit.source, edit.instruction, checks.kept) if checks.kept else []
        both = (*checks.wanted, *checks.kept)
        after = await self._judge(edit.result, edit.instruction, both) if both else []
        wanted, kept = after[: len(checks.wanted)], after[len(checks.wanted) :]
        countable = [now for was, now in zip(before, kept, strict=True) if was.passes(self._pass_at)]
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
            feedback=write_feedback([*wanted, *countable], self._pass_at),
        )


def split_checks(before: Sequence[Check], after: Sequence[Check]) -> EditChecks:
    """An edit's checks from checklists of the scene before and after it, as a checklist maker gives them for the two
    requests: what only the later one asks is wanted, what both ask is kept."""
    had = set(before)
    wanted = tuple(check for check in after if check not in had)
    return EditChecks(wanted, tuple(check for check in after if check in had))
