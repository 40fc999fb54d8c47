"""The truth about edits, by rule: whether all that was asked for happened, and whether all else stayed as it was.

Compares two scenes, as read off the pixels by the oracle, cut-out by cut-out. Like the oracle, it is never the reward
of a training and never judges inside a reported loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from mini.editor.edits import EditSpec, Op, OpKind, Pick
from mini.world.questions import at_place, stands
from mini.world.scene import CutOut, Group, Scene


@dataclass(frozen=True)
class _Want:
    """What is to become of a cut-out. None: that field may be anything. `may_go`: it may, or must, be gone."""

    shape: str
    color: str
    fill: str
    size: str | None
    moves: bool
    may_go: bool
    named: frozenset[OpKind]


def _wants(spec: EditSpec, before: Scene) -> list[_Want]:
    wants = []
    for i, cut in enumerate(before.cutouts):
        mine = [op for op in spec.ops if i in op.targets(before)]
        value = {op.kind: op.value for op in mine}
        new_color = next((op.color for op in mine if op.color is not None), None)
        named: set[OpKind] = set(value)
        if new_color:
            named.add("recolour")
        wants.append(
            _Want(
                shape=value.get("replace", cut.shape),
                color=value.get("recolour", new_color or cut.color),
                fill=value.get("refill", cut.fill),
                size=value.get("resize", cut.size),
                moves="move" in value,
                may_go="remove" in value,
                named=frozenset(named),
            )
        )
    return wants


_UNMATCHED = 1.2
"""What it costs to call a cut-out gone, and as much to call one new: more than one wrong field costs, less than two."""


def _unlike(cut: CutOut, want: _Want, other: CutOut) -> float:
    """How unlike `other` is to what became of `cut`; a field left as it was counts less than a wrong one."""
    if want.may_go and (other.shape, other.color) != (cut.shape, cut.color):
        return 9.0
    cost = 0.0
    for wanted, was, now in (
        (want.shape, cut.shape, other.shape),
        (want.color, cut.color, other.color),
        (want.fill, cut.fill, other.fill),
    ):
        cost += 0.0 if now == wanted else 0.3 if now == was else 1.0
    away = max(abs(cut.x - other.x), abs(cut.y - other.y))
    cost += 0.3 * away if want.moves else min(away / 0.2, 2.0)
    return cost + (0.0 if "resize" in want.named else min(abs(cut.radius - other.radius) / 0.1, 0.5))


def pair_up(spec: EditSpec, before: Scene, after: Scene) -> list[int | None]:
    """For each cut-out before, its position after, or None if it is gone: the likeliest pairing, in all."""
    n, m = len(before.cutouts), len(after.cutouts)
    cost = np.full((n + m, n + m), _UNMATCHED)
    cost[n:, m:] = 0.0
    for i, want in enumerate(_wants(spec, before)):
        for j, other in enumerate(after.cutouts):
            cost[i, j] = 2 * _unlike(before.cutouts[i], want, other)
    _, columns = linear_sum_assignment(cost)
    return [int(j) if j < m else None for j in columns[:n]]


def _new(pairs: list[int | None], after: Scene) -> list[CutOut]:
    return [cut for j, cut in enumerate(after.cutouts) if j not in pairs]


def _fits_group(cut: CutOut, group: Group) -> bool:
    return Pick(group.shape, group.color, group.size, group.fill, group.place).fits(cut)


def _stands(op: Op, cut: CutOut, before: Scene, after: Scene, pairs: list[int | None]) -> bool:
    """Whether a cut-out after the edit is where the change wants it."""
    if op.relation is not None:
        assert op.anchor is not None
        anchors = [pairs[i] for i in op.anchor.find(before)]
        return bool(anchors) and all(j is not None and stands(op.relation, cut, after.cutouts[j]) for j in anchors)
    return op.place is None or at_place(cut, op.place)


def _resized(cut: CutOut, now: CutOut, value: str) -> bool:
    if value == "larger":
        return now.radius > cut.radius * 1.1
    if value == "smaller":
        return now.radius * 1.1 < cut.radius
    return now.size == value


def _written(op: Op, before: Scene, after: Scene) -> bool:
    if not op.value and not op.place:
        return after.word is None
    if after.word is None or (not op.value and before.word is None):
        return False
    text = op.value or (before.word.text if before.word else "")
    return after.word.text == text and (op.place is None or (after.word.y < 0.5) == (op.place == "top"))


def _done(op: Op, before: Scene, after: Scene, pairs: list[int | None]) -> bool:
    if op.kind == "sheet":
        return after.sheet == op.value
    if op.kind == "write":
        return _written(op, before, after)
    if op.kind == "add":
        assert op.group is not None
        noun = Pick(op.group.shape, op.group.color)
        fresh = [cut for cut in _new(pairs, after) if noun.fits(cut)]
        return len(fresh) == op.group.count and all(
            _fits_group(cut, op.group) and _stands(op, cut, before, after, pairs) for cut in fresh
        )
    assert op.pick is not None
    targets = op.targets(before)
    if op.kind == "remove":
        gone = sum(pairs[i] is None for i in targets)
        return gone > 0 and gone == (op.count or (len(targets) if op.pick.many else 1))

    def right(i: int) -> bool:
        j = pairs[i]
        if j is None:
            return False
        was, now = before.cutouts[i], after.cutouts[j]
        match op.kind:
            case "replace":
                return now.shape == op.value and op.color in (None, now.color)
            case "recolour":
                return now.color == op.value
            case "refill":
                return now.fill == op.value
            case "resize":
                return _resized(was, now, op.value)
            case _:
                return _stands(op, now, before, after, pairs)

    done = [right(i) for i in targets]
    return bool(done) and (all(done) if op.pick.many else any(done))


def ops_followed(spec: EditSpec, before: Scene, after: Scene) -> tuple[bool, ...]:
    """For each change, whether the scene after the edit is as it asks. A change about what was not there is not."""
    pairs = pair_up(spec, before, after)
    return tuple(_done(op, before, after, pairs) for op in spec.ops)


def followed(spec: EditSpec, before: Scene, after: Scene) -> bool:
    """Whether all that the edit asks for happened. An edit that asks for nothing is followed by any picture."""
    return all(ops_followed(spec, before, after))


def kept(spec: EditSpec, before: Scene, after: Scene, tolerance: float = 0.03) -> bool:
    """Whether everything that the edit does not name stayed: cut-outs, also the other fields of those that it names,
    the word and the sheet; and nothing came that was not asked for.

    `tolerance`: how far a middle may have moved along either axis, as a fraction of the sheet's side; a radius may have
    changed by half of it.
    """
    pairs = pair_up(spec, before, after)
    for cut, want, j in zip(before.cutouts, _wants(spec, before), pairs, strict=True):
        if j is None:
            if not want.may_go:
                return False
            continue
        now = after.cutouts[j]
        same = (
            ("replace" in want.named or now.shape == cut.shape)
            and ("recolour" in want.named or now.color == cut.color)
            and ("refill" in want.named or now.fill == cut.fill)
            and ("resize" in want.named or abs(now.radius - cut.radius) <= tolerance / 2)
            and (want.moves or max(abs(now.x - cut.x), abs(now.y - cut.y)) <= tolerance)
        )
        if not same:
            return False
    picks = [Pick(op.group.shape, op.group.color) for op in spec.ops if op.group is not None]
    if not all(any(noun.fits(cut) for noun in picks) for cut in _new(pairs, after)):
        return False
    for op in spec.ops:
        # Of those that could be meant, no more go than the edit says.
        gone = sum(pairs[i] is None for i in op.targets(before))
        some = op.kind == "remove" and op.pick is not None and not (op.pick.many and op.count is None)
        if some and gone > (op.count or 1):
            return False
    return _rest_kept(spec, before, after, tolerance)


def _rest_kept(spec: EditSpec, before: Scene, after: Scene, tolerance: float) -> bool:
    """Sheet and word, as `kept` means it. A word that is only exchanged stays in its half of the sheet."""
    if after.sheet != before.sheet and all(op.kind != "sheet" for op in spec.ops):
        return False
    writes = [op for op in spec.ops if op.kind == "write"]
    if before.word is None or after.word is None:
        return bool(writes) or before.word is after.word is None
    if not writes:
        near = max(abs(after.word.x - before.word.x), abs(after.word.y - before.word.y)) <= tolerance
        return near and after.word.text == before.word.text
    if any(op.place for op in writes):
        return True
    return (after.word.y < 0.5) == (before.word.y < 0.5)
