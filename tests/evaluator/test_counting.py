"""Checks of a number are answered by counting boxes. The detectors are tiny random instances of the real classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from evaluator.counting import (
    ChatDetector,
    CountTool,
    Detection,
    TransformersDetector,
    count_value,
    keep_apart,
    missing_penalty,
    read_count,
)
from evaluator.testing import FakeJudge
from evaluator.tools import ToolJudge
from evaluator.types import Check
from redraft.errors import BackendError
from redraft.profiles import DetectorConfig, JudgeConfig, ModelConfig
from redraft.testing import FakeChat

PICTURE = Image.new("RGB", (96, 64), "white")
THREE = Check("counting", "Are there exactly three red cats in the picture?")


class FakeDetector:
    """A Detector that finds things side by side with the scores that it was given."""

    def __init__(self, *scores: float, fails: bool = False) -> None:
        self.scores, self.fails = scores, fails
        self.phrases: list[str] = []

    async def __call__(self, image: Image.Image, phrase: str) -> list[Detection]:
        self.phrases.append(phrase)
        if self.fails:
            raise BackendError("the detector broke")
        return [Detection((n / 10, 0.0, (n + 0.9) / 10, 1.0), score) for n, score in enumerate(self.scores)]


async def say(detector: FakeDetector, check: Check = THREE) -> str:
    """ "yes" or "no" of the tool, "judge" if the judge answered."""
    judge = ToolJudge(FakeJudge(lambda *_: 0.7, name="vlm"), (CountTool(detector),))
    [verdict] = await judge(PICTURE, "three red cats", [check])
    assert verdict.probability is not None
    return "judge" if verdict.by == "vlm" else "yes" if verdict.passes(0.5) else "no"


@pytest.mark.parametrize(
    ("scores", "answer"),
    [
        ((0.9, 0.8, 0.7), "yes"),
        ((0.9, 0.8, 0.7, 0.05), "yes"),
        ((0.9, 0.8), "no"),
        ((0.9, 0.8, 0.7, 0.6), "no"),
        ((), "no"),
        ((0.9, 0.8, 0.21), "judge"),
    ],
)
async def test_a_number_is_right_if_as_many_boxes_are_surely_there(scores: tuple[float, ...], answer: str) -> None:
    detector = FakeDetector(*scores)
    assert await say(detector) == answer
    assert detector.phrases == ["red cat"]


async def test_what_is_no_count_or_cannot_be_detected_is_the_judges() -> None:
    assert await say(FakeDetector(0.9), Check("counting", "Are there many cats?")) == "judge"
    assert await say(FakeDetector(0.9), Check("size", "Are there exactly three cats?")) == "judge"
    assert await say(FakeDetector(fails=True)) == "judge"


def test_boxes_of_the_same_thing_count_once() -> None:
    one = Detection((0.1, 0.1, 0.5, 0.5), 0.6)
    assert keep_apart([one, Detection((0.12, 0.1, 0.5, 0.5), 0.9), Detection((0.6, 0.1, 0.9, 0.5), 0.3)]) == [
        Detection((0.12, 0.1, 0.5, 0.5), 0.9),
        Detection((0.6, 0.1, 0.9, 0.5), 0.3),
    ]


def test_the_formulas() -> None:
    assert missing_penalty([0.9, 0.1], 3) == pytest.approx((0.1 + 0.2) / 3)
    assert missing_penalty([0.9, 0.9, 0.9, 0.9], 3) == 0.0, "PFCD does not see too many"
    assert [count_value(found, 4) for found in (4, 3, 6, 9)] == [1.0, 0.75, 0.5, 0.0]


def test_numbers_are_words_or_digits() -> None:
    counted = [read_count(Check("counting", f"Are there exactly {n} boats?")) for n in ("two", "12", "umpteen", "zero")]
    assert [None if c is None else c.number for c in counted] == [2, 12, None, None]


async def test_a_model_that_points_counts_its_boxes() -> None:
    chat = FakeChat(['{"boxes": [[0, 0, 200, 500], [300, 0, 500, 500], [600, 0, 900, 500]]}', "none that I can see"])
    detector = ChatDetector(chat)
    assert len(await detector(PICTURE, "cat")) == 3
    with pytest.raises(BackendError, match="no boxes"):
        await detector(PICTURE, "cat")


def test_the_tool_and_its_detector_are_named_together() -> None:
    model = ModelConfig(kind="transformers", model="nowhere")
    with pytest.raises(ValidationError, match="both"):
        JudgeConfig(model=model, tools=("count",))
    with pytest.raises(ValidationError, match="either"):
        DetectorConfig()


def owl(folder: Path) -> str:
    from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil, Owlv2Processor

    letters = [f"{letter}{end}" for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    # The id 0 is taken for "no query", so that it must not be the first token of a text.
    words = ["!", "<|startoftext|>", "<|endoftext|>", *letters]
    tokenizer = CLIPTokenizer(vocab={word: n for n, word in enumerate(words)}, merges=[])
    text = {
        "vocab_size": len(words), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64,
        "patch_size": 16,
    }  # fmt: skip
    model = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=16))
    for layer in (model.class_head.logit_shift, model.class_head.logit_scale, model.box_head.dense2):
        layer.weight.data.zero_()  # random ones give scores of 0 and boxes without area
        layer.bias.data.zero_()
    model.save_pretrained(folder)
    images = Owlv2ImageProcessorPil(size={"height": 64, "width": 64})
    Owlv2Processor(images, tokenizer).save_pretrained(folder)
    return str(folder)


async def test_owlv2_gives_boxes_within_the_picture(tmp_path: Path) -> None:
    detections = await TransformersDetector(owl(tmp_path / "owl"))(PICTURE, "cat")
    assert detections
    for detection in detections:
        left, top, right, bottom = detection.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert 0 < detection.score < 1


def dino(folder: Path) -> str:
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
        SwinConfig,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "cat", "a"]
    tokenizer = BertTokenizer(vocab={word: n for n, word in enumerate(words)})
    backbone = SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 2, 4], window_size=4,
        out_features=["stage2", "stage3"],
    )  # fmt: skip
    text = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, num_queries=8, encoder_layers=1, decoder_layers=2, d_model=32,
        encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
        num_feature_levels=2, max_text_len=16,
    )  # fmt: skip
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return str(folder)


async def test_grounding_dino_gives_boxes_within_the_picture(tmp_path: Path) -> None:
    detections = await TransformersDetector(dino(tmp_path / "dino"))(PICTURE, "cat")
    assert detections
    assert all(0 <= d.box[0] < d.box[2] <= 1 and 0 < d.score < 1 for d in detections)
