"""The generated cases of benchmarks/guard.py, a part of the colours: no good rewrite is refused, hardly a bad one passes."""

from __future__ import annotations

import pytest

from benchmarks.guard import RULES, Case, load_cases
from rewriter.guard import check_intent

CASES = load_cases()


def sample(cases: list[Case]) -> list[Case]:
    return [case for n, case in enumerate(cases) if case.kind != "colour" or n % 20 == 0]


@pytest.mark.parametrize("language", CASES)
def test_generated_rewrites(language: str) -> None:
    cases = sample(CASES[language])
    refused = [case for case in cases if not case.bad and check_intent(case.request, case.rewrite)]
    assert refused == []
    bad = [case for case in cases if case.bad]
    missed = [
        case for case in bad if RULES[case.kind] not in {f.rule for f in check_intent(case.request, case.rewrite)}
    ]
    assert [case for case in missed if case.kind != "colour"] == []
    assert len(missed) <= 0.15 * len(bad), missed  # an Italian request of few words may be Spanish as well


@pytest.mark.parametrize(
    ("request_", "rewrite"),
    [
        ("a beach without people", "A statue of a woman stands on an empty beach."),
        ("a square, no people except a child", "A child plays alone on a wide square."),
        ("a woman on a beach, no other people", "A woman stands alone on a beach."),
        ("une plage sans personne, la statue d'une femme", "La statue d'une femme sur une plage vide."),
        ("io e il mare, un autoritratto", "Io e il mare, un autoritratto a olio."),
        ("un grand arbre et trois oiseaux", "Un arbre immense et trois grands oiseaux."),
        ("ein Hund und drei Katzen", "Ein Hund und drei Katzen, eine vierte Katze schläft."),
        ("誰もいない公園、少女の像", "誰もいない公園に少女の像が立つ。"),
    ],
)
def test_what_is_no_fault(request_: str, rewrite: str) -> None:
    assert check_intent(request_, rewrite) == ()
