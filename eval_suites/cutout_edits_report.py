"""The figures and the tables of docs/editing.md, from the results of `eval_suites.cutout_edits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from agent.types import StopReason
from eval_suites.cutout_edits_ways import MOST, TURNS, WAYS
from eval_suites.stats import Interval, bootstrap, paired_difference

MANY_OPS = 3
"""From so many sub-tasks on an instruction is a long one."""


def _both(one: Mapping[str, Any]) -> float:
    return float(all(one["followed"]) and one["kept"])


def edit_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Figures of pairs: of each way, and what one way has over another on the same pairs."""
    rows = {}
    for way, results in found.items():
        long = [_both(one) for one in results if len(one["followed"]) >= MANY_OPS]
        rows[way] = {
            "followed": asdict(bootstrap([float(all(one["followed"])) for one in results])),
            "kept": asdict(bootstrap([float(one["kept"]) for one in results])),
            "both": asdict(bootstrap([_both(one) for one in results])),
            "both_long": asdict(bootstrap(long)) if long else None,
            "long": len(long),
            "images": fmean(one["drawn"] for one in results),
        }
    gains = {}
    for ours, theirs in (("best", "single"), ("loop", "best"), ("tree", "loop")):
        two = list(zip(found[ours], found[theirs], strict=True))
        longer = [(a, b) for a, b in two if len(a["followed"]) >= MANY_OPS]
        gains[f"{ours} over {theirs}"] = _gain(two)
        if longer:
            gains[f"{ours} over {theirs}, long"] = _gain(longer)
    kinds: dict[str, list[float]] = {}
    for one in found["single"]:
        for kind, done in zip(one["kinds"], one["followed"], strict=True):
            kinds.setdefault(kind, []).append(float(done))
    return {"rows": rows, "gains": gains, "kinds": {k: [fmean(v), len(v)] for k, v in sorted(kinds.items())}}


def _gain(two: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, float]:
    return asdict(paired_difference([_both(a) for a, _ in two], [_both(b) for _, b in two]))


def session_table(sessions: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> dict[str, Any]:
    """Figures of sessions: turns that were right, and sessions in which all were. A turn that a spoilt picture made
    impossible is wrong."""
    rows = {}
    for way, talks in sessions.items():
        turns = [[_both(turn) for turn in talk] + [0.0] * (TURNS - len(talk)) for talk in talks]
        rows[way] = {
            "turns": asdict(bootstrap([fmean(one) for one in turns])),
            "whole": asdict(bootstrap([float(all(one)) for one in turns])),
            "by_turn": [fmean(one[n] for one in turns) for n in range(TURNS)],
            "images": fmean(turn["drawn"] for talk in talks for turn in talk),
        }
    return {"rows": rows}


def draw_table(drawn: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Figures of drawing with and without the edit branch, at the same most of images."""
    rows = {}
    for way, runs in drawn.items():
        rows[way] = {
            "every_check_right": asdict(bootstrap([float(all(run["right"])) for run in runs])),
            "checks_right": asdict(bootstrap([fmean(run["right"]) for run in runs])),
            "accepted": asdict(bootstrap([float(run["stop"] == StopReason.ACCEPTED) for run in runs])),
            "images": asdict(bootstrap([float(run["drawn"]) for run in runs])),
            "edits": fmean(run["edits"] for run in runs),
            "best_is_edit": fmean(run["best_is_edit"] for run in runs),
        }
    ours, theirs = drawn["with"], drawn["without"]
    gains = {
        "every_check_right": asdict(
            paired_difference([float(all(a["right"])) for a in ours], [float(all(b["right"])) for b in theirs])
        ),
        "images": asdict(paired_difference([float(a["drawn"]) for a in ours], [float(b["drawn"]) for b in theirs])),
    }
    return {"rows": rows, "with_over_without": gains}


def _interval(figure: Mapping[str, float] | None) -> str:
    return "-" if figure is None else str(Interval(**figure))


def markdown(figures: Mapping[str, Any], command: str) -> str:
    """The tables of docs/editing.md."""
    titles = {way: title.format(**MOST) for way, title in WAYS.items()}
    lines = [f"By the oracle, 95% bootstrap intervals. Made by `{command}`."]
    if "edits" in figures:
        rows, gains = figures["edits"]["rows"], figures["edits"]["gains"]
        lines += [
            "",
            f"{figures['pairs']} held-out (scene, instruction) pairs, of which {rows['single']['long']} have "
            f"{MANY_OPS} or more sub-tasks:",
            "",
            f"| row | instruction followed | the rest kept | both | both, {MANY_OPS} or more sub-tasks | images |",
            "|---|---|---|---|---|---|",
        ]
        for way, row in rows.items():
            cells = [titles[way], *(_interval(row[k]) for k in ("followed", "kept", "both", "both_long"))]
            lines.append(f"| {' | '.join(cells)} | {row['images']:.2f} |")
        lines += ["", "| both, on the same pairs | difference |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {_interval(gain)} |" for name, gain in gains.items()]
        lines += ["", "| sub-task, single edit call | done | of |", "|---|---|---|"]
        lines += [f"| {kind} | {share:.2f} | {of} |" for kind, (share, of) in figures["edits"]["kinds"].items()]
    if "turns" in figures:
        lines += [
            "",
            f"{figures['sessions']} sessions of {TURNS} turns:",
            "",
            "| row | turns right (followed and kept) | sessions with every turn right | turn 1, 2, 3 | images a turn |",
            "|---|---|---|---|---|",
        ]
        for way, row in figures["turns"]["rows"].items():
            turns = ", ".join(f"{share:.2f}" for share in row["by_turn"])
            cells = [titles[way], _interval(row["turns"]), _interval(row["whole"]), turns, f"{row['images']:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    if "drawing" in figures:
        lines += [
            "",
            f"{figures['prompts']} held-out prompts drawn:",
            "",
            "| the loop | every check right | checks right | accepted by the judge | images | of them edits |",
            "|---|---|---|---|---|---|",
        ]
        for way, row in figures["drawing"]["rows"].items():
            cells = [_interval(row[k]) for k in ("every_check_right", "checks_right", "accepted", "images")]
            lines.append(f"| {way} edits | {' | '.join(cells)} | {row['edits']:.2f} |")
        gains = figures["drawing"]["with_over_without"]
        lines += [
            "",
            f"With minus without, on the same prompts: every check right {_interval(gains['every_check_right'])}, "
            f"images {_interval(gains['images'])}.",
        ]
    return "\n".join(lines) + "\n"
