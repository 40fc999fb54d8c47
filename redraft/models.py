"""Which chat model a profile means. Importing this is cheap; torch, transformers and openai load when one is opened."""

from __future__ import annotations

from redraft.chat import ChatModel, OpenAIChat
from redraft.profiles import ModelConfig


def open_chat(config: ModelConfig) -> ChatModel:
    """The chat model of `config`. Weights load and servers are asked at its first call.

    Raises ConfigError where the API key's variable is not set, ModelMissing where a model folder is not there.
    """
    if config.kind == "openai":
        return OpenAIChat(config)
    from redraft.transformers_chat import TransformersChat

    return TransformersChat(config)
