"""Chat completions: the last message is drawn, or may change a picture that was sent or made before."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import Request, Response
from PIL import Image

from agent.events import ChecklistMade, Decided, Event, Judged, Planned, RewriteMade, Warned
from agent.run import RunResult
from agent.serve.openai.drawing import Drawing, DrawingState, encoded, extra, sse, streamed, while_there
from agent.serve.openai.wire import ChatBody, ChatMessage, markdown_pictures
from agent.serve.service import Service
from redraft.chat import Usage
from redraft.errors import InputError
from rewriter.turns import Turn, TurnContext, answer_small_talk, is_thanks

_EARLIER = 6
_STATELESS = (
    "This chat draws pictures, changes them, and answers questions about them. To go back, send the earlier picture."
)
_ANSWERS: dict[str, str] = {
    "accept": "You are welcome. Say what to change, or what to draw next.",
    **dict.fromkeys(("undo", "back", "compare", "save"), _STATELESS),
}
"""What is answered, without a picture, to whom nothing can be drawn for."""


async def complete(
    request: Request, service: Service, who: str, body: ChatBody, profile: str
) -> Response | dict[str, Any]:
    """The answer to a chat. Raises RedraftError."""
    if body.n not in (None, 1):
        raise InputError("n: a chat has one answer; ask for 1, or use /v1/images/generations")
    wanted, picture = await _read_wish(service, body, profile)
    about = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": profile}
    base = str(request.base_url)
    answer = wanted.text if wanted.kind == "talk" else _ANSWERS.get(wanted.kind)
    if wanted.kind == "ask" and picture is not None:
        answer = await while_there(request, _looked(service, profile, picture, wanted.text))
    if answer is not None:
        if body.stream:
            return await streamed(_as_chunks(about, answer))
        return _whole(about, answer, "", [], Usage(), None)
    image = picture if wanted.kind == "edit" else None
    drawing = service.drawings.draw(who, wanted.text, image=image, profile=profile, options=body.options())
    if body.stream:
        return await streamed(_chunks(service, drawing, about, base, body))
    return await while_there(request, _to_end(service, drawing, about, base))


async def _read_wish(service: Service, body: ChatBody, profile: str) -> tuple[Turn, Image.Image | None]:
    """What the last message asks for, and the picture that it is about.

    Of earlier pictures only the latest counts. If it cannot be had (an old address), that is an error only for who wants
    something of it.
    """
    messages = [message for message in body.messages if message.role == "user"]
    if not messages:
        raise InputError("messages: there is none of the user's; say what to draw")
    last = messages[-1]

    def read() -> tuple[str, list[str], str | None]:
        own = last.pictures
        return _without_pictures(last.text), own, own[-1] if own else _latest(body.messages)

    text, own, url = await asyncio.to_thread(read)  # all together are as long as a picture may be
    models = service.served(profile).models
    if not own and is_thanks(text):
        return Turn("accept"), None
    if not own and (small_talk := answer_small_talk(text)) is not None:
        return Turn("talk", small_talk), None
    if url is None or (not own and not (models.editing is not None or models.answerer)):
        return Turn("draw", text), None
    picture, missing = None, None
    try:
        picture = await service.pictures.fetch(url)
    except InputError as error:
        if own:
            raise
        missing = error
    if models.turn_reader is None:
        return Turn("edit" if own else "draw", text), picture
    recent = messages[-1 - _EARLIER : -1]
    earlier = await asyncio.to_thread(lambda: tuple(_without_pictures(message.text) for message in recent))
    context = TurnContext(request=text, pictures=1, current=1, earlier=earlier, may_ask=False, picture=picture)
    async with models.calls:
        turn = await models.turn_reader(context)
    wants_it = (turn.kind == "ask" and models.answerer) or (turn.kind == "edit" and (own or models.editing is not None))
    if wants_it and missing is not None:
        raise missing
    if wants_it:
        return Turn(turn.kind, turn.text or text), picture
    if own:  # who sends a picture along wants something of it
        return Turn("edit", text), picture
    if turn.kind == "talk" or turn.kind in _ANSWERS:
        return turn, None
    return Turn("draw", (turn.text if turn.kind == "draw" else "") or text), None


def _latest(messages: list[ChatMessage]) -> str | None:
    return next((url for message in reversed(messages) for url in reversed(message.pictures)), None)


def _without_pictures(text: str) -> str:
    kept, at = [], 0
    for start, end, _ in markdown_pictures(text):
        kept.append(text[at:start])
        at = end
    return "".join([*kept, text[at:]]).strip()


async def _looked(service: Service, profile: str, picture: Image.Image, question: str) -> str:
    models = service.served(profile).models
    assert models.answerer is not None
    async with models.calls:
        return await models.answerer(picture, question)


def thought(event: Event | RunResult) -> str:
    """What an event adds to the reasoning that is shown."""
    match event:
        case ChecklistMade(checks=checks, unchecked=unchecked):
            left = f"Unchecked: {', '.join(unchecked)}\n" if unchecked else ""
            return "Checks:\n" + "".join(f"- {check.question}\n" for check in checks) + left + "\n"
        case Warned(text=warning):
            return f"Warning: {warning}\n"
        case RewriteMade(round=number, rewrite=rewrite):
            return f"Round {number}. {rewrite.thought}\n→ {rewrite.prompt}\n\n".replace("  ", " ")
        case Planned(plan=plan):
            steps = "".join(f"- {step.instruction}\n" for step in plan.steps)
            return f"Plan: {plan.choice}. {plan.reason}\n{steps}\n"
        case Judged(number=number, attempt=attempt):
            score = "no score" if attempt.score is None else f"{attempt.score:.2f}"
            missed = "; ".join(attempt.report.feedback)
            return f"Picture {number}: {score}{f' ({missed})' if missed else ''}\n"
        case Decided(decision=decision):
            return f"{decision.stop.value if decision.stop else 'On'}: {decision.why}\n\n"
    return ""


async def _answer(seen: DrawingState) -> tuple[str, str]:
    """The answer in Markdown, and the picture's data: URL. Chat front ends show such a URL wherever they run, with no
    token of this server's."""
    result, path = seen.finished()
    best = result.best_attempt
    assert best is not None
    url = f"data:image/png;base64,{(await encoded(path))[0]}"
    name = re.sub(r"[\[\]()<>!`\\\s]+", " ", best.prompt).strip()
    score = "no score" if best.score is None else f"score {best.score:.2f}"
    return f"![{name}]({url})\n\n{result.stop.value}, {score}: {result.why}", url


async def _to_end(service: Service, drawing: Drawing, about: dict[str, Any], base: str) -> dict[str, Any]:
    seen, thoughts = DrawingState(), ""
    async with aclosing(drawing) as events:
        async for event in events:
            seen.see(event)
            thoughts += thought(event)
    text, url = await _answer(seen)
    return _whole(about, text, thoughts, [url], seen.usage, extra(seen, service, base))


def _whole(
    about: dict[str, Any], text: str, thoughts: str, pictures: list[str], usage: Usage, more: dict[str, Any] | None
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if thoughts:
        message |= {"reasoning": thoughts, "reasoning_content": thoughts}
    if pictures:
        message["images"] = _parts(pictures)
    return {
        **about,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": _tokens(usage),
        **({} if more is None else {"redraft": more}),
    }


async def _chunks(
    service: Service, drawing: Drawing, about: dict[str, Any], base: str, body: ChatBody
) -> AsyncGenerator[bytes]:
    seen = DrawingState()
    async with aclosing(drawing) as events:
        async for event in events:
            if not seen.run:
                yield _chunk(about, {"role": "assistant", "content": ""})
            seen.see(event)
            if text := thought(event):
                yield _chunk(about, {"reasoning": text, "reasoning_content": text})
    text, url = await _answer(seen)
    yield _chunk(about, {"content": text, "images": _parts([url])})
    yield _chunk(about, {}, "stop", redraft=extra(seen, service, base))
    if body.stream_options is not None and body.stream_options.include_usage:
        last = {**about, "object": "chat.completion.chunk", "choices": [], "usage": _tokens(seen.usage)}
        yield sse(last)
    yield sse("[DONE]")


async def _as_chunks(about: dict[str, Any], text: str) -> AsyncGenerator[bytes]:
    yield _chunk(about, {"role": "assistant", "content": text})
    yield _chunk(about, {}, "stop")
    yield sse("[DONE]")


def _chunk(about: dict[str, Any], delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return sse({**about, "object": "chat.completion.chunk", "choices": [choice], **more})


def _parts(urls: list[str]) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": url}} for url in urls]


def _tokens(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
