"""From an instruction and the picture it is about to the questions that the picture after the edit is judged by."""

from __future__ import annotations

import json
from dataclasses import replace

from PIL import Image

from evaluator.checklist import OVERALL, parse_json
from evaluator.edits.types import EditChecks
from evaluator.types import Check, Checklist
from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BadReply, ConfigError, InputError
from redraft.templates import fence, fill, load_template

_TRIES = 2
_RETRY_TEMPERATURE = 0.7
_ENTRY = {
    "type": "object",
    "properties": {"key_point": {"type": "string"}, "question": {"type": "string"}},
    "required": ["key_point", "question"],
    "additionalProperties": False,
}
_SCHEMA = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "wanted": {"type": "array", "items": _ENTRY},
        "kept": {"type": "array", "items": _ENTRY},
    },
    "required": ["reason", "wanted", "kept"],
    "additionalProperties": False,
}


class EditChecklistBuilder:
    """Asks a vision-language chat model, which is shown the source picture, for the questions of an edit.

    A reply without a usable wanted check is asked for once more; after that one question about the whole stands in.
    """

    def __init__(self, chat: ChatModel, *, max_checks: int = 8, max_tokens: int = 1024, style: str = "edit") -> None:
        """Raises ConfigError for a style that cannot be used."""
        if max_checks < 1:
            raise ConfigError(f"an edit is checked by at least one question, not {max_checks}")
        self._chat = chat
        self._max_checks = max_checks
        self._max_tokens = max_tokens
        self._template = load_template("evaluator", style, "checks")
        fill(self._template, fenced_instruction="", max_checks="")  # complains now rather than at the first edit

    async def __call__(self, source: Image.Image, instruction: str) -> EditChecks:
        """Raises InputError for an empty instruction, BackendError where the model cannot be reached."""
        if not instruction.strip():
            raise InputError("the instruction is empty; say what is to change in the picture")
        text = fill(
            self._template,
            fenced_instruction=fence(instruction, "edit_instruction"),
            max_checks=str(self._max_checks),
        )
        message = Message("user", (source, text))
        request = ChatRequest((message,), max_tokens=self._max_tokens, schema=_SCHEMA)
        for attempt in range(_TRIES):
            try:
                checks = self._read((await self._chat(request)).text)
            except BadReply:
                checks = EditChecks(())
            if checks.wanted:
                return checks
            request = replace(request, temperature=_RETRY_TEMPERATURE, seed=attempt + 1)
        return EditChecks((overall_edit_check(instruction),))

    def _read(self, text: str) -> EditChecks:
        try:
            data = json.loads(text[text.find("{") : text.rfind("}") + 1])
        except (ValueError, RecursionError):
            return EditChecks(())
        if not isinstance(data, dict):
            return EditChecks(())
        wanted = self._list(data.get("wanted"))
        # Asked for both ways, a question would reward leaving the picture alone.
        return EditChecks(wanted, tuple(check for check in self._list(data.get("kept")) if check not in wanted))

    def _list(self, entries: object) -> Checklist:
        """The usable checks among `entries`, by the rules of all checklists."""
        found, _ = parse_json(json.dumps({"checks": entries})) if isinstance(entries, list) else ([], 0)
        return tuple(dict.fromkeys(found))[: self._max_checks]


def overall_edit_check(instruction: str) -> Check:
    """The one question that stands in for an edit's checklist."""
    return Check(OVERALL, f"Does the picture look as if this had been done to it?\n{fence(instruction)}")
