"""Clips and views: which frames are looked at, what they say together, and what is read of a model that asks for more."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from evaluator.criteria.views import GEOMETRY, Views
from evaluator.frames import (
    Clip,
    SelectingClipJudge,
    attenuation,
    even_weights,
    judge_frames,
    read_clip_answer,
    read_frame_call,
    read_frames,
    sample_segments,
)
from evaluator.reward import checks_reward
from evaluator.testing import FakeJudge
from evaluator.types import Case, Check, Outcome, Shot
from redraft.chat import ChatRequest
from redraft.errors import BackendError, InputError
from redraft.testing import FakeChat, text_of

LEFT = Check("entity_layout", "Is the boat at the left?")
CASE = Case("a boat sails to the left", (LEFT,))


def grey(*levels: int) -> tuple[Image.Image, ...]:
    return tuple(Image.new("RGB", (16, 16), (level, level, level)) for level in levels)


def level_of(image: Image.Image) -> float:
    return image.convert("L").getpixel((8, 8)) / 255  # type: ignore[operator]


def test_one_frame_of_each_segment() -> None:
    assert sample_segments(16) == (1, 5, 9, 13), "the middles"
    for seed in range(20):
        chosen = sample_segments(16, seed=seed)
        assert all(4 * n <= index <= 4 * n + 3 for n, index in enumerate(chosen))
    assert len({sample_segments(16, seed=seed) for seed in range(20)}) > 1
    assert sample_segments(2) == (0, 1)


def test_frames_count_less_the_further_they_are_from_the_middle() -> None:
    assert attenuation(8, 16) == 1.0
    assert attenuation(5, 16) == pytest.approx(math.exp(-3))
    assert attenuation(50, 160) == pytest.approx(math.exp(-3)), "by place in the clip, not by its length"


async def test_a_clip_has_the_weighted_mean_of_its_frames() -> None:
    reward = checks_reward(FakeJudge(lambda image, request, check: level_of(image)))
    clip = Clip(grey(0, 255, 255), (5, 8, 11), 16)
    report = await judge_frames(reward, CASE, clip)
    e = math.exp(-3)
    assert report.score == pytest.approx((1 + e) / (1 + 2 * e))
    assert report.verdicts[0].probability == pytest.approx(report.score)
    even = await judge_frames(reward, CASE, clip, even_weights(clip))
    assert even.score == pytest.approx(2 / 3)


async def test_a_frame_that_failed_counts_for_nothing() -> None:
    reward = checks_reward(FakeJudge(lambda image, _, check: Outcome.FAILED if level_of(image) < 0.1 else 0.75))
    report = await judge_frames(reward, CASE, Clip(grey(0, 200), (0, 1), 2))
    assert (report.score, report.failed) == (pytest.approx(0.75), 0)
    report = await judge_frames(reward, CASE, Clip(grey(0, 0), (0, 1), 2))
    assert (report.score, report.failed) == (None, 1)


async def test_views_are_asked_for_meaning_and_shape_and_meet_in_log_odds() -> None:
    criterion = Views(FakeJudge(lambda image, _, check: 0.5 if check == GEOMETRY else level_of(image)))
    [reading] = await criterion(CASE, [Shot(grey(204, 51))])
    assert reading.value == pytest.approx(0.5), "0.8 and 0.2 cancel out"
    [reading] = await criterion(CASE, [Shot(grey(204, 204))])
    assert reading.value == pytest.approx(1 / (1 + math.exp(-math.log(4) / 2)))
    lost = Views(FakeJudge(lambda image, _, check: BackendError("gone")))
    [reading] = await lost(CASE, [Shot(grey(204))])
    assert (reading.outcome, reading.value) == (Outcome.FAILED, None)


def write_clip(path: Path, levels: list[int]) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for level in levels:
            frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32), (level, level, level)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_frames_of_a_video_file(tmp_path: Path) -> None:
    clip = read_frames(write_clip(tmp_path / "a.mp4", [0, 0, 80, 80, 160, 160, 240, 240]))
    assert (clip.count, clip.indexes) == (8, (0, 2, 4, 6))
    assert [round(level_of(frame) * 255 / 80) for frame in clip.frames] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("list.mp4", b"#EXTM3U\nhttp://example.org/a.ts\n", "no MP4"),
        ("a.avi", b"ffconcat version 1.0\nfile /etc/passwd\n", "no MP4"),
        ("a.mp4", b"\0\0\0\x18ftypmp42" + b"\0" * 64, "a.mp4"),
        ("none.mp4", None, "none.mp4"),
    ],
)
def test_files_that_are_no_clips(tmp_path: Path, name: str, data: bytes | None, says: str) -> None:
    pytest.importorskip("av")
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=says):
        read_frames(tmp_path / name)


def test_a_clip_that_is_too_long_is_refused_before_it_is_decoded(
    tmp_path: Path,
) -> None:
    clip = write_clip(tmp_path / "a.mp4", [0] * 8)
    with pytest.raises(InputError, match="more than 7 frames"):
        read_frames(clip, most=7)


def test_answers_and_calls_of_a_model_that_looks_again() -> None:
    assert read_clip_answer("<answer>TA=2, MQ=0, VQ=2, OA=2, CF=2</answer>") == {
        "TA": 2,
        "MQ": 0,
        "VQ": 2,
        "OA": 2,
        "CF": 2,
    }
    assert read_clip_answer("<answer>TA=2, OA=3</answer>") is None
    assert read_clip_answer("OA=1") is None
    call = '<think>closer</think>{"name": "select_frames", "arguments": {"target_frames": [3, 3, 99, 5]}}'
    assert read_frame_call(call, 8) == (3, 5)
    assert read_frame_call('{"name": "other", "arguments": {"target_frames": [1]}}', 8) is None


async def test_a_judge_that_asks_for_frames_keeps_only_the_last_in_view() -> None:
    call = '{{"name": "select_frames", "arguments": {{"target_frames": [{}]}}}}'
    chat = FakeChat([call.format(2), call.format(11), "<answer>TA=1, MQ=0, VQ=1, OA=1, CF=2</answer>"])
    judge = SelectingClipJudge(chat, memory=1)
    comparison = await judge("a boat", grey(*range(8)), grey(*range(100, 108)))
    assert comparison.p_first == 0.875
    last = chat.requests[-1]
    pictures = [[part for part in m.content if not isinstance(part, str)] for m in last.messages if m.role == "user"]
    assert [len(each) for each in pictures] == [8, 0, 1], "the first selection is told, not shown"
    assert "no longer shown" in text_of(last)


async def test_a_judge_that_never_answers_failed() -> None:
    def ask_again(_: ChatRequest) -> str:
        return '{"name": "select_frames", "arguments": {"target_frames": [1]}}'

    comparison = await SelectingClipJudge(FakeChat(ask_again))("a boat", grey(1), grey(2))
    assert comparison.p_first is None
    assert (await SelectingClipJudge(FakeChat(["I like both."]))("a boat", grey(1), grey(2))).p_first is None
