"""What the OpenAI-style doors have in common: one drawing, its description, and streams."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from PIL import Image
from starlette.requests import ClientDisconnect

from agent.events import Event, RewriteMade, RunStarted
from agent.run import RunResult
from agent.serve.errors import kind_of
from agent.serve.events import describe_verdicts
from agent.serve.metrics import log_mistake
from agent.serve.openai.wire import Format
from agent.serve.service import Service
from agent.types import StopReason
from redraft.chat import Usage
from redraft.errors import BackendError, RedraftError

T = TypeVar("T")
Drawing = AsyncGenerator[Event | RunResult]
_MISTAKE = {"message": "a mistake of the server's", "type": "server_error", "param": None, "code": "internal"}
_BEAT_S = 15.0
_AWAY_S = 0.5


@dataclass
class DrawingState:
    """What was seen of a drawing so far."""

    run: str = ""
    seed: int = 0
    usage: Usage = field(default_factory=Usage)
    result: RunResult | None = None

    def see(self, event: Event | RunResult) -> None:
        match event:
            case RunStarted():
                self.run, self.seed = event.run, event.seed
            case RewriteMade():
                self.usage += event.rewrite.usage
            case RunResult():
                self.result = event

    def finished(self) -> tuple[RunResult, Path]:
        """The result and its picture. Raises BackendError if the run failed: a picture that nobody could judge is
        no answer."""
        result = self.result
        assert result is not None, "drawings end with their result"
        if result.stop is StopReason.FAILED or result.image is None:
            raise BackendError(result.error or result.why)
        return result, result.image


async def to_end(drawing: Drawing) -> DrawingState:
    """Raises RedraftError."""
    seen = DrawingState()
    async with aclosing(drawing) as events:
        async for event in events:
            seen.see(event)
    return seen


def extra(seen: DrawingState, service: Service, base_url: str) -> dict[str, Any]:
    """`redraft` of an answer."""
    result = seen.result
    assert result is not None
    best = result.best_attempt
    assert best is not None
    return {
        "run": seen.run,
        "seed": best.seed,
        "run_seed": seen.seed,
        "score": best.score,
        "accepted": result.stop is StopReason.ACCEPTED,
        "unchecked": list(result.unchecked),
        "warnings": list(result.warnings),
        "stop": result.stop.value,
        "why": result.why,
        "prompt": best.prompt,
        "checks": describe_verdicts(best.report.verdicts, result.limits.pass_at),
        "readings": best.report.reading_rows(),
        "attempts": len(result.attempts),
        "rounds": max(attempt.round for attempt in result.attempts),
        "seconds": round(result.elapsed_s, 3),
        "trace": base_url.rstrip("/") + service.runs.trace_url(seen.run),
    }


def tokens(usage: Usage) -> dict[str, Any]:
    """Of the rewriter, in the Images API's shape. Pictures have no tokens here."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"text_tokens": usage.prompt_tokens, "image_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"text_tokens": usage.completion_tokens, "image_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


async def encoded(
    path: Path, kind: Format = "png", compression: int = 100, size: tuple[int, int] | None = None
) -> tuple[str, tuple[int, int]]:
    """The picture in a file as base64, and its (width, height).

    `size`: it is scaled to fit into that; nothing is cut off or stretched, so that one side may come out smaller.
    `compression`: the quality of JPEG and WebP, 0 to 100 (the Images API's `output_compression`).
    """
    return await asyncio.to_thread(_encode, path, kind, compression, size)


def _encode(path: Path, kind: Format, compression: int, size: tuple[int, int] | None) -> tuple[str, tuple[int, int]]:
    picture = scaled(path, size)
    if picture is None:
        picture = opened(path)
        if kind == "png":
            return base64.b64encode(path.read_bytes()).decode(), picture.size  # with its provenance
    buffer = io.BytesIO()
    more = {} if kind == "png" else {"quality": compression}
    picture.save(buffer, kind.upper(), **more)
    return base64.b64encode(buffer.getvalue()).decode(), picture.size


def scaled(path: Path, size: tuple[int, int] | None) -> Image.Image | None:
    """The picture fitted into `size`; None if it fits as it is."""
    if size is None:
        return None
    picture = opened(path)
    scale = min(size[0] / picture.width, size[1] / picture.height)
    fitting = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return None if fitting == picture.size else picture.resize(fitting, Image.Resampling.LANCZOS)


def opened(path: Path) -> Image.Image:
    """A PNG file of ours."""
    with Image.open(path, formats=["PNG"]) as picture:
        return picture.convert("RGB")


async def while_there(request: Request, work: Awaitable[T]) -> T:
    """Awaits `work`, and gives it up when the client hangs up. Raises ClientDisconnect then."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=_AWAY_S))[0]:
            if await request.is_disconnected():
                raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def streamed(pieces: AsyncGenerator[bytes]) -> StreamingResponse:
    """`pieces` as server-sent events. What fails before the first of them is raised, as if there were no stream."""
    first = await anext(pieces, None)

    async def whole() -> AsyncIterator[bytes]:
        async with aclosing(pieces):
            if first is not None:
                yield first
            async for piece in _with_beats(pieces):
                yield piece

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(whole(), media_type="text/event-stream", headers=headers)


async def _with_beats(pieces: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """`pieces`, a comment if nothing comes for a while, and at the end an error if one is raised."""
    following: asyncio.Task[bytes] | None = None
    try:
        while True:
            following = asyncio.ensure_future(_next(pieces))
            while not (await asyncio.wait({following}, timeout=_BEAT_S))[0]:
                yield b": beat\n\n"
            try:
                yield following.result()
            except StopAsyncIteration:
                return
            except RedraftError as error:
                _, code, kind = kind_of(error)
                yield sse({"error": {"message": str(error), "type": kind, "param": None, "code": code}}, "error")
                return
            except Exception as error:  # noqa: BLE001 - the boundary to the outside: the status is sent already
                log_mistake("stream", error)
                yield sse({"error": _MISTAKE}, "error")
                return
    finally:
        if following is not None and not following.done():
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _next(pieces: AsyncGenerator[bytes]) -> bytes:
    return await anext(pieces)


def sse(value: dict[str, Any] | str, event: str | None = None) -> bytes:
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {data}\n\n".encode("utf-8", "replace")
