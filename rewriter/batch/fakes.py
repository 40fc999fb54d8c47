"""A stand-in for an engine, for tests and benchmarks: deterministic, no model, as fast as the batch around it."""

from __future__ import annotations

import asyncio
import re
import zlib

from redraft.chat import ChatReply, ChatRequest, Usage

_PROMPT = re.compile(r"<(user_prompt\w*)>\n(.*)\n</\1>|^(?:Rewrite|Repair): (.*)$", re.DOTALL | re.MULTILINE)
_MOODS = ("in soft morning light", "under a clear sky", "on textured paper", "with a calm background")


class FakeEngine:
    """An Engine that answers with the user's prompt and a few harmless words behind it, chosen by prompt and seed.

    Each answer takes `delay_s` seconds; `requests` counts them. `spoil` is a share of first replies that lack their
    answer, so that a second try is asked for, chosen by the prompt too.
    """

    def __init__(self, *, window: int = 256, delay_s: float = 0.0, spoil: float = 0.0) -> None:
        self.requests = 0
        self._window = window
        self._delay_s = delay_s
        self._spoil = spoil

    @property
    def name(self) -> str:
        return "fake"

    @property
    def window(self) -> int:
        return self._window

    async def __call__(self, request: ChatRequest) -> ChatReply:
        self.requests += 1
        await asyncio.sleep(self._delay_s)
        match = _PROMPT.search(str(request.messages[-1].content))
        prompt = (match[2] or match[3]) if match else "a picture"
        mark = zlib.crc32(prompt.encode("utf-8", "surrogatepass"))
        usage = Usage(len(prompt) // 4, len(prompt) // 4 + 12)
        if request.temperature == 0 and mark % 1000 < 1000 * self._spoil:
            return ChatReply("<think>What matters is", truncated=True, usage=usage, model="fake")
        mood = _MOODS[(mark ^ (request.seed or 0)) % len(_MOODS)]
        text = f"<think>What matters is what was asked.</think><answer>{prompt}, {mood}</answer>"
        return ChatReply(text, usage=usage, model="fake")

    async def aclose(self) -> None:
        pass
