"""trace.html: a run on one page that needs nothing but itself."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from agent.runfolder import RunFolder
from agent.types import is_box
from redraft.images import ImageStore
from redraft.templates import load_page, unfence

_EMBED_SIDE = 768
"""Pictures are embedded no larger than this many pixels a side; the run folder keeps the originals."""

_STOPS = {
    "accepted": "Accepted",
    "unchecked": "Stopped: not all of it can be checked",
    "plateau": "Stopped: no more gain",
    "budget": "Stopped: budget spent",
    "time": "Stopped: out of time",
    "cancelled": "Stopped by hand",
    "failed": "Failed",
}


def write_trace(folder: RunFolder, record: Mapping[str, Any]) -> Path:
    """Writes the page of a finished run's record (see `agent.runfolder`) and returns its path."""
    html = render_trace(folder.path, record)
    folder.write(folder.trace, html)
    return folder.trace


def render_trace(folder: Path, record: Mapping[str, Any]) -> str:
    """The page as text. Everything that came from a user or a model is escaped, and the page may run no script."""
    attempts = record["attempts"]
    pass_at = record["limits"]["pass_at"]
    cards = [_card(folder, attempt, record, pass_at) for attempt in attempts]
    best = record["best"]
    return load_page("agent", "trace.html.j2").render(
        run=record,
        stop=_STOPS.get(record["stop"], record["stop"]),
        accepted=record["stop"] == "accepted",
        rounds=[_round(folder, item, cards) for item in record["rounds"]],
        final=None if best is None else cards[best - 1],
        chart=chart(
            [(a["round"], a["score"]) for a in attempts],
            record["limits"]["accept_at"],
            costs=[a.get("denoiser_steps", 0) for a in attempts],
            drafts=[a.get("draft", False) for a in attempts],
        ),
        cost=_cost(record.get("cost")),
        pass_at=pass_at,
        models=record.get("models", {}),
        source=_source(folder, record),
        before=_before(record, pass_at),
        for_people=unfence,
    )


def _cost(spent: Mapping[str, Any] | None) -> str:
    """What the run spent, in words."""
    if spent is None:
        return ""
    drafts = f" ({spent['drafts']} drafts)" if spent["drafts"] else ""
    return f"{spent['images']} pictures{drafts}, {spent['steps']} denoiser steps, {spent['judgements']} judged"


def _round(folder: Path, item: Mapping[str, Any], cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    fates = {branch["number"]: branch for branch in item.get("branches", ())}
    mine = [{**card, "branch": fates.get(card["number"])} for card in cards if card["round"] == item["round"]]
    plan = item.get("plan")
    now = plan["steps"][plan["at"]] if plan and plan["choice"] == "edit" else {}
    images = ImageStore(RunFolder(folder).images)

    def shown(name: str) -> str | None:
        return None if now.get(name) is None else data_uri(images.path(now[name]))

    return {
        **item,
        "plan": plan,
        "cards": mine,
        "area": shown("area"),
        "draft": shown("drafted"),
        "instruction": mine[0]["prompt"] if mine else "",
    }


def _source(folder: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The picture that was given to be edited."""
    if record.get("source") is None:
        return None
    path = RunFolder(folder).source
    return {"src": data_uri(path), "image": path.name}


def _before(record: Mapping[str, Any], pass_at: float) -> dict[str, dict[str, Any]]:
    """What the judge answered about that picture: question to line, if it has an answer."""
    lines = _lines(record.get("source_report", {"verdicts": ()}), pass_at)
    return {line["question"]: line for line in lines if line["p"] is not None}


def _card(folder: Path, attempt: Mapping[str, Any], record: Mapping[str, Any], pass_at: float) -> dict[str, Any]:
    verdicts = _lines(attempt["report"], pass_at)
    return {
        **attempt,
        "src": data_uri(folder / attempt["image"]),
        "best": attempt["number"] == record["best"],
        "original": attempt["prompt"] == record["request"],
        "unchanged": attempt.get("unchanged", False),
        "draft": attempt.get("draft", False),
        "denoiser_steps": attempt.get("denoiser_steps", 0),
        "backend": attempt.get("backend", ""),
        "drafted_in": _drafted_in(attempt, record["attempts"]),
        "verdicts": verdicts,
        "readings": _readings(attempt["report"]),
        "passed": sum(line["state"] == "pass" for line in verdicts),
        "asked": sum(line["state"] != "skip" for line in verdicts),
    }


def _readings(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each criterion; none if there is nothing beside the checks. Records of before have no readings."""
    readings = report.get("readings", {})
    if not readings.keys() - {"checks"}:
        return []
    below = report.get("below", ())
    return [
        {
            "name": name,
            "value": reading["value"],
            "state": reading["outcome"].replace("_", " "),
            "reason": reading["reason"],
            "below": name in below,
        }
        for name, reading in readings.items()
    ]


def _drafted_in(attempt: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]]) -> int | None:
    """The number of the draft whose noise the picture comes from."""
    if attempt["kind"] != "generate" or attempt["parent"] is None:
        return None
    return next((a["number"] for a in attempts if a["sha256"] == attempt["parent"]), None)


def _lines(report: Mapping[str, Any], pass_at: float) -> list[dict[str, Any]]:
    """A line for each verdict. The places of those that did not pass are numbered, for the picture and the line."""
    lines = [_line(verdict, pass_at) for verdict in report["verdicts"]]
    shown = [line for line in lines if line["state"] == "miss" and is_box(line["region"])]
    for number, line in enumerate(shown, start=1):
        left, top, right, bottom = line["region"]
        sides = {"left": left, "top": top, "width": right - left, "height": bottom - top}
        down, across = (
            _third(top + bottom, "top", "middle", "bottom"),
            _third(left + right, "left", "centre", "right"),
        )
        line["box"] = {
            "number": number,
            "style": ";".join(f"{side}:{100 * share:.2f}%" for side, share in sides.items()),
            "where": f"{down} {across}",
        }
    return lines


def _third(ends: float, *names: str) -> str:
    """The name of the third in which the middle between two ends lies, given their sum."""
    return names[min(2, int(1.5 * ends))]


def _line(verdict: Mapping[str, Any], pass_at: float) -> dict[str, Any]:
    p = verdict["probability"]
    if verdict["outcome"] == "failed":
        state = "failed"
    elif verdict["outcome"] == "not_applicable" or p is None:
        state = "skip"
    else:
        state = "pass" if p - verdict.get("spread", 0.0) >= pass_at else "miss"
    return {
        "state": state,
        "question": verdict["check"]["question"],
        "key_point": verdict["check"]["key_point"].replace("_", " "),
        "p": p,
        "percent": None if p is None else round(100 * p),
        "label_mass": verdict["label_mass"],
        "reason": verdict["reason"],
        "region": verdict["region"],
        "box": None,
    }


def chart(
    scores: Sequence[tuple[int, float | None]],
    accept_at: float,
    *,
    costs: Sequence[int] = (),
    drafts: Sequence[bool] = (),
) -> dict[str, Any] | None:
    """Points of the drawing of scores over cost, None with fewer than two scored ones.

    A unit is a pixel of a 320 x 72 view box; `line` follows the best score so far, to which drafts do not count. `costs`:
    denoiser steps of each attempt; without them each costs the same.
    """
    width, height, pad = 320.0, 72.0, 8.0
    if sum(score is not None for _, score in scores) < 2:
        return None
    spent = list(itertools.accumulate(costs if all(costs) and len(costs) == len(scores) else [1] * len(scores)))
    step = (width - 2 * pad) / max(1, spent[-1] - spent[0])

    def y(score: float) -> float:
        return round(height - pad - score * (height - 2 * pad), 1)

    dots, line, top = [], [], 0.0
    for index, (number, score) in enumerate(scores):
        x = round(pad + (spent[index] - spent[0]) * step, 1)
        draft = index < len(drafts) and drafts[index]
        if score is not None:
            top = top if draft else max(top, score)
            dots.append({"x": x, "y": y(score), "round": number, "score": score, "draft": draft})
        line.append(f"{x},{y(top)}")
    return {
        "dots": dots,
        "line": " ".join(line),
        "accept_y": y(accept_at),
        "accept_at": accept_at,
        "steps": spent[-1] if any(costs) else None,
    }


def data_uri(path: Path) -> str | None:
    """The picture for an `img` element; None if its file is gone or unreadable."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            kind = "png"
            if max(picture.size) > _EMBED_SIDE // 2:
                small = picture.convert("RGB")
                small.thumbnail((_EMBED_SIDE, _EMBED_SIDE), Image.Resampling.LANCZOS)
                buffer = io.BytesIO()
                small.save(buffer, "WEBP", quality=88)
                data, kind = buffer.getvalue(), "webp"
    except (OSError, UnidentifiedImageError):
        return None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
