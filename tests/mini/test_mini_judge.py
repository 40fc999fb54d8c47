"""The judge: that it is trained as it is asked later. A tiny random instance in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AttentionInterface, AutoModelForImageTextToText, AutoProcessor

from evaluator.local_judge import TransformersJudge
from evaluator.types import Check, Outcome
from mini.judge.asking import JudgeWithHeads, packed_attention
from mini.judge.looking import VisionWithHeads, patch_batch, pixels
from mini.judge.model import ANSWER, IMAGE_TOKENS, PATCH, SIDE, build_model, build_processor, build_tokenizer, save
from mini.judge.packing import LENGTH, PREFIX, QUESTIONS, question_batch
from mini.judge.questioning import GRID, THINGS, ask, patch_labels
from mini.world import questions
from mini.world.questions import parse
from mini.world.raster import draw
from mini.world.sampling import sample_pair
from mini.world.scene import COLORS, SHAPES, Scene
from redraft.profiles import JudgeConfig, LocalConfig, ModelConfig

VOCABULARY = build_tokenizer().get_vocab()
ASKED = [
    "Is there a red star?",
    "Are there exactly three blue circles?",
    "Is the picture free of moons?",
    "Do the red circles and the blue triangles have the same colour?",
    "Is the sheet mint?",
    "Does the picture say HELLO?",
    "Is the word at the top?",
    "Are the pink squares left of the green crosses?",
    "Is the orange heart inside the diamond?",
    "Are all moons striped?",
    "Is the star large?",
    "Is the moon smaller than the purple cross?",
]


def _scenes(seed: int, n: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [sample_pair(rng)[1] for _ in range(n)]


@pytest.fixture(scope="module")
def whole() -> JudgeWithHeads:
    """A judge with the attention that training uses, in place of a trained one: every weight random."""
    torch.manual_seed(0)
    AttentionInterface.register("packed", packed_attention)
    made = JudgeWithHeads(build_model(width=64, layers=3))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made.eval()


@pytest.fixture(scope="module")
def folder(whole: JudgeWithHeads, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judge")
    save(whole.judge, path)
    return path


def _packed(question: str) -> list[int]:
    return [VOCABULARY[word] for word in question.replace("?", " ?").split()] + [VOCABULARY[ANSWER]]


def test_packed_questions_are_answered_like_single_ones(whole: JudgeWithHeads, folder: Path) -> None:
    """The logits of training, and those of the saved model asked one question in its own chat template."""
    assert len(ASKED) == QUESTIONS
    images = [draw(scene) for scene in _scenes(701, 2)]
    ids = torch.zeros(2, QUESTIONS, LENGTH, dtype=torch.long)
    for i, question in enumerate(ASKED):
        tokens = torch.tensor(_packed(question))
        ids[0, i, : len(tokens)] = tokens
        ids[1, QUESTIONS - 1 - i, : len(tokens)] = tokens  # the order must not matter
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        hidden, _ = whole.hidden(whole.look(pixels(images)), ids)
        trained = whole.judge.lm_head(hidden)
        for b, image in enumerate(images):
            for i, question in enumerate(ASKED):
                q = i if b == 0 else QUESTIONS - 1 - i
                chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
                text = processor.apply_chat_template(chat, add_generation_prompt=True)
                inputs = processor(images=[image], text=[text], return_tensors="pt")
                assert inputs["input_ids"][0, PREFIX:].tolist() == _packed(question)
                asked = model(**inputs).logits[0, -1]
                torch.testing.assert_close(trained[b, q, len(_packed(question)) - 1], asked, atol=1e-4, rtol=1e-4)


def test_a_question_sees_the_picture_and_not_its_neighbours(whole: JudgeWithHeads) -> None:
    one, other = (pixels([draw(scene)]) for scene in _scenes(702, 2))
    ids = torch.zeros(1, QUESTIONS, LENGTH, dtype=torch.long)
    ids[0, 0, : len(_packed(ASKED[0]))] = torch.tensor(_packed(ASKED[0]))
    neighbours = ids.clone()
    neighbours[0, 1:] = torch.randint(6, len(VOCABULARY), (QUESTIONS - 1, LENGTH))
    with torch.no_grad():
        alone, _ = whole.hidden(whole.look(one), ids)
        among, _ = whole.hidden(whole.look(one), neighbours)
        elsewhere, _ = whole.hidden(whole.look(other), ids)
    torch.testing.assert_close(alone[0, 0], among[0, 0])
    assert not torch.allclose(alone[0, 0], elsewhere[0, 0], atol=1e-3)


def test_training_sees_pictures_as_the_processor_makes_them() -> None:
    images = [draw(scene) for scene in _scenes(703, 4)] + [draw(scene, 384) for scene in _scenes(704, 2)]
    made = build_processor().image_processor(images, return_tensors="pt")["pixel_values"]
    assert made.shape == (6, 3, SIDE, SIDE)
    torch.testing.assert_close(pixels(images), made, atol=1e-5, rtol=0)


def test_answers_are_single_tokens() -> None:
    tokenizer = build_tokenizer()
    for word in ("yes", "no", "unsure"):
        [token] = tokenizer(word)["input_ids"]
        assert token not in (tokenizer.unk_token_id, tokenizer.pad_token_id)


def test_every_question_is_made_of_known_words_and_fits() -> None:
    tokenizer = build_tokenizer()
    rng = np.random.default_rng(705)
    for scene in _scenes(706, 200):
        for _ in range(5):
            ids = tokenizer(str(ask(rng, scene)[0]))["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert len(ids) < LENGTH
    assert tokenizer("Is there a dog?")["input_ids"].count(tokenizer.unk_token_id) == 1


def test_training_batches_say_what_is_true() -> None:
    rng = np.random.default_rng(707)
    scenes = _scenes(708, 20)
    batch = question_batch(rng, scenes)
    tokenizer = build_tokenizer()
    assert batch.ids.shape == (20, QUESTIONS, LENGTH)
    kinds, opened = {"yes": 0, "no": 0, "unsure": 0}, 0
    for b, scene in enumerate(scenes):
        for q in range(QUESTIONS):
            end = int(batch.end[b, q])
            assert batch.ids[b, q, end] == VOCABULARY[ANSWER]
            assert not batch.ids[b, q, end + 1 :].any()
            words = tokenizer.convert_ids_to_tokens(batch.ids[b, q, :end].tolist())
            said = tokenizer.convert_ids_to_tokens(int(batch.answer[b, q]))
            if said not in kinds:
                opened += 1
                assert words[0] in ("sheet", "word", "colour", "exactly", "size", "pattern", "where")
                continue
            kinds[said] += 1
            query = parse(" ".join(words).replace(" ?", "?"))
            if said != "unsure":
                assert query is not None
                assert (said == "yes") == questions.answer(query, scene)
    assert kinds["yes"] > 50
    assert kinds["no"] > 50
    assert opened > 30
    assert 0 < kinds["unsure"] < 25
    # What the noun phrases name: how many, and how far they reach.
    assert len(batch.nouns) == len(batch.count) == len(batch.where) > 120
    for (b, q, position), count, where in zip(batch.nouns.tolist(), batch.count, batch.where, strict=True):
        words = tokenizer.convert_ids_to_tokens(batch.ids[b, q, : position + 1].tolist())
        color = words[-2] if words[-2] in COLORS else None
        named = (words[-1].removesuffix("s"), words[-1].removesuffix("es"), words[-1])  # "cross" has its own s
        found = [
            cut for cut in scenes[b].cutouts if color in (None, cut.color) and ("shape" in named or cut.shape in named)
        ]
        assert int(count) == len(found)
        if found:
            lengths = np.array([(cut.x, cut.y, 3 * cut.radius) for cut in found])
            extents = np.stack([lengths.min(0), lengths.max(0)], axis=1).flatten()
            np.testing.assert_allclose(where, extents, atol=1e-5)


def test_where_a_relation_is_to_be_looked_for_tells_its_answer() -> None:
    """It holds where the question mark looks at all that the first noun looks at."""
    scenes = _scenes(711, 16)
    batch = question_batch(np.random.default_rng(4), scenes)
    nouns = {(b, q): i for i, (b, q, _) in reversed(list(enumerate(batch.nouns.tolist())))}  # the first of a question
    answers: list[bool] = []
    for (b, q, position), ground in zip(batch.relations.tolist(), batch.relation_ground, strict=True):
        assert position == int(batch.end[b, q]) - 1
        first = nouns[b, q]
        all_stand = bool(batch.count[first] > 0) and bool((ground == batch.ground[first]).all())
        answers.append(all_stand)
        assert all_stand == (int(batch.answer[b, q]) == VOCABULARY["yes"])
    assert any(answers)
    assert not all(answers)


def test_the_tower_and_its_labels_have_the_same_patches() -> None:
    assert SIDE // PATCH == GRID
    assert GRID * GRID == IMAGE_TOKENS
    model = build_model(width=64, layers=1)
    features = model.model.vision_tower(pixel_values=torch.zeros(1, 3, SIDE, SIDE)).last_hidden_state
    assert features.shape == (1, 1 + IMAGE_TOKENS, 64)


def test_batches_of_patch_labels() -> None:
    scenes = _scenes(709, 3)
    batch = patch_batch(scenes)
    for i, scene in enumerate(scenes):
        labels = patch_labels(scene, SIDE)
        np.testing.assert_array_equal(batch.thing[i], labels.thing)
        np.testing.assert_array_equal(batch.lengths[i], labels.lengths)
    assert batch.sheet.shape == (3,)
    assert int(batch.thing.max()) < THINGS
    seen = {int(thing) for thing in batch.thing[0].unique()} - {0, THINGS - 1}
    assert seen == {1 + SHAPES.index(cut.shape) for cut in scenes[0].cutouts}


def test_losses_are_finite_and_reach_every_part(whole: JudgeWithHeads) -> None:
    scenes = _scenes(710, 4)
    images, labels = pixels([draw(scene) for scene in scenes]), patch_batch(scenes)
    looked = VisionWithHeads(build_model(width=64, layers=1)).losses(images, labels)
    asked = whole.losses(whole.look(images), question_batch(np.random.default_rng(711), scenes), labels)
    for losses in (looked, asked):
        assert all(bool(torch.isfinite(value)) for value in losses.values())
    asked["loss"].backward()
    without = [name for name, p in whole.named_parameters() if p.grad is None or not bool(p.grad.any())]
    whole.zero_grad()
    # The tower stays as it has learnt to look.
    assert without
    assert all("vision_tower" in name for name in without)


async def test_as_a_judge(folder: Path, whole: JudgeWithHeads) -> None:
    """Through the code that judges for the loop: the probabilities are those of training."""
    model = ModelConfig(kind="transformers", model=str(folder), local=LocalConfig(device="cpu", dtype="float32"))
    judge = TransformersJudge(JudgeConfig(model=model, style="package:mini/judge/style", min_label_mass=0.0))
    image = draw(_scenes(712, 1)[0])
    checks = [Check("counting", question) for question in ASKED]
    verdicts = await judge(image, "whatever was asked for", checks)
    await judge.aclose()
    assert judge.shares_prefix
    ids = torch.zeros(1, QUESTIONS, LENGTH, dtype=torch.long)
    for i, question in enumerate(ASKED):
        ids[0, i, : len(_packed(question))] = torch.tensor(_packed(question))
    with torch.no_grad():
        hidden, _ = whole.hidden(whole.look(pixels([image])), ids)
        for i, (question, verdict) in enumerate(zip(ASKED, verdicts, strict=True)):
            logits = whole.judge.lm_head(hidden[0, i, len(_packed(question)) - 1])
            chances = logits.softmax(-1)
            # YES, a word of the sheet, is a spelling of yes; the unknown token is one of neither.
            yes = float(chances[VOCABULARY["yes"]] + chances[VOCABULARY["YES"]])
            no = float(chances[VOCABULARY["no"]])
            assert verdict.outcome is Outcome.SCORED
            assert verdict.probability == pytest.approx(yes / (yes + no), abs=1e-3)
            assert verdict.label_mass == pytest.approx(yes + no, abs=1e-3)


def test_pictures_of_any_size_are_taken(folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(images=[Image.new("RGB", (640, 480))], text=["<image>"], return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, SIDE, SIDE)
