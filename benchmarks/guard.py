"""What the guard catches, and which good rewrites it refuses, by generated cases per language and rule.

    python benchmarks/guard.py [--missed] [--json]

Cases are put together from guard_cases.toml: first-person preambles before good rewrites, a number moved to the noun that
had "one", a colour replaced by one of another family, people shown who were denied. Good rewrites are the same without
the fault. "held out" counts the preambles and people behind "---" in that file: no rule was written with a look at them.
The corpus of tests/rewriter/test_guard_corpus.py tests all rules, with other cases.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewriter.guard import check_intent

CASES = Path(__file__).with_name("guard_cases.toml")
RULES = {"preamble": "remnants", "moved number": "counts", "colour": "colours", "people": "negations"}
"""What is tried, and the rule that is to catch it."""


@dataclass(frozen=True)
class Case:
    kind: str
    request: str
    rewrite: str
    bad: bool
    held_out: bool = False


def lines(text: str) -> list[tuple[str, bool]]:
    """Each line, and whether it stands behind "---"."""
    seen, found = False, []
    for line in filter(None, map(str.strip, text.splitlines())):
        seen = seen or line == "---"
        if line != "---":
            found.append((line, seen))
    return found


def pairs(text: str) -> list[tuple[str, str]]:
    return [(first.strip(), second.strip()) for first, second in (line.split("|") for line, _ in lines(text))]


def cases(table: dict[str, Any]) -> Iterator[Case]:
    for request, rewrite in pairs(table["scenes"]):
        yield Case("preamble", request, rewrite, bad=False)
        for preamble, held_out in lines(table["preambles"]):
            yield Case("preamble", request, f"{preamble} {rewrite}", bad=True, held_out=held_out)
    yield from moved_numbers(table)
    yield from colours(table)
    for request, _ in lines(table["nobody"]):
        for rewrite, _ in lines(table["empty"]):
            yield Case("people", request, f"{request[0].upper()}{request[1:]}. {rewrite}", bad=False)
        for rewrite, held_out in lines(table["people"]):
            yield Case("people", request, rewrite, bad=True, held_out=held_out)


def moved_numbers(table: dict[str, Any]) -> Iterator[Case]:
    counted = pairs(table.get("counted", ""))
    for (one, ones), (other, others) in itertools.permutations(counted, 2):
        for number in table["numbers"].split():
            for order in (1, -1):
                asked = [one, f"{number} {others}"][::order]
                moved = [f"{number} {ones}", other][::order]
                request = table["counts"].format(*asked)
                yield Case("moved number", request, table["rewritten"].format(*asked), bad=False)
                yield Case("moved number", request, table["rewritten"].format(*moved), bad=True)


def colours(table: dict[str, Any]) -> Iterator[Case]:
    families: dict[str, set[str]] = defaultdict(set)
    for family, words in table["colours"].items():
        for word in words.split():
            families[word].add(family)
    for thing, _ in lines(table["coloured"]):
        for wanted, shown in itertools.product(families, repeat=2):
            if wanted == shown or not families[wanted] & families[shown]:
                rewrite = table["frame"].format(x=thing.replace("{c}", shown))
                rewrite = rewrite[0].upper() + rewrite[1:]
                yield Case("colour", thing.replace("{c}", wanted), rewrite, bad=wanted != shown)


def load_cases() -> dict[str, list[Case]]:
    """All cases by language."""
    tables = tomllib.loads(CASES.read_text(encoding="utf-8"))
    return {language: list(cases(table)) for language, table in tables.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--missed", action="store_true", help="name what was missed and what was refused")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for language, made in load_cases().items():
        for case in made:
            found = {finding.rule for finding in check_intent(case.request, case.rewrite)}
            row = counts[case.kind, language]
            if case.bad:
                caught = RULES[case.kind] in found
                for name in ("bad", *(["held out"] if case.held_out else [])):
                    row[name] += 1
                    row[f"{name}, caught"] += caught
            else:
                caught = not found
                row["good"] += 1
                row["refused"] += bool(found)
            if options.missed and not caught:
                print(f"{case.kind}, {language}: {case.request} -> {case.rewrite} {sorted(found)}")
    if options.json:
        print(json.dumps({f"{kind}, {language}": row for (kind, language), row in counts.items()}))
        return
    print("| tried | language | bad | caught | of these held out | caught | good | refused |")
    print("|---|---|---|---|---|---|---|---|")
    columns = ("bad", "bad, caught", "held out", "held out, caught", "good", "refused")
    for kind in RULES:
        for (other, language), row in counts.items():
            if other == kind:
                print(f"| {kind} | {language} | " + " | ".join(str(row[name]) for name in columns) + " |")
    total = {name: sum(row[name] for row in counts.values()) for name in columns}
    print("| all | | " + " | ".join(str(total[name]) for name in columns) + " |")


if __name__ == "__main__":
    main()
