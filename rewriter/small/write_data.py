"""Writes the lessons of the small rewriter: triplets for SFT, other requests for GRPO, and held-out requests.

    python -m rewriter.small.write_data                  # work/small/sft.jsonl, requests.jsonl, test.jsonl

Lessons without faults only (`rewriter.small.lessons.faults`); no request is in two files. Held-out requests are made of nouns
and ideas that no lesson has, and half of them of relations and frames that none has.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from redraft.training import console
from rewriter.small.lessons import Lesson, make_lesson
from rewriter.small.words import Split

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
    options = parser.parse_args()
    seed = options.seed * len(_STREAMS) * 10
    taught = list(lessons(options.count, "train", seed + _STREAMS["sft"], tags=options.tags))
    known = {lesson.request for lesson in taught}
    _write(options.out / "sft.jsonl", (lesson.record for lesson in taught))
    asked = lessons(options.requests, "train", seed + _STREAMS["requests"], tags=options.request_tags, without=known)
    _write(options.out / "requests.jsonl", ({"request": each.request, "form": each.form} for each in asked))
    held_out = lessons(options.test, "test", seed + _STREAMS["test"], tags=0.0, without=known)
    _write(options.out / "test.jsonl", (lesson.record for lesson in held_out))


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    console.print(f"{path}: {len(lines):,} records")


if __name__ == "__main__":
    main()
