"""Figures of a judge on records it has not learnt from: accuracy, calibration, label mass, in all and per key point.

Records of one picture stand or fall together, so intervals come from a bootstrap that resamples whole pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluator.judge import calibrated
from evaluator.keypoints import find_keypoint, group_names
from redraft.files import write_atomically
from redraft.statistics import Floats, Interval, bootstrap

BINS = 10
"""Reliability bins of equal width, as is usual for the expected calibration error."""

_RESAMPLES = 1000
_TEMPERATURES = (0.1, 10.0)
ENOUGH = 50
"""Fewest answers that a temperature is fitted to."""


@dataclass(frozen=True)
class RecordAnswer:
    """A judge's answer to a record. `probability` before calibration; it and `mass` are None if the judge FAILED."""

    key_point: str
    picture: str
    accept: bool
    probability: float | None
    mass: float | None = None


@dataclass(frozen=True)
class Figures:
    """`count` records, of which `failed` had no usable answer; the other figures are of those that had one.

    accepted     share of records that are to be accepted (what a judge that always says the likelier gets, or 1 minus)
    accuracy     share of answers on the right side of 1/2, which no temperature changes
    ece          expected calibration error: sum over bins of (share of answers in the bin) * |mean probability - share
                 that were to be accepted| (Guo et al. 2017)
    nll          mean of -log P(the right verdict), in nats
    label_mass   mean of P(yes) + P(no) over all records that have one
    """

    count: int
    failed: int
    accepted: float
    accuracy: Interval | None
    ece: Interval | None
    nll: float | None
    label_mass: float | None


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by. If it could not be fitted it is 1, and `problem` says why."""

    value: float
    problem: str = ""


def fit_temperature(answers: Sequence[RecordAnswer]) -> Temperature:
    """The temperature under which the right verdicts are likeliest (Guo et al. 2017), to three decimals."""
    from scipy.optimize import minimize_scalar

    logits, truth = _logits(answers)
    if len(logits) < ENOUGH:
        return Temperature(1.0, f"{len(logits)} usable answers are too few to fit a temperature; {ENOUGH} are needed")
    low, high = map(math.log, _TEMPERATURES)
    fit = minimize_scalar(lambda t: _nll(logits / math.exp(t), truth), bounds=(low, high), method="bounded")
    value = round(math.exp(float(fit.x)), 3)
    if not 1.02 * _TEMPERATURES[0] < value < 0.98 * _TEMPERATURES[1]:
        return Temperature(1.0, f"no temperature between {_TEMPERATURES[0]} and {_TEMPERATURES[1]} fits best")
    return Temperature(value)


def compute_figures(answers: Sequence[RecordAnswer], temperature: float = 1.0, seed: int = 0) -> Figures:
    """Figures of at least one answer, with probabilities calibrated by `temperature`."""
    usable = [(answer, answer.probability) for answer in answers if answer.probability is not None]
    masses = [answer.mass for answer in answers if answer.mass is not None]
    p = np.array([calibrated(probability, temperature) for _, probability in usable])
    truth = np.array([answer.accept for answer, _ in usable], dtype=np.float64)
    accuracy = ece = None
    if usable:
        pictures = [answer.picture for answer, _ in usable]
        right = ((p >= 0.5) == (truth == 1)).astype(np.float64)
        accuracy = _mean_over_pictures(pictures, right, seed=seed)
        ece = _calibration_error(pictures, p, truth, seed=seed)
    return Figures(
        count=len(answers),
        failed=len(answers) - len(usable),
        accepted=float(np.mean([answer.accept for answer in answers])),
        accuracy=accuracy,
        ece=ece,
        nll=_nll(*_logits(answers, temperature)) if usable else None,
        label_mass=float(np.mean(masses)) if masses else None,
    )


def by_key_point(answers: Sequence[RecordAnswer], temperature: float = 1.0) -> dict[str, Figures]:
    """Figures of each key point that occurs, in the order of `keypoints.toml`'s groups."""
    return _by(lambda answer: find_keypoint(answer.key_point).id, answers, temperature)


def by_group(answers: Sequence[RecordAnswer], temperature: float = 1.0) -> dict[str, Figures]:
    """Figures of each group of key points that occurs."""
    return _by(lambda answer: find_keypoint(answer.key_point).group, answers, temperature)


def compute_accuracy(seeds: Sequence[Sequence[RecordAnswer]], seed: int = 0) -> Interval | None:
    """The share of right answers of one judge, trained with several seeds: the mean over them of each record that all of them
    answered. Intervals resample pictures, not seeds. None if there is no such record."""
    return _mean_of_records(seeds[0], _share_right(seeds), seed=seed)


def compute_gain(
    before: Sequence[Sequence[RecordAnswer]], after: Sequence[Sequence[RecordAnswer]], seed: int = 0
) -> Interval | None:
    """Accuracy of `after` minus that of `before`, paired: each has the answers to the same records, once for each seed of its
    training. Only records that all of them answered count. None if there are none."""
    return _mean_of_records(after[0], _share_right(after) - _share_right(before), seed=seed)


def _share_right(seeds: Sequence[Sequence[RecordAnswer]]) -> Floats:
    """(records,): in which share of the seeds the answer is right; NaN if one has none."""
    rows = [
        [math.nan if a.probability is None else float((a.probability >= 0.5) == a.accept) for a in answers]
        for answers in seeds
    ]
    return np.asarray(np.mean(rows, axis=0), dtype=np.float64)


def _mean_of_records(records: Sequence[RecordAnswer], values: Floats, *, seed: int) -> Interval | None:
    there = ~np.isnan(values)
    if not there.any():
        return None
    pictures = [record.picture for record, is_there in zip(records, there, strict=True) if is_there]
    return _mean_over_pictures(pictures, values[there], seed=seed)


def _by(name: Callable[[RecordAnswer], str], answers: Sequence[RecordAnswer], temperature: float) -> dict[str, Figures]:
    groups = list(group_names())
    names = sorted({name(answer) for answer in answers})

    def rank(name: str) -> tuple[int, str]:
        return groups.index(name if name in groups else find_keypoint(name).group), name

    return {
        one: compute_figures([answer for answer in answers if name(answer) == one], temperature)
        for one in sorted(names, key=rank)
    }


def _logits(answers: Sequence[RecordAnswer], temperature: float = 1.0) -> tuple[Floats, Floats]:
    usable = [(answer.probability, answer.accept) for answer in answers if answer.probability is not None]
    # A probability of exactly 0 or 1 is rounding; without a bound one such mistake would weigh infinitely much.
    p = np.clip([probability for probability, _ in usable], 1e-9, 1 - 1e-9)
    return np.log(p / (1 - p)) / temperature, np.array([accept for _, accept in usable], dtype=np.float64)


def _nll(logits: Floats, truth: Floats) -> float:
    return float(np.mean(np.logaddexp(0.0, -np.where(truth == 1, logits, -logits))))


def _mean_over_pictures(pictures: Sequence[str], values: Floats, *, seed: int) -> Interval:
    sums = _sum_by_picture(pictures, values[None])
    return bootstrap(lambda total, count: total.sum(-1) / count.sum(-1), *sums, seed=seed, resamples=_RESAMPLES)


def _calibration_error(pictures: Sequence[str], p: Floats, truth: Floats, *, seed: int) -> Interval:
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    sums = _sum_by_picture(pictures, np.where(bins == np.arange(BINS)[:, None], p - truth, 0.0))

    def error(which: NDArray[np.int_]) -> Floats:
        *gaps, count = (row[which].sum(-1) for row in sums)
        return np.asarray(sum(map(np.abs, gaps)) / count, dtype=np.float64)

    return bootstrap(error, np.arange(sums.shape[1]), seed=seed, resamples=_RESAMPLES, batch=100)


def _sum_by_picture(pictures: Sequence[str], rows: Floats) -> Floats:
    """(rows, answers) to (rows + 1, pictures): each row summed over a picture's answers; the last says how many."""
    names, of = np.unique(np.array(pictures), return_inverse=True)
    sums = np.zeros((len(rows) + 1, len(names)))
    np.add.at(sums.T, of, np.concatenate([rows, np.ones((1, len(pictures)))]).T)
    return sums


@dataclass(frozen=True)
class MeasuredJudge:
    """Answers to the report part, before calibration: by the trained model, and by the one that training began with
    (None if it was not measured)."""

    report: Sequence[RecordAnswer]
    before: Sequence[RecordAnswer] | None


def write_report(folder: Path, facts: Mapping[str, Any], measured: MeasuredJudge, temperature: Temperature) -> str:
    """Writes report.json and report.md to `folder`; returns a line that sums them up. `facts` say what was trained how:
    `base`, `style`, `records` (part to number) and what else is to be kept."""
    raw, whole = compute_figures(measured.report), compute_figures(measured.report, temperature.value)
    points, groups = by_key_point(measured.report, temperature.value), by_group(measured.report, temperature.value)
    before = compute_figures(measured.before) if measured.before is not None else None
    gained = compute_gain([measured.before], [measured.report]) if measured.before is not None else None
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
        f"Style `{facts['style']}`; records: {counts}. No two of these parts share a picture or a request. Figures are "
        "of the report part, which neither the weights nor the temperature have seen; in brackets 95% intervals, "
        "whole pictures resampled.\n\n"
        f"{format_table('', rows)}\n{gain_line}{problem}"
        f"## Groups\n\n{format_table('group', [(group_names().get(name, name), one) for name, one in groups.items()])}\n"
        f"## Key points\n\n{format_table('key point', [(find_keypoint(name).name, one) for name, one in points.items()])}\n"
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
        "# The [judge] table of a profile for this model. If a server serves it, keep style, temperature and\n"
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


def format_table(first: str, rows: Sequence[tuple[str, Figures]]) -> str:
    """A Markdown table of figures; `first` heads the column of their names."""
    lines = [
        format_row(first, "records", "accepted", "failed", "accuracy", "ECE", "NLL", "label mass"),
        format_row(*["---"] * 8),
    ]
    lines += [
        format_row(name, f"{f.count:,}", f.accepted, f"{f.failed:,}", f.accuracy, f.ece, f.nll, f.label_mass)
        for name, f in rows
    ]
    return "".join(lines)


def format_row(*cells: str | float | Interval | None) -> str:
    """A row of a Markdown table; None is a dash."""
    texts = ("–" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
    return f"| {' | '.join(texts)} |\n"
