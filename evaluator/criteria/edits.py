"""Criteria of edits: `preserved`, how far the rest was kept, and `edit_score`, the word of a judge of edits on the whole."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
from PIL import Image, ImageChops

from evaluator.edits.alignment import align
from evaluator.edits.preservation import preserved_outside
from evaluator.edits.types import Edit, EditChecks, EditJudge
from evaluator.types import Case, Check, Need, Outcome, Reading, Shot, Verdict
from redraft.images import fit_mask

KEPT = Check("preservation", "Is everything as it was that was not to change?")
DONE = Check("edit_score", "Was the edit done, and nothing else?")
PIXELS = "pixels"
"""Who answers KEPT: no judge, but the difference of the pictures."""
_FAR = Image.Resampling.BILINEAR
_ALIKE = 0.95
"""Structural similarity from which pictures are compared as they lie."""


class Preserved:
    """How far the source was kept, by its pixels. With s the structural similarity outside the mask: 1 - (1 - s)^2, our own
    choice. Without a mask the edit itself lowers s, so that little is taken off for a change of a part, and all of it for
    another picture.

    Editors that draw the whole picture anew move it a little, and nobody minds: before it is compared, the result is laid over
    the source (`evaluator.edits.alignment`). With a mask the answer is a check, which must pass. Without one nobody has
    said what may change: the value counts in the score as any other criterion, and stops nothing by itself; and if
    the instruction is about the whole picture ("make it night"), the criterion does not apply.
    """

    name = "preserved"
    absolute = True
    needs: frozenset[Need] = frozenset({"source"})

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        assert case.source is not None
        if case.mask is None and is_about_everything(case.request):
            return [Reading(Outcome.NOT_APPLICABLE, reason="the instruction is about the whole picture")] * len(shots)
        return [await asyncio.to_thread(_kept, case.source, shot.image, case.mask) for shot in shots]


def _kept(source: Image.Image, image: Image.Image, mask: Image.Image | None) -> Reading:
    result = image if image.size == source.size else image.resize(source.size, _FAR)
    preservation, moved = preserved_outside(source, result, mask), ""
    if preservation is not None and preservation.ssim is not None and preservation.ssim < _ALIKE:
        laid = align(source, result)
        if laid.moved:
            outside = Image.fromarray(255 - np.asarray(laid.valid))
            edited = outside if mask is None else ImageChops.lighter(fit_mask(mask, source.size), outside)
            preservation = preserved_outside(source, laid.image, edited) or preservation
            moved = f", laid over the source (zoom {laid.scale:.3f}, moved {laid.shift[0]:+.3f}, {laid.shift[1]:+.3f})"
    if preservation is None or preservation.ssim is None:
        verdict = Verdict(KEPT, Outcome.NOT_APPLICABLE, reason="the mask leaves nothing outside", by=PIXELS)
        return Reading(Outcome.NOT_APPLICABLE, verdicts=(verdict,), reason=verdict.reason)
    similar = max(0.0, preservation.ssim)
    where = "outside the mask" if mask is not None else "of the whole picture"
    reason = f"{100 * preservation.changed:.1f}% of the pixels {where} changed, similarity {similar:.2f}{moved}"
    value = 1 - (1 - similar) ** 2
    if mask is None:
        return Reading(Outcome.SCORED, value, reason=reason)
    verdict = Verdict(KEPT, Outcome.SCORED, value, reason=reason, by=PIXELS)
    return Reading(Outcome.SCORED, value, verdicts=(verdict,), reason=reason)


def is_about_everything(instruction: str) -> bool:
    """Whether an instruction asks for another light, season, medium or style of the whole picture, by its words
    (`evaluator/edits/whole.toml`)."""
    return _whole().search(" ".join(instruction.casefold().split())) is not None


@cache
def _whole() -> re.Pattern[str]:
    text = (resources.files("evaluator") / "edits" / "whole.toml").read_text(encoding="utf-8")
    phrases = [phrase for language in tomllib.loads(text).values() for phrase in language["phrases"]]
    spaced = [rf"\b{re.escape(phrase)}\b" for phrase in phrases if phrase.isascii() or not _is_han(phrase)]
    return re.compile("|".join([*spaced, *(re.escape(phrase) for phrase in phrases if _is_han(phrase))]))


def _is_han(phrase: str) -> bool:
    return any("\u3400" <= char <= "\u9fff" for char in phrase)


class EditScored:
    """What a judge of edits says of source, result and instruction together: EditScore, VIEScore and their like."""

    name = "edit_score"
    absolute = True
    needs: frozenset[Need] = frozenset({"source"})

    def __init__(self, judge: EditJudge) -> None:
        self._judge = judge

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        return list(await asyncio.gather(*(self._read(case, shot) for shot in shots)))

    async def _read(self, case: Case, shot: Shot) -> Reading:
        assert case.source is not None
        checks = EditChecks(case.checks, case.kept) if case.checks else None
        score = await self._judge(Edit(case.source, shot.image, case.request, checks=checks))
        reasons = [reason for one_pass in score.passes for reason in (*one_pass.reasons, one_pass.failure) if reason]
        reason = reasons[0] if reasons else ""
        if score.outcome is Outcome.FAILED or score.overall is None:
            reason = reason or "the judge of edits gave no score"
            verdict = Verdict(DONE, Outcome.FAILED, reason=reason, by=self._judge.name)
            return Reading(Outcome.FAILED, verdicts=(verdict,), reason=reason)
        raw = "\n".join(text for one_pass in score.passes for text in one_pass.raw)
        verdict = Verdict(DONE, Outcome.SCORED, score.overall, reason=reason, raw=raw, by=self._judge.name)
        return Reading(Outcome.SCORED, score.overall, score.spread or 0.0, (verdict,))
