"""Criteria that ask a model, compare with references, or call a service."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from evaluator.criteria import Parts, open_criterion
from evaluator.criteria.asked import artifact_labels, weigh_regions
from evaluator.criteria.embedders import TransformersEmbedder
from evaluator.criteria.likeness import Embedding, Likeness, find_foreground
from evaluator.criteria.pairs import Compared
from evaluator.pairs.judges import WinRates, YesNoPairJudge
from evaluator.reward import Reward
from evaluator.testing import FakeJudge
from evaluator.types import Case, Criterion, Outcome, Reading, Reference, Shot
from redraft.chat import ChatReply
from redraft.errors import ConfigError, ModelMissing, ServerError
from redraft.profiles import CriterionConfig, load_profile
from redraft.testing import FakeChat

GREY, WHITE = Image.new("RGB", (32, 32), "grey"), Image.new("RGB", (32, 32), "white")
CASE, SHOT = Case("a red star"), Shot((GREY,))


def opened(use: str, answers: Sequence[Any], **args: Any) -> tuple[Criterion, FakeChat]:
    chat = FakeChat(answers)
    profile = load_profile("remote")
    parts = Parts(profile, FakeJudge(lambda *_: 0.5), lambda config: chat)
    return open_criterion(CriterionConfig(use=use, args=args), parts), chat


def sure(**chances: float) -> ChatReply:
    """A reply with these probabilities of the first token."""
    return ChatReply(max(chances, key=chances.__getitem__), logprobs={k: math.log(p) for k, p in chances.items()})


def digits(*chances: float) -> ChatReply:
    return ChatReply("0", logprobs={str(n): math.log(p) for n, p in enumerate(chances) if p})


async def read(criterion: Criterion, case: Case = CASE, *shots: Shot) -> list[Reading]:
    return await criterion(case, shots or (SHOT,))


class TestAsking:
    async def test_a_picture_is_real_as_surely_as_the_model_says_yes(self) -> None:
        criterion, _ = opened("real", [sure(yes=0.3, no=0.6)])
        [reading] = await read(criterion)
        assert reading.value == pytest.approx(1 / 3)
        assert reading.spread > 0

    @pytest.mark.parametrize("answer", [ServerError("down"), sure(yes=0.01, no=0.02), ChatReply("perhaps")])
    async def test_no_answer_is_no_score(self, answer: Any) -> None:
        criterion, _ = opened("real", [answer])
        [reading] = await read(criterion)
        assert (reading.outcome, reading.value) == (Outcome.FAILED, None)
        assert "real" in reading.reason

    async def test_consistency_is_with_the_references_or_with_the_others(self) -> None:
        criterion, chat = opened("consistency", [sure(yes=0.9, no=0.1)] * 6)
        readings = await read(criterion, CASE, SHOT, SHOT, SHOT)
        assert [reading.value for reading in readings] == [pytest.approx(0.9)] * 3
        assert len(chat.requests) == 6
        criterion, chat = opened("consistency", [sure(yes=0.9, no=0.1), sure(yes=0.5, no=0.5)])
        [reading] = await read(criterion, Case("x", references=(Reference(WHITE), Reference(GREY))))
        assert reading.value == pytest.approx(0.7)
        criterion, _ = opened("consistency", [])
        assert (await read(criterion))[0].outcome is Outcome.NOT_APPLICABLE

    async def test_points_are_asked_for_and_read(self) -> None:
        reply = "red star (object): 1\ntwo (number): 0\nFinal Score: 4"
        criterion, _ = opened("points", [ChatReply(reply)])
        [reading] = await read(criterion)
        assert reading.value == 0.75
        assert reading.reason == "missing: two"
        criterion, _ = opened("points", [ChatReply("Final Score: 9")])
        assert (await read(criterion))[0].outcome is Outcome.FAILED

    async def test_artifacts_are_labels_of_the_taxonomy(self) -> None:
        assert "hand structure" in artifact_labels()
        said = ['{"reasoning": "x", "labels": ["Hand structure"]}', '{"labels": []}', '{"labels": ["ugliness"]}', "no"]
        criterion, _ = opened("artifacts", [ChatReply(text) for text in said])
        assert [(await read(criterion))[0].value for _ in said] == [0.5, 1.0, None, None]

    async def test_regions_weigh_with_the_layout(self) -> None:
        assert weigh_regions([]) == 0.5
        assert weigh_regions([((0, 0, 1, 0.5), 1.0)]) == pytest.approx(0.75)
        assert weigh_regions([((0, 0, 1, 1), 1.0), ((0, 0, 0.5, 1), 0.0)]) == pytest.approx(0.5), "the worse counts"
        reply = {
            "regions": [{"object": "star", "bbox": [0, 0, 1000, 1000], "score": -0.5, "reason": "blue"}],
            "global_layout_reward": {"score": 1, "reason": ""},
        }
        criterion, _ = opened("regions", [ChatReply(json.dumps(reply))])
        [reading] = await read(criterion)
        assert reading.value == pytest.approx(0.25)
        assert reading.reason == "star: blue"
        reply["regions"] = [{"object": "star", "bbox": [0, 0, 2000, 10], "score": 0.5}]
        criterion, _ = opened("regions", [ChatReply(json.dumps(reply))])
        assert (await read(criterion))[0].outcome is Outcome.FAILED

    async def test_hallucination_is_against_a_small_reference(self) -> None:
        small = Case("x", references=(Reference(WHITE, "low_res"),))
        criterion, _ = opened("hallucination", [digits(0.5, 0.5, 0, 0, 0, 0)])
        assert (await read(criterion, small))[0].value == pytest.approx(0.9)
        assert (await read(criterion, Case("x", references=(Reference(WHITE),))))[0].outcome is Outcome.NOT_APPLICABLE

    async def test_a_dimension_of_an_edit_is_shown_the_mask(self) -> None:
        criterion, chat = opened("dimension", [sure(yes=0.8, no=0.2)], of="removal")
        case = Case("away with it", source=WHITE, mask=Image.new("L", (32, 32), 255))
        assert (await read(criterion, case))[0].value == pytest.approx(0.8)
        assert sum(isinstance(part, Image.Image) for part in chat.requests[0].messages[0].content) == 3

    async def test_win_rates_are_a_relative_criterion(self) -> None:
        chat = FakeChat([sure(yes=0.9, no=0.1), sure(yes=0.1, no=0.9)])
        first, second = await read(Compared(WinRates(YesNoPairJudge(chat))), CASE, Shot((GREY,)), Shot((WHITE,)))
        assert (first.value, second.value) == (pytest.approx(0.1), pytest.approx(0.9))
        assert (await read(Compared(WinRates(YesNoPairJudge(chat)))))[0].outcome is Outcome.NOT_APPLICABLE


class Colours:
    """An embedder whose patches are colours; pictures that are black have no embedding."""

    def __call__(self, images: Sequence[Image.Image]) -> list[Embedding | None]:
        made: list[Embedding | None] = []
        for image in images:
            patches = np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX), dtype=float) / 255
            made.append(Embedding(patches.mean(axis=(0, 1)), patches) if patches.any() else None)
        return made


def with_square(box: tuple[int, int, int, int], colour: str) -> Image.Image:
    sheet = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(sheet).rectangle(box, fill=colour)
    return sheet


class TestLikeness:
    reference = Case("x", references=(Reference(with_square((0, 0, 15, 15), "red")),))

    async def test_the_same_thing_elsewhere_is_alike_and_another_is_not(self) -> None:
        moved, other = with_square((16, 16, 31, 31), "red"), with_square((0, 0, 15, 15), "lime")
        same, unlike = await read(Likeness(Colours()), self.reference, Shot((moved,)), Shot((other,)))
        assert same.value == pytest.approx(1.0)
        assert unlike.value is not None
        assert unlike.value < 0.7

    async def test_without_an_embedding_it_failed_and_without_a_reference_it_does_not_apply(self) -> None:
        black = Shot((Image.new("RGB", (32, 32)),))
        failed, fine = await read(Likeness(Colours()), self.reference, black, SHOT)
        assert (failed.outcome, fine.outcome) == (Outcome.FAILED, Outcome.SCORED)
        [style] = await read(Likeness(Colours(), "style", roles=("style",)), self.reference)
        assert style.outcome is Outcome.NOT_APPLICABLE

    async def test_a_profile_may_bring_the_references_or_compare_with_the_source(self, tmp_path: Path) -> None:
        with_square((0, 0, 15, 15), "red").save(tmp_path / "mine.png")
        embedder = "tests.evaluator.test_criteria:Colours"
        brought, _ = opened("subject", [], embedder=embedder, references=[str(tmp_path / "mine.png")])
        assert (await read(brought, CASE, Shot((with_square((16, 0, 31, 15), "red"),))))[0].value == pytest.approx(1.0)
        edited, _ = opened("person", [], embedder=embedder, to_source=True)
        assert edited.needs == {"group", "source"}
        assert (await read(edited, Case("x", source=GREY)))[0].value == pytest.approx(1.0)
        with pytest.raises(ConfigError, match=r"gone\.png"):
            opened("subject", [], embedder=embedder, references=["gone.png"])

    def test_the_ground_of_a_reference_does_not_count(self) -> None:
        inside = find_foreground(with_square((0, 0, 15, 15), "red"), 4, 4)
        assert inside.sum() == 4
        assert find_foreground(WHITE, 4, 4).all(), "nothing stands out: all of it counts"


class TestModels:
    """A random CLIP of the smallest size: what published scorers are built like."""

    @pytest.fixture(scope="class")
    def clip(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

        folder = tmp_path_factory.mktemp("clip")
        words = ["<|startoftext|>", "<|endoftext|>", *"redstar", *(f"{letter}</w>" for letter in "adrst")]
        (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(dict.fromkeys(words))}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = CLIPConfig(
            text_config={**sizes, "vocab_size": 32, "eos_token_id": 1, "max_position_embeddings": 16},
            vision_config={**sizes, "image_size": 32, "patch_size": 8},
            projection_dim=8,
        )
        CLIPModel(config).save_pretrained(folder)
        images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        CLIPProcessor(images, tokenizer).save_pretrained(folder)
        return folder

    async def test_a_published_scorer_gives_a_number_that_its_centre_and_scale_map(self, clip: Path) -> None:
        criterion, _ = opened("score_head", [], model=str(clip), scale=10.0)
        first, second = await read(criterion, CASE, Shot((GREY,)), Shot((WHITE,)))
        assert None not in (first.value, second.value)
        high, _ = opened("score_head", [], model=str(clip), center=-1000.0, scale=10.0)
        assert (await read(high))[0].value == pytest.approx(1.0)

    async def test_a_vision_tower_embeds_patches_in_their_grid(self, clip: Path) -> None:
        [made] = TransformersEmbedder(str(clip))([GREY])
        assert made.patches is not None
        assert made.patches.shape == (4, 4, 16)
        assert made.whole.shape == (16,)

    async def test_weights_that_are_missing_end_a_run(self, tmp_path: Path) -> None:
        criterion, _ = opened("score_head", [], model=str(tmp_path / "none"))
        with pytest.raises(ModelMissing):
            await Reward(((criterion, 1.0),))(CASE, [SHOT])

    @pytest.mark.parametrize("args", [{"kind": "tail"}, {"scale": 0.0}])
    def test_settings_that_make_no_sense_are_refused(self, args: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="score_head"):
            opened("score_head", [], model="x", **args)


@contextmanager
def service(reply: object, status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """A scorer that answers `reply`; its address, and the requests that it got."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/score", got
    finally:
        server.shutdown()
        server.server_close()


class TestServices:
    async def test_a_service_gets_requests_and_pictures_and_gives_scores(self) -> None:
        with service({"scores": [2.5, 7]}) as (url, got):
            criterion, _ = opened("http", [], url=url, high=5.0)
            first, second = await read(criterion, CASE, SHOT, SHOT)
        assert (first.value, second.value) == (0.5, 1.0)
        [body] = got
        assert body["prompts"] == ["a red star"] * 2
        assert len(body["images"]) == 2

    @pytest.mark.parametrize(
        ("reply", "status", "words"),
        [
            ({"scores": []}, 200, "0 scores for 1"),
            ({"scores": ["good"]}, 200, "'good', which is no number"),
            ({"scores": [None]}, 200, "no score"),
            (b'{"scores": [NaN]}', 200, "no number"),
            (b"<html>", 200, "no JSON"),
            ({"error": "out of memory"}, 400, "out of memory"),
            ({"detail": "busy"}, 503, "busy"),
        ],
    )
    async def test_what_is_no_score_failed_with_its_words(self, reply: object, status: int, words: str) -> None:
        with service(reply, status) as (url, _):
            criterion, _ = opened("http", [], url=url, max_retries=0)
            [reading] = await read(criterion)
        assert (reading.outcome, reading.value) == (Outcome.FAILED, None)
        assert words in reading.reason

    async def test_a_service_that_is_not_there_failed(self) -> None:
        criterion, _ = opened("http", [], url="http://127.0.0.1:9/score", max_retries=0)
        assert "cannot be reached" in (await read(criterion))[0].reason
