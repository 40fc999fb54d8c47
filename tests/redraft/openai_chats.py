"""An OpenAIChat on the scripted server of conftest.py, and what an OpenAI-style server answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redraft.chat import ChatRequest, Message
from redraft.openai_chat import OpenAIChat
from redraft.profiles import ModelConfig, ServerConfig
from tests.redraft.conftest import Answer, Handler, Server

Serve = Callable[[Handler], Server]
ASK = ChatRequest((Message("user", "a cat"),))


def reply(text: Any = "hello", **choice: Any) -> Answer:
    message = {"role": "assistant", "content": text, **choice.pop("message", {})}
    body = {"model": "served", "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return Answer(body | {"usage": {"prompt_tokens": 7, "completion_tokens": 3}})


def error(status: int, message: str = "no", **fields: Any) -> Answer:
    headers = fields.pop("headers", {"Retry-After-Ms": "1"})
    return Answer({"error": {"message": message, **fields}}, status, headers)


def chat_to(server: Server, **settings: Any) -> OpenAIChat:
    template_args = settings.pop("template_args", {})
    config = ServerConfig(base_url=server.url, **settings)
    model = ModelConfig(kind="openai", model="m", server=config, template_args=template_args)
    return OpenAIChat(model)
