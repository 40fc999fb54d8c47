"""The tables and the plot of docs/training.md, from the figures of `eval_suites.rewriters`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from eval_suites.stats import Interval


def markdown(figures: Mapping[str, Any]) -> str:
    """The tables: rows, paired differences, key points, checkpoints."""
    lines = [
        f"{figures['prompts']} held-out human-worded prompts, by the oracle, 95% bootstrap intervals over prompts. "
        f"Made by `{figures['command']}`.",
        "",
        "| row | every check right | checks right | judge's reward | images |",
        "|---|---|---|---|---|",
    ]
    for row in figures["rows"].values():
        cells = [row["title"], *(_told(row[k]) for k in ("every_check_right", "checks_right", "judge"))]
        lines.append(f"| {' | '.join(cells)} | {row['images']:.2f} |")
    if figures["differences"]:
        lines += ["", "| paired difference | every check right | checks right |", "|---|---|---|"]
        for name, one in figures["differences"].items():
            lines.append(f"| {name} | {_signed(one['every_check_right'])} | {_signed(one['checks_right'])} |")
    if "loop_prompts" in figures:
        seeds = "1 seed" if figures["loop_seeds"] == 1 else f"{figures['loop_seeds']} seeds"
        lines += ["", f"The loop's rows: the first {figures['loop_prompts']} prompts, GRPO's of {seeds}."]
    if "key_points" in figures:
        lines += ["", "| key point | checks | SFT with thought | + GRPO | gain |", "|---|---|---|---|---|"]
        for name, one in figures["key_points"].items():
            cells = [name, str(one["checks"]), f"{one['before']['mean']:.3f}", f"{one['after']['mean']:.3f}"]
            lines.append(f"| {' | '.join(cells)} | {_signed(one['gain'])} |")
    if "curves" in figures:
        lines += [
            "",
            f"Judge's reward and the oracle's (same aggregation, true checks) at checkpoints, mean of "
            f"{len(figures['curves'])} runs, the first {figures['curve_prompts']} prompts:",
            "",
            "| step | judge's reward | oracle's | gap | every check right |",
            "|---|---|---|---|---|",
        ]
        for step, ones in _by_step(figures["curves"]).items():
            means = [fmean(one[key]["mean"] for one in ones) for key in ("judge", "oracle", "gap", "every_check_right")]
            lines.append(f"| {step} | {' | '.join(f'{value:.3f}' for value in means)} |")
    return "\n".join(lines) + "\n"


def curves_svg(figures: Mapping[str, Any]) -> str:
    """Reward and truth over steps, and the gap between them under it: thin lines are runs, thick ones their mean."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = figures["curves"]
    steps = _by_step(curves)
    last = max(max(steps), 1)
    values = [one[key]["mean"] for ones in curves.values() for one in ones for key in ("judge", "oracle")]
    gaps = [one["gap"]["mean"] for ones in curves.values() for one in ones]
    upper = _Panel(50, 30, 420, 190, last, _around(values))
    lower = _Panel(50, 270, 420, 110, last, _around([*gaps, 0.0]))
    parts = [upper.frame("share of 1"), lower.frame("judge - oracle"), lower.level(0.0)]
    for panel, key, colour in ((upper, "judge", "#c8582b"), (upper, "oracle", "#2662c8"), (lower, "gap", "#444444")):
        runs = ([(one["step"], one[key]["mean"]) for one in ones] for ones in curves.values())
        parts += [panel.line(run, colour, 1, 0.45) for run in runs]
        mean = [(step, fmean(one[key]["mean"] for one in ones)) for step, ones in steps.items()]
        parts.append(panel.line(mean, colour, 2.5, 1))
    legend = (
        '<text x="60" y="20" fill="#c8582b">judge\'s reward</text>'
        '<text x="170" y="20" fill="#2662c8">the oracle\'s, same prompts</text>'
        '<text x="260" y="412" text-anchor="middle">GRPO steps (0: SFT with thought)</text>'
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 420" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}{legend}</svg>\n'
    )


class _Panel:
    """A frame with its own scales, in pixels of the plot."""

    def __init__(self, x: int, y: int, width: int, height: int, last: int, bounds: tuple[float, float]) -> None:
        self._x, self._y, self._width, self._height = x, y, width, height
        self._last, (self._low, self._high) = last, bounds

    def at(self, step: float, value: float) -> tuple[float, float]:
        across = self._x + self._width * step / self._last
        return across, self._y + self._height * (1 - (value - self._low) / (self._high - self._low))

    def frame(self, title: str) -> str:
        place = f'x="{self._x}" y="{self._y}" width="{self._width}" height="{self._height}"'
        box = f'<rect {place} fill="none" stroke="#999"/>'
        ticks = [
            f'<text x="{self._x - 6}" y="{self.at(0, value)[1] + 4:.0f}" text-anchor="end">{value:.2f}</text>'
            for value in (self._low, (self._low + self._high) / 2, self._high)
        ]
        below = self._y + self._height + 16
        ticks += [
            f'<text x="{self.at(step, 0)[0]:.0f}" y="{below}" text-anchor="middle">{step:.0f}</text>'
            for step in (0, self._last / 2, self._last)
        ]
        name = f'<text x="{self._x + self._width - 6}" y="{self._y + 14}" text-anchor="end" fill="#666">{title}</text>'
        return box + "".join(ticks) + name

    def level(self, value: float) -> str:
        (x0, y), (x1, _) = self.at(0, value), self.at(self._last, value)
        return f'<line x1="{x0:.1f}" y1="{y:.1f}" x2="{x1:.1f}" y2="{y:.1f}" stroke="#999" stroke-dasharray="4"/>'

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float, opacity: float) -> str:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        return (
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
            f'stroke-opacity="{opacity}"/>'
        )


def _by_step(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[int, list[Mapping[str, Any]]]:
    """The points of all runs at the steps that every run has."""
    runs = [{one["step"]: one for one in ones} for ones in curves.values()]
    shared = sorted(set.intersection(*(set(run) for run in runs)))
    return {step: [run[step] for run in runs] for step in shared}


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Bounds on twentieths with all values between them."""
    low, high = min(values), max(values)
    down, up = int(low * 20 // 1) / 20, -int(-high * 20 // 1) / 20
    return down, up if up > down else down + 0.05


def _told(figure: Mapping[str, float] | None) -> str:
    return "-" if figure is None else str(Interval(**figure))


def _signed(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}]"
