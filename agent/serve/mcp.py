"""Tools for agents, by the Model Context Protocol: draw, edit, judge, enhance.

`redraft serve` has them at /mcp (streamable HTTP), `redraft serve --mcp` on stdin and stdout. Progress is reported while a
tool works; pictures come as image content, figures as structured content. An error that a user can mend is the tool's
answer, so that a model can read it and mend it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, TextIO

import anyio
from fastapi import FastAPI
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import CallToolResult, TextContent
from PIL import Image as PILImage
from pydantic import Field
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import redraft
from agent.events import Decided, Event, ImageDrawn, Judged, RewriteMade, StepProgress
from agent.run import RunResult
from agent.serve.openai.drawing import Drawing, DrawingState, extra
from agent.serve.questions import describe_judgement, describe_profile, describe_rewrite
from agent.serve.service import Service
from agent.serve.settings import LOCAL
from agent.serve.wire import MAX_REFERENCES, ClientOptions
from redraft.errors import InputError, RedraftError
from redraft.images import fit_mask
from redraft.options import MAX_SEED, DrawOptions
from redraft.templates import fence

_INSTRUCTIONS = (
    "redraft rewrites a request, draws it, judges the picture point by point against the request, and repeats this "
    "until every check passes or the budget is spent. Give `draw` the user's own words: it rewrites them itself."
)
_BETWEEN_S = 0.25
"""Least time between two notices of the same step."""

Request = Annotated[str, Field(description="What the picture is to show, in the user's own words.")]
Picture = Annotated[
    str,
    Field(description="Base64 of a PNG, JPEG or WebP file, a data: URL, or `image` (a sha256) of an earlier answer."),
]
ProfileName = Annotated[str | None, Field(description="Which models; the server's first profile otherwise.")]
References = Annotated[
    list[Picture] | None,
    Field(max_length=MAX_REFERENCES, description="Pictures to go by, for profiles that take some."),
]
Number = Annotated[int, Field(ge=1, le=4, description="Pictures, each found by a run of its own, from seeds in a row.")]
Seed = Annotated[int | None, Field(ge=0, le=MAX_SEED, description="Repeats a rewrite.")]
Tools = Context[Any, Any]


def with_options(tool: Callable[..., Awaitable[CallToolResult]]) -> Callable[..., Awaitable[CallToolResult]]:
    """`tool` with a parameter for each field of ClientOptions instead of its `options`."""
    own = signature(tool, eval_str=True)
    fields = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[field.annotation, field])
        for name, field in ClientOptions.model_fields.items()
    ]

    @wraps(tool)
    async def call(**arguments: Any) -> CallToolResult:
        set_ = {name: arguments.pop(name, None) for name in ClientOptions.model_fields}
        try:
            options = DrawOptions.read({name: value for name, value in set_.items() if value is not None})
        except RedraftError as error:
            raise ToolError(str(error)) from None
        return await tool(**arguments, options=options)

    kept = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in own.parameters.values() if p.name != "options"]
    call.__signature__ = own.replace(parameters=[*kept, *fields])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in (*kept, *fields)} | {"return": own.return_annotation}
    del call.__wrapped__
    return call


def create_mcp(service: Service) -> MCPServer[Any]:
    """The server with its tools."""
    mcp: MCPServer[Any] = MCPServer(
        "redraft", instructions=_instructions(service), version=redraft.__version__, log_level="WARNING"
    )

    @mcp.tool(structured_output=False)
    @with_options
    async def draw(
        request: Request,
        ctx: Tools,
        options: DrawOptions,
        profile: ProfileName = None,
        references: References = None,
        n: Number = 1,
    ) -> CallToolResult:
        """Draw a picture, judge it, and redraw it until it is right. Gives the best picture, and why it stopped."""
        who = _client(ctx)
        pictures = [await _picture(service, who, each) for each in references or ()]

        def begin(options: DrawOptions) -> Drawing:
            return service.drawings.draw(who, request, references=pictures, profile=profile, options=options)

        return await _drawn(service, ctx, begin, options.with_seeds(n), profile=profile)

    @mcp.tool(structured_output=False)
    @with_options
    async def edit(
        image: Picture,
        instruction: Annotated[str, Field(description="What to change.")],
        ctx: Tools,
        options: DrawOptions,
        mask: Annotated[str | None, Field(description="A picture that is white where the source may change.")] = None,
        profile: ProfileName = None,
        references: References = None,
        n: Number = 1,
    ) -> CallToolResult:
        """Change a picture by an instruction, and keep the rest."""
        who = _client(ctx)
        picture = await _picture(service, who, image)
        area = None if mask is None else (await _picture(service, who, mask)).convert("L")
        fitted = None if area is None else await asyncio.to_thread(fit_mask, area, picture.size)
        pictures = [await _picture(service, who, each) for each in references or ()]

        def begin(options: DrawOptions) -> Drawing:
            return service.drawings.draw(
                who, instruction, image=picture, mask=fitted, references=pictures, profile=profile, options=options
            )

        return await _drawn(service, ctx, begin, options.with_seeds(n), profile=profile)

    @mcp.tool(structured_output=False)
    async def judge(image: Picture, request: Request, ctx: Tools, profile: ProfileName = None) -> CallToolResult:
        """Judge a picture against a request, point by point: yes/no questions, each with a probability."""
        who = _client(ctx)
        picture = await _picture(service, who, image)
        await ctx.report_progress(0, 1, "judging")
        try:
            report = await service.judge(who, picture, request, profile)
            value = describe_judgement(service, report, profile)
        except RedraftError as error:
            raise ToolError(str(error)) from None
        await ctx.report_progress(1, 1, "judged")
        return _answer(_lines(value, value["checks"]), value)

    @mcp.tool(structured_output=False)
    async def enhance(request: Request, ctx: Tools, profile: ProfileName = None, seed: Seed = None) -> CallToolResult:
        """Rewrite a request as a prompt for an image model, without drawing it. What the user wants is kept."""
        await ctx.report_progress(0, 1, "rewriting")
        try:
            rewrite = await service.enhance(_client(ctx), request, profile, seed)
        except RedraftError as error:
            raise ToolError(str(error)) from None
        await ctx.report_progress(1, 1, "rewritten")
        value = describe_rewrite(service, rewrite, profile)
        return _answer(rewrite.prompt, value)

    @mcp.resource("redraft://runs/{run}", mime_type="application/json")
    async def run(run: str, ctx: Tools) -> str:
        """A run: its request, checks, prompts, pictures with their verdicts, and why it stopped."""
        return json.dumps(await service.runs.record(_client(ctx), run), ensure_ascii=False)

    @mcp.resource("redraft://pictures/{sha256}", mime_type="image/png")
    async def picture(sha256: str, ctx: Tools) -> bytes:
        """A picture that was drawn or uploaded, by its hash."""
        path = await service.image(_client(ctx), sha256)
        return await asyncio.to_thread(path.read_bytes)

    @mcp.prompt()
    def draw_until_right(request: str) -> str:
        """Draw something, look at what is missed, and mend it."""
        return (
            f"Draw this with redraft, in exactly these words:\n\n{fence(request, 'request')}\n\nThen look at `checks`. If one "
            "was answered with no, edit the picture with an instruction that mends it. Say in the end what was not checked."
        )

    @mcp.prompt()
    def review_picture(image: str, request: str) -> str:
        """Judge a picture against a request, and say what to change."""
        return (
            f"Judge the picture {image[:80]} with redraft against this request:\n\n{fence(request, 'request')}\n\nName each "
            "check that was answered with no or not answered, and for each a short instruction that would mend it."
        )

    return mcp


def mount(app: FastAPI, service: Service) -> None:
    """/mcp in the server's app. The guard before it has seen to token, Host and Origin. Each client has sessions of its
    own, `max_sessions` at most, which no other client can use or use up."""
    doors: dict[str, ASGIApp] = {}
    for name in service.settings.tokens or (LOCAL,):
        mcp = create_mcp(service)
        inner = mcp.streamable_http_app(
            streamable_http_path="/mcp",
            max_request_body_size=2 * service.bounds.max_image_bytes + 65536,
            max_sessions=service.bounds.max_sessions,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        (route,) = [route for route in inner.routes if isinstance(route, Route)]
        doors[name] = route.app
        app.state.lifespans.append(mcp.session_manager.run)
    app.router.routes.append(Route("/mcp", _Doors(doors)))


class _Doors:
    """The MCP of the client that asks."""

    def __init__(self, doors: Mapping[str, ASGIApp]) -> None:
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._doors[scope["redraft.client"]](scope, receive, send)


async def run_stdio(service: Service, stdout: TextIO) -> None:
    """Serves one client, who writes to stdin and reads `stdout`, until it hangs up."""
    server = create_mcp(service)._lowlevel_server  # the public way writes to sys.stdout, where libraries print too
    async with stdio_server(stdout=anyio.wrap_file(stdout)) as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def _client(ctx: Tools) -> str:
    """The client of a request: what the guard says, or the one client of a server on stdin."""
    request = getattr(ctx.request_context, "request", None)
    if request is None:
        return LOCAL
    name = request.scope.get("redraft.client")
    if not isinstance(name, str):
        raise ToolError("give a token: Authorization: Bearer ...")
    return name


async def _picture(service: Service, who: str, text: str) -> PILImage.Image:
    """Raises ToolError."""
    try:
        if len(text) == 64 and text.isalnum():
            path = await service.image(who, text)
            return await service.pictures.read(await asyncio.to_thread(path.read_bytes))
        if ":" in text[:64]:
            return await service.pictures.fetch(text)
        try:
            plain = text.encode("ascii").translate(None, b" \t\r\n")
            data = await asyncio.to_thread(base64.b64decode, plain, validate=True)
        except (binascii.Error, ValueError):
            raise InputError(
                "the picture is neither base64, a data: URL, nor the sha256 of an earlier answer"
            ) from None
        return await service.pictures.read(data)
    except RedraftError as error:
        raise ToolError(str(error)) from None


def _instructions(service: Service) -> str:
    """What the tools are for, and what each profile draws."""
    described = [info for info in [*service.profiles(), *service.rewriters()] if info.description]
    return _INSTRUCTIONS + "".join(f" Profile {info.name}: {info.description}" for info in described)


async def _drawn(
    service: Service,
    ctx: Tools,
    begin: Callable[[DrawOptions], Drawing],
    runs: Sequence[DrawOptions],
    *,
    profile: str | None,
) -> CallToolResult:
    """Drawings to their ends, one after the other; their progress is reported. The figures are those of the best, with all
    of them as `pictures` if they are several."""
    progress = _Progress(ctx)
    values, texts, pictures = [], [], []
    for options in runs:
        seen = DrawingState()
        progress.begin()
        try:
            async with aclosing(begin(options)) as events:
                async for event in events:
                    seen.see(event)
                    await progress.tell(event)
            result, path = seen.finished()
        except RedraftError as error:
            raise ToolError(str(error)) from None
        best = result.best_attempt
        assert best is not None
        value = extra(seen, service, "") | {"image": best.image, "profile": describe_profile(service, profile)}
        values.append(value)
        texts.append(f"{result.stop.value}: {result.why}\n{_lines(value, value['checks'])}\nprompt: {best.prompt}")
        pictures.append(Image(path=path))
    chosen = max(values, key=lambda value: (value["accepted"], -1.0 if value["score"] is None else value["score"]))
    more = {} if len(values) == 1 else {"pictures": values}
    return _answer("\n\n".join(texts), chosen | more, *pictures)


class _Progress:
    """Progress that only ever grows, in hundredths of a round; each judged picture is reported."""

    def __init__(self, ctx: Tools) -> None:
        self._ctx = ctx
        self._at = 0.0
        self._said = 0.0
        self._before = 0.0

    def begin(self) -> None:
        """Another run follows; its rounds come on top."""
        self._before = self._at / 100

    async def tell(self, event: Event | RunResult) -> None:
        match event:
            case StepProgress(step=step, round=number, done=done, total=total):
                share = {"checklist": 0.0, "plan": 0.05, "rewrite": 0.1, "render": 0.2, "judge": 0.8}.get(step, 0.0)
                if step == "render" and total:
                    share += 0.6 * done / total
                if done and done != total and time.monotonic() - self._said < _BETWEEN_S:
                    return
                await self._say(max(0, number - 1) + share, f"round {number}: {step}" if number else step)
            case RewriteMade(round=number, rewrite=rewrite):
                await self._say(number - 0.8, f"round {number}: {rewrite.prompt}")
            case ImageDrawn(round=number):
                await self._say(number - 0.2, f"round {number}: drawn")
            case Judged(number=number, attempt=attempt):
                score = "no score" if attempt.score is None else f"{attempt.score:.2f}"
                await self._say(attempt.round - 0.1, f"picture {number}: {score}")
            case Decided(round=number, decision=decision):
                await self._say(number, decision.why)

    async def _say(self, rounds: float, message: str) -> None:
        # The protocol wants each value to be larger than the one before.
        self._at = max(round(100 * (self._before + rounds), 2), self._at + 0.01)
        self._said = time.monotonic()
        await self._ctx.report_progress(self._at, None, message)


def _lines(value: dict[str, Any], checks: list[dict[str, Any]]) -> str:
    score = "no score" if value["score"] is None else f"score {value['score']:.2f}"
    marks = {"scored": "no", "not_applicable": "does not apply", "failed": "not answered"}
    lines = [f"- {'yes' if c['passed'] else marks[c['outcome']]}: {c['question']}" for c in checks]
    unchecked = value["unchecked"]
    left = [f"- not checked: {', '.join(unchecked)}"] if unchecked else []
    return "\n".join([score, *lines, *left, *(f"warning: {text}" for text in value.get("warnings", ()))])


def _answer(text: str, value: dict[str, Any], *pictures: Image) -> CallToolResult:
    images = [picture.to_image_content() for picture in pictures]
    return CallToolResult(content=[*images, TextContent(type="text", text=text)], structured_content=value)
