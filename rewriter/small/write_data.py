"""Writes the lessons of the small rewriter: triplets for SFT, other requests for GRPO, and held-out requests.

    python -m rewriter.small.write_data                  # work/small/sft.jsonl, requests.jsonl, test.jsonl
    python -m rewriter.small.write_data --best best.jsonl --rehearse 200                     # work/small/rehearsal.jsonl

The second line makes the lessons of the last training, which GRPO's adapter rehearses both forms with: its own best rewrites in
prose (`redraft enhance --n 2 --thought --select rewriter.train.text_reward:rate_candidates`), as far as they have no fault, and
lessons in tags of sft.jsonl.

Lessons without faults only (`rewriter.small.lessons.faults`); no request is in two files. Held-out requests are made of nouns
and ideas that no lesson has, and half of them of relations and frames that none has.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from redraft.records import Row
from redraft.training import console
from rewriter.small.lessons import Lesson, faults, make_lesson
from rewriter.small.words import Split
from rewriter.train.text_reward import repeated_share

_MOST_REPEATED = 0.05
_STREAMS = {"sft": 1, "requests": 2, "test": 3}


def lessons(
    count: int, split: Split, seed: int, *, tags: float = 0.25, without: Iterable[str] = ()
) -> Iterator[Lesson]:
    """Lessons with requests that are all different, and none of `without`."""
    rng, seen = random.Random(seed), set(without)
    while count > 0:
        lesson = make_lesson(rng, split, tags)
        if lesson.request not in seen:
            seen.add(lesson.request)
            count -= 1
            yield lesson


def rehearsal(best: Iterable[Row], taught: Iterable[Row], tags: int) -> list[Row]:
    """The rewritten rows of `best` that have no fault and say next to nothing again, and `tags` lessons in tags of `taught`."""
    kept = [
        {**{name: row[name] for name in ("request", "thought", "prompt")}, "form": "prose"}
        for row in best
        if row["status"] == "rewritten" and row["thought"] and _is_faultless(str(row["request"]), str(row["prompt"]))
    ]
    return kept + list(islice((row for row in taught if row["form"] == "tags"), tags))


def _is_faultless(request: str, prompt: str) -> bool:
    lesson = Lesson(request, "", prompt, "prose", "", ())
    return not faults(lesson) and repeated_share(prompt) < _MOST_REPEATED


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m rewriter.small.write_data",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Writes lessons for the small rewriter.",
    )
    parser.add_argument("--out", type=Path, default=Path("work/small"), help="folder for the files")
    parser.add_argument("--count", type=int, default=12_000, help="triplets")
    parser.add_argument("--requests", type=int, default=2000, help="requests for GRPO")
    parser.add_argument("--test", type=int, default=500, help="held-out requests")
    parser.add_argument("--tags", type=float, default=0.25, help="share of lessons whose rewrite is in tags")
    parser.add_argument("--request-tags", type=float, default=0.25, help="the same of the requests")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data")
    parser.add_argument(
        "--best", type=Path, help="rows of `redraft enhance`: writes rehearsal.jsonl in --out, nothing else"
    )
    parser.add_argument("--rehearse", type=int, default=200, help="lessons in tags beside them")
    options = parser.parse_args()
    if options.best is not None:
        _write(
            options.out / "rehearsal.jsonl",
            rehearsal(_read(options.best), _read(options.out / "sft.jsonl"), options.rehearse),
        )
        return
    seed = options.seed * len(_STREAMS) * 10
    taught = list(lessons(options.count, "train", seed + _STREAMS["sft"], tags=options.tags))
    known = {lesson.request for lesson in taught}
    _write(options.out / "sft.jsonl", (lesson.record for lesson in taught))
    asked = lessons(options.requests, "train", seed + _STREAMS["requests"], tags=options.request_tags, without=known)
    _write(options.out / "requests.jsonl", ({"request": each.request, "form": each.form} for each in asked))
    held_out = lessons(options.test, "test", seed + _STREAMS["test"], tags=0.0, without=known)
    _write(options.out / "test.jsonl", (lesson.record for lesson in held_out))


def _read(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    console.print(f"{path}: {len(lines):,} records")


if __name__ == "__main__":
    main()
