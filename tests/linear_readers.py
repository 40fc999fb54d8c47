"""Readers of outside text and bytes, and what to feed them: see test_linear.py."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from PIL import Image

from agent.chat.commands import parse_command
from agent.serve.guard import COOKIE, read_cookie
from agent.serve.openai.drawing import sse
from agent.serve.openai.routes import require_few_parts
from agent.serve.openai.tasks import FrontEndTask, answer_by_rule, read_task
from agent.serve.openai.wire import markdown_pictures
from evaluator.checklist import parse_json, parse_lines
from evaluator.coverage import find_coverage
from evaluator.frames import read_clip_answer
from evaluator.replies import read_reply
from evaluator.server_judge import read_explanation
from evaluator.train.unlabelled import swap_sides
from evaluator.types import Check
from mini.judge.relations import mend_checks
from mini.phrasebook.phrases import LONGEST, load_phrases
from mini.phrasebook.turns import _HOW_MANY, _WHAT_IS_THERE, _WHAT_QUALITY
from mini.world.scope import CutoutScope
from redraft.chat import is_cut_off, with_think_tags
from redraft.errors import InputError
from redraft.images import read_image, read_mask
from redraft.json_replies import json_in, json_objects
from redraft.openai_chat import defuse
from redraft.options import DrawOptions
from redraft.templates import fence, unfence
from rewriter.batch.tables import RawRow, open_source, parse_jsonl, parse_text, read_row
from rewriter.guard import check_intent
from rewriter.keep import KeepSettings, reason_to_keep
from rewriter.reply import parse_reply
from rewriter.request import clean_request
from rewriter.train.gepa import read_text
from rewriter.turns import answer_small_talk, is_thanks

PIECES = (
    "![", "![](", "](", "<think>", "</think>", "<answer>", "</answer>", "<think><answer>x</answer>", "<", "&lt;", "</",
    "\u200b", "<\u200b", "t\u200bh", "\n", " ", "\t\n", "\r\n", "```\n", "\n```", "```json\n", "~~~\n", "`", "``a",
    '"', "'", "“", "„a", "«", "「", '\\"', "\\", "[", "]", "{", "}", '{"a":', "[[", "**", "__", "a ", "a, ", "a", "ａ",
    "-", "--a ", "1", "1,", "1.", "one ", "red ", "no ", "not a ", "not ", "Anna ", "A", "A1-", "的", "あ", "。", "가",
    "e\u0301", "\u0301", "\ufeff", "\u202e", "&", "&amp;", "negative prompt:", "Here is the prompt: ", "| ", "- a\n",
    "<|x|>", "</s>", "x=", "=;", ";", ":", "a:", "(", ")", "()", "?", "!", ". ", "a.b", "/", "{{", "{{a}}", "#", "$",
    '"reason": "', '"reason": "\\', "Better image: ", "a (b): ", "1) ", "* ", "·", "ال", "и ", "и", "\u0000", "and ",
    "final score (", "image 1 rating: ", "above ", "star ", "it looks good, ", "image 1 is ", '"a\n', ';"', "\t",
)  # fmt: skip

KEEP_ALL = KeepSettings(languages=("en",), syntax=True, code=True, orders=True, wordless=True, max_words=9999)
PICTURE = Image.new("L", (8, 8), 255)


def _read_size_or_none(text: str) -> str | None:
    try:
        return DrawOptions.read({"size": text}).size
    except InputError:
        return None


def coded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind)
    return buffer.getvalue()


def png_with(*chunks: bytes) -> bytes:
    """A PNG with chunks, kind and data by turns, behind its header."""
    whole, packed = saved("PNG"), []
    for kind, data in zip(chunks[::2], chunks[1::2], strict=True):
        packed.append(struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data)))
    return whole[:33] + b"".join(packed) + whole[33:]


def jpeg_with(*segments: Any) -> bytes:
    """A JPEG with segments, marker and data by turns, behind its start."""
    whole, packed = saved("JPEG"), []
    for marker, data in zip(segments[::2], segments[1::2], strict=True):
        packed.append(struct.pack("!BBH", 0xFF, marker, min(len(data), 65533) + 2) + data[:65533])
    return whole[:2] + b"".join(packed) + whole[2:]


def gif_with(comment: bytes) -> bytes:
    """A GIF with a comment, in blocks of at most eight bytes, before its picture."""
    whole = saved("GIF")
    start = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    blocks = (comment[at : at + 8] for at in range(0, len(comment), 8))
    packed = b"".join(b"\x21\xfe" + bytes([len(block)]) + block + b"\0" for block in blocks)
    return whole[:start] + packed + whole[start:]


def read_table(text: str, parse: Callable[[BinaryIO, str], Iterator[RawRow]]) -> None:
    for row in parse(io.BytesIO(coded(text)), "a table"):
        read_row(row, "request")


def read_csv(text: str) -> None:
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(coded(text))
        file.flush()
        for _ in open_source(file.name).rows():
            pass


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
    "answer on clips, new text": (
        lambda text: (read_clip_answer(text), read_text(text, "rewrite"), swap_sides(text)),
        16000,
    ),
    "checklist, lines": (lambda text: parse_lines(text), 16000),
    "checklist, JSON": (lambda text: parse_json(text), 16000),
    "request": (lambda text: clean_request(text), 16000),
    "fences for people": (lambda text: unfence(f"<user_prompt>\n{text}"), 16000),
    "fence": (lambda text: fence(text), 16000),
    "special tokens": (lambda text: defuse(text), 16000),
    "markdown pictures": (lambda text: list(markdown_pictures(text)), 16000),
    "front ends' tasks": (lambda text: read_task(text), 16000),
    "front ends' tasks, begun": (lambda text: read_task(f"### Task:\nGenerate a title {text}"), 16000),
    "titles by rule": (lambda text: answer_by_rule(FrontEndTask("title", f"<chat_history>\n{text}")), 16000),
    "sizes": (lambda text: _read_size_or_none(text), 4000),
    "cookies": (lambda text: read_cookie(text, COOKIE), 16000),
    "chat command": (lambda text: parse_command(f"/draw {text}"), 4000),
    "guard, request": (lambda text: check_intent(text, "A red fox in fresh snow."), 4000),
    "guard, rewrite": (lambda text: check_intent("a red fox", text), 4000),
    "coverage": (lambda text: find_coverage(text, ()), 4000),
    "requests to keep": (lambda text: reason_to_keep(text, KEEP_ALL), 4000),
    "relations of cut-outs": (lambda text: mend_checks(text, (Check("existence", "Is there a red star?"),)), 4000),
    "small talk": (lambda text: answer_small_talk(text), 16000),
    "what is there": (lambda text: _WHAT_IS_THERE.fullmatch(f"what do you see {text}"), LONGEST),
    "what quality": (lambda text: _WHAT_QUALITY.fullmatch(f"what colour is {text}"), LONGEST),
    "thanks": (lambda text: is_thanks(text), 16000),
    "phrase book": (lambda text: load_phrases().read(text), LONGEST),
    "phrase book, too long": (lambda text: load_phrases().read(text + " " * LONGEST), 16000),
    "question of a number": (lambda text: _HOW_MANY.fullmatch(f"how many {text}"), LONGEST),
    "values of a body": (lambda text: require_few_parts(text.encode("utf-8", "replace") * 40), 16000),
    "event stream": (lambda text: (sse({"text": text}, "event"), json.loads(json.dumps(text))), 16000),
    "table, text": (lambda text: read_table(text, parse_text), 16000),
    "table, JSON lines": (lambda text: read_table(text, parse_jsonl), 16000),
    "table, JSON strings": (lambda text: read_table(json.dumps({"request": text}), parse_jsonl), 16000),
    "table, CSV": (lambda text: read_csv(f"request\n{text}"), 16000),
    "table, CSV header": (lambda text: read_csv(text), 16000),
    "picture": (lambda text: read_image(text.encode("utf-8", "replace")), 16000),
    "picture, PNG text": (lambda text: read_image(png_with(b"tEXt", b"Comment\0" + coded(text))), 16000),
    "picture, PNG chunks": (
        lambda text: read_image(png_with(*(len(text) // 8 * (b"tEXt", b"a\0" + coded(text[:8]))))),
        16000,
    ),
    "picture, EXIF": (lambda text: read_image(jpeg_with(0xE1, b"Exif\0\0" + coded(text))), 16000),
    "picture, JPEG comments": (lambda text: read_image(jpeg_with(*(len(text) // 8 * (0xFE, coded(text[:8]))))), 16000),
    "mask, GIF comments": (lambda text: read_mask(gif_with(coded(text))), 16000),
    "scope": (lambda text: CutoutScope().words_outside(text), 4000),
}
"""Each with the most characters it is given: what is longer is refused or cut before it is read."""
