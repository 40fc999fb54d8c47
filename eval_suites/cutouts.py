"""The table of docs/results.md: `redraft eval cutouts --images 8`, told row by row.

    python -m eval_suites.cutouts --count 500 --out docs/results

The run itself is kept in --work, and a second call of the same command goes on from there. A changed model under the
same name wants another --work.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from eval_suites.generating import run_generation
from eval_suites.generation.cutouts import BEST_OF, ROWS, SUITE, asked, oracle_on_renders, prompts
from eval_suites.stats import Interval

__all__ = ["ROWS", "asked", "main", "markdown", "oracle_on_renders", "prompts", "reliability_svg"]

console = Console(stderr=True)


def _interval(figure: dict[str, float] | None) -> str:
    return "-" if figure is None else str(Interval(**figure))


def markdown(figures: dict[str, Any], command: str) -> str:
    """The tables of docs/results.md."""
    lines = [
        f"{figures['prompts']} held-out human-worded prompts, by the oracle, 95% bootstrap intervals over prompts. "
        f"Made by `{command}`.",
        "",
        "| row | every check right | mean share of checks right | the judge's own score | images |",
        "|---|---|---|---|---|",
    ]
    for row in figures["rows"].values():
        cells = [row["title"], *(_interval(row[k]) for k in ("every_check_right", "checks_right", "judge_score"))]
        lines.append(f"| {' | '.join(cells)} | {row['images']:.2f} |")
    judge = figures["judge"]
    lines += [
        "",
        "The loop minus rewritten best of 8, paired, every check right: "
        f"{_interval(figures['loop_over_rewritten_8'])}.",
        "",
        "| part | figure |",
        "|---|---|",
        f"| oracle on its own renders, scenes fully right | {_interval(figures['oracle'])} |",
        f"| generator, canonical captions, one image, every check right | {_interval(figures['generator_every'])} |",
        f"| generator, canonical captions, one image, checks right | {_interval(figures['generator_checks'])} |",
        f"| judge against the oracle on the generator's own images ({judge['answers']} answers, "
        f"{judge['failed']} failed) | {_interval(judge['accuracy'])} |",
        f"| judge's expected calibration error | {judge['ece']:.3f} |",
        "",
        "| key point | judge's accuracy | answers | truly yes |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {k} | {v['accuracy']:.3f} | {v['answers']} | {v['true']:.2f} |" for k, v in judge["key_points"].items()
    ]
    return "\n".join(lines) + "\n"


def reliability_svg(figures: dict[str, Any]) -> str:
    """The judge's calibration as a small SVG: mean probability against how often yes was true, dot area by count."""
    side, pad = 320, 40
    total = sum(b["count"] for b in figures["judge"]["bins"])

    def at(x: float, y: float) -> tuple[float, float]:
        return pad + x * side, pad + (1 - y) * side

    dots = []
    for b in figures["judge"]["bins"]:
        x, y = at(b["confidence"], b["frequency"])
        radius = 3 + 14 * (b["count"] / total) ** 0.5
        dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#2662c8" fill-opacity="0.7"/>')
    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    ticks = "".join(
        f'<text x="{at(v, 0)[0]:.0f}" y="{y0 + 16:.0f}" text-anchor="middle">{v:g}</text>'
        f'<text x="{x0 - 8:.0f}" y="{at(0, v)[1] + 4:.0f}" text-anchor="end">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side + 2 * pad} {side + 2 * pad}" '
        'font-family="sans-serif" font-size="12">'
        '<rect width="100%" height="100%" fill="white"/>'
        f'<rect x="{x0}" y="{y1}" width="{side}" height="{side}" fill="none" stroke="#999"/>'
        f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#999" stroke-dasharray="4"/>'
        f"{''.join(dots)}{ticks}"
        f'<text x="{pad + side / 2}" y="{side + 2 * pad - 6}" text-anchor="middle">P(yes) by the judge</text>'
        f'<text x="12" y="{pad + side / 2}" transform="rotate(-90 12 {pad + side / 2})" text-anchor="middle">'
        "yes by the oracle</text></svg>\n"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Evaluates a profile of the mini world on held-out prompts.")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("work/eval/cutouts"))
    options = parser.parse_args(argv)
    command = f"python -m eval_suites.cutouts --count {options.count} --seed {options.seed}"
    chosen = {
        "data": None, "profile": options.profile, "limit": options.count, "variant": None, "images": BEST_OF,
        "rewriter": "own", "best": True, "loop": True, "report_profile": None, "pictures": None, "seed": options.seed,
    }  # fmt: skip
    figures = run_generation(SUITE, chosen, options.work, command)["cutouts"]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cutouts.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (options.out / "cutouts.md").write_text(markdown(figures, command), encoding="utf-8")
    (options.out / "calibration.svg").write_text(reliability_svg(figures), encoding="utf-8")
    console.print(markdown(figures, command))


if __name__ == "__main__":
    main()
