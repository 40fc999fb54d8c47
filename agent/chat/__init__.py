"""Conversations about pictures: draw, change, ask, undo, go back, branch, each turn by a request in plain words.

    from agent.chat import Conversation
    from agent.models import open_models
    from redraft import load_profile

    profile = load_profile("mini")
    chat = await Conversation.create(home, "mine", open_models(profile), limits=profile.limits, profile=profile)
    replied = await chat.turn("two red circles on white paper")
    print(replied.entry.reply, [path for _, path in replied.shown])

A conversation is its log (`agent.chat.journal`); a turn is an async function over that log and the run graph
(`agent.chat.turn`). `agent.chat.terminal` is `redraft chat`, and `agent.serve` has conversations over HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.chat.conversation import Conversation as Conversation
    from agent.chat.conversation import Storage as Storage
    from agent.chat.conversation import list_conversations as list_conversations
    from agent.chat.values import Clarify as Clarify
    from agent.chat.values import Enclosed as Enclosed
    from agent.chat.values import Picture as Picture
    from agent.chat.values import Replied as Replied
    from agent.chat.values import TurnEntry as TurnEntry

_PLACES = {
    **dict.fromkeys(("Conversation", "Storage", "list_conversations"), "agent.chat.conversation"),
    **dict.fromkeys(("Clarify", "Enclosed", "TurnEntry", "Picture", "Replied"), "agent.chat.values"),
}
__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
