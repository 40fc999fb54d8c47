"""Coverage on the mini world's wordings, whose true checks are known: what they cover, and whether a lost one is seen."""

from __future__ import annotations

from eval_suites.benchmarks.cutouts import prompts
from evaluator.coverage import find_coverage
from evaluator.types import Check
from mini.judge.lexicon import load_lexicon
from mini.world.questions import parse


def test_true_checks_cover_what_people_say_and_a_lost_one_is_seen() -> None:
    lexicon, wordings = load_lexicon(), prompts(150, seed=1)
    complete = invented = lost = unseen = 0
    for wording in wordings:
        checks = [Check(*pair) for pair in wording.checks]
        coverage = find_coverage(wording.text, checks, lexicon)
        complete += coverage.complete
        invented += len(coverage.invented)
        for number, check in enumerate(checks):
            query = parse(check.question)
            # That a thing is there, or of a colour, is asked again by every other check that names it.
            if coverage.complete and query is not None and query.kind not in ("exists", "color"):
                lost += 1
                unseen += find_coverage(wording.text, checks[:number] + checks[number + 1 :], lexicon).complete
    assert complete >= 0.95 * len(wordings), "the rest are typing mistakes that no dictionary explains"
    assert invented <= 1
    assert lost > 300
    assert unseen <= 0.04 * lost


def test_a_checklist_about_something_else_is_invented() -> None:
    wordings = prompts(40, seed=2)
    checks = [Check("counting", "Is there a panda?"), Check("action", "Does the astronaut ride a horse?")]
    for wording in wordings:
        coverage = find_coverage(wording.text, checks, load_lexicon())
        assert not coverage.covered
        assert set(coverage.invented) == set(checks)
