"""OpenTelemetry spans of runs, their steps, calls of chat models, pictures and judgements.

    with open_span("step rewrite", {"redraft.round": 2}) as span:
        ...
        span.set({"redraft.rewrites": 3})

Names and attributes are those of the GenAI semantic conventions (`gen_ai.*`) if there is one, else `redraft.*`. Spans are
made only if this process has a tracer provider, which its user configures: in Python, or by `opentelemetry-instrument`.
Without one nothing of OpenTelemetry is imported here. What people and models wrote is in no span unless
OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT asks for it; pixels never are.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from redraft.chat import ChatModel, ChatReply, ChatRequest

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The variable that lets texts into spans: true, span_only or span_and_event."""

Value = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, Value | None]
"""Those that are None are left out."""


@dataclass(frozen=True)
class OpenSpan:
    """A span under way, or none: then nothing happens."""

    span: Span | None = None

    def set(self, attributes: Attributes) -> None:
        if self.span is not None:
            self.span.set_attributes(_there(attributes))

    def add_event(self, name: str, attributes: Attributes) -> None:
        if self.span is not None:
            self.span.add_event(name, _there(attributes))


NO_SPAN = OpenSpan()


def find_tracer() -> Tracer | None:
    """The tracer of this process, None if no provider was configured."""
    # Who configures a provider has imported this; to import it for nobody would cost every start.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(provider := trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    tracer: Tracer = provider.get_tracer("redraft")
    return tracer


def captures_content() -> bool:
    """Whether texts may be in spans."""
    return os.environ.get(CAPTURE, "").strip().lower() in ("true", "1", "span_only", "span_and_event")


@contextmanager
def open_span(
    name: str, attributes: Attributes, *, calls: bool = False, parent: OpenSpan = NO_SPAN, current: bool = True
) -> Iterator[OpenSpan]:
    """A span around the block. An error in it is named by its class alone: its text may quote what somebody wrote.

    calls:   whether it is a call of a model (kind CLIENT) and no step of ours (INTERNAL).
    parent:  the span that it belongs to; the current one if that is none.
    current: whether spans in the block belong to it by themselves. Not in generators, which are left and entered in several
             contexts.
    """
    tracer = find_tracer()
    if tracer is None:
        yield NO_SPAN
        return
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context, use_span

    span = tracer.start_span(
        name,
        context=None if parent.span is None else set_span_in_context(parent.span),
        kind=SpanKind.CLIENT if calls else SpanKind.INTERNAL,
        attributes=_there(attributes),
    )
    try:
        if current:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                yield OpenSpan(span)
        else:
            yield OpenSpan(span)
    except Exception as error:
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        span.end()


F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, ChatReply]])


def trace_chat(provider: str, address: Callable[[Any], str] | None = None) -> Callable[[F], F]:
    """Makes a span of each call of a chat model: a decorator of its `__call__`. `provider`: whose protocol it speaks;
    `address`: the URL of its server."""

    def decorate(call: F) -> F:
        @functools.wraps(call)
        async def traced(model: ChatModel, request: ChatRequest) -> ChatReply:
            if find_tracer() is None:
                return await call(model, request)
            server = None if address is None else urlsplit(address(model))
            attributes: dict[str, Value | None] = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": provider,
                "gen_ai.request.model": model.name,
                "gen_ai.request.max_tokens": 1 if request.choices else request.max_tokens,
                "gen_ai.request.temperature": request.temperature,
                "gen_ai.request.top_p": request.top_p,
                "gen_ai.request.seed": request.seed,
                "gen_ai.request.stop_sequences": request.stop or None,
                "gen_ai.output.type": "text" if request.schema is None else "json",
                "server.address": None if server is None else server.hostname,
                "server.port": None if server is None else server.port,
            }
            with open_span(f"chat {model.name}", attributes, calls=True) as span:
                if captures_content():
                    span.set({"gen_ai.input.messages": _input_messages(request)})
                reply = await call(model, request)
                span.set(
                    {
                        "gen_ai.response.model": reply.model or None,
                        "gen_ai.response.finish_reasons": ("length" if reply.truncated else "stop",),
                        "gen_ai.usage.input_tokens": reply.usage.prompt_tokens,
                        "gen_ai.usage.output_tokens": reply.usage.completion_tokens,
                    }
                )
                if captures_content():
                    span.set({"gen_ai.output.messages": _output_messages(reply)})
                return reply

        return cast(F, traced)

    return decorate


def image_attributes(model: str, prompts: Sequence[str], *, edits: bool) -> Attributes:
    """Of a span of pictures that `model` makes of `prompts`, a picture of each."""
    return {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.request.model": model,
        "gen_ai.request.choice.count": len(prompts) if len(prompts) != 1 else None,
        "gen_ai.output.type": "image",
        "redraft.kind": "edit" if edits else "generate",
        "gen_ai.input.messages": messages_of(*prompts),
    }


def messages_of(*texts: str) -> str | None:
    """What users wrote, as the conventions have it; None if it may be in no span."""
    if not captures_content():
        return None
    return _dump([{"role": "user", "parts": [{"type": "text", "content": text}]} for text in texts])


def _input_messages(request: ChatRequest) -> str:
    messages = []
    for message in request.messages:
        parts = (message.content,) if isinstance(message.content, str) else message.content
        listed = [{"type": "text", "content": part} if isinstance(part, str) else {"type": "image"} for part in parts]
        messages.append({"role": message.role, "parts": listed})
    return _dump(messages)


def _output_messages(reply: ChatReply) -> str:
    parts = [{"type": "text", "content": reply.text}]
    if reply.reasoning:
        parts.insert(0, {"type": "reasoning", "content": reply.reasoning})
    return _dump([{"role": "assistant", "parts": parts, "finish_reason": "length" if reply.truncated else "stop"}])


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _there(attributes: Attributes) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}
