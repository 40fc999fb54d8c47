"""/v1 as the OpenAI Images, Chat Completions and Responses APIs define it. docs/serving.md has what is different."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import wraps
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from PIL import Image
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from agent.events import Judged
from agent.serve.errors import ModelNotFound
from agent.serve.guard import client
from agent.serve.openai.chat import complete
from agent.serve.openai.drawing import (
    Drawing,
    DrawingState,
    encoded,
    extra,
    opened,
    scaled,
    sse,
    streamed,
    to_end,
    tokens,
    while_there,
)
from agent.serve.openai.responses import ResponseGone, ResponsesBody, delete, respond, retrieve
from agent.serve.openai.wire import B, ChatBody, EditsBody, ImagesBody, UnreadableError, parsed, profile_of
from agent.serve.service import Service
from agent.serve.wire import MAX_REFERENCES, body_schema, errors
from redraft.errors import InputError
from redraft.images import fit_mask
from redraft.options import DrawOptions

Client = Annotated[str, Depends(client)]


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/v1", responses=errors(400, 404))
    started = int(time.time())

    def model(name: str) -> dict[str, Any]:
        profile = service.info(profile_of(name, service))
        about = {
            "profile": profile.name, "description": profile.description, "can_edit": profile.can_edit,
            "limits": profile.limits,
        }  # fmt: skip
        return {"id": name, "object": "model", "created": started, "owned_by": "redraft", "redraft": about}

    @api.get("/models")
    async def models(who: Client) -> dict[str, Any]:
        return {"object": "list", "data": [model(info.name) for info in service.profiles()]}

    @api.get("/models/{name:path}", response_model=None)
    @_in_their_shape
    async def one_model(name: str, who: Client) -> Response | dict[str, Any]:
        return model(name)

    @api.post("/images/generations", response_model=None, responses=_DRAWN, openapi_extra=_body(ImagesBody))
    @_in_their_shape
    async def generations(request: Request, who: Client) -> Response | dict[str, Any]:
        body = await _parsed(ImagesBody, request)
        body.check()
        profile = profile_of(body.model, service)

        options = body.options(size=body.size_for(service.served(profile).profile))

        def begin(options: DrawOptions) -> Drawing:
            return service.drawings.draw(who, body.prompt, profile=profile, options=options)

        return await _answer(request, service, who, body, options, begin, "image_generation")

    @api.post("/images/edits", response_model=None, responses=_DRAWN, openapi_extra=_body(EditsBody))
    @_in_their_shape
    async def edits(request: Request, who: Client) -> Response | dict[str, Any]:
        body, pictures, mask = await _edit(request, service)
        body.check()
        profile = profile_of(body.model, service)

        def begin(options: DrawOptions) -> Drawing:
            return service.drawings.draw(
                who,
                body.prompt,
                image=pictures[0],
                mask=mask,
                references=pictures[1:],
                profile=profile,
                options=options,
            )

        return await _answer(request, service, who, body, body.options(), begin, "image_edit")

    @api.post("/chat/completions", response_model=None, responses=_DRAWN, openapi_extra=_body(ChatBody))
    @_in_their_shape
    async def chat(request: Request, who: Client) -> Response | dict[str, Any]:
        body = await _parsed(ChatBody, request)
        return await complete(request, service, who, body, profile_of(body.model, service))

    @api.post("/responses", response_model=None, responses=_DRAWN, openapi_extra=_body(ResponsesBody))
    @_in_their_shape
    async def responses(request: Request, who: Client) -> Response | dict[str, Any]:
        body = await _parsed(ResponsesBody, request)
        return await respond(request, service, who, body, profile_of(body.model, service))

    @api.get("/responses/{id}", response_model=None)
    async def one_response(id: str, who: Client) -> dict[str, Any]:
        return await retrieve(service, who, id)

    @api.delete("/responses/{id}", response_model=None)
    async def delete_response(id: str, who: Client) -> dict[str, Any]:
        return await delete(service, who, id)

    return api


_DRAWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {}}, "text/event-stream": {"schema": {}}}},
    **errors(400, 404, 415, 502),
}
"""What the calls that draw answer: JSON, or events if `stream` is true."""


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that its route reads by itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body_schema(model)}}}}


Handler = Callable[..., Awaitable[Response | dict[str, Any]]]


def _in_their_shape(handler: Handler) -> Handler:
    """Errors of the body are 400 in OpenAI's APIs, and an unknown model has its own code."""

    @wraps(handler)
    async def answered(*args: Any, **kwargs: Any) -> Response | dict[str, Any]:
        from agent.serve.app import error_response

        try:
            return await handler(*args, **kwargs)
        except UnreadableError as error:
            return error_response(400, str(error), "bad_body", param=error.param)
        except ResponseGone as error:
            return error_response(400, str(error), "previous_response_not_found", param="previous_response_id")
        except ModelNotFound as error:
            return error_response(404, str(error), "model_not_found", param="model")

    return answered


_FEW_BYTES = 256 * 2**10
_MOST_PARTS = 20_000


def require_few_parts(body: bytes) -> None:
    """Raises UnreadableError for a long body of so many values that reading it would keep all others waiting. A body is
    long because of its pictures, and these are one value each."""
    parts = 0
    for start in range(0, len(body) if len(body) > _FEW_BYTES else 0, _FEW_BYTES):
        piece = body[start : start + _FEW_BYTES]
        parts += len(piece) - len(piece.translate(None, b",[{"))
        if parts > _MOST_PARTS:
            raise UnreadableError(f"the body has more than {_MOST_PARTS:,} values; send fewer", None)


async def _parsed(kind: type[B], request: Request) -> B:
    """The JSON body of a request. One at a time: a large one takes a part of a second. Raises UnreadableError."""
    data = await request.body()
    async with request.app.state.parsing:
        return await asyncio.to_thread(_parse, kind, data)


def _parse(kind: type[B], data: bytes) -> B:
    try:
        require_few_parts(data)
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise UnreadableError("the body is not JSON", None) from None
    if not isinstance(value, dict):
        raise UnreadableError("the body is not a JSON object", None)
    return parsed(kind, value)


async def _edit(request: Request, service: Service) -> tuple[EditsBody, list[Image.Image], Image.Image | None]:
    """The body of an edit, its pictures, of which the first is edited, and its mask (white = change, at the picture's
    size)."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_files=17, max_fields=40) as form:
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            body = parsed(EditsBody, {name: value for name, value in fields.items() if name not in ("images", "mask")})
            files = [one for name in ("image", "image[]") for one in form.getlist(name) if isinstance(one, UploadFile)]
            _require_few(files)
            pictures = [await service.pictures.read(await file.read()) for file in files]
            upload = form.get("mask")
            mask = await service.pictures.read_mask(await upload.read()) if isinstance(upload, UploadFile) else None
    else:
        body = await _parsed(EditsBody, request)
        _require_few(body.images)
        pictures = [await service.pictures.fetch(image.image_url) for image in body.images]
        mask = None if body.mask is None else (await service.pictures.fetch(body.mask.image_url)).convert("L")
    if mask is not None:
        mask = await asyncio.to_thread(fit_mask, mask, pictures[0].size)
    return body, pictures, mask


def _require_few(uploads: Sequence[object]) -> None:
    """Counts the pictures before any of them is decoded: many small files can be very large pictures."""
    if not 1 <= len(uploads) <= 1 + MAX_REFERENCES:
        raise InputError(f"image: give the picture to edit, and at most {MAX_REFERENCES} to go by, not {len(uploads)}")


async def _answer(
    request: Request,
    service: Service,
    who: str,
    body: ImagesBody,
    options: DrawOptions,
    begin: Callable[[DrawOptions], Drawing],
    name: str,
) -> Response | dict[str, Any]:
    base = str(request.base_url)
    if body.stream:
        return await streamed(_told(service, body, begin(options), name, base))
    drawn = await while_there(request, _all([begin(each) for each in options.with_seeds(body.n)]))
    data: list[dict[str, Any]] = []
    usage = sum((seen.usage for seen in drawn), start=type(drawn[0].usage)())
    size = (0, 0)
    for seen in drawn:
        result, path = seen.finished()
        best = result.best_attempt
        assert best is not None
        datum: dict[str, Any] = {"revised_prompt": best.prompt, "redraft": extra(seen, service, base)}
        if body.by_url:
            fitted = await asyncio.to_thread(scaled, path, body.wanted)
            kept = await service.keep(who, await asyncio.to_thread(opened, path) if fitted is None else fitted)
            size = kept.width, kept.height
            datum["url"] = f"{base.rstrip('/')}/api/images/{kept.image}"
        else:
            datum["b64_json"], size = await encoded(path, body.output_format, body.output_compression, body.wanted)
        data.append(datum)
    return {
        "created": int(time.time()),
        "background": "opaque",
        "output_format": body.output_format,
        "size": f"{size[0]}x{size[1]}",
        "data": data,
        "usage": tokens(usage),
    }


async def _all(drawings: list[Drawing]) -> list[DrawingState]:
    """All of them to their ends; the first error gives up the others."""
    tasks: list[asyncio.Task[DrawingState]] = []
    try:
        async with asyncio.TaskGroup() as together:
            tasks = [together.create_task(to_end(drawing)) for drawing in drawings]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]


async def _told(service: Service, body: ImagesBody, drawing: Drawing, name: str, base: str) -> AsyncGenerator[bytes]:
    """A drawing as the Images API streams it: each judged attempt is a partial image."""
    seen, sent = DrawingState(), 0
    most = body.partial_images

    def event(kind: str, picture: str, size: tuple[int, int], **more: Any) -> bytes:
        common = {
            "type": f"{name}.{kind}",
            "b64_json": picture,
            "created_at": int(time.time()),
            "size": f"{size[0]}x{size[1]}",
            "quality": "auto",
            "background": "opaque",
            "output_format": body.output_format,
        }
        return sse(common | more, f"{name}.{kind}")

    async with aclosing(drawing) as events:
        async for one in events:
            if not seen.run:
                yield b": begun\n\n"  # what is refused was refused before this
            seen.see(one)
            if isinstance(one, Judged) and (most is None or sent < most):
                picture, size = await encoded(one.path, body.output_format, body.output_compression, body.wanted)
                about = {"number": one.number, "score": one.attempt.score, "prompt": one.attempt.prompt}
                yield event("partial_image", picture, size, partial_image_index=sent, redraft=about)
                sent += 1
    result, path = seen.finished()
    best = result.best_attempt
    assert best is not None
    picture, size = await encoded(path, body.output_format, body.output_compression, body.wanted)
    about = extra(seen, service, base)
    yield event("completed", picture, size, usage=tokens(seen.usage), revised_prompt=best.prompt, redraft=about)
