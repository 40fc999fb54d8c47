"""What goes over the wire to an OpenAI-style server and what comes back: pure functions, no network."""

from __future__ import annotations

import base64
import io
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from PIL import Image

from redraft.choices import NEVER

if TYPE_CHECKING:
    from redraft.chat import Message

_SPECIAL = re.compile(
    r"<(?=[|｜][^<>\n]{1,40}[|｜]>|/?(?:s|image|video)>|(?:start|end)_of_(?:turn|image)>)|\[(?=/?INST\])"
)
"""Where a special token of a common chat template begins: Qwen, Llama, Phi, GLM, DeepSeek, Gemma, Mistral."""


def json_in(text: str, *, truncated: bool = False) -> str:
    """The JSON of a reply, without a Markdown fence around it. Raises ValueError where it is none."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n\s*```\s*", text, re.DOTALL)
    body = fenced[1] if fenced else text.strip()
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        why = " (cut off at max_tokens; raise it)" if truncated else ""
        raise ValueError(f"{body[:200]!r} in place of JSON{why}") from None
    return body


def wire_messages(messages: Sequence[Message]) -> list[dict[str, object]]:
    """Messages as the server takes them: text defused, pictures as PNG data addresses."""
    wire: list[dict[str, object]] = []
    for message in messages:
        content: object
        if isinstance(message.content, str):
            content = defused(message.content)
        else:
            content = [
                {"type": "text", "text": defused(part)}
                if isinstance(part, str)
                else {"type": "image_url", "image_url": {"url": _data_url(part)}}
                for part in message.content
            ]
        wire.append({"role": message.role, "content": content})
    return wire


def defused(text: str) -> str:
    """`text` with a space put into what spells a special token. Servers such as vLLM read those inside messages too, so
    that a user's text, or a picture's, could end its own turn and open another's."""
    return _SPECIAL.sub(r"\g<0> ", text)


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def renamed(key: str, unsupported: set[str]) -> str:
    return "max_completion_tokens" if key == "max_tokens" and key in unsupported else key


def token_counts(data: Mapping[str, object]) -> tuple[int, int]:
    """(prompt tokens, completion tokens) of a reply; 0 for what the server does not say."""
    usage = data.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return (prompt if type(prompt) is int else 0, completion if type(completion) is int else 0)


def first_logprobs(choice: Mapping[str, object]) -> dict[str, float]:
    """Token string to log probability at the first reply token; empty where there are none. Raises ValueError."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    entries = first.get("top_logprobs") if isinstance(first, dict) else None
    found: dict[str, float] = {}
    for entry in entries if isinstance(entries, list) else ():
        token, value = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
        # A rounding error above 0 is let pass; NaN is not.
        if not isinstance(token, str) or not isinstance(value, int | float) or not value <= 1e-3:
            raise ValueError(f"{entry} for a log probability")
        found[token] = max(min(float(value), 0.0), NEVER)
    return found


def why_empty(choice: Mapping[str, object], message: Mapping[str, object], truncated: bool, max_tokens: int) -> str:
    if truncated:
        return f"all of max_tokens = {max_tokens} went into its reasoning; raise it"
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        return "it declined"
    return f"finish_reason {choice.get('finish_reason')!r}"


def is_unicode(text: str) -> bool:
    """False where JSON escapes brought in half a surrogate pair, which no file or database would take."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def error_detail(body: object, message: str) -> object:
    """What a server says for itself in the body of an error; `message` where that is empty."""
    return (body.get("message") or body.get("detail") or body) if isinstance(body, dict) else body or message


def refusal(status: int, detail: str, api_key_env: str | None) -> str:
    """The end of the sentence "the server ... " for a status that asking again does not mend."""
    if status in (401, 403):
        key = api_key_env
        mend = f"check the environment variable {key}" if key else "name its variable as api_key_env in the profile"
        return f"refuses the API key ({status}: {detail}); {mend}"
    if status == 404:
        return f"does not have this (404: {detail}); check `model`, and that base_url ends in /v1"
    return f"refuses the request ({status}: {detail})"


def is_passing(status: int) -> bool:
    """Whether an error of that status may be gone at the next try."""
    return status in (408, 409, 429) or status >= 500


def wait_s(failures: int, asked: float | None) -> float:
    """Seconds to wait after so many failures: as the server asks, else doubling from 0.5 to 30, with jitter."""
    return asked if asked is not None else min(30.0, 0.5 * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the server asks: retry-after-ms, or Retry-After in seconds or as a date (RFC 9110, 10.2.3)."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        when = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, ((when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
