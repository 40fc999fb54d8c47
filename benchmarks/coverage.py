"""Figures of evaluator/coverage.py: what checklists cover, and the time of a call.

    python benchmarks/coverage.py [--partiprompts PartiPrompts.tsv] [--checklists 200 --seed 11]

On the mini world's held-out wordings: the true checks, and the true checks without one. On PartiPrompts: the one question
that quotes the request, one question for each content word, and the question of another request.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import time
from collections import Counter
from pathlib import Path
from statistics import fmean

from eval_suites.benchmarks.cutouts import prompts
from evaluator.checklist import open_checklists
from evaluator.coverage import Coverage, find_coverage
from evaluator.types import Check
from mini.judge import lexicon
from mini.world.questions import parse
from redraft.profiles import load_profile


def measure_partiprompts(path: Path) -> None:
    """Prints what three kinds of checklists cover of each prompt."""
    with path.open(encoding="utf-8", newline="") as file:
        requests = [row["Prompt"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    whole = [(Check("overall", f"Does the picture show: {request}?"),) for request in requests]
    find_coverage("two cats", whole[0])  # loads the dictionary
    began = time.perf_counter()
    covered = [find_coverage(request, checks) for request, checks in zip(requests, whole, strict=True)]
    took = time.perf_counter() - began
    print(f"PartiPrompts, {len(requests):,}: the request as one question covers all of {count_complete(covered):,}")
    print(f"  {1000 * took / len(requests):.2f} ms a call")
    words = [
        find_coverage(request, [Check("word", f"Is there {word}?") for word in coverage.covered])
        for request, coverage in zip(requests, covered, strict=True)
    ]
    print(f"  one question a word: all of {count_complete(words):,}, {sum(len(c.invented) for c in words)} invented")
    other = [find_coverage(request, whole[i - 500]) for i, request in enumerate(requests)]
    shares = [len(c.covered) / (len(c.covered) + len(c.uncovered)) for c in other]
    invented = sum(bool(c.invented) for c in other)
    print(f"  another request's question: {fmean(shares):.3f} of the words, invented in {invented:,}")


def measure_mini(count: int) -> None:
    """Prints what the true checks of the mini world's wordings cover, and whether the loss of one is seen."""
    known, complete, lost, unseen = lexicon.load_lexicon(), 0, Counter[str](), Counter[str]()
    wordings = prompts(count, seed=0)
    for wording in wordings:
        checks = [Check(*pair) for pair in wording.checks]
        if not find_coverage(wording.text, checks, known).complete:
            continue
        complete += 1
        for number, check in enumerate(checks):
            query = parse(check.question)
            kind = "other" if query is None else query.kind
            lost[kind] += 1
            unseen[kind] += find_coverage(wording.text, checks[:number] + checks[number + 1 :], known).complete
    print(f"mini world, {len(wordings):,} wordings: the true checks cover all of {complete:,}; without one, unseen:")
    print("  " + ", ".join(f"{kind} {unseen[kind]} of {lost[kind]:,}" for kind in sorted(lost)))


async def measure_checklists(count: int, seed: int) -> None:
    """Prints how often mini's own checklists lack a true check in silence, and how often they are called incomplete though
    they have all. Nothing is drawn."""
    make, wordings = open_checklists(load_profile("mini")), prompts(count, seed)
    found: Counter[str] = Counter()
    for wording, made in zip(wordings, await asyncio.gather(*(make(w.text) for w in wordings)), strict=True):
        lacks = {question for _, question in wording.checks} - {check.question for check in made.checks}
        if lacks:
            found["lost and said" if made.unchecked else "lost in silence"] += 1
        else:
            found["complete, called incomplete" if made.unchecked else "complete"] += 1
    print(f"mini's checklists, {count:,} wordings: " + ", ".join(f"{name} {n:,}" for name, n in sorted(found.items())))


def count_complete(coverages: list[Coverage]) -> int:
    return sum(coverage.complete for coverage in coverages)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partiprompts", type=Path)
    parser.add_argument("--wordings", type=int, default=1000)
    parser.add_argument("--checklists", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.checklists:
        asyncio.run(measure_checklists(options.checklists, options.seed))
    if options.wordings:
        measure_mini(options.wordings)
    if options.partiprompts is not None:
        measure_partiprompts(options.partiprompts)
