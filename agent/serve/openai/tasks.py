"""What chat front ends ask of the model in the background, beside what their users write: titles, tags, follow-ups, search
queries, completions. They are answered with text, and draw nothing.

    >>> read_task("### Task:\\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history. ...").kind
    'title'

Open WebUI's prompts begin with "### Task:", and its autocompletion and emoji prompts have words of their own; those of
LibreChat, LobeChat and others ask for a title of the conversation in the first sentence.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError

TaskKind = Literal["title", "tags", "follow_ups", "queries", "prompt", "completion", "emoji"]
_HEAD = 1500
"""Characters in which a prompt says what it wants."""
_KEYS: tuple[tuple[TaskKind, str], ...] = (
    ("title", '"title"'),
    ("tags", '"tags"'),
    ("follow_ups", '"follow_ups"'),
    ("queries", '"queries"'),
    ("prompt", '"prompt"'),
    ("completion", '"text"'),
)
"""The JSON keys in which Open WebUI wants the answers."""
_TITLE = re.compile(
    r"\btitle\b[^.\n]{0,40}\b(?:conversation|chat history|dialogue|(?:the|this|our) chat)\b"
    r"|\b(?:summari[sz]e|name)\b[^.\n]{0,40}\b(?:conversation|chat)\b[^.\n]{0,60}\btitle\b",
    re.IGNORECASE,
)
_ORDER = re.compile(
    r"(?:please |you are [^.\n]{1,200}[.] )?(?:generate|create|provide|write|suggest|give|come up|summari[sz]e|analyze|name)\b",
    re.IGNORECASE,
)
_CHINESE_TITLE = ("标题", "會話", "会话")
_WORDS = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SPEAKER = re.compile(r"^[ \t]*(?:\|\|>)?(?:user|human)[ \t]*:[ \t]*", re.IGNORECASE | re.MULTILINE)
_MOST_TOKENS = 200


@dataclass(frozen=True)
class FrontEndTask:
    """`prompt`: as the front end wrote it. `as_json`: whether the answer is a JSON object of one key."""

    kind: TaskKind
    prompt: str
    as_json: bool = True


def read_task(prompt: str) -> FrontEndTask | None:
    """The task that a message is; None for what a user writes. Takes time linear in the message."""
    text = prompt.lstrip()
    head = text[:_HEAD]
    if head.startswith("### Task:"):
        if "autocompletion system" in head:
            return FrontEndTask("completion", prompt)
        # The last key is the one of the answer: the instructions stand before the chat, which may hold anything.
        instructions = text.partition("<chat_history>")[0][: 4 * _HEAD]
        for kind, key in _KEYS:
            if key in instructions:
                return FrontEndTask(kind, prompt)
        return FrontEndTask("title", prompt, as_json=False)
    if head.startswith("Your task is to reflect the speaker's likely facial expression"):
        return FrontEndTask("emoji", prompt, as_json=False)
    if (_ORDER.match(head) and _TITLE.search(head[:400])) or (
        all(word in head[:200] for word in _CHINESE_TITLE[:1])
        and any(word in head[:200] for word in _CHINESE_TITLE[1:])
    ):
        return FrontEndTask("title", prompt, as_json=False)
    return None


async def answer_task(task: FrontEndTask, writer: ChatModel | None) -> str:
    """The answer, by `writer` if there is one and it answers, else by plain rules."""
    if writer is not None:
        try:
            reply = await writer(ChatRequest((Message("user", task.prompt[:16_000]),), max_tokens=_MOST_TOKENS))
            if reply.text.strip() and not reply.truncated:
                return reply.text.strip()
        except BackendError:
            pass  # a title is not worth an error
    return answer_by_rule(task)


def answer_by_rule(task: FrontEndTask) -> str:
    """A title of the first words of the chat, and next to nothing for the rest."""
    values: dict[TaskKind, tuple[str, object]] = {
        "title": ("title", _title(task.prompt)),
        "tags": ("tags", ["Art"]),
        "follow_ups": ("follow_ups", []),
        "queries": ("queries", []),
        "prompt": ("prompt", _first_said(task.prompt)),
        "completion": ("text", ""),
        "emoji": ("emoji", "🎨"),
    }
    key, value = values[task.kind]
    return json.dumps({key: value}, ensure_ascii=False) if task.as_json else str(value)


def _first_said(prompt: str) -> str:
    """What the user said first in the chat that the prompt quotes."""
    chat = prompt.rpartition("<chat_history>")[2].partition("</chat_history>")[0]
    if (speaker := _SPEAKER.search(chat)) is not None:
        chat = chat[speaker.end() :].lstrip()
    elif "<chat_history>" not in prompt:
        return ""
    return " ".join(chat.split("\n", 1)[0][:400].split())


def _title(prompt: str) -> str:
    words = [match[0] for match in _WORDS.finditer(_first_said(prompt)[:120])][:5]
    return " ".join(words).capitalize() or "A picture"
