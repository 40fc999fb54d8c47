"""The intent guard on its corpus: silent on good rewrites, and no bad rewriter gets past it, in any language.

Each test prints its counts. The held-out samples were written when the rules were done, and no rule was made for them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from redraft.chat import ChatReply
from redraft.profiles import ModelConfig, RewriterConfig
from redraft.testing import FakeChat, text_of
from rewriter.cot import CoTRewriter
from rewriter.guard import check_intent
from tests.rewriter.saboteurs import Saboteurs, Sample, load_leaks, load_samples, read_samples

DATA = Path(__file__).parents[1] / "data" / "intent"
SAMPLES = load_samples(DATA)
HELD_OUT = read_samples(DATA / "heldout.jsonl")
LEAKS = load_leaks(DATA / "leaks.jsonl")
LANGUAGES = sorted({sample.language for sample in SAMPLES})


def table(title: str, counts: dict[str, Counter[str]], columns: list[str]) -> str:
    """Rows of counts by column, with their sum."""
    head = f"{title:28}" + "".join(f"{column:>7}" for column in columns) + f"{'all':>8}"
    rows = [
        f"{name:28}" + "".join(f"{row[column]:>7}" for column in columns) + f"{row.total():>8}"
        for name, row in counts.items()
    ]
    return "\n".join([head, *rows])


def show(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


def false_alarms(samples: list[Sample]) -> tuple[int, list[str]]:
    """How many good rewrites there are, prompts being rewrites of themselves, and what was found in them."""
    pairs = [pair for s in samples for pair in ((s.prompt, s.rewrite), (s.prompt, s.prompt), (s.rewrite, s.rewrite))]
    return len(pairs), [f"{a} -> {b}: {found[0]}" for a, b in pairs if (found := check_intent(a, b))]


def sabotage(samples: list[Sample]) -> tuple[dict[str, Counter[str]], list[str]]:
    """Bad rewrites by saboteur and language, and those that no expected rule found fault with."""
    saboteurs = Saboteurs(samples, LEAKS)
    tried: dict[str, Counter[str]] = {name: Counter() for name in saboteurs.names}
    missed = []
    for sample in samples:
        for name, rules, bad in saboteurs.bad(sample):
            tried[name][sample.language] += 1
            if not rules & {finding.rule for finding in check_intent(sample.prompt, bad)}:
                missed.append(f"{name}, {sample.id}: {sample.prompt} -> {bad}")
    return tried, missed


def test_the_corpus_is_what_it_says() -> None:
    assert len(SAMPLES) >= 600
    assert len(LANGUAGES) >= 12
    assert min(Counter(sample.language for sample in SAMPLES).values()) >= 10
    every = [*SAMPLES, *HELD_OUT]
    assert len({sample.id for sample in every}) == len(every) == len({sample.prompt for sample in every})
    for sample in every:
        assert sample.exercises
        assert all(quote in sample.prompt and quote in sample.rewrite for quote in sample.quotes)
        assert all(sample.rewrite.count(b.old) == 1 and b.old != b.new for b in sample.breaks)
    hard = Counter(what for sample in SAMPLES for what in sample.exercises)
    assert min(hard[what] for what in ("quotes", "numbers", "negations", "names")) >= 90


def test_good_rewrites_raise_no_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    total, alarms = false_alarms(SAMPLES)
    show(capsys, f"good rewrites: {total}, false alarms: {len(alarms)}")
    assert len(alarms) < 0.01 * total, alarms


def test_no_bad_rewriter_gets_past_the_guard(capsys: pytest.CaptureFixture[str]) -> None:
    tried, missed = sabotage(SAMPLES)
    show(capsys, table("bad rewrites caught", tried, LANGUAGES))
    assert missed == []
    for name in ("drop a quote", "alter a quote", "change a number", "turn a negation", "change a name", "leak"):
        assert len(+tried[name]) >= 12, f"{name}: too few languages"
    for name, row in tried.items():
        assert row.total() >= 25, name


def test_samples_that_no_rule_was_made_for(capsys: pytest.CaptureFixture[str]) -> None:
    total, alarms = false_alarms(HELD_OUT)
    tried, missed = sabotage(HELD_OUT)
    content = sum(tried[name].total() for name in tried if name.startswith(("change", "drop a", "turn")))
    show(
        capsys,
        f"held out: {total} good rewrites, {len(alarms)} false alarms; {content} changes of content, "
        f"{len(missed)} missed",
    )
    assert len(alarms) <= 0.01 * total, alarms
    assert len(missed) <= 0.05 * content, missed


def test_it_is_fast(capsys: pytest.CaptureFixture[str]) -> None:
    """Processor time of a check; the best of three runs, since other programs slow the caches down."""
    runs = []
    for turn in range(3):
        spent = []
        for sample in SAMPLES:  # another text each time: nothing may come from a cache
            prompt, rewrite = sample.prompt + " " * turn, sample.rewrite + " " * turn
            start = time.process_time()
            check_intent(prompt, rewrite)
            spent.append(1000 * (time.process_time() - start))
        runs.append(spent)
    best = min(runs, key=statistics.median)
    median, slow = statistics.median(best), sorted(best)[int(0.99 * len(best))]
    show(capsys, f"guard: {median:.2f} ms a prompt (median), 99 of 100 under {slow:.2f} ms")
    assert median < 5.0, "0.3 on a machine with nothing else to do"


def rewriter(*replies: str) -> tuple[CoTRewriter, FakeChat]:
    chat = FakeChat([ChatReply(f"<think>a thought</think><answer>{reply}</answer>") for reply in replies])
    model = ModelConfig(kind="transformers", model="fake")
    return CoTRewriter(chat, RewriterConfig(model=model, style="promptenhancer", max_tokens=300)), chat


def bad_ones() -> list[tuple[str, Sample, str]]:
    """Of each saboteur the first work in a few languages that the parser does not already mend or refuse."""
    saboteurs = Saboteurs(SAMPLES, LEAKS)
    found: dict[tuple[str, str], tuple[str, Sample, str]] = {}
    for sample in SAMPLES:
        for name, _, bad in saboteurs.bad(sample):
            if name not in ("leak", "say nothing"):
                found.setdefault((name, sample.language), (name, sample, bad))
    return [case for (_, language), case in found.items() if language in ("en", "zh", "de", "ar", "hi", "ko")]


@pytest.mark.parametrize(("name", "sample", "bad"), bad_ones(), ids=lambda part: getattr(part, "id", str(part)[:24]))
async def test_what_is_caught_is_repaired_or_given_up(name: str, sample: Sample, bad: str) -> None:
    make, chat = rewriter(bad, sample.rewrite)
    [mended] = await make(sample.prompt)
    assert mended.prompt == sample.rewrite
    assert not mended.fallback
    assert mended.findings
    asked_again = text_of(chat.requests[1])
    assert all(finding.partition(": ")[2] in asked_again for finding in mended.findings)

    make, chat = rewriter(bad, bad)
    [kept] = await make(sample.prompt)
    assert kept.prompt == sample.prompt
    assert kept.fallback
    assert kept.findings == mended.findings
    assert len(chat.requests) == 2


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.text[:30])
async def test_nothing_that_leaks_reaches_the_image_model(leak: object) -> None:
    """What the parser does not mend by itself, the guard refuses; then the user's own prompt stands in."""
    assert isinstance(leak, type(LEAKS[0]))
    language = "en" if leak.language == "any" else leak.language
    sample = next(sample for sample in SAMPLES if sample.language == language)
    make, _ = rewriter(leak.around(sample.rewrite), leak.around(sample.rewrite))
    [made] = await make(sample.prompt)
    assert made.prompt in (sample.prompt, sample.rewrite)
