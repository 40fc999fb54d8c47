"""The generator's tokenizer, loss and pipeline, on a tiny random instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import BertConfig, BertModel

from editors.backend import ImageTask
from editors.diffusers_backend import DiffusersBackend
from mini.generator.pipeline import CutoutsPipeline, CutoutsTransformer, build_tokenizer, to_x0
from mini.generator.train import loss_of
from mini.world import codec
from mini.world.questions import NUMBERS, plural
from mini.world.sampling import sample_pair
from mini.world.scene import COLORS, FILLS, SHAPES, SHEETS, SIZES, WORDS
from redraft.profiles import BackendConfig

CAPTION = "two small red striped stars at the left, one blue circle, word HELLO at the top, cream sheet"
OTHER = "three green moons, white sheet"
STEPS = 4


@pytest.fixture(scope="module")
def pipe() -> CutoutsPipeline:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    transformer = CutoutsTransformer(width=32, layers=2, heads=2, text_width=32)
    for block in transformer.blocks:  # or the caption and the time would hardly be felt
        torch.nn.init.normal_(block.modulation)
        torch.nn.init.normal_(block.cross.weight)
    made = CutoutsPipeline(tokenizer, BertModel(config), transformer, FlowMatchEulerDiscreteScheduler(shift=1.0))
    made.set_progress_bar_config(disable=True)
    made.text_encoder.eval()
    made.transformer.eval()
    return made


@pytest.fixture(scope="module")
def folder(pipe: CutoutsPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generator")
    pipe.save_pretrained(path, safe_serialization=True)
    return path


def _seeds(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _latents(pipe: CutoutsPipeline, prompts: list[str], seeds: list[int], **kwargs: Any) -> torch.Tensor:
    made = pipe(prompts, num_inference_steps=STEPS, generator=_seeds(*seeds), output_type="latent", **kwargs)
    assert isinstance(made.images, torch.Tensor)
    return made.images


def test_canonical_words_are_known_and_those_of_people_are_not() -> None:
    tokenizer = build_tokenizer()
    canonical = [*NUMBERS[1:], *COLORS, *SHAPES, *map(plural, SHAPES), *SIZES, *FILLS, *SHEETS, *WORDS, ",", "sheet"]
    for word in canonical:
        assert tokenizer.convert_ids_to_tokens(tokenizer(word)["input_ids"]) == ["[CLS]", word]
    for word in ("crimson", "crescent", "without", "a", "no", "2", "draw", "Red", "hello", "it", "tiny", "background"):
        assert tokenizer(word)["input_ids"] == [tokenizer.cls_token_id, tokenizer.unk_token_id]


def test_a_caption_in_tokens() -> None:
    tokenizer = build_tokenizer()
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("one red star, word HELLO at the top,sky sheet")["input_ids"])
    assert tokens == ["[CLS]", "one", "red", "star", ",", "word", "HELLO", "at", "the", "top", ",", "sky", "sheet"]
    both = tokenizer(["one red star", ""], padding=True)
    assert both["attention_mask"] == [[1, 1, 1, 1], [1, 0, 0, 0]]


def _vectors(seed: int, n: int = 32) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    scenes = [sample_pair(rng)[1] for _ in range(n)]
    return torch.from_numpy(codec.to_vectors(np.stack([codec.to_rows(scene) for scene in scenes])))


def _sure(clean: torch.Tensor) -> torch.Tensor:
    """Raw outputs of a model that is sure of `clean`."""
    raw = clean * 20
    raw[..., codec.LENGTHS] = clean[..., codec.LENGTHS]
    return raw


def test_a_perfect_prediction_costs_nothing() -> None:
    clean = _vectors(601)
    losses = loss_of(_sure(clean), clean)
    assert set(losses) == {"loss", "shape", "color", "fill", "sheet", "word", "lengths"}
    assert all(0 <= float(value) < 1e-6 for value in losses.values())


def test_every_part_of_the_loss_sees_its_mistake() -> None:
    clean = _vectors(602)
    for name, field, token in (
        ("shape", codec.SHAPE, 0),
        ("color", codec.COLOR, 0),
        ("fill", codec.FILL, 0),
        ("sheet", codec.SHEET, codec.SHEET_TOKEN),
        ("word", codec.WORD, codec.WORD_TOKEN),
    ):
        wrong = _sure(clean)
        wrong[:, token, field.span] = wrong[:, token, field.span].roll(1, -1)
        losses = loss_of(wrong, clean)
        assert float(losses[name]) > 0.1
        assert float(losses["loss"]) == pytest.approx(float(losses[name]), rel=1e-4)
    moved = _sure(clean)
    moved[:, 0, codec.LENGTHS] += 1.0
    assert float(loss_of(moved, clean)["lengths"]) > 0.1


def test_what_is_not_there_costs_nothing() -> None:
    """Colours, fills and lengths of empty slots, and the place of a word that is not there."""
    scene = codec.to_vectors(codec.to_rows(sample_pair(np.random.default_rng(603))[1])[None])
    clean = torch.from_numpy(scene)
    clean[:, 5, codec.SHAPE.span] = -1.0
    clean[:, 5, codec.SHAPE.start] = 1.0
    clean[:, 5, codec.COLOR.start : codec.FILL.span.stop] = 0
    clean[:, 5, codec.LENGTHS] = 0
    raw = _sure(clean)
    raw[:, 5, codec.COLOR.start : codec.FILL.span.stop] = torch.randn(codec.FILL.span.stop - codec.COLOR.start)
    raw[:, 5, codec.LENGTHS] = 7.0
    assert float(loss_of(raw, clean)["loss"]) < 1e-6
    assert float(to_x0(raw)[:, 5, codec.LENGTHS].abs().max()) < 1e-6


def test_x0_of_a_sure_model_is_the_scene() -> None:
    clean = _vectors(604)
    torch.testing.assert_close(to_x0(_sure(clean)), clean, atol=1e-5, rtol=0)


def test_x0_of_an_unsure_model_is_the_expectation() -> None:
    raw = torch.zeros(1, codec.TOKENS, codec.WIDTH)
    x0 = to_x0(raw)
    torch.testing.assert_close(x0[0, 0, codec.SHAPE.span], torch.full((9,), 2 / 9 - 1))
    torch.testing.assert_close(x0[0, 0, codec.COLOR.span], torch.full((8,), (2 / 8 - 1) * 8 / 9))


def test_two_noises_for_one_caption(pipe: CutoutsPipeline) -> None:
    """Training shows a caption several noises at once; each is treated as if alone."""
    text, mask = pipe.encode_prompt([CAPTION, OTHER])
    noisy, time = torch.randn(4, codec.TOKENS, codec.WIDTH), torch.rand(4)
    with torch.no_grad():
        shared = pipe.transformer(noisy, time, text, mask)
        single = pipe.transformer(noisy, time, text.repeat_interleave(2, 0), mask.repeat_interleave(2, 0))
    torch.testing.assert_close(shared, single, atol=1e-5, rtol=1e-4)


def test_saved_and_loaded_it_draws_the_same(pipe: CutoutsPipeline, folder: Path) -> None:
    loaded = CutoutsPipeline.from_pretrained(folder)
    loaded.set_progress_bar_config(disable=True)
    assert {path.suffix for path in folder.rglob("*.*") if path.stat().st_size > 50_000} <= {".safetensors"}
    torch.testing.assert_close(_latents(loaded, [CAPTION], [3]), _latents(pipe, [CAPTION], [3]))


def test_a_picture_depends_on_its_own_seed_and_caption_alone(pipe: CutoutsPipeline) -> None:
    together = _latents(pipe, [CAPTION, OTHER, CAPTION], [1, 2, 3])
    for i, (caption, seed) in enumerate([(CAPTION, 1), (OTHER, 2), (CAPTION, 3)]):
        torch.testing.assert_close(together[i : i + 1], _latents(pipe, [caption], [seed]), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(together[0], together[2], atol=1e-2)
    assert not torch.allclose(together[:1], _latents(pipe, [OTHER], [1]), atol=1e-3)


def test_guidance(pipe: CutoutsPipeline) -> None:
    """None at 1; above it, away from what would be drawn without a caption."""
    plain = _latents(pipe, [CAPTION], [1], guidance_scale=1.0)
    assert not torch.allclose(plain, _latents(pipe, [CAPTION], [1], guidance_scale=3.0), atol=1e-3)
    unguided = _latents(pipe, [""], [1], guidance_scale=1.0)
    torch.testing.assert_close(_latents(pipe, [""], [1], guidance_scale=3.0), unguided, atol=1e-4, rtol=1e-3)


def test_the_way_from_noise_to_x0_is_straight(pipe: CutoutsPipeline) -> None:
    """One step from pure noise ends at the x0 that the model predicts there."""
    noise = torch.randn(1, codec.TOKENS, codec.WIDTH)
    made = pipe(CAPTION, num_inference_steps=1, guidance_scale=1.0, latents=noise, output_type="latent").images
    text, mask = pipe.encode_prompt([CAPTION])
    with torch.no_grad():
        x0 = to_x0(pipe.transformer(noise, torch.ones(1), text, mask))
    torch.testing.assert_close(made, x0, atol=1e-5, rtol=1e-4)


def test_outputs(pipe: CutoutsPipeline) -> None:
    prompts = [CAPTION, OTHER]
    [one] = pipe(CAPTION, num_inference_steps=STEPS, generator=_seeds(1)).images
    assert (one.size, one.mode) == ((256, 256), "RGB")
    array = pipe(prompts, 128, 128, num_inference_steps=STEPS, generator=_seeds(1, 2), output_type="np").images
    assert array.shape == (2, 128, 128, 3)
    assert 0 <= array.min() < array.max() <= 1
    (images,) = pipe(prompts, num_inference_steps=STEPS, generator=_seeds(1, 2), return_dict=False)
    assert images[0].tobytes() == one.tobytes()
    assert _latents(pipe, prompts, [1, 2]).shape == (2, codec.TOKENS, codec.WIDTH)
    # One generator for all, and none.
    assert len(pipe(prompts, num_inference_steps=1, generator=torch.Generator().manual_seed(0)).images) == 2
    assert len(pipe(prompts, num_inference_steps=1).images) == 2


def test_a_callback_sees_each_step_and_may_change_it(pipe: CutoutsPipeline) -> None:
    seen: list[int] = []

    def still(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])}

    made = _latents(pipe, [CAPTION], [1], callback_on_step_end=still)
    assert seen == list(range(STEPS))
    assert not made.any()


def test_it_can_be_interrupted(pipe: CutoutsPipeline) -> None:
    seen: list[int] = []

    def stop(running: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(step)
        running._interrupt = step == 1
        return tensors

    _latents(pipe, [CAPTION], [1], callback_on_step_end=stop)
    assert seen == [0, 1]
    assert pipe.interrupt
    _latents(pipe, [CAPTION], [1])  # and is whole again the next time
    assert not pipe.interrupt


def test_sheets_are_square(pipe: CutoutsPipeline) -> None:
    with pytest.raises(ValueError, match="height 256 is not width 128"):
        pipe(CAPTION, width=128)


def test_as_a_backend(folder: Path, pipe: CutoutsPipeline) -> None:
    config = BackendConfig(
        kind="diffusers", model=str(folder), pipeline="mini.generator.pipeline:CutoutsPipeline", steps=STEPS, batch_size=2,
        device="cpu", dtype="float32",
    )  # fmt: skip
    backend = DiffusersBackend(config)
    assert backend.modes == {"generate"}
    steps: list[tuple[int, int]] = []
    tasks = [ImageTask(CAPTION, 1), ImageTask(OTHER, 2), ImageTask(CAPTION, 1, size=(128, 128))]
    images = backend.render(tasks, lambda done, total: steps.append((done, total)))
    assert [image.size for image in images] == [(256, 256), (256, 256), (128, 128)]
    assert steps[-1][0] == steps[-1][1]
    [expected] = pipe(CAPTION, num_inference_steps=STEPS, generator=_seeds(1)).images
    difference = np.abs(np.asarray(images[0], dtype=int) - np.asarray(expected, dtype=int))
    assert difference.mean() < 1.0
