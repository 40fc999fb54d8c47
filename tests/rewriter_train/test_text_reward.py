"""The rewards of a rewrite's text, on values worked out by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rewriter.reply import Rules
from rewriter.target import load_target
from rewriter.train import text_reward
from rewriter.train.image_reward import RewardSample
from rewriter.train.text_reward import TextArguments, TextReward, parse_terms

THIRTY = " ".join(["plain"] * 30)
FRESH = [f"x{first}{second}" for first in "bcdfghk" for second in "lmnprst"]
"""49 words that say nothing, each once."""


def test_coverage_is_the_share_of_the_requests_content_words() -> None:
    # content: two, red, stars, without, border; "border" and the negation are lost
    assert text_reward.coverage("two red stars without a border", "Two red stars on a wall.") == pytest.approx(3 / 5)
    assert text_reward.coverage("a picture", "A fox.") == 1.0


def test_guard_length_claims_unseen_and_stock_terms() -> None:
    assert [text_reward.guard_term(n) for n in (0, 1, 3)] == [1, 0.5, 0.25]
    # half of 24/48; in range; 165 is 55 above 110, and half of 1/2 is left; 220 is twice 110
    assert [text_reward.length_term(n) for n in (24, 48, 110, 165, 220)] == [0.25, 1, 1, 0.25, 0]
    assert [text_reward.unseen_term(n) for n in (0, 1, 6)] == [1, pytest.approx(2 / 3), 0]
    # the rate is 0.5 above its base rate of 0.2
    assert text_reward.stock_term(0.7, 0.2) == pytest.approx(0.5)


def test_claims_count_by_the_word_and_a_short_rewrite_gains_nothing() -> None:
    # one in four words is the limit: 4 * 3/60, 4 * 3/40 (20 words count as 40), 4 * 20/80
    assert [text_reward.claims_term(*n) for n in ((3, 60), (3, 20), (20, 80))] == pytest.approx([0.8, 0.7, 0])


@pytest.mark.parametrize(
    ("request_", "prompt", "other"),
    [
        (
            "a watercolor of a fox",
            "A watercolor. The style is a realistic illustration.",
            ("realistic", "illustration"),
        ),
        ("A PHOTO of a fox", "A cartoon of a fox, as a photograph.", ("cartoon",)),
        ("a fox", "A fox. The style is a natural photograph.", ()),
        ("a painting of a photographer", "A painting of a photographer.", ()),
        ("a woman painting a fence", "A woman painting a fence, a sharp photograph.", ()),
        ("concept art of a fox", "Concept art of a fox, seen from the side.", ()),
    ],
)
def test_a_medium_of_another_kind_contradicts_the_requests(request_: str, prompt: str, other: tuple[str, ...]) -> None:
    assert text_reward.other_media(request_, prompt) == other


def test_repeats_are_runs_of_four_words_that_are_there_already() -> None:
    # "a b c d a b c d": runs abcd, bcda, cdab, dabc, abcd
    assert text_reward.repeats_term("a b c d. A b c d") == pytest.approx(1 - 4 / 5)
    assert text_reward.repeated_share("a b c d. A b c d") == pytest.approx(1 / 5)
    assert text_reward.count_fresh_words("a b c d. A b c d, e") == 5
    assert text_reward.repeats_term("a b c") == 1


def test_added_claims_are_words_that_neither_the_request_nor_the_craft_of_showing_has() -> None:
    prompt = "A red fox, seen from the side in soft light, stands beside a wooden bridge."
    assert text_reward.added_claims("a red fox", prompt) == ("beside", "wooden", "bridge")


def test_stock_phrases_and_unseen_words_count_unless_the_user_wrote_them() -> None:
    prompt = f"A bustling market with the smell of bread, a testament to trade. {THIRTY}"
    assert text_reward.stock_phrases("a market", prompt) == ("bustling", "testament to")
    assert text_reward.stock_phrases("a bustling market", prompt) == ("testament to",)
    assert text_reward.unseen_words("a market", prompt) == ("smell",)
    # two phrases in 42 words
    assert text_reward.stock_rate("a market", prompt) == pytest.approx(100 * 2 / 42)


def test_diversity_is_the_mean_distance_to_the_others_of_the_group() -> None:
    # {a,b} and {a,c} share one of three words, {a,b} and {d} none: (2/3 + 1) / 2, (2/3 + 1) / 2, (1 + 1) / 2
    assert text_reward.diversity(["a b", "a c", "d"]) == pytest.approx([5 / 6, 5 / 6, 1])
    assert text_reward.diversity(["a b"]) == [0]


def test_the_reward_is_the_weighted_sum_and_an_unreadable_reply_has_none_of_it() -> None:
    reward = TextReward({"coverage": 2.0, "format": 0.5, "length": 1.0, "diversity": 1.0}, Rules())
    good = f"<think>x</think><answer>A red fox {' '.join(FRESH[:45])}</answer>"
    scores = asyncio.run(
        reward([RewardSample("a red fox", good), RewardSample("a red fox", "no answer", truncated=True)])
    )
    first, second = scores.samples
    # 2 * 1 + 0.5 * 1 + 48 words + nothing to differ from
    assert first.reward == pytest.approx(3.5)
    assert first.alignment is None
    assert first.terms == {"coverage": 1, "format": 1, "length": 1, "diversity": 0}
    assert second.reward == 0
    assert asyncio.run(reward.draw([])) == []


def test_a_rewrite_is_held_to_the_form_that_its_record_asks_for() -> None:
    reward = TextReward({"form": 1.0, "length": 1.0}, Rules())
    tags = "red fox, " + ", ".join(FRESH[:12])  # 14 words
    prose = f"A red fox {' '.join(FRESH[:20])}. {' '.join(FRESH[20:45])}."
    asked = [
        ("tags", f"{tags}\nNegative prompt: blurry, extra fingers"),
        ("tags", f"{tags}\nNegative prompt: signature, signature text, signature line"),
        ("tags", tags),
        ("tags", prose),
        ("prose", prose),
        ("prose", tags),
        ("prose", f"{prose}\nNegative prompt: blurry"),
        ("any", tags),
    ]
    samples = [RewardSample("a red fox", f"<think>x</think><answer>{text}</answer>", form=form) for form, text in asked]
    scores = asyncio.run(reward(samples))
    forms = [each.terms["form"] for each in scores.samples]
    assert forms == [1, (1 + 3 / 5) / 2, 0.5, 0, 1, 0, 1, 1]
    # 14 words are enough for tags and little for prose, 48 (fresh) are enough for prose and 8 too many for tags
    assert [each.terms["length"] for each in scores.samples][:6] == pytest.approx([1, 1, 1, 0.4, 1, 14 / 48 / 2])
    # A target's form goes before what a record says, which may say nothing.
    for_sdxl = TextReward({"form": 1.0, "length": 1.0}, Rules(target=load_target("sdxl")))
    unsaid = [replace(each, form="any") for each in samples[:4]]
    assert [each.terms for each in asyncio.run(for_sdxl(unsaid)).samples] == [each.terms for each in scores.samples[:4]]
    # A negative prompt is a fault for a target that takes none.
    rules = [{finding.partition(":")[0] for finding in each.findings} for each in scores.samples]
    assert ["negative_prompt" in each for each in rules] == [False] * 6 + [True, False]


def test_the_candidate_that_keeps_most_and_adds_least_is_rated_best() -> None:
    # as long, and nothing but additions otherwise; the first lacks one of two content words, which counts double
    whole, lost = f"A red fox {' '.join(FRESH[:37])}", f"A fox {' '.join(FRESH[:38])}"
    rates = text_reward.rate_candidates("a red fox", [lost, whole])
    assert rates[1] - rates[0] == pytest.approx(2 * 1 / 2)


def test_terms_are_named_with_their_weights_and_unknown_ones_are_refused() -> None:
    assert parse_terms(["coverage:2", "guard"]) == {"coverage": 2.0, "guard": 1.0}
    with pytest.raises(ValueError, match="there are coverage, guard"):
        TextArguments(["beauty:1"])


def test_what_rewrites_of_other_requests_say_too_is_no_novelty() -> None:
    def rewrite(text: str) -> str:
        return f"<think>x</think><answer>{text}</answer>"

    samples = [
        RewardSample("a fox", rewrite("A red fox, small, with soft fur. The light is soft.")),
        RewardSample("a fox", rewrite("A shy fox, the light is soft.")),
        RewardSample("an owl", rewrite("An owl. The light is soft.")),
        RewardSample("a hen", rewrite("A hen. The light is dim.")),
        RewardSample("a hen", "no answer"),
    ]
    scores = asyncio.run(TextReward({"novelty": 2.0}, Rules())(samples))
    # One of the two other requests says the same of the light; the fox's own other rewrite does not count.
    wanted = [1 - 1 / 2 / 4, 1 - 1 / 2 / 2, 1 - 1 / 2 / 2, 1, 0]
    assert [each.terms["novelty"] for each in scores.samples] == pytest.approx(wanted)
    assert [each.reward for each in scores.samples] == pytest.approx([2 * value for value in wanted])
    assert text_reward.novelty([("a fox", "A fox."), ("a fox", "A fox.")]) == [1, 1]
