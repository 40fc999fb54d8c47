"""Three parts of the records that share neither a picture nor a prompt: to learn, to calibrate, to report on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.train.records import Judgement
from redraft.errors import InputError


@dataclass(frozen=True)
class Parts:
    """The reported figures hold for pictures and prompts that neither the weights nor the temperature have seen."""

    learn: tuple[Judgement, ...]
    calibrate: tuple[Judgement, ...]
    report: tuple[Judgement, ...]

    def shares(self) -> str | None:
        """What two of the parts have in common, or None."""
        named = {"training": self.learn, "calibration": self.calibrate, "report": self.report}
        pairs = [("training", "calibration"), ("training", "report"), ("calibration", "report")]
        for one, other in pairs:
            ours, theirs = ({key: j for j in named[name] for key in _keys(j)} for name in (one, other))
            both = sorted(ours.keys() & theirs.keys())
            if both:
                example = ours[both[0]]
                what = f"the picture {example.picture.path}" if both[0][0] == "picture" else f"{example.prompt!r}"
                return f"{len(both):,} pictures and prompts are in both the {one} and the {other} part, such as {what}"
        return None


def split(records: Sequence[Judgement], calibrate: float, report: float, seed: int) -> Parts:
    """Cuts `records` up by about these shares; records with a picture or a prompt in common stay together.

    The same records and seed give the same parts, in whatever order they come. Raises InputError for a part that comes
    out empty.
    """
    if not (0 < calibrate < 1 and 0 < report < 1 and calibrate + report < 1):
        raise InputError(f"shares to calibrate ({calibrate:g}) and to report on ({report:g}) must leave some to learn")
    names = _together(records)
    parts: dict[str, list[Judgement]] = {"learn": [], "calibrate": [], "report": []}
    for record, name in zip(records, names, strict=True):
        draw = int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8]) / 2**64
        parts["report" if draw < report else "calibrate" if draw < report + calibrate else "learn"].append(record)
    empty = [name for name, part in parts.items() if not part]
    if empty:
        raise InputError(
            f"of {len(records):,} records with {len(set(names)):,} unrelated prompts and pictures none were left to "
            f"{' or to '.join(empty)}; give more records, or files of their own (calibration_files, report_files)"
        )
    return Parts(*(tuple(parts[name]) for name in ("learn", "calibrate", "report")))


def _keys(record: Judgement) -> tuple[tuple[str, str], ...]:
    """What a record shares with others. No prompt at all (a record about a picture alone) is nothing in common."""
    picture = ("picture", record.picture.digest)
    return (picture, ("prompt", record.prompt)) if record.prompt else (picture,)


def _together(records: Sequence[Judgement]) -> list[str]:
    """For each record the name of its group: the least of what the group's records share. By union-find."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def find(key: tuple[str, str]) -> tuple[str, str]:
        root = key
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[key] != root:
            parent[key], key = root, parent[key]
        return root

    for record in records:
        first, *rest = (find(key) for key in _keys(record))
        for other in rest:
            low, high = sorted((first, other))
            parent[high] = low
            first = low
    return ["\0".join(find(_keys(record)[0])) for record in records]
