"""Turns that draw nothing: answers, ways through the pictures that there are, settings."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from PIL import Image

from agent.talk_commands import number_of
from agent.talk_state import Outcome, TalkContext, TalkState, looked_at, looking_at, shows
from agent.talk_types import Picture
from redraft.errors import BackendError, InputError
from redraft.images import open_image, open_mask, save_png


async def answer(state: TalkState, ctx: TalkContext, question: str) -> Outcome:
    now = looked_at(state)
    if ctx.parts.answerer is None:
        raise BackendError("there is no model here that answers questions about pictures")
    picture = await asyncio.to_thread(ctx.store.get, now.image)
    async with ctx.parts.calls:
        return Outcome("ask", await ctx.parts.answerer(picture, question))


def undo(state: TalkState) -> Outcome:
    if not state["trail"]:
        raise InputError("there is nothing to undo")
    *rest, before = state["trail"]
    changes: TalkState = {"current": before, "trail": rest}
    if before == 0:
        return Outcome("undo", "back at the beginning, before any picture", changes)
    return Outcome("undo", f"back at picture {before}", changes, (before,))


def back(state: TalkState, number: int) -> Outcome:
    changes: TalkState = {"current": number, "trail": [*state["trail"], state["current"]]}
    return Outcome("back", f"back at picture {number}", changes, (number,))


def compare(state: TalkState, ctx: TalkContext, one: int, other: int) -> Outcome:
    from editors.changes import change_between

    left, right = (state["pictures"][n - 1] for n in (one, other))
    a, b = ctx.store.get(left.image).convert("RGB"), ctx.store.get(right.image).convert("RGB")
    b = b.resize((max(1, round(b.width * a.height / b.height)), a.height)) if b.height != a.height else b
    both = Image.new("RGB", (a.width + b.width + 8, a.height), "white")
    both.paste(a, (0, 0))
    both.paste(b, (a.width + 8, 0))
    path = ctx.runs / f"compare-{one}-{other}.png"
    save_png(both, path, {"Software": "redraft"})
    lines = [f"picture {p.number} ({p.made}): {_scored(p)}, from: {shows(state, p)}" for p in (left, right)]
    change = change_between(a, ctx.store.get(right.image))
    lines.append("they look the same" if change.unchanged else f"they differ by {100 * change.mean:.1f}% on the whole")
    return Outcome("compare", "\n".join(lines), shown=(one, other), file=path)


def accept(state: TalkState) -> Outcome:
    now = looked_at(state)
    pictures = [replace(p, accepted=True) if p.number == now.number else p for p in state["pictures"]]
    return Outcome("accept", f"picture {now.number} is accepted", {"pictures": pictures})


def accept_from(text: str) -> Outcome:
    bar = number_of(text, "the score", 0.01, 1)
    return Outcome("setting", f"pictures are accepted from a score of {bar:g} on", {"accept_at": bar})


def save(state: TalkState, ctx: TalkContext, target: str | None) -> Outcome:
    now = looked_at(state)
    if not ctx.own_files:
        return Outcome("save", f"picture {now.number} is kept here; download it", shown=(now.number,))
    path = Path(target).expanduser() if target else Path(f"{ctx.name}-{now.number}.png")
    if path.is_dir():
        path = path / f"{ctx.name}-{now.number}.png"
    if path.suffix.lower() != ".png":
        path = path.with_name(f"{path.name}.png")
    text = {"Software": "redraft", "redraft:conversation": ctx.name, "redraft:made-from": shows(state, now)}
    save_png(ctx.store.get(now.image), path, text)
    return Outcome("save", f"saved as {path}", file=path)


def seed(state: TalkState, text: str | None) -> Outcome:
    if text is None:
        now = state["seed"]
        return Outcome("setting", "each drawing has a seed of its own" if now is None else f"the seed is {now}")
    if text == "off":
        return Outcome("setting", "each drawing has a seed of its own", {"seed": None})
    seed = int(number_of(text, "the seed", 0, 2**31 - 1))
    return Outcome("setting", f"the seed is {seed}", {"seed": seed})


def given(state: TalkState, ctx: TalkContext, file: str) -> Outcome:
    path = _own_file(ctx, file)
    image = ctx.store.put(open_image(path))
    made = Picture(len(state["pictures"]) + 1, image, "given", path.name)
    return Outcome("given", f"picture {made.number} is {path.name}", looking_at(state, made), (made.number,))


def mask(state: TalkState, ctx: TalkContext, file: str) -> Outcome:
    if file == "off":
        return Outcome("setting", "changes may be anywhere", {"mask": None})
    now = looked_at(state)
    mask = open_mask(_own_file(ctx, file), ctx.store.get(now.image).size)
    return Outcome("setting", "changes only where the mask is white", {"mask": ctx.store.put(mask)})


def listing(state: TalkState, ctx: TalkContext) -> str:
    lines = []
    for p in state["pictures"]:
        here = "> " if p.number == state["current"] else "  "
        of = f" of {p.parent}" if p.parent else ""
        lines.append(f"{here}{p.number} {p.made}{of}, {_scored(p)}{', accepted' if p.accepted else ''}: {p.told}")
    lines = lines or ["no pictures yet"]
    if ctx.own_files:
        lines.append("conversations: " + ", ".join(ctx.others()))
    return "\n".join(lines)


def _own_file(ctx: TalkContext, file: str) -> Path:
    if not ctx.own_files:
        raise InputError("files of the server cannot be named here; give the picture along with what you say")
    return Path(file).expanduser()


def _scored(picture: Picture) -> str:
    return "no score" if picture.score is None else f"score {picture.score:.2f}"


def picture_number(text: str, state: TalkState) -> int:
    if not state["pictures"]:
        raise InputError("there is no picture yet")
    value = number_of(text, "a picture's number", 1, len(state["pictures"]))
    if value != int(value):
        raise InputError(f"there is no picture {text}")
    return int(value)
