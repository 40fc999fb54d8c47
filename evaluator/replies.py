"""One reader for the reply formats of published reward models.

    UnifiedReward, pair    Image 1 is better.   Image 2 is better.   Both images are equally good.
    UnifiedReward-Think    <think>...</think><answer>Image 1 is better</answer>
    UnifiedReward, point   lines "a red fox (object): 1" and "Final Score: 4"
    UnifiedReward, ACS     "Alignment Score: 4.1", "Coherence Score: ...", "Style Score: ..."
    MJ-Bench               "IMAGE-1 RATING: Good", "IMAGE-2 RATING: 3", "BETTER IMAGE: 2"
    RealBench              "More Realistic Image: Image 1"
    EditScore, VIEScore    {"reasoning": "...", "score": [20, 25]}

Words around them are ignored. If a reply holds several answers the last counts, since models think before they answer.
Scores are as the reply has them; the caller knows their scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from redraft.errors import BadReply, one_line
from redraft.json_replies import json_objects

LIKERT = ("Extremely Poor", "Poor", "Average", "Good", "Outstanding")
"""MJ-Bench's five words, the worst first; it finds them steadier than numbers."""

_NUMBER = r"-?\d+(?:\.\d+)?"
_THINK = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_BETTER = re.compile(
    r"\bimage[ -]?([12]) is (?:the )?better\b|\b(?:better|more realistic) image:? *(?:image[ -]?)?([012])\b",
    re.IGNORECASE,
)
_EQUAL = re.compile(r"\bboth images are equally good\b|\bbetter image:? *(?:tie|both|neither)\b", re.IGNORECASE)
_ELEMENT = re.compile(r"^(.+?) \(([\w \-/]+)\): *([01])\b", re.MULTILINE)
_SCORE = re.compile(rf"\b(final|alignment|coherence|style) score(?: \([^)\n]{{0,80}}\))?: *({_NUMBER})", re.IGNORECASE)
_RATING = re.compile(
    rf"\bimage[ -]?([12]) rating: *(?:({_NUMBER})|({'|'.join(sorted(LIKERT, key=len, reverse=True))})\b)", re.IGNORECASE
)


@dataclass(frozen=True)
class Reply:
    """What a reply says. `winner`: 1, 2, or 0 for a tie; None if none is named. `scores`: by name (final, alignment,
    coherence, style; "1" and "2" for each image's rating, a Likert word as 1 to 5; "score 1", "score 2" for the numbers
    of a JSON reply). `elements`: whether each element is in the picture."""

    winner: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    elements: Mapping[str, bool] = field(default_factory=dict)
    reasoning: str = ""


def read_reply(text: str) -> Reply:
    """What the reply says, in any of the formats. Raises BadReply if it is in none of them."""
    thoughts = "".join(match[0] for match in _THINK.finditer(text))
    spoken = _THINK.sub("", text)
    answers = _ANSWER.findall(spoken)
    answer = answers[-1] if answers else spoken
    scores = {match[1].lower(): float(match[2]) for match in _SCORE.finditer(answer)}
    for match in _RATING.finditer(answer):
        scores[match[1]] = float(match[2]) if match[2] else 1.0 + [w.lower() for w in LIKERT].index(match[3].lower())
    elements = {
        match[1].lstrip(" -*").strip() or match[1].strip(): match[3] == "1" for match in _ELEMENT.finditer(answer)
    }
    reasoning = re.sub(r"</?think>", "", thoughts, flags=re.IGNORECASE).strip()
    for value in json_objects(answer):
        numbers = value.get("score")
        if isinstance(numbers, list) and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
            scores |= {f"score {k}": float(number) for k, number in enumerate(numbers, start=1)}
            reasoning = str(value.get("reasoning", reasoning))
    winner = _winner(answer)
    if winner is None and {"1", "2"} <= scores.keys():
        winner = 0 if scores["1"] == scores["2"] else 1 if scores["1"] > scores["2"] else 2
    if winner is None and not scores and not elements:
        raise BadReply(f"no verdict in {one_line(text)!r}")
    return Reply(winner, scores, elements, reasoning)


def _winner(answer: str) -> int | None:
    named = [(match.start(), int(match[1] or match[2])) for match in _BETTER.finditer(answer)]
    named += [(match.start(), 0) for match in _EQUAL.finditer(answer)]
    return max(named)[1] if named else None
