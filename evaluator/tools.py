"""Tools: what answers some checks better than a model's guess, and the judge that asks a tool before its model.

    judge = ToolJudge(open_judge(config), (TextTool(RapidReader()),))
    [verdict] = await judge(image, 'a sign "OPEN"', [Check("text_rendering", 'Does the sign read "OPEN"?')])
    verdict.by          # "ocr"; the judge's name if the tool could not see, or not read the question

A tool of one's own is a class with `name`, `reads` and `__call__`, named in the profile by its dotted path:
`[judge] tools = ["ocr", "my_tools:Counter"]`. It is made without arguments.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Protocol

from PIL import Image

from evaluator.types import Check, Judge, Outcome, Verdict
from redraft.errors import MissingExtra
from redraft.profiles import DetectorConfig, PartConfig, load_part

_log = logging.getLogger(__name__)


class Tool(Protocol):
    """Answers checks of some kinds about a picture.

    `reads` says, without a picture, whether it understands the question. A call gives one verdict for each check, in order,
    None for one that it cannot answer of this picture: the judge is asked then. It names itself in `by`, and raises nothing
    but programming errors.
    """

    @property
    def name(self) -> str: ...

    def reads(self, request: str, check: Check) -> bool: ...

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict | None]: ...


class ToolJudge:
    """A Judge that asks each of `tools` in turn what it reads, and `judge` what is left."""

    def __init__(self, judge: Judge, tools: Sequence[Tool]) -> None:
        self.judge = judge
        self.tools = tuple(tools)

    @property
    def name(self) -> str:
        return self.judge.name

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        answers: list[Verdict | None] = [None] * len(checks)
        for tool in self.tools:
            places = [n for n, check in enumerate(checks) if answers[n] is None and tool.reads(request, check)]
            if places:
                for n, verdict in zip(places, await tool(image, request, [checks[n] for n in places]), strict=True):
                    answers[n] = None if verdict is None else replace(verdict, by=verdict.by or tool.name)
        left = [n for n, answer in enumerate(answers) if answer is None]
        if left:
            rest = await self.judge(image, request, [checks[n] for n in left])
            for n, verdict in zip(left, rest, strict=True):
                answers[n] = replace(verdict, by=verdict.by or self.judge.name)
        return [answer for answer in answers if answer is not None]


def open_tools(names: Sequence[str], detector: DetectorConfig | None = None) -> tuple[Tool, ...]:
    """The tools of a profile: "ocr", "count" by `detector`, or a dotted path. One whose extra is not installed is left out, and
    a warning says so once. Raises ConfigError for a path that cannot be imported."""
    made: list[Tool] = []
    for name in names:
        try:
            made.append(_open(name, detector))
        except MissingExtra as error:
            _hint(name, str(error))
    return tuple(made)


def _open(name: str, detector: DetectorConfig | None) -> Tool:
    if name == "ocr":
        from evaluator.ocr import open_text_tool

        return open_text_tool()
    if name == "count" and detector is not None:
        from evaluator.counting import open_count_tool

        return open_count_tool(detector)
    tool: Tool = load_part(PartConfig(use=name))()
    return tool


@cache
def _hint(name: str, error: str) -> None:
    """Once in a process for each tool: the cache remembers."""
    _log.warning("the tool %s is left out, and the judge answers in its place: %s", name, error)


def tool_verdict(check: Check, probability: float, reason: str, by: str) -> Verdict:
    """A tool's answer with what it saw."""
    return Verdict(check, Outcome.SCORED, probability=probability, reason=reason, by=by)
