"""The report of a training: JSON and Markdown beside the weights, and the [judge] table for a profile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluator.keypoints import group_names, keypoint
from evaluator.train.figures import Answer, Figures, Interval, Temperature, by_group, by_key_point, figures, gain
from redraft.files import write_atomically


@dataclass(frozen=True)
class Measured:
    """Answers to the report part, before calibration: by the trained model, and by the one that training began with
    (None: not asked)."""

    report: Sequence[Answer]
    before: Sequence[Answer] | None


def write_report(folder: Path, facts: Mapping[str, Any], measured: Measured, temperature: Temperature) -> str:
    """Writes report.json and report.md to `folder`; returns a line that sums them up. `facts` say what was trained how:
    `base`, `style`, `records` (part to number) and what else is to be kept."""
    raw, whole = figures(measured.report), figures(measured.report, temperature.value)
    points, groups = by_key_point(measured.report, temperature.value), by_group(measured.report, temperature.value)
    before = figures(measured.before) if measured.before is not None else None
    gained = gain(measured.before, measured.report) if measured.before is not None else None
    record = {
        **facts,
        "temperature": temperature.value,
        "temperature_problem": temperature.problem,
        "report": {
            "before_training": before and asdict(before),
            "uncalibrated": asdict(raw),
            "calibrated": asdict(whole),
            "accuracy_gained": gained and asdict(gained),
        },
        "groups": {name: asdict(one) for name, one in groups.items()},
        "key_points": {name: asdict(one) for name, one in points.items()},
    }
    rows = [("before training", before)] if before is not None else []
    rows += [("trained", raw), (f"trained, temperature {temperature.value:g}", whole)]
    gain_line = f"Accuracy gained on the same records: {gained}.\n\n" if gained is not None else ""
    problem = f"The temperature is left at 1: {temperature.problem}.\n\n" if temperature.problem else ""
    counts = ", ".join(f"{count:,} to {part}" for part, count in facts["records"].items())
    text = (
        f"# Judge trained from {facts['base']}\n\n"
        f"Style `{facts['style']}`; records: {counts}. No two of these parts share a picture or a prompt. Figures are "
        "of the report part, which neither the weights nor the temperature have seen; in brackets 95% intervals, "
        "whole pictures resampled.\n\n"
        f"{_table('', rows)}\n{gain_line}{problem}"
        f"## Groups\n\n{_table('group', [(group_names().get(name, name), one) for name, one in groups.items()])}\n"
        f"## Key points\n\n{_table('key point', [(keypoint(name).name, one) for name, one in points.items()])}\n"
        "Accepted: share of records that are to be accepted; a judge that never looks gets that or the rest. Failed: "
        "no usable answer; these are in no other column but label mass, P(yes) + P(no). ECE: expected calibration "
        "error, ten bins.\n"
    )
    write_atomically(folder / "report.json", (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(folder / "report.md", text.encode())
    return f"accuracy {whole.accuracy}, ECE {whole.ece}, {whole.failed:,} of {whole.count:,} failed"


def write_profile_table(folder: Path, style: str, temperature: float, min_label_mass: float, remote_code: bool) -> Path:
    """Writes judge.toml: the [judge] table that a profile needs to use the model in `folder`."""
    local = ", local = { trust_remote_code = true }" if remote_code else ""
    text = (
        "# The [judge] table of a profile for this model. Where a server serves it, keep style, temperature and\n"
        '# min_label_mass, and give `model` kind = "openai", the name it is served under, and the server.\n'
        "[judge]\n"
        f"style = {json.dumps(style, ensure_ascii=False)}\n"
        f"temperature = {temperature!r}\n"
        f"min_label_mass = {min_label_mass!r}\n"
        f'model = {{ kind = "transformers", model = {json.dumps(str(folder), ensure_ascii=False)}{local} }}\n'
    )
    path = folder / "judge.toml"
    write_atomically(path, text.encode())
    return path


def _table(first: str, rows: Sequence[tuple[str, Figures]]) -> str:
    lines = [_line(first, "records", "accepted", "failed", "accuracy", "ECE", "NLL", "label mass"), _line(*["---"] * 8)]
    lines += [
        _line(name, f"{f.count:,}", f.accepted, f"{f.failed:,}", f.accuracy, f.ece, f.nll, f.label_mass)
        for name, f in rows
    ]
    return "".join(lines)


def _line(*cells: str | float | Interval | None) -> str:
    said = ("–" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
    return f"| {' | '.join(said)} |\n"
