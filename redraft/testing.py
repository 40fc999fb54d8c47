"""Stand-ins for chat models, for tests and dry runs: scripted, deterministic, no weights, no network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from redraft.chat import ChatReply, ChatRequest

Answer = ChatReply | str | Exception
Script = Sequence[Answer] | Callable[[ChatRequest], Answer]


class FakeChat:
    """A ChatModel that answers from a script: a list, used up in the order of the calls, or a function of the request.

    An answer is a ChatReply, a text, or an exception to raise. `requests` holds every request in order of arrival,
    `most_at_once` the greatest number of calls that were under way together. An AssertionError says that a list is
    used up: that is a mistake in the test, not a fault of a model.
    """

    def __init__(self, script: Script, *, name: str = "fake", delay_s: float = 0.0) -> None:
        self.requests: list[ChatRequest] = []
        self.most_at_once = 0
        self._script = script
        self._name = name
        self._delay_s = delay_s
        self._running = 0

    @property
    def name(self) -> str:
        return self._name

    async def __call__(self, request: ChatRequest) -> ChatReply:
        index = len(self.requests)
        self.requests.append(request)
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            await asyncio.sleep(self._delay_s)
            answer = self._answer(request, index)
        finally:
            self._running -= 1
        if isinstance(answer, Exception):
            raise answer
        return ChatReply(text=answer, model=self._name) if isinstance(answer, str) else answer

    async def aclose(self) -> None:
        pass

    def _answer(self, request: ChatRequest, index: int) -> Answer:
        if callable(self._script):
            return self._script(request)
        if index >= len(self._script):
            raise AssertionError(f"{self._name}: call {index + 1}, but the script has {len(self._script)} answers")
        return self._script[index]


def text_of(request: ChatRequest) -> str:
    """All text of a request, joined with newlines: what scripts usually look at."""
    parts = (part for m in request.messages for part in ((m.content,) if isinstance(m.content, str) else m.content))
    return "\n".join(part for part in parts if isinstance(part, str))
