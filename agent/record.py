"""run.json: what was asked, seen and decided, for people and for `redraft resume`."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from pydantic import TypeAdapter

from agent.runfolder import FORMAT, RunFolder
from agent.runlog import RunLog
from agent.types import Attempt, Course, StopReason
from evaluator.types import Check, Report
from redraft.limits import Limits
from redraft.profiles import Profile
from rewriter.types import Rewrite

_PACKAGES = ("redraft", "torch", "transformers", "diffusers", "langgraph", "openai", "pillow")
_REPORT = TypeAdapter(Report)
_CHECKS = TypeAdapter(tuple[Check, ...])
_REWRITES = TypeAdapter(tuple[Rewrite, ...])
_COURSE = TypeAdapter(Course)


def new_record(
    folder: RunFolder, *, request: str, seed: int, ask: bool, limits: Limits, profile: Profile | None
) -> dict[str, Any]:
    """run.json of a run that begins. A profile names the variables of its keys and can hold no key itself."""
    return {
        "format": FORMAT,
        "run": folder.path.name,
        "created": _now(),
        "request": request,
        "seed": seed,
        "ask": ask,
        "limits": limits.model_dump(mode="json"),
        "profile": None if profile is None else profile.model_dump(mode="json"),
        "versions": _versions(),
        "stop": None,
    }


def finished_record(
    begun: Mapping[str, Any],
    *,
    folder: RunFolder,
    log: RunLog,
    keys: Sequence[str],
    attempts: Sequence[Attempt],
    best: int | None,
    stop: StopReason,
    why: str,
    error: str | None,
    elapsed_s: float,
    names: Mapping[str, str],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """run.json of a run that ended; `begun` is what `new_record` made, `keys` are those of the attempts' tasks."""
    rounds = sorted({attempt.round for attempt in attempts} | log.rewrites_of_round.keys())
    return {
        **begun,
        "finished": _now(),
        "models": dict(names),
        "stop": stop.value,
        "why": why,
        "error": error,
        "warnings": list(warnings),
        "best": None if best is None else best + 1,
        **({} if log.source is None else {"source_report": _REPORT.dump_python(log.source, mode="json")}),
        "checklist": _CHECKS.dump_python(log.checklist or (), mode="json"),
        "rounds": [
            {
                "round": number,
                "rewrites": _REWRITES.dump_python(log.rewrites_of_round.get(number, ()), mode="json"),
                "decision": log.decisions.get(number),
                **_planned(log, number, keys),
            }
            for number in rounds
        ],
        "attempts": [_attempt(folder, number, attempt) for number, attempt in enumerate(attempts, start=1)],
        "seconds": {"total": round(elapsed_s, 3), **{k: round(v, 3) for k, v in sorted(log.seconds.items())}},
    }


def _attempt(folder: RunFolder, number: int, attempt: Attempt) -> dict[str, Any]:
    return {
        "number": number,
        "round": attempt.round,
        "kind": attempt.kind,
        "prompt": attempt.prompt,
        "negative_prompt": attempt.negative_prompt,
        "seed": attempt.seed,
        "image": folder.picture(number, attempt).name,
        "sha256": attempt.image,
        "parent": attempt.parent,
        **({} if attempt.kind == "generate" else _edited(attempt)),
        "score": attempt.score,
        **({} if attempt.standing is None else {"standing": attempt.standing}),
        "failed": attempt.report.failed,
        "report": _REPORT.dump_python(attempt.report, mode="json"),
    }


def _edited(attempt: Attempt) -> dict[str, Any]:
    return {"root": attempt.root, "steps": list(attempt.steps), "unchanged": attempt.unchanged}


def _planned(log: RunLog, number: int, keys: Sequence[str]) -> dict[str, Any]:
    """What was planned before a round, and what became of its candidates, by the numbers of the attempts."""
    course, branches = log.courses.get(number), log.levels.get(number)
    told: dict[str, Any] = {}
    if course is not None:
        told["course"] = _COURSE.dump_python(course, mode="json")
    if branches is not None:
        told["branches"] = [
            {"number": keys.index(b.key) + 1, "confidence": b.confidence, "fate": b.fate} for b in branches
        ]
    return told


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
