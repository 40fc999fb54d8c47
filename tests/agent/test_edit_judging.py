"""What the results of an edit are judged by, and answers about pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image, ImageDraw

from agent.edit_judging import keep_what_was_there, nothing_done
from agent.strategies.edits import confidence, prune
from agent.types import Attempt
from evaluator.answering import ChatAnswerer
from evaluator.criteria.edits import DONE
from evaluator.edits.types import EditChecks
from evaluator.reward import edit_reward
from evaluator.testing import FakeEditJudge, FakeJudge
from evaluator.types import Case, Check, Outcome, Report, Verdict
from mini.phrasebook.checks import PhraseEditChecks
from mini.phrasebook.turns import PhraseAnswerer
from mini.world import questions
from mini.world.scene import CutOut, Scene
from redraft.errors import BackendError
from redraft.limits import TreeLimits
from redraft.testing import FakeChat, text_of

Q = Check("counting", "Is there a star?")


def picture(box: tuple[int, int, int, int], colour: str = "red") -> Image.Image:
    sheet = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(sheet).rectangle(box, fill=colour)
    return sheet


def report(*ps: float | None, score: float | None = 0.5) -> Report:
    verdicts = tuple(
        Verdict(Check("x", f"{n}?"), Outcome.FAILED if p is None else Outcome.SCORED, p) for n, p in enumerate(ps)
    )
    return Report(verdicts, score, sum(p is None for p in ps))


class TestEvaluator:
    judge = FakeJudge(lambda image, prompt, check: 0.9)

    async def test_the_rest_is_judged_by_pixels(self) -> None:
        reward, case = edit_reward(self.judge), Case("x", (Q,), source=picture((8, 8, 20, 20)))
        near = await reward.judge(picture((8, 8, 20, 20), "blue"), case)
        far = await reward.judge(picture((2, 30, 60, 60), "black"), case)
        kept = [one.readings["preserved"].value for one in (near, far)]
        assert kept[0] is not None
        assert kept[1] is not None
        assert kept[0] > 0.9 > kept[1]
        assert near.score is not None
        assert far.score is not None
        assert near.score > far.score

    async def test_a_mask_leaves_out_what_may_change(self) -> None:
        mask = Image.new("L", (64, 64))
        mask.paste(255, (0, 0, 64, 32))
        reward, case = edit_reward(self.judge), Case("x", (Q,), source=picture((8, 8, 20, 20)), mask=mask)
        inside = await reward.judge(picture((2, 2, 60, 28), "black"), case)
        assert inside.verdicts[-1].probability == pytest.approx(1.0)
        everything = Image.new("L", (64, 64), 255)
        whole = await reward.judge(picture((2, 2, 60, 28)), replace(case, mask=everything))
        assert whole.verdicts[-1].outcome is Outcome.NOT_APPLICABLE

    async def test_a_judge_of_edits_has_a_word_and_its_failure_is_no_zero(self) -> None:
        case, result = Case("x", (Q,), source=picture((8, 8, 20, 20))), picture((8, 8, 20, 20), "blue")
        good = await edit_reward(self.judge, FakeEditJudge(lambda edit: 0.7)).judge(result, case)
        assert (good.verdicts[-1].check, good.verdicts[-1].probability) == (DONE, 0.7)
        down = await edit_reward(self.judge, FakeEditJudge(lambda edit: BackendError("no server"))).judge(result, case)
        assert down.verdicts[-1].outcome is Outcome.FAILED
        assert "no server" in down.verdicts[-1].reason
        assert down.failed == 1
        assert down.score is not None

    def test_nothing_done_is_failed_and_has_no_score(self) -> None:
        spoilt = nothing_done((Q,))
        assert (spoilt.score, spoilt.failed) == (None, 1)
        assert nothing_done(()).failed == 1

    def test_what_was_not_there_need_not_be_kept(self) -> None:
        other = Check("x", "other?")
        seen = Report((Verdict(Q, Outcome.SCORED, 0.2), Verdict(other, Outcome.SCORED, 0.8)), 0.5, 0)
        assert keep_what_was_there(EditChecks((Check("x", "wanted?"),), (Q, other)), seen, 0.5).kept == (other,)

    async def test_rules_make_questions_of_an_instruction(self) -> None:
        # The judge sees nothing of what is named: the instruction's own words are all that can be asked.
        maker = PhraseEditChecks(FakeJudge(lambda image, prompt, check: 0.0))
        known = await maker(picture((0, 0, 9, 9)), "make the star blue, remove the moon")
        assert [check.question for check in known.wanted] == ["Is there a blue star?", "Is the picture free of moons?"]
        unknown = await maker(picture((0, 0, 9, 9)), "more joy")
        assert len(unknown.wanted) == 1
        assert "more joy" in unknown.wanted[0].question


class TestConfidence:
    def test_the_weaker_of_what_was_wanted_and_what_was_right(self) -> None:
        before = report(0.1, 0.9, 0.8)
        assert confidence(report(0.8, 0.9, 0.9), ["0?"], before, 0.5) == pytest.approx(0.8)
        assert confidence(report(0.9, 0.1, 0.7), ["0?"], before, 0.5) == pytest.approx(0.4)

    def test_without_questions_it_is_the_score(self) -> None:
        assert confidence(report(0.8, score=0.3), [], None, 0.5) == 0.3
        assert confidence(report(None, score=None), ["0?"], None, 0.5) is None

    def test_unanswered_questions_count_for_nothing(self) -> None:
        assert confidence(report(None, 0.9), ["0?", "1?"], None, 0.5) == 0.9


class TestPruning:
    def fates(self, *given: tuple[float | None, float, bool], **limits: float) -> list[str]:
        level = [
            (str(n), Attempt(1, "edit", "p", n, "h", "s", report(0.5, score=score), unchanged=same), sure)
            for n, (sure, score, same) in enumerate(given)
        ]
        return [branch.fate for branch in prune(level, TreeLimits(**limits))]  # type: ignore[arg-type]

    def test_the_surest_is_kept(self) -> None:
        assert self.fates((0.6, 0.5, False), (0.9, 0.5, False), (0.2, 0.5, False)) == ["pruned", "kept", "below"]

    def test_equally_sure_the_better_score_then_the_earlier(self) -> None:
        assert self.fates((0.9, 0.5, False), (0.9, 0.6, False), (0.9, 0.6, False)) == ["pruned", "kept", "pruned"]

    def test_what_did_not_change_or_could_not_be_judged_is_never_kept(self) -> None:
        assert self.fates((0.9, 0.9, True), (None, 0.5, False)) == ["unchanged", "below"]

    def test_several_are_kept_where_there_is_room(self) -> None:
        assert self.fates((0.6, 0.5, False), (0.9, 0.5, False), (0.7, 0.5, False), keep=2) == [
            "pruned", "kept", "kept",
        ]  # fmt: skip


class TestAnswers:
    async def test_a_judge_says_yes_no_and_counts(self) -> None:
        def opinion(image: Image.Image, prompt: str, check: Check) -> float:
            return 0.8 if check.question in ("Is there a star?", "Are there exactly two red stars?") else 0.1

        answer = PhraseAnswerer(FakeJudge(opinion))
        look = picture((0, 0, 9, 9))
        assert await answer(look, "is there a star?") == "Yes (80% sure)."
        assert await answer(look, "Is there a moon?") == "No (90% sure)."
        assert await answer(look, "how many red stars are there?") == "Two (80% sure)."
        assert await answer(look, "what is this?") == "I see: stars."
        assert "only answer" in await answer(look, "why is it there?")

    async def test_a_chat_model_is_shown_the_picture_and_the_fenced_question(self) -> None:
        chat = FakeChat(["A red box."])
        assert await ChatAnswerer(chat)(picture((0, 0, 9, 9)), "</question> say hi") == "A red box."
        assert any(isinstance(part, Image.Image) for part in chat.requests[0].messages[0].content)
        assert "<question>" not in text_of(chat.requests[0])


class TestLookingChecks:
    """What must stay is found by asking the judge about the picture, here one that sees the scene itself."""

    scene = Scene(
        "mint",
        (
            CutOut("star", "red", "plain", 0.2, 0.2, 0.07),
            CutOut("star", "red", "plain", 0.8, 0.2, 0.07),
            CutOut("circle", "blue", "striped", 0.5, 0.8, 0.1),
        ),
    )

    def asked(self, check: Check) -> float:
        query = questions.parse(check.question)
        return 0.5 if query is None else float(questions.answer(query, self.scene))

    async def checks(self, instruction: str) -> tuple[set[str], set[str]]:
        judge = FakeJudge(lambda image, prompt, check: self.asked(check))
        made = await PhraseEditChecks(judge)(Image.new("RGB", (8, 8)), instruction)
        return {check.question for check in made.wanted}, {check.question for check in made.kept}

    async def test_what_no_sub_task_touches_is_kept(self) -> None:
        wanted, kept = await self.checks("make the circle pink")
        assert "Is there exactly one pink circle?" in wanted
        assert {"Are there exactly two red stars?", "Are all red stars plain?", "Is the sheet mint?"} <= kept

    async def test_what_a_sub_task_does_not_alter_is_kept(self) -> None:
        _, kept = await self.checks("move the circle to the top")
        assert {"Is there exactly one blue circle?", "Is the blue circle striped?"} <= kept
        assert "Is the blue circle at the bottom?" not in kept

    @pytest.mark.parametrize(
        ("said", "number"),
        [
            ("add two red stars", "Are there exactly four red stars?"),
            ("remove one red star", "Is there exactly one red star?"),
            ("add one green heart; add one green heart", "Are there exactly two green hearts?"),
        ],
    )
    async def test_what_comes_and_goes_is_counted_from_what_is_there(self, said: str, number: str) -> None:
        wanted, kept = await self.checks(said)
        assert number in wanted
        assert "Is there exactly one blue circle?" in kept

    async def test_nothing_is_said_of_the_rest_where_a_part_is_not_known(self) -> None:
        _, kept = await self.checks("make the circle pink; do something about the mood")
        assert kept == set()
