"""Clips and views of things: what several pictures of one thing say together. Judging only; nothing here makes clips.

    clip = read_frames(Path("boat.mp4"), sample_segments)            # four frames of it, at random in four segments
    report = await judge_frames(reward, case, clip)                  # by the reward that judges single pictures

`redraft judge boat.mp4 "a boat sails to the left"` does that. `SelectingClipJudge` compares two clips with a model that may ask
to see more frames. The criterion `views` (`evaluator.criteria.views`) judges views of a thing in space.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from evaluator.criteria.checks import write_feedback
from evaluator.pairs.judges import Comparison
from evaluator.reward import Reward
from evaluator.types import Case, Outcome, Reading, Report, Shot, Verdict
from redraft.chat import ChatModel, ChatRequest, Message, Part
from redraft.errors import BackendError, InputError, one_line
from redraft.extras import require
from redraft.images import MAX_PIXELS
from redraft.json_replies import json_objects
from redraft.templates import fence, fill, load_template

VIDEOS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
MAX_FRAMES = 3000
"""Longest clip that is read: 100 seconds at 30 frames a second."""
MAX_CLIP_PIXELS = 4_000_000_000
"""Frames times their pixels, all of which may have to be decoded: 3,000 frames of 1280 x 1024."""
MAX_VIDEO_BYTES = 256 * 2**20

SampleFrames = Callable[[int], Sequence[int]]
"""(frames of a clip) to the indexes of those that are looked at, in order."""


@dataclass(frozen=True)
class Clip:
    """Frames of a clip: which they are (from 0), and of how many."""

    frames: tuple[Image.Image, ...]
    indexes: tuple[int, ...]
    count: int

    @property
    def weights(self) -> tuple[float, ...]:
        """InstructVideo's temporal attenuation of each frame."""
        return tuple(attenuation(index, self.count) for index in self.indexes)


def sample_segments(count: int, segments: int = 4, seed: int | None = None) -> tuple[int, ...]:
    """A frame of each of `segments` equal parts of a clip of `count` frames (InstructVideo's segmental sampling):

        g(i) ~ U((i - 1) F / S, i F / S - 1)

    With a `seed` at random, without one the middle of each part: so that a clip gets one score. Short clips give fewer.
    """
    if count < 1 or segments < 1:
        raise ValueError(f"{count} frames in {segments} segments")
    rng = None if seed is None else random.Random(seed)
    chosen = []
    for number in range(min(segments, count)):
        low = number * count // min(segments, count)
        high = max(low, (number + 1) * count // min(segments, count) - 1)
        chosen.append((low + high) // 2 if rng is None else rng.randint(low, high))
    return tuple(chosen)


def attenuation(index: int, count: int, rate: float = 1.0) -> float:
    """How much a frame counts by InstructVideo's temporal attenuation, relative to the frame in the middle:

        f = exp(-rate |g - F/2| * 16 / F)

    The paper has clips of F = 16 frames; its distance is scaled to that length here, so that longer clips are not judged by their
    middle alone (ours)."""
    return math.exp(-rate * abs(index - count / 2) * 16 / count)


def even_weights(clip: Clip) -> tuple[float, ...]:
    """Every frame counts the same: for views, and for clips whose beginning and end matter."""
    return (1.0,) * len(clip.frames)


def is_video(path: Path) -> bool:
    """Whether a file is read as a clip, by the end of its name."""
    return path.suffix.lower() in VIDEOS


def read_frames(path: Path, sample: SampleFrames = sample_segments, *, most: int = MAX_FRAMES) -> Clip:
    """The frames of a video file that `sample` chooses, RGB. Needs the extra `video`.

    The container must be MP4, MOV, Matroska, WebM or AVI by its first bytes: playlists, which can name other files, are none.
    Raises InputError for other files, damaged ones, and clips of more than `most` frames or MAX_CLIP_PIXELS.
    """
    require("video", "reading the frames of a clip")
    import av

    try:
        if path.stat().st_size > MAX_VIDEO_BYTES:
            raise InputError(f"{path} is larger than {MAX_VIDEO_BYTES >> 20} MiB; cut it")
        with path.open("rb") as file:
            container = _container_of(file.read(16), path)
            file.seek(0)
            count = _count_frames(file, container, path, most)
            wanted = tuple(sample(count))
            file.seek(0)
            with av.open(file, format=container, options=_OPTIONS) as opened:
                made: dict[int, Image.Image] = {}
                for index, frame in enumerate(opened.decode(video=0)):
                    if index in wanted:
                        made[index] = frame.to_image().convert("RGB")
                    if index >= max(wanted):
                        break
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise InputError(f"cannot read the clip {path}: {one_line(error)}") from error
    indexes = tuple(index for index in wanted if index in made)
    if not indexes:
        raise InputError(f"{path} is damaged: none of its {count} frames could be decoded")
    return Clip(tuple(made[index] for index in indexes), indexes, count)


_OPTIONS = {"protocol_whitelist": ""}
"""A container may not open anything besides the file."""


def _container_of(start: bytes, path: Path) -> str:
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if start.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return "avi"
    raise InputError(f"{path} is no MP4, MOV, Matroska, WebM or AVI file")


def _count_frames(file: Any, container: str, path: Path, most: int) -> int:
    """The number of frames, by the packets of the stream, of which nothing is decoded."""
    import av

    with av.open(file, format=container, options=_OPTIONS) as opened:
        if not opened.streams.video:
            raise InputError(f"{path} holds no pictures")
        stream = opened.streams.video[0]
        pixels = stream.codec_context.width * stream.codec_context.height
        if not 0 < pixels <= MAX_PIXELS:
            raise InputError(f"{path} has frames of {pixels:,} pixels; 1 to {MAX_PIXELS:,} are taken")
        most = min(most, MAX_CLIP_PIXELS // pixels)
        count = 0
        for packet in opened.demux(stream):
            count += packet.size > 0
            if count > most:
                raise InputError(f"{path} has more than {most:,} frames of this size; cut it")
    if not count:
        raise InputError(f"{path} holds no frames")
    return count


async def judge_frames(reward: Reward, case: Case, clip: Clip, weights: Sequence[float] | None = None) -> Report:
    """One report on a clip: each frame is judged as a picture, and what they say is averaged by `weights`, which are the clip's
    own by default. A frame of which nothing is known counts for nothing."""
    reports = await reward(case, [Shot((frame,)) for frame in clip.frames])
    return merge_reports(reports, clip.weights if weights is None else weights, reward)


def merge_reports(reports: Sequence[Report], weights: Sequence[float], reward: Reward) -> Report:
    """The weighted mean of reports on one case: of the answers to each check, of each criterion, and of the score. What FAILED
    in all of them FAILED. InstructVideo does not divide by the weights; here it is done, so that a clip whose every frame is
    right has the score 1. Raises ValueError without reports."""
    if not reports or len(reports) != len(weights):
        raise ValueError(f"{len(reports)} reports with {len(weights)} weights")
    if len(reports) == 1:
        return reports[0]
    columns = zip(*(report.verdicts for report in reports), strict=True)
    verdicts = tuple(_merge_verdicts(column, weights) for column in columns)
    readings = {
        name: _merge_readings([report.readings[name] for report in reports], weights) for name in reports[0].readings
    }
    failed = sum(verdict.outcome is Outcome.FAILED for verdict in verdicts)
    failed += sum(reading.outcome is Outcome.FAILED and not reading.answers for reading in readings.values())
    low = {
        name: reading.value
        for name, reading in readings.items()
        if reading.value is not None and reading.value < reward.floors.get(name, 0.0)
    }
    return Report(
        verdicts=verdicts,
        score=_weigh([report.score for report in reports], weights),
        failed=failed,
        feedback=(
            *write_feedback(verdicts, reward.pass_at),
            *(f"{name} is {value:.2f}, below {reward.floors[name]:g}" for name, value in low.items()),
        ),
        unchecked=reports[0].unchecked,
        below=tuple(low),
        readings=readings,
    )


def _weigh(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    known = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total > 0 else None


def _merge_verdicts(verdicts: Sequence[Verdict], weights: Sequence[float]) -> Verdict:
    p = _weigh([v.probability if v.outcome is Outcome.SCORED else None for v in verdicts], weights)
    if p is None:
        return verdicts[0]
    known = [verdict for verdict in verdicts if verdict.outcome is Outcome.SCORED]
    masses = [verdict.label_mass for verdict in known if verdict.label_mass is not None]
    return replace(known[0], probability=p, label_mass=fmean(masses) if masses else None, region=None, looks=len(known))


def _merge_readings(readings: Sequence[Reading], weights: Sequence[float]) -> Reading:
    value = _weigh([reading.value for reading in readings], weights)
    if value is None:
        return readings[0]
    known = next(reading for reading in readings if reading.value is not None)
    return replace(known, outcome=Outcome.SCORED, value=value)


DIMENSIONS = ("TA", "MQ", "VQ", "OA")
"""Text alignment, motion quality, visual quality, overall: what VR-Thinker compares two clips in."""
_ANSWER = re.compile(r"<answer>([^<]{0,200})</answer>")
_ITEM = re.compile(r"\b(TA|MQ|VQ|OA|CF)\s{0,4}=\s{0,4}(\d)\b")


def read_clip_answer(text: str) -> Mapping[str, int] | None:
    """VR-Thinker's answer, `<answer>TA=2, MQ=0, VQ=2, OA=2, CF=2</answer>`: 1 or 2 for the better clip, 0 for a tie; CF is the
    confidence, 1 (high) to 3. None unless the last answer has OA and every value is in range.

    >>> read_clip_answer("<think>…</think><answer>TA=1, MQ=0, VQ=1, OA=1, CF=1</answer>")["OA"]
    1
    """
    answers = _ANSWER.findall(text)
    items = {name: int(value) for name, value in _ITEM.findall(answers[-1])} if answers else {}
    fits = all(1 <= value <= 3 if name == "CF" else value <= 2 for name, value in items.items())
    return items if fits and "OA" in items else None


def read_frame_call(text: str, count: int) -> tuple[int, ...] | None:
    """The frames that a reply asks to see, by a call {"name": "select_frames", "arguments": {"target_frames": [3, 5]}}, numbered
    from 1; those that there are, each once. None if the reply makes no such call."""
    for call in json_objects(text):
        arguments = call.get("arguments")
        wanted = arguments.get("target_frames") if isinstance(arguments, dict) else None
        if call.get("name") == "select_frames" and isinstance(wanted, list):
            numbers = [n for n in wanted if isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= count]
            return tuple(dict.fromkeys(numbers))
    return None


class SelectingClipJudge:
    """Compares two clips with a chat model that sees a few frames of each, and may ask for others before it answers (VR-Thinker).

    The frames of both clips are numbered through, the first clip's first. `shown`: how many frames of both the model sees at
    first; `memory`: how many of its own selections stay in view, the last; older ones are told, not shown, so that a long look
    costs no more than a short one. `most`: how often it may ask. P(first is better) is 1, 0 or 0.5 for a tie, drawn towards 0.5
    by a confidence of 2 or 3 (a quarter and a half of the way: ours).
    """

    name = "selecting"

    def __init__(
        self, chat: ChatModel, *, shown: int = 8, memory: int = 1, most: int = 4, each: int = 8, style: str = "frames"
    ) -> None:
        if min(shown // 2, memory, most, each) < 1:
            raise ValueError("shown must be at least 2; memory, most and each at least 1")
        self._chat = chat
        self._shown, self._memory, self._most, self._each = shown, memory, most, each
        self._ask = load_template("evaluator", style, "compare")
        self._selected = load_template("evaluator", style, "selected")

    async def __call__(self, request: str, first: Sequence[Image.Image], second: Sequence[Image.Image]) -> Comparison:
        """Which clip shows the request better. A failure is in the comparison, never raised."""
        frames = [*first, *second]
        half = self._shown // 2
        start = [n + 1 for n in sample_segments(len(first), half)]
        start += [len(first) + n + 1 for n in sample_segments(len(second), half)]
        text = fill(
            self._ask,
            fenced_request=fence(request),
            first=f"1 to {len(first)}",
            second=f"{len(first) + 1} to {len(frames)}",
            shown=", ".join(map(str, start)),
        )
        opening = Message("user", (*(frames[n - 1] for n in start), text))
        turns: list[tuple[str, tuple[int, ...]]] = []
        raw = ""
        for _ in range(self._most + 1):
            try:
                reply = await self._chat(ChatRequest((opening, *self._recall(turns, frames)), max_tokens=1024))
            except BackendError as error:
                return Comparison(None, f"the judge could not be asked: {one_line(error)}")
            raw = reply.text
            answer = read_clip_answer(raw)
            if answer is not None:
                return Comparison(_p_first(answer), raw=raw)
            wanted = read_frame_call(raw, len(frames))
            if wanted is None:
                break
            turns.append((raw, wanted[: self._each]))
        return Comparison(None, "no answer could be read", raw)

    def _recall(self, turns: Sequence[tuple[str, tuple[int, ...]]], frames: Sequence[Image.Image]) -> list[Message]:
        """The conversation so far: what the model said, and the frames that it asked for, of the last selections."""
        messages: list[Message] = []
        for number, (said, wanted) in enumerate(turns):
            shown = wanted if number >= len(turns) - self._memory else ()
            numbers = ", ".join(map(str, wanted)) or "none"
            text = fill(self._selected, numbers=numbers, state="shown here" if shown else "no longer shown")
            content: tuple[Part, ...] = (*(frames[n - 1] for n in shown), text)
            messages += [Message("assistant", said), Message("user", content)]
        return messages


def _p_first(answer: Mapping[str, int]) -> float:
    """P(first is better) of an answer, nearer to 0.5 the less sure it is."""
    clear = {1: 1.0, 2: 0.0}.get(answer["OA"], 0.5)
    return 0.5 + (clear - 0.5) * {1: 1.0, 2: 0.75, 3: 0.5}[answer.get("CF", 1)]
