"""Chat completions: the last message is drawn, or may change a picture that was sent or made before."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from PIL import Image

from agent.events import ChecklistMade, Decided, Event, Judged, Planned, RewriteMade, Warned
from agent.models import Models
from agent.run import RunResult
from agent.serve.openai.drawing import Drawing, DrawingState, encoded, extra, sse, streamed, while_there
from agent.serve.openai.tasks import FrontEndTask, answer_task, read_task
from agent.serve.openai.wire import ChatBody, ChatMessage, markdown_pictures
from agent.serve.service import Service
from agent.serve.wire import MAX_REFERENCES
from redraft.chat import Usage
from redraft.errors import InputError
from redraft.options import DrawOptions
from rewriter.turns import Turn, TurnContext, answer_small_talk, wants_again

_EARLIER = 6
_SHORT = 100
"""Characters of a message that may ask for the same again."""
_STATELESS = (
    "This chat draws pictures, changes them, and answers questions about them. To go back, send the earlier picture."
)
_NOTHING_YET = "Nothing was drawn yet that could be drawn again. Say what to draw."
_ANSWERS: dict[str, str] = {
    "accept": "You are welcome. Say what to change, or what to draw next.",
    **dict.fromkeys(("undo", "redo", "again", "back", "compare", "save"), _STATELESS),
}
"""What is answered, without a picture, to whom nothing can be drawn for."""
Fetch = Callable[[str], Awaitable[Image.Image]]
"""Gives the picture of an address. Raises InputError."""


@dataclass(frozen=True)
class Wish:
    """What a chat asks for: an `answer` in words, or else a drawing of `text`, or an edit of `picture` as it says, by
    `references`."""

    text: str = ""
    answer: str | None = None
    picture: Image.Image | None = None
    references: tuple[Image.Image, ...] = ()


async def complete(
    request: Request, service: Service, who: str, body: ChatBody, profile: str
) -> Response | dict[str, Any]:
    """The answer to a chat. Raises RedraftError."""
    if body.n not in (None, 1):
        raise InputError("n: a chat has one answer; ask for 1, or use /v1/images/generations")
    options = body.options()
    wish = await while_there(request, read_wish(service, body.messages, profile, service.pictures.fetch))
    about = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": body.model or profile}
    base = str(request.base_url)
    if wish.answer is not None:
        if body.stream:
            return await streamed(_as_chunks(about, wish.answer))
        return _whole(about, wish.answer, "", [], Usage(), None)
    body.require_text()
    drawing = begin(service, who, wish, profile, options)
    if body.stream:
        return await streamed(_chunks(service, drawing, about, base, body))
    return await while_there(request, _to_end(service, drawing, about, base, body))


def begin(
    service: Service, who: str, wish: Wish, profile: str, options: DrawOptions, mask: Image.Image | None = None
) -> Drawing:
    """The drawing that a chat asks for."""
    return service.drawings.draw(
        who, wish.text, image=wish.picture, mask=mask, references=wish.references, profile=profile, options=options
    )


async def read_wish(
    service: Service, messages: Sequence[ChatMessage], profile: str, fetch: Fetch, *, may_talk: bool = True
) -> Wish:
    """What the last message of the user's asks for. What front ends ask in the background, small talk and questions are
    answered; without `may_talk` everything but a task of a front end is drawn.

    The user's own pictures are edited: the first, by the others. Of earlier pictures only the latest counts, and it is
    fetched only for who wants something of it. "Again" stands for the request before it, which is read once more. Raises
    InputError for pictures that cannot be had.
    """
    if all(message.role != "user" for message in messages):
        raise InputError("messages: there is none of the user's; say what to draw")
    messages = await asyncio.to_thread(_leave_out_again, messages)
    said = [message for message in messages if message.role == "user"]
    if not said:
        return Wish(answer=_NOTHING_YET)
    last = said[-1]
    models = service.served(profile).models
    # All together are as long as pictures may be.
    text, own = await asyncio.to_thread(lambda: (_without_pictures(last.text), last.pictures))
    task = read_task(text) or next(
        (FrontEndTask(task.kind, text, task.as_json) for message in messages[:1] if message.role == "system"
         and (task := read_task(message.text)) is not None), None,
    )  # fmt: skip
    if task is not None:
        async with models.calls:
            return Wish(answer=await answer_task(task, models.writer))
    if len(own) > 1 + MAX_REFERENCES:
        raise InputError(f"at most {1 + MAX_REFERENCES} pictures go with a message, not {len(own)}")
    if own:
        picture, *others = [await fetch(url) for url in own]
        return await _about_picture(models, text, said, picture, tuple(others))
    if may_talk and (answer := answer_small_talk(text)) is not None:
        return Wish(answer=answer.replace(" /help lists the commands.", ""))
    url = await asyncio.to_thread(_latest, messages)
    if url is None or not (models.editing is not None or models.answerer) or models.turn_reader is None:
        return Wish(text)
    turn = await _read_turn(models, text, said, None)
    if turn.kind == "edit" and models.editing is not None:
        return Wish(turn.text or text, picture=await fetch(url))
    if turn.kind == "ask" and models.answerer is not None:
        async with models.calls:
            return Wish(answer=await models.answerer(await fetch(url), turn.text or text))
    if may_talk and (answer := turn.text if turn.kind == "talk" else _ANSWERS.get(turn.kind)) is not None:
        return Wish(answer=answer)
    return Wish((turn.text if turn.kind == "draw" else "") or text)


def _leave_out_again(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """The messages up to the request that is meant: if the last one of the user's asks for the same again, the one before it
    that is no small talk."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    if not _says_again(messages[users[-1]]):
        return messages
    for index in reversed(users[:-1]):
        message = messages[index]
        if not _says_again(message) and (message.pictures or answer_small_talk(message.text) is None):
            return messages[: index + 1]
    return []


def _says_again(message: ChatMessage) -> bool:
    text = message.text
    return len(text) <= _SHORT and not message.pictures and wants_again(text)


async def _about_picture(
    models: Models,
    text: str,
    said: Sequence[ChatMessage],
    picture: Image.Image,
    others: tuple[Image.Image, ...],
) -> Wish:
    """Who sends a picture along wants something of it: an answer to a question, or a change."""
    if models.turn_reader is None or others:
        return Wish(text, picture=picture, references=others)
    turn = await _read_turn(models, text, said, picture)
    if turn.kind == "ask" and models.answerer is not None:
        async with models.calls:
            return Wish(answer=await models.answerer(picture, turn.text or text))
    return Wish((turn.text if turn.kind == "edit" else "") or text, picture=picture)


async def _read_turn(models: Models, text: str, said: Sequence[ChatMessage], picture: Image.Image | None) -> Turn:
    assert models.turn_reader is not None
    recent = said[-1 - _EARLIER : -1]
    earlier = await asyncio.to_thread(lambda: tuple(_without_pictures(message.text) for message in recent))
    context = TurnContext(request=text, pictures=1, current=1, earlier=earlier, may_ask=False, picture=picture)
    async with models.calls:
        return await models.turn_reader(context)


def _latest(messages: Sequence[ChatMessage]) -> str | None:
    return next((url for message in reversed(messages) for url in reversed(message.pictures)), None)


def _without_pictures(text: str) -> str:
    kept, at = [], 0
    for start, end, _ in markdown_pictures(text):
        kept.append(text[at:start])
        at = end
    return "".join([*kept, text[at:]]).strip()


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


async def answer_text(seen: DrawingState, *, with_picture: bool) -> tuple[str, str]:
    """The answer in Markdown, and the picture's data: URL. Chat front ends show such a URL wherever they run, with no
    token of this server's. The picture stands once: in the text, or beside it."""
    result, path = seen.finished()
    best = result.best_attempt
    assert best is not None
    url = f"data:image/png;base64,{(await encoded(path))[0]}"
    score = "no score" if best.score is None else f"score {best.score:.2f}"
    text = f"{result.stop.value}, {score}: {result.why}"
    if not with_picture:
        return text, url
    name = re.sub(r"[\[\]()<>!`\\\s]+", " ", best.prompt).strip()
    return f"![{name}]({url})\n\n{text}", url


async def _to_end(
    service: Service, drawing: Drawing, about: dict[str, Any], base: str, body: ChatBody
) -> dict[str, Any]:
    seen, thoughts = DrawingState(), ""
    async with aclosing(drawing) as events:
        async for event in events:
            seen.see(event)
            thoughts += thought(event)
    text, url = await answer_text(seen, with_picture=not body.in_images)
    return _whole(about, text, thoughts, [url] if body.in_images else [], seen.usage, extra(seen, service, base))


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
    text, url = await answer_text(seen, with_picture=not body.in_images)
    yield _chunk(about, {"content": text} | ({"images": _parts([url])} if body.in_images else {}))
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
