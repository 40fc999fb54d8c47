"""Readers of outside text and bytes, and what to feed them: see test_linear.py."""

from __future__ import annotations

from collections.abc import Callable

from agent.chat.commands import parse_command
from agent.serve.guard import COOKIE, read_cookie
from agent.serve.openai.wire import markdown_pictures
from evaluator.checklist import parse_json, parse_lines
from evaluator.coverage import find_coverage
from evaluator.replies import read_reply
from evaluator.server_judge import read_explanation
from evaluator.types import Check
from mini.judge.relations import mend_checks
from mini.phrasebook.phrases import load_phrases
from mini.world.scope import CutoutScope
from redraft.chat import is_cut_off, with_think_tags
from redraft.json_replies import json_in, json_objects
from redraft.openai_chat import defuse
from redraft.templates import fence
from rewriter.guard import check_intent
from rewriter.keep import KeepSettings, reason_to_keep
from rewriter.reply import parse_reply
from rewriter.request import clean_request
from rewriter.turns import is_thanks

PIECES = (
    "![", "![](", "](", "<think>", "</think>", "<answer>", "</answer>", "<think><answer>x</answer>", "<", "&lt;", "</",
    "\u200b", "<\u200b", "t\u200bh", "\n", " ", "\t\n", "\r\n", "```\n", "\n```", "```json\n", "~~~\n", "`", "``a",
    '"', "'", "“", "„a", "«", "「", '\\"', "\\", "[", "]", "{", "}", '{"a":', "[[", "**", "__", "a ", "a, ", "a", "ａ",
    "-", "--a ", "1", "1,", "1.", "one ", "red ", "no ", "not a ", "not ", "Anna ", "A", "A1-", "的", "あ", "。", "가",
    "e\u0301", "\u0301", "\ufeff", "\u202e", "&", "&amp;", "negative prompt:", "Here is the prompt: ", "| ", "- a\n",
    "<|x|>", "</s>", "x=", "=;", ";", ":", "a:", "(", ")", "()", "?", "!", ". ", "a.b", "/", "{{", "{{a}}", "#", "$",
    '"reason": "', '"reason": "\\', "Better image: ", "a (b): ", "1) ", "* ", "·", "ال", "и ", "и", "\u0000", "and ",
    "final score (", "image 1 rating: ", "above ", "star ", "it looks good, ", "image 1 is ",
)  # fmt: skip

KEEP_ALL = KeepSettings(languages=("en",), syntax=True, code=True, orders=True, wordless=True, max_words=9999)

READERS: dict[str, tuple[Callable[[str], object], int]] = {
    "reply": (lambda text: parse_reply(text), 16000),
    "reply in an answer": (lambda text: parse_reply(f"<answer>{text}x{text}</answer>"), 8000),
    "reply cut off": (lambda text: parse_reply(f"<think>{text}", truncated=True), 16000),
    "reply, reasoning split off": (lambda text: parse_reply(text, reasoning=text), 16000),
    "JSON reply": (lambda text: json_in(text), 16000),
    "fenced JSON reply": (lambda text: json_in(f"```json\n{text}\n```"), 16000),
    "think tags": (lambda text: (with_think_tags(text), is_cut_off(None, text)), 16000),
    "judge's reply": (lambda text: read_reply(text), 16000),
    "judge's JSON": (lambda text: list(json_objects(text)), 16000),
    "judge's reason": (lambda text: read_explanation(text, "pixels", (8, 8)), 16000),
    "checklist, lines": (lambda text: parse_lines(text), 16000),
    "checklist, JSON": (lambda text: parse_json(text), 16000),
    "request": (lambda text: clean_request(text), 16000),
    "fence": (lambda text: fence(text), 16000),
    "special tokens": (lambda text: defuse(text), 16000),
    "markdown pictures": (lambda text: list(markdown_pictures(text)), 16000),
    "cookies": (lambda text: read_cookie(text, COOKIE), 16000),
    "chat command": (lambda text: parse_command(f"/draw {text}"), 4000),
    "guard, request": (lambda text: check_intent(text, "A red fox in fresh snow."), 4000),
    "guard, rewrite": (lambda text: check_intent("a red fox", text), 4000),
    "coverage": (lambda text: find_coverage(text, ()), 4000),
    "phrase book": (lambda text: load_phrases().read(text), 1000),
    "requests to keep": (lambda text: reason_to_keep(text, KEEP_ALL), 4000),
    "relations of cut-outs": (lambda text: mend_checks(text, (Check("existence", "Is there a red star?"),)), 4000),
    "thanks": (lambda text: is_thanks(text), 16000),
    "scope": (lambda text: CutoutScope().words_outside(text), 4000),
}
"""Each with the most characters it is given: what is longer is refused or cut before it is read."""
