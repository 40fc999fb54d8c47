"""Pairs of one's own, in the manner of RewardBench: a JSONL with

    {"prompt": ..., "chosen": "a.png", "rejected": "b.png"}            or
    {"prompt": ..., "first": "a.png", "second": "b.png", "label": "first" | "second" | "tie"}

and if wanted "source" (the picture both were edited from), "perspective", "group", "id" and "question" (what a
pointwise judge is asked). Paths are relative to the file.
"""

from __future__ import annotations

from pathlib import Path

from eval_suites.pairs import JudgeData, JudgeSuite, Label, Pair, picture
from eval_suites.sources import Row, find, read_records, unique, want
from evaluator.types import Check
from redraft.errors import InputError

SOURCE = "you: see docs/evaluation.md for the fields"
_LABELS: tuple[Label, ...] = ("first", "second", "tie")


def load(place: Path, _: str, unpacked: Path) -> JudgeData:
    file = find(place, ("pairs.jsonl", "*.jsonl"), SOURCE)
    pairs: list[Pair] = []

    def read(row: Row) -> None:
        if "chosen" in row:
            names, label = ("chosen", "rejected"), "first"
            # The better one does not always come first, or a judge that always says so would be right.
            if len(pairs) % 2:
                names, label = ("rejected", "chosen"), "second"
        else:
            names, label = ("first", "second"), want(row, "label", str)
        labels = [known for known in _LABELS if known == label]
        if not labels:
            raise InputError(f"field 'label' is {label!r}, not {', '.join(_LABELS)}")
        root = file.parent
        first, second = (picture(row.get(name), name, unpacked, root) for name in names)
        source = picture(row["source"], "source", unpacked, root) if row.get("source") else None
        check = Check("whole", want(row, "question", str)) if row.get("question") else None
        pairs.append(
            Pair(
                id=str(row.get("id") or len(pairs)),
                prompt=want(row, "prompt", str),
                first=first,
                second=second,
                label=labels[0],
                perspective=str(row.get("perspective") or "all"),
                source=source,
                group=str(row.get("group") or ""),
                check=check,
            )
        )

    read_records([file], read)
    unique((pair.id for pair in pairs), file)
    if len({pair.source is None for pair in pairs}) > 1:
        raise InputError(f"{file} mixes pairs of edits, which have a source, with others; split it")
    return JudgeData((file,), tuple(pairs))


SUITE = JudgeSuite(
    name="pairs",
    title="Pairs of one's own",
    source=SOURCE,
    licence="yours",
    official="None.",
    measure="Pairwise accuracy on pairs of the user's own; not a published benchmark.",
    load=load,
)
