"""The routes under /api. docs/serving.md describes them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from PIL import Image

from agent.serve.errors import NotAPicture, Unauthorized
from agent.serve.guard import COOKIE, Doorkeeper, client
from agent.serve.service import Service
from agent.serve.wire import (
    Cancelled,
    ConversationChanges,
    ConversationInfo,
    ConversationList,
    ConversationView,
    Gallery,
    Login,
    Me,
    NewBranch,
    NewConversation,
    NewTurn,
    Profiles,
    ServerEvent,
    TurnAccepted,
    Uploaded,
    errors,
)

Client = Annotated[str, Depends(client)]


def _gives(kind: str) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of an answer that is no JSON."""
    return {200: {"content": {kind: {"schema": {"type": "string"}}}}}


_FILE = {"type": "string", "format": "binary"}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": _FILE},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": _FILE}, "required": ["file"]},
            },
        },
    }
}
_FOREVER = "private, max-age=31536000, immutable"
_STORY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)
"""For pages that quote what people and models said: no script runs in them, whatever they hold."""


def router(service: Service, door: Doorkeeper) -> APIRouter:
    api = APIRouter(prefix="/api", responses=errors(422))

    @api.post("/login", status_code=204)
    async def login(body: Login, request: Request) -> Response:
        who = door.client_of(body.token) if door.login_needed else None
        if who is None:
            raise Unauthorized("that is not a token of this server")
        answer = Response(status_code=204)
        answer.set_cookie(
            COOKIE, door.cookie(who), max_age=30 * 86400, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    @api.post("/logout", status_code=204)
    async def logout() -> Response:
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    @api.get("/me")
    async def me(request: Request) -> Me:
        who = request.scope.get("redraft.client")
        b = service.bounds
        limits = {
            "max_prompt": b.max_prompt, "max_image_bytes": b.max_image_bytes, "max_rounds": b.max_rounds,
            "max_images": b.max_images, "max_seconds": b.max_seconds, "max_conversations": b.max_conversations,
        }  # fmt: skip
        profiles = [] if who is None else service.profiles()
        return Me(client=who, login_needed=door.login_needed, profiles=profiles, limits=limits)

    @api.get("/profiles")
    async def profiles(who: Client) -> Profiles:
        return Profiles(profiles=service.profiles(), default=service.default)

    @api.post("/conversations", status_code=201, responses=errors(400, 422))
    async def create(body: NewConversation, who: Client) -> ConversationInfo:
        return await service.create(who, body.title, body.profile, body.may_ask)

    @api.get("/conversations")
    async def conversations(who: Client) -> ConversationList:
        return ConversationList(conversations=await service.conversations(who))

    @api.get("/conversations/{id}", responses=errors(404))
    async def view(id: str, who: Client) -> ConversationView:
        return await service.view(who, id)

    @api.patch("/conversations/{id}", responses=errors(400, 404, 422))
    async def change(id: str, body: ConversationChanges, who: Client) -> ConversationInfo:
        return await service.change(who, id, body.title, body.may_ask)

    @api.delete("/conversations/{id}", status_code=204, responses=errors(404, 409))
    async def delete(id: str, who: Client) -> Response:
        await service.delete(who, id)
        return Response(status_code=204)

    @api.post("/conversations/{id}/branch", status_code=201, responses=errors(400, 404, 409, 422))
    async def branch(id: str, body: NewBranch, who: Client) -> ConversationInfo:
        return await service.branch(who, id, body.title)

    @api.post("/conversations/{id}/turns", status_code=202, responses=errors(400, 404, 409, 422))
    async def post(id: str, body: NewTurn, who: Client) -> TurnAccepted:
        turn, before = await service.post(who, id, body)
        return TurnAccepted(turn=turn, last_event=before)

    @api.post("/conversations/{id}/cancel", status_code=202, responses=errors(404))
    async def cancel(id: str, who: Client) -> Cancelled:
        return Cancelled(cancelled=await service.cancel(who, id))

    @api.get(
        "/conversations/{id}/events", responses=_gives("text/event-stream") | errors(404, 422), response_class=Response
    )
    async def events(
        id: str,
        who: Client,
        after: Annotated[int, Query(ge=0, lt=2**53)] = 0,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
            after = int(last_event_id[:15])
        follow = await service.events(who, id, after)

        async def lines() -> AsyncIterator[bytes]:
            yield b"retry: 1000\n\n"
            async with aclosing(follow) as events:
                async for event in events:
                    yield sse(event)

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)

    @api.get("/conversations/{id}/export", responses=_gives("text/html") | errors(404, 409), response_class=Response)
    async def export(id: str, who: Client) -> FileResponse:
        page = await service.export(who, id)
        headers = {"Content-Security-Policy": _STORY}
        return FileResponse(page, media_type="text/html", filename=f"{id}.html", headers=headers)

    @api.get("/pictures", responses=errors(422))
    async def pictures(who: Client, q: Annotated[str, Query(max_length=200)] = "") -> Gallery:
        return Gallery(pictures=await service.gallery(who, q))

    @api.post("/images", status_code=201, responses=errors(400, 415, 422), openapi_extra=_UPLOAD)
    async def upload(request: Request, who: Client, mask: bool = False) -> Uploaded:
        return await service.upload(who, await _file_of(request), mask)

    @api.get("/images/{sha256}", responses=_gives("image/png") | errors(404, 422), response_class=Response)
    async def image(
        sha256: str, request: Request, who: Client, width: Annotated[int | None, Query(ge=64, le=1024)] = None
    ) -> Response:
        path = await service.image(who, sha256)
        tag = f'"{sha256}{"" if width is None else f"-{width}"}"'
        headers = {"Cache-Control": _FOREVER, "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        if width is None:
            return FileResponse(path, media_type="image/png", headers=headers)
        return Response(await asyncio.to_thread(_scaled, path, width), media_type="image/png", headers=headers)

    @api.get("/runs/{id}", responses=errors(404))
    async def run(id: str, who: Client) -> JSONResponse:
        return JSONResponse(await service.runs.record(who, id))

    @api.get("/runs/{id}/trace", responses=_gives("text/html") | errors(404), response_class=Response)
    async def trace(id: str, who: Client) -> FileResponse:
        page = await service.runs.trace(who, id)
        return FileResponse(page, media_type="text/html", headers={"Content-Security-Policy": _STORY})

    return api


def sse(event: ServerEvent | None) -> bytes:
    """An event as server-sent events write it. JSON has no raw line ends, so data is always one line."""
    if event is None:
        return b": beat\n\n"
    id = "" if event.id is None else f"id: {event.id}\n"
    data: dict[str, Any] = event.data
    return f"{id}event: {event.event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode("utf-8", "replace")


async def _file_of(request: Request) -> bytes:
    """The uploaded file: the body itself, or the field `file` of a form. Its name and its declared type say nothing."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    async with request.form(max_files=1, max_fields=4) as form:
        file = form.get("file")
        if file is None or isinstance(file, str):
            raise NotAPicture("the form has no file in its field `file`")
        return await file.read()


def _scaled(path: Any, width: int) -> bytes:
    with Image.open(path, formats=["PNG"]) as picture:
        height = max(1, round(picture.height * width / picture.width))
        small = picture if picture.width <= width else picture.resize((width, height), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, format="PNG")
        return buffer.getvalue()
