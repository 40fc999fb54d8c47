"""POST /v1/enhance, /v1/judge and /v1/check: a rewrite, a verdict and the guard, without a drawing; and what MCP's tools
answer to the same questions."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from agent.decide import acceptable
from agent.serve.events import describe_verdicts
from agent.serve.guard import client
from agent.serve.service import Service
from agent.serve.wire import errors
from evaluator.types import Outcome, Report
from redraft.errors import BackendError, InputError
from redraft.images import is_digest
from redraft.limits import Limits
from redraft.options import MAX_SEED
from rewriter.guard import check_intent, findings_json
from rewriter.request import clean_request
from rewriter.types import Rewrite

Client = Annotated[str, Depends(client)]


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid")

    request: str
    profile: str | None = None


class EnhanceBody(_Question):
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None


class JudgeBody(_Question):
    image: str
    """A data: URL, the sha256 of a picture that was uploaded or drawn, or a URL of a host that is allowed."""


class CheckBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    request: str
    rewrite: str


class Enhanced(BaseModel):
    prompt: str
    negative_prompt: str | None
    thought: str
    findings: list[str]
    fallback: bool
    """Whether the prompt is the request itself, because no rewrite could be used."""
    model: str
    profile: dict[str, str]


class Judged(BaseModel):
    score: float | None
    accepted: bool
    failed: int
    """Checks that the judge could not answer."""
    unchecked: list[str]
    checks: list[dict[str, Any]]
    readings: dict[str, Any]
    profile: dict[str, str]


class Checked(BaseModel):
    ok: bool
    findings: list[dict[str, str]]


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/v1", responses=errors(422))

    @api.post("/enhance", responses=errors(400, 422, 502))
    async def enhance(body: EnhanceBody, who: Client) -> Enhanced:
        """Rewrite a request as a prompt for an image model, without drawing it."""
        rewrite = await service.enhance(who, body.request, body.profile, body.seed)
        return Enhanced(**describe_rewrite(service, rewrite, body.profile))

    @api.post("/judge", responses=errors(400, 404, 415, 422, 502))
    async def judge(body: JudgeBody, who: Client) -> Judged:
        """Judge a picture against a request, point by point."""
        if is_digest(body.image):
            path = await service.image(who, body.image)
            picture = await service.pictures.read(await asyncio.to_thread(path.read_bytes))
        else:
            picture = await service.pictures.fetch(body.image)
        report = await service.judge(who, picture, body.request, body.profile)
        return Judged(**describe_judgement(service, report, body.profile))

    @api.post("/check", responses=errors(400, 422))
    async def check(body: CheckBody, who: Client) -> Checked:
        """What a rewrite breaks of its request: lost text, other numbers, colours, names, language. Asks no model."""
        most = service.bounds.max_prompt
        if len(body.rewrite) > 4 * most:
            raise InputError(f"the rewrite has more than {4 * most:,} characters; shorten it")
        findings = await asyncio.to_thread(check_intent, clean_request(body.request, most), body.rewrite)
        return Checked.model_validate(findings_json(findings))

    return api


def describe_rewrite(service: Service, rewrite: Rewrite, profile: str | None) -> dict[str, Any]:
    return {
        "prompt": rewrite.prompt,
        "negative_prompt": rewrite.negative_prompt,
        "thought": rewrite.thought,
        "findings": list(rewrite.findings),
        "fallback": rewrite.fallback,
        "model": rewrite.model,
        "profile": describe_profile(service, profile),
    }


def describe_judgement(service: Service, report: Report, profile: str | None) -> dict[str, Any]:
    """Raises BackendError if the judge could not answer a single check."""
    limits: Limits = service.served(profile).limits
    if report.score is None and report.failed:
        reasons = [v.reason for v in report.verdicts if v.outcome is Outcome.FAILED and v.reason]
        raise BackendError(f"the judge could not score the picture: {reasons[0] if reasons else 'no answer'}")
    return {
        "score": report.score,
        "accepted": acceptable(report, limits),
        "failed": report.failed,
        "unchecked": list(report.unchecked),
        "checks": describe_verdicts(report.verdicts, limits.pass_at),
        "readings": report.reading_rows(),
        "profile": describe_profile(service, profile),
    }


def describe_profile(service: Service, name: str | None) -> dict[str, str]:
    info = service.info(name)
    return {"name": info.name, "description": info.description}
