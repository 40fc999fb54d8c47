"""The Responses API with the tool image_generation: create, stream with partial images, continue, edit.

A response is kept as a small JSON file of its client's, so that `previous_response_id` continues it, also after a restart;
its picture lies in the client's store, and the id of its image_generation_call is its own with another beginning. A request
that does not name the tool gets its picture in the text, as a chat does.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError

from agent.events import Judged
from agent.serve.errors import NotFound
from agent.serve.openai.chat import answer_text, begin, read_wish
from agent.serve.openai.drawing import Drawing, DrawingState, encoded, extra, sse, streamed, while_there
from agent.serve.openai.wire import ChatMessage, PictureFormat, Place, SamplingBody, parsed
from agent.serve.service import Service
from redraft.chat import Usage
from redraft.errors import InputError
from redraft.files import write_atomically
from redraft.images import fit_mask

_ID = re.compile(r"resp_[0-9a-f]{32}")
_RESPONSE, _CALL = "resp_", "ig_"
_OWN = "redraft:"
"""How a picture of the client's store is addressed inside this module."""
_MOST_KEPT = 1000
"""Responses of a client; the oldest go."""
_MOST_TEXT = 20_000
"""Characters of a conversation that are kept with a response."""


_MESSAGES = TypeAdapter(list[ChatMessage])


class ResponseGone(NotFound):
    """A previous response that was not kept, was deleted, or is another client's."""


class ImageTool(PictureFormat):
    """The tool image_generation, as far as it says anything here; other tools are refused."""

    type: Literal["image_generation"]
    input_image_mask: Place | None = None


class ResponsesBody(SamplingBody):
    input: str | Annotated[list[dict[str, Any]], Field(max_length=2000)]
    instructions: str | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=64)] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None
    previous_response_id: str | None = None
    store: bool | None = True
    background: bool | None = None
    metadata: dict[str, Any] | None = None
    text: dict[str, Any] | None = None

    @property
    def image_tool(self) -> ImageTool | None:
        """The tool as it was named. Raises InputError for any other, since none is called here."""
        tool: ImageTool | None = None
        for each in self.tools:
            if each.get("type") != "image_generation":
                raise InputError("tools: image_generation is the one tool here; leave the others out")
            tool = parsed(ImageTool, each)
        return tool

    @property
    def must_draw(self) -> bool:
        return self.tool_choice == "required" or isinstance(self.tool_choice, dict)

    def check(self) -> None:
        """Raises InputError for what cannot be had."""
        if self.background:
            raise InputError("background: responses are answered while the client waits; stream them instead")
        if self.tool_choice == "none":
            raise InputError('tool_choice "none": this model does nothing but draw; leave it out')
        kind = ((self.text or {}).get("format") or {}).get("type", "text")
        if kind != "text":
            raise InputError("text.format: a picture is no JSON; leave it out")


async def respond(
    request: Request, service: Service, who: str, body: ResponsesBody, profile: str
) -> Response | dict[str, Any]:
    """The answer to POST /v1/responses. Raises RedraftError."""
    body.check()
    tool = body.image_tool
    form = tool or PictureFormat()
    form.require_opaque()
    kept = _Kept(service, who)
    earlier = [] if body.previous_response_id is None else await kept.messages(body.previous_response_id)
    messages = [*earlier, *await asyncio.to_thread(_read_input, body)]

    async def fetch(url: str) -> Image.Image:
        if url.startswith((_OWN, _CALL)):
            own = url.startswith(_OWN)
            digest = url.removeprefix(_OWN) if own else await kept.picture(_RESPONSE + url.removeprefix(_CALL))
            path = await service.image(who, digest)
            return await service.pictures.read(await asyncio.to_thread(path.read_bytes))
        return await service.pictures.fetch(url)

    may_talk = not body.must_draw
    wish = await while_there(request, read_wish(service, messages, profile, fetch, may_talk=may_talk))
    mask = None
    if tool is not None and tool.input_image_mask is not None:
        if wish.picture is None:
            raise InputError(
                "input_image_mask: a mask needs a picture that it belongs to; send one, or continue from one"
            )
        area = (await fetch(tool.input_image_mask.image_url)).convert("L")
        mask = await asyncio.to_thread(fit_mask, area, wish.picture.size)
    answer = _Answer(service, who, body, tool, profile, str(request.base_url), messages, kept)
    if wish.answer is not None:
        if body.stream:
            return await streamed(answer.stream_text(wish.answer))
        return await answer.finish([answer.message(wish.answer)], wish.answer, None)
    size = form.size_for(service.served(profile).profile) if wish.picture is None else None
    drawing = begin(service, who, wish, profile, body.options(size=size), mask)
    if body.stream:
        return await streamed(answer.stream(drawing))
    return await while_there(request, answer.whole(drawing))


async def retrieve(service: Service, who: str, id: str) -> dict[str, Any]:
    """A response that was kept, with its picture. Raises NotFound."""
    record = await _Kept(service, who).read(id)
    response: dict[str, Any] = record["response"]
    for item in response["output"]:
        if item["type"] == "image_generation_call":
            path = await service.image(who, record["picture"])
            item["result"] = (await encoded(path, item["output_format"]))[0]
    return response


async def delete(service: Service, who: str, id: str) -> dict[str, Any]:
    """Raises NotFound."""
    await _Kept(service, who).delete(id)
    return {"id": id, "object": "response.deleted", "deleted": True}


def _read_input(body: ResponsesBody) -> list[ChatMessage]:
    """The input as messages of a chat. Raises InputError for what is none."""
    messages = [ChatMessage(role="system", content=body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return [*messages, ChatMessage(role="user", content=body.input)]
    for item in body.input:
        kind = item.get("type", "message")
        if kind == "message":
            messages.append(_read_message(item))
        elif kind in ("image_generation_call", "item_reference"):
            url = _address_of(item)
            if url is not None:
                part = {"type": "image_url", "image_url": {"url": url}}
                messages.append(ChatMessage(role="assistant", images=[part]))
        elif kind != "reasoning":
            raise InputError(f"input: items of type {str(kind)[:40]!r} mean nothing here")
    return messages


def _read_message(item: dict[str, Any]) -> ChatMessage:
    role, content = str(item.get("role", "user")), item.get("content")
    if isinstance(content, str) or content is None:
        return ChatMessage(role=role, content=content)
    if not isinstance(content, list):
        raise InputError("input: the content of a message is text or a list of parts")
    parts: list[dict[str, Any]] = []
    for part in content:
        if not isinstance(part, dict):
            raise InputError("input: a part of a message is an object")
        match part.get("type"):
            case "input_text" | "output_text" | "text":
                parts.append({"type": "text", "text": str(part.get("text", ""))})
            case "input_image":
                url = part.get("image_url")
                if not isinstance(url, str):
                    raise InputError("input_image: files are not kept here; send image_url, a data: URL")
                parts.append({"type": "image_url", "image_url": {"url": url}})
            case "refusal":
                continue
            case other:
                raise InputError(f"input: parts of type {str(other)[:40]!r} mean nothing here")
    return ChatMessage(role="user" if role == "user" else role, content=parts)


def _address_of(item: dict[str, Any]) -> str | None:
    """Where the picture of an earlier call is: in the item, or in the client's store."""
    if isinstance(item.get("result"), str) and item["result"]:
        return f"data:image/png;base64,{item['result']}"
    id = str(item.get("id", ""))
    return id if id.startswith(_CALL) else None


class _Kept:
    """The responses that a client may continue."""

    def __init__(self, service: Service, who: str) -> None:
        self._folder: Path = service.files.home(who).parent / "responses"

    def _path(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise ResponseGone(f"there is no response {id[:60]!r}")
        return self._folder / f"{id}.json"

    async def read(self, id: str) -> dict[str, Any]:
        path = self._path(id)
        try:
            record: dict[str, Any] = json.loads(await asyncio.to_thread(path.read_text, "utf-8"))
        except (OSError, ValueError):
            raise ResponseGone(f"there is no response {id!r}: it was not stored, or was deleted") from None
        if not isinstance(record, dict) or not {"picture", "messages"} <= record.keys():
            raise ResponseGone(f"the response {id!r} is damaged on the disk")
        return record

    async def picture(self, id: str) -> str:
        """The hash of the picture that a response made. Raises ResponseGone."""
        digest = (await self.read(id))["picture"]
        if not isinstance(digest, str):
            raise ResponseGone(f"the response {id!r} made no picture")
        return digest

    async def messages(self, id: str) -> list[ChatMessage]:
        try:
            return _MESSAGES.validate_python((await self.read(id))["messages"])
        except ValidationError:
            raise ResponseGone(f"the response {id!r} is damaged on the disk") from None

    async def delete(self, id: str) -> None:
        path = self._path(id)
        try:
            await asyncio.to_thread(path.unlink)
        except OSError:
            raise ResponseGone(f"there is no response {id!r}") from None

    async def keep(self, id: str, record: dict[str, Any]) -> None:
        await asyncio.to_thread(self._write, id, record)

    def _write(self, id: str, record: dict[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(id), json.dumps(record, ensure_ascii=False).encode("utf-8", "replace"))
        files = list(self._folder.glob("resp_*.json"))
        if len(files) > _MOST_KEPT:
            ages = sorted(files, key=lambda path: path.stat().st_mtime_ns)
            for old in ages[: len(files) - _MOST_KEPT]:
                old.unlink(missing_ok=True)


class _Answer:
    """One response that is made."""

    def __init__(
        self,
        service: Service,
        who: str,
        body: ResponsesBody,
        tool: ImageTool | None,
        profile: str,
        base: str,
        messages: list[ChatMessage],
        kept: _Kept,
    ) -> None:
        self._service = service
        self._who = who
        self._body = body
        self._tool = tool
        self._form = tool or PictureFormat()
        self._base = base
        self._messages = messages
        self._kept = kept
        self._id = f"{_RESPONSE}{secrets.token_hex(16)}"
        self._created = int(time.time())
        self._model = body.model or profile
        self._sent = 0

    def message(self, text: str, status: str = "completed") -> dict[str, Any]:
        """An item of the output that holds words."""
        parts = [] if status == "in_progress" else [_text_part(text)]
        return {
            "id": f"msg_{self._id.removeprefix('resp_')}", "type": "message", "role": "assistant", "status": status,
            "content": parts,
        }  # fmt: skip

    @property
    def _call_id(self) -> str:
        return _CALL + self._id.removeprefix(_RESPONSE)

    def _call(self, status: str, **more: Any) -> dict[str, Any]:
        """An item of the output that holds a picture, or is to hold one."""
        about = {"output_format": self._form.output_format, "quality": "auto", "background": "opaque"}
        return {"id": self._call_id, "type": "image_generation_call", "status": status, "result": None, **about, **more}

    def _response(
        self, status: str, output: list[dict[str, Any]], usage: Usage | None = None, **more: Any
    ) -> dict[str, Any]:
        body = self._body
        tools = [_without_mask(tool) for tool in body.tools]
        return {
            "id": self._id, "object": "response", "created_at": self._created, "status": status, "error": None,
            "incomplete_details": None, "instructions": body.instructions, "max_output_tokens": None,
            "metadata": body.metadata or {}, "model": self._model, "output": output, "parallel_tool_calls": False,
            "previous_response_id": body.previous_response_id, "reasoning": {"effort": None, "summary": None},
            "store": body.store is not False, "temperature": 1.0, "text": {"format": {"type": "text"}},
            "tool_choice": body.tool_choice or "auto", "tools": tools, "top_p": 1.0, "truncation": "disabled",
            "usage": None if usage is None else _tokens(usage), **more,
        }  # fmt: skip

    async def finish(
        self, output: list[dict[str, Any]], text: str, digest: str | None, usage: Usage | None = None, **more: Any
    ) -> dict[str, Any]:
        """The whole response, kept if it is to be."""
        response = self._response("completed", output, usage or Usage(), **more)
        if self._body.store is not False:
            bare = [item | {"result": None} if item["type"] == "image_generation_call" else item for item in output]
            record = {"messages": await asyncio.to_thread(self._remembered, text, digest), "picture": digest}
            await self._kept.keep(self._id, record | {"response": response | {"output": bare}})
        return response

    def _remembered(self, text: str, digest: str | None) -> list[dict[str, Any]]:
        """The conversation without its pictures, but for the latest that was made here."""
        lines: list[dict[str, Any]] = []
        left = _MOST_TEXT
        for message in reversed(self._messages):
            said = message.text[:left]
            left -= len(said)
            made = [part for part in message.images or () if part["image_url"]["url"].startswith(_OWN)]
            lines.append(
                {"role": message.role, "content": said, **({"images": made} if made and digest is None else {})}
            )
            if left <= 0:
                break
        answer: dict[str, Any] = {"role": "assistant", "content": "" if digest else text[:_MOST_TEXT]}
        if digest is not None:
            answer["images"] = [{"type": "image_url", "image_url": {"url": f"{_OWN}{digest}"}}]
        return [*reversed(lines), answer]

    async def whole(self, drawing: Drawing) -> dict[str, Any]:
        seen = DrawingState()
        async with aclosing(drawing) as events:
            async for event in events:
                seen.see(event)
        return await self._drawn(seen)

    async def _drawn(self, seen: DrawingState) -> dict[str, Any]:
        text, digest = (await answer_text(seen, with_picture=self._tool is None))[0], _digest_of(seen)
        output = [] if self._tool is None else [await self._finished_call(seen)]
        about = extra(seen, self._service, self._base)
        return await self.finish([*output, self.message(text)], text, digest, seen.usage, redraft=about)

    async def _finished_call(self, seen: DrawingState) -> dict[str, Any]:
        result, path = seen.finished()
        best = result.best_attempt
        assert best is not None
        form = self._form
        picture, size = await encoded(path, form.output_format, form.output_compression, form.wanted)
        action = "generate" if result.source is None else "edit"
        return self._call(
            "completed", result=picture, revised_prompt=best.prompt,
            size=f"{size[0]}x{size[1]}", action=action,
        )  # fmt: skip

    def _event(self, kind: str, **more: Any) -> bytes:
        self._sent += 1
        return sse({"type": kind, "sequence_number": self._sent - 1, **more}, kind)

    async def stream_text(self, text: str) -> AsyncGenerator[bytes]:
        """An answer in words."""
        yield self._event("response.created", response=self._response("in_progress", []))
        for piece in self._message_events(text, 0):
            yield piece
        response = await self.finish([self.message(text)], text, None)
        yield self._event("response.completed", response=response)

    def _message_events(self, text: str, index: int) -> list[bytes]:
        item = self.message(text)
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        return [
            self._event("response.output_item.added", output_index=index, item=self.message(text, "in_progress")),
            self._event("response.content_part.added", **place, part=_text_part("")),
            self._event("response.output_text.delta", **place, delta=text, logprobs=[]),
            self._event("response.output_text.done", **place, text=text, logprobs=[]),
            self._event("response.content_part.done", **place, part=_text_part(text)),
            self._event("response.output_item.done", output_index=index, item=item),
        ]

    async def stream(self, drawing: Drawing) -> AsyncGenerator[bytes]:
        """A drawing, with at most `partial_images` of its judged attempts."""
        seen, partial = DrawingState(), 0
        place = {"item_id": self._call_id, "output_index": 0}
        async with aclosing(drawing) as events:
            async for event in events:
                if not seen.run:
                    yield self._event("response.created", response=self._response("in_progress", []))
                    yield self._event("response.in_progress", response=self._response("in_progress", []))
                    if self._tool is not None:
                        item = self._call("in_progress")
                        yield self._event("response.output_item.added", output_index=0, item=item)
                        yield self._event("response.image_generation_call.in_progress", **place)
                        yield self._event("response.image_generation_call.generating", **place)
                seen.see(event)
                if self._tool is not None and isinstance(event, Judged) and partial < (self._form.partial_images or 0):
                    form = self._form
                    picture, size = await encoded(event.path, form.output_format, form.output_compression, form.wanted)
                    yield self._event(
                        "response.image_generation_call.partial_image", **place, partial_image_b64=picture,
                        partial_image_index=partial, size=f"{size[0]}x{size[1]}", output_format=form.output_format,
                        quality="auto", background="opaque",
                    )  # fmt: skip
                    partial += 1
        response = await self._drawn(seen)
        if self._tool is not None:
            yield self._event("response.image_generation_call.completed", **place)
            yield self._event("response.output_item.done", output_index=0, item=response["output"][0])
        text = response["output"][-1]["content"][0]["text"]
        for piece in self._message_events(text, len(response["output"]) - 1):
            yield piece
        yield self._event("response.completed", response=response)


def _digest_of(seen: DrawingState) -> str:
    best = None if seen.result is None else seen.result.best_attempt
    assert best is not None
    return best.image


def _without_mask(tool: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tool.items() if name != "input_image_mask"}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _tokens(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
