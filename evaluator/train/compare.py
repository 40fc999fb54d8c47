"""Asks several judges the same records: how often each is right, how well calibrated it is, and what lies between any two.

    python -m evaluator.train.compare RECORDS... --judge before MODEL --judge trained FOLDER FOLDER FOLDER \\
        [--calibration_files RECORDS...] [--style STYLE] [--out compared.json]

A judge with several folders is one training with several seeds: its accuracy is the mean over them, and differences are of
such means, record by record. Intervals resample whole pictures, not seeds; so every seed has a row of its own. The temperature
of each folder is fitted to the calibration files; without them it is 1. A table is printed; OUT has the same as JSON.

If all records of a key point have one verdict, a judge that learns to always say so looks better at it. So accuracy and
differences are also given for the other key points alone, as "varied". AUC, which no leaning to yes or no changes, is the
probability that a record to accept is given a higher P(yes) than one to reject of the same key point.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.keypoints import find_keypoint
from evaluator.train.figures import (
    RecordAnswer,
    Temperature,
    compute_accuracy,
    compute_figures,
    compute_gain,
    fit_temperature,
    format_row,
    format_table,
)
from evaluator.train.records import Judgement, load_judgements
from evaluator.train.script import JudgeArguments, ask_model
from redraft.errors import ConfigError, InputError
from redraft.files import write_atomically
from redraft.statistics import Interval, area_under_curve
from redraft.training import console, find_model, report_loaded, run


@dataclass(frozen=True)
class ComparedJudge:
    """A judge's answers to the same records, once for each seed of its training, with the temperature of each."""

    name: str
    seeds: Sequence[Sequence[RecordAnswer]]
    temperatures: Sequence[Temperature] = field(default_factory=list)


@dataclass(frozen=True)
class Gain:
    """By how much `second` is more often right than `first`, paired, about one key point, "all" or those that are "varied"."""

    first: str
    second: str
    key_point: str
    records: int
    accuracy: Interval


def _by_key_point(records: Sequence[RecordAnswer]) -> dict[str, list[int]]:
    """Which records there are of "all", of the key points that occur with both verdicts ("varied"), and of each key point."""
    of: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        of.setdefault(find_keypoint(record.key_point).id, []).append(index)
    varied = sorted(i for some in of.values() if len({records[i].accept for i in some}) == 2 for i in some)
    return {"all": list(range(len(records))), "varied": varied, **dict(sorted(of.items()))}


def _select(seeds: Sequence[Sequence[RecordAnswer]], which: Sequence[int]) -> list[list[RecordAnswer]]:
    return [[answers[index] for index in which] for answers in seeds]


def compute_gains(first: ComparedJudge, second: ComparedJudge) -> list[Gain]:
    """What `second` gains over `first` on all records, on those of varied key points, and on those of each key point."""
    gains = []
    for point, which in _by_key_point(first.seeds[0]).items():
        gain = compute_gain(_select(first.seeds, which), _select(second.seeds, which)) if which else None
        if gain is not None:
            gains.append(Gain(first.name, second.name, point, len(which), gain))
    return gains


def compute_auc(judge: ComparedJudge) -> float | None:
    """The area under the ROC curve of each varied key point, weighed by its records; the mean over seeds. None if none varies."""
    areas, weights = [], []
    for point, which in _by_key_point(judge.seeds[0]).items():
        for answers in _select(judge.seeds, which) if point not in ("all", "varied") else ():
            sides = [
                [a.probability for a in answers if a.accept == side and a.probability is not None] for side in (1, 0)
            ]
            if all(sides):
                areas.append(area_under_curve(*sides))
                weights.append(len(which))
    return float(np.average(areas, weights=weights)) if areas else None


def compare(judges: Sequence[ComparedJudge]) -> tuple[str, dict[str, Any]]:
    """Markdown tables of the judges and of every two, and the same for JSON."""
    rows = [
        (f"{judge.name} {number}, temperature {temperature.value:g}", compute_figures(answers, temperature.value))
        for judge in judges
        for number, (answers, temperature) in enumerate(zip(judge.seeds, judge.temperatures, strict=True), 1)
    ]
    varied = _by_key_point(judges[0].seeds[0])["varied"]
    means = [
        (
            judge.name,
            len(judge.seeds),
            compute_accuracy(judge.seeds),
            compute_accuracy(_select(judge.seeds, varied)) if varied else None,
            compute_auc(judge),
        )
        for judge in judges
    ]
    gains = [gain for pair in combinations(judges, 2) for gain in compute_gains(*pair)]
    text = format_table("judge", rows) + "\n"
    text += format_row("judge", "seeds", "accuracy", f"of {len(varied):,} varied", "AUC") + format_row(*["---"] * 5)
    text += "".join(format_row(name, str(count), *figures) for name, count, *figures in means) + "\n"
    text += format_row("difference", "key point", "records", "accuracy gained") + format_row(*["---"] * 4)
    for gain in gains:
        text += format_row(f"{gain.second} minus {gain.first}", gain.key_point, f"{gain.records:,}", gain.accuracy)
    record = {
        "judges": [{"name": name, **asdict(figures)} for name, figures in rows],
        "accuracy": [
            {"name": name, "seeds": n, "accuracy": a and asdict(a), "varied": v and asdict(v), "auc": auc}
            for name, n, a, v, auc in means
        ],
        "gains": [asdict(gain) for gain in gains],
        "answers": {
            judge.name: [[asdict(answer) for answer in answers] for answers in judge.seeds] for judge in judges
        },
    }
    return text, record


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluator.train.compare", description="Compares judges on records."
    )
    parser.add_argument(
        "records", nargs="+", help="files or folders of judgements that none of the judges has learnt from"
    )
    parser.add_argument("--judge", nargs="+", action="append", required=True, metavar=("NAME", "FOLDER"))
    parser.add_argument("--calibration_files", nargs="+", default=[], help="judgements to fit each temperature to")
    parser.add_argument("--style", default="keypoint")
    parser.add_argument("--min_label_mass", type=float, default=0.5, help="an answer with less label mass FAILED")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--measure_batch", type=int, default=8, help="pictures judged together")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args(list(argv))
    for name, *folders in options.judge:
        if not folders:
            raise ConfigError(f"--judge {name}: say after the name in which folder it lies, or folders if it has seeds")
    with tempfile.TemporaryDirectory() as spool:
        records, calibration = (
            report_loaded(name, load_judgements(places, Path(spool))).records if places else ()
            for name, places in (("records", options.records), ("calibration_files", options.calibration_files))
        )
        judges = [_ask(name, folders, records, calibration, options) for name, *folders in options.judge]
    text, record = compare(judges)
    sys.stdout.write(text)
    if options.out is not None:
        try:
            write_atomically(options.out, (json.dumps(record, indent=1) + "\n").encode())
        except OSError as error:
            raise InputError(f"cannot write {options.out}: {error.strerror or error}") from error


def _ask(
    name: str, folders: Sequence[str], records: Sequence[Judgement], calibration: Sequence[Judgement], options: Any
) -> ComparedJudge:
    data = JudgeArguments(
        style=options.style, min_label_mass=options.min_label_mass, measure_batch=options.measure_batch
    )
    local = {"device": options.device, "dtype": options.dtype}
    seeds, temperatures = [], []
    for folder in folders:
        place = find_model(folder)
        what = f"{name}, {folder}"
        seeds.append(ask_model(place, what, records, data, local))
        fitted = Temperature(1.0)
        if calibration:
            fitted = fit_temperature(ask_model(place, f"{what}, calibration", calibration, data, local))
            if fitted.problem:
                console.print(f"warning: the temperature of {folder} is left at 1: {fitted.problem}")
        temperatures.append(fitted)
    return ComparedJudge(name, seeds, temperatures)


if __name__ == "__main__":
    raise SystemExit(main())
