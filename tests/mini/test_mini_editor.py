"""The mini editor's pipeline, loss and training script, on tiny random instances."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from transformers import BertConfig, BertModel

from editors.backend import ImageTask
from editors.diffusers_backend import DiffusersBackend
from mini.editor import figures as edit_figures
from mini.editor import train as train_editor
from mini.editor.figures import Share
from mini.editor.layout import crowding
from mini.editor.pipeline import MAX_PIECES, CutoutsEditPipeline, CutoutsEditTransformer, read_source
from mini.editor.pools import SAYINGS, load_edit_pool, make_edit_pool
from mini.editor.sampling import sample_edit
from mini.editor.train import edit_loss, train_tokenizer
from mini.generator.pipeline import to_x0
from mini.world import codec, oracle
from mini.world.pools import make_pool
from mini.world.raster import draw
from mini.world.scene import CutOut, PrintedWord, Scene
from redraft.profiles import BackendConfig

STEPS = 3
SCENE = Scene(
    "mint",
    (
        CutOut("star", "red", "plain", 0.2, 0.3, 0.1),
        CutOut("heart", "pink", "striped", 0.5, 0.3, 0.1),
        CutOut("circle", "green", "plain", 0.8, 0.75, 0.15),
    ),
    PrintedWord("TEA", 0.5, 0.1),
)
OTHER = Scene("white", (CutOut("moon", "blue", "plain", 0.5, 0.5, 0.15),))
TEXTS = ("make the star blue", "recolour star to blue; remove two circles", "please get rid of the moon")


def _pipeline(width: int = 32) -> CutoutsEditPipeline:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, 200)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=MAX_PIECES,
    )  # fmt: skip
    transformer = CutoutsEditTransformer(width=width, layers=2, heads=2, text_width=32)
    for block in transformer.blocks:  # or the instruction and the time would hardly be felt
        torch.nn.init.normal_(block.modulation)
        torch.nn.init.normal_(block.cross.weight)
    torch.nn.init.normal_(transformer.head.weight)
    made = CutoutsEditPipeline(tokenizer, BertModel(config), transformer, FlowMatchEulerDiscreteScheduler(shift=1.0))
    made.set_progress_bar_config(disable=True)
    made.text_encoder.eval()
    made.transformer.eval()
    return made


@pytest.fixture(scope="module")
def pipe() -> CutoutsEditPipeline:
    return _pipeline()


@pytest.fixture(scope="module")
def copier() -> CutoutsEditPipeline:
    """An editor that has learnt to copy, and nothing else."""
    made = _pipeline()
    torch.nn.init.zeros_(made.transformer.head.weight)
    torch.nn.init.zeros_(made.transformer.head.bias)
    torch.nn.init.constant_(made.transformer.gate.bias, 8.0)
    return made


@pytest.fixture(scope="module")
def folder(pipe: CutoutsEditPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("editor")
    pipe.save_pretrained(path, safe_serialization=True)
    return path


def _seeds(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _latents(
    pipe: CutoutsEditPipeline, prompts: list[str], scenes: list[Scene], *seeds: int, **more: Any
) -> torch.Tensor:
    images = [draw(scene) for scene in scenes]
    made = pipe(prompts, images, num_inference_steps=STEPS, generator=_seeds(*seeds), output_type="latent", **more)
    assert isinstance(made.images, torch.Tensor)
    return made.images


def _same(a: Scene, b: Scene) -> bool:
    """The same cut-outs to a pixel or two, in whatever order."""

    def order(scene: Scene) -> list[CutOut]:
        return sorted(scene.cutouts, key=lambda cut: (cut.shape, cut.color, round(cut.x, 1)))

    if (a.sheet, len(a.cutouts), a.word and a.word.text) != (b.sheet, len(b.cutouts), b.word and b.word.text):
        return False
    return all(
        (x.shape, x.color, x.fill) == (y.shape, y.color, y.fill)
        and max(abs(x.x - y.x), abs(x.y - y.y), abs(x.radius - y.radius)) < 0.01
        for x, y in zip(order(a), order(b), strict=True)
    )


# Reading the source


def test_the_source_is_read_in_slot_order() -> None:
    shuffled = replace(SCENE, cutouts=SCENE.cutouts[::-1])
    for scene in (SCENE, shuffled):
        read = read_source(draw(scene, 384))
        assert [cut.shape for cut in read.cutouts] == ["star", "heart", "circle"]
        assert _same(read, SCENE)


def test_what_cannot_be_read_is_taken_for_the_likeliest() -> None:
    star = CutOut("star", "yellow", "plain", 0.45, 0.5, 0.15)
    covering = CutOut("circle", "blue", "plain", 0.57, 0.42, 0.10)
    image = draw(Scene("white", (star, covering)))
    assert "unknown" in {cut.shape for cut in oracle.read_scene(image).cutouts}
    read = read_source(image)
    assert {cut.color for cut in read.cutouts} == {"yellow", "blue"}
    assert "unknown" not in {cut.shape for cut in read.cutouts}


def test_more_than_fit_into_the_slots() -> None:
    cuts = [
        CutOut("circle", "red", "plain", 0.12 + 0.25 * (i % 4), 0.2 + 0.5 * (i // 4), 0.06 + 0.005 * i)
        for i in range(8)
    ]
    read = read_source(draw(Scene("white", tuple(cuts))))
    assert len(read.cutouts) == 6
    assert min(cut.radius for cut in read.cutouts) > 0.066


# The pipeline


def test_what_is_not_changed_is_copied(copier: CutoutsEditPipeline) -> None:
    images = [draw(SCENE), draw(OTHER, 128)]
    edited = copier(["leave it", ""], images, generator=_seeds(1, 2), num_inference_steps=STEPS).images
    assert [image.size for image in edited] == [(256, 256), (128, 128)]
    for image, scene in zip(edited, (SCENE, OTHER), strict=True):
        assert _same(oracle.read_scene(image), scene)


def test_saved_and_loaded_it_draws_the_same(pipe: CutoutsEditPipeline, folder: Path) -> None:
    loaded = CutoutsEditPipeline.from_pretrained(folder, use_safetensors=True)
    loaded.set_progress_bar_config(disable=True)
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth")]
    ours, theirs = (_latents(each, [TEXTS[0]], [SCENE], 3) for each in (pipe, loaded))
    torch.testing.assert_close(ours, theirs)


def test_a_picture_depends_on_its_own_seed_instruction_and_source_alone(pipe: CutoutsEditPipeline) -> None:
    prompts, scenes = [TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[0]], [SCENE, SCENE, OTHER, SCENE]
    together = _latents(pipe, prompts, scenes, 1, 2, 3, 4, layouts=2)
    for i in range(4):
        alone = _latents(pipe, [prompts[i]], [scenes[i]], i + 1, layouts=2)
        torch.testing.assert_close(together[2 * i : 2 * i + 2], alone, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(together[0], together[1], atol=1e-2), "two layouts of one picture"
    assert not torch.allclose(together[0], together[6], atol=1e-2)
    assert not torch.allclose(together[:2], _latents(pipe, [TEXTS[2]], [SCENE], 1, layouts=2), atol=1e-3)
    assert not torch.allclose(together[:2], _latents(pipe, [TEXTS[0]], [OTHER], 1, layouts=2), atol=1e-2)


def test_the_least_crowded_layout_is_drawn(pipe: CutoutsEditPipeline) -> None:
    # A seed whose first layout is not the best one, or the first would always do.
    for seed in range(20):
        layouts = codec.to_scenes(_latents(pipe, [TEXTS[0]], [SCENE], seed, layouts=6).numpy())
        best = min(layouts, key=crowding)
        if crowding(best) < crowding(layouts[0]):
            break
    else:
        pytest.fail("in 20 seeds the first layout was the least crowded")
    drawn = pipe([TEXTS[0]], [draw(SCENE)], num_inference_steps=STEPS, generator=_seeds(seed), layouts=6).images[0]
    assert drawn.tobytes() == draw(best).tobytes()
    with pytest.raises(ValueError, match="layouts must be at least 1"):
        pipe(TEXTS[0], draw(SCENE), layouts=0)


def test_crowded_is_what_lies_over_something_or_hangs_off_the_sheet() -> None:
    assert crowding(SCENE) == 0
    star, heart, circle = SCENE.cutouts
    assert crowding(replace(SCENE, cutouts=(star, replace(heart, x=0.3), circle))) == 1
    assert crowding(replace(SCENE, cutouts=(star, heart, replace(circle, x=0.95)))) == 1
    assert crowding(replace(SCENE, cutouts=(replace(star, y=0.12), heart, circle))) == 1, "over the word"
    within = CutOut("heart", "blue", "plain", 0.8, 0.75, 0.05)
    assert crowding(replace(SCENE, cutouts=(*SCENE.cutouts, within))) == 0
    assert crowding(replace(SCENE, cutouts=(*SCENE.cutouts, replace(within, color="green")))) == 1, (
        "nobody would see it"
    )


def test_guidance(pipe: CutoutsEditPipeline) -> None:
    plain = _latents(pipe, [TEXTS[0]], [SCENE], 1)
    assert not torch.allclose(plain, _latents(pipe, [TEXTS[0]], [SCENE], 1, guidance_scale=3.0), atol=1e-3)
    unguided = _latents(pipe, [""], [SCENE], 1)
    torch.testing.assert_close(_latents(pipe, [""], [SCENE], 1, guidance_scale=3.0), unguided, atol=1e-4, rtol=1e-3)


def test_outside_the_mask_all_stays(pipe: CutoutsEditPipeline) -> None:
    """An untrained editor changes everything, but only where it may; and nothing new leaves the mask."""
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 16, 22, 64))  # the star's part
    edited = codec.to_scenes(_latents(pipe, [TEXTS[0]], [SCENE], 5, mask_image=[mask]).numpy())[0]
    kept = {(cut.shape, cut.color) for cut in edited.cutouts if cut.x > 0.4}
    assert kept == {("heart", "pink"), ("circle", "green")}
    assert edited.sheet == "mint"
    assert edited.word is not None
    assert edited.word.text == "TEA"
    for cut in edited.cutouts:
        if (cut.shape, cut.color) not in kept:
            assert cut.x <= 22 / 64 + 0.01
            assert cut.y >= 16 / 64 - 0.01


def test_a_black_mask_allows_nothing(pipe: CutoutsEditPipeline) -> None:
    mask = Image.new("L", (256, 256), 0)
    [edited] = pipe(TEXTS[0], draw(SCENE), mask_image=mask, num_inference_steps=STEPS, generator=_seeds(1)).images
    assert _same(oracle.read_scene(edited), SCENE)


def test_a_white_mask_allows_everything(pipe: CutoutsEditPipeline) -> None:
    mask = Image.new("L", (256, 256), 255)
    masked = _latents(pipe, [TEXTS[0]], [SCENE], 1, mask_image=[mask])
    free = _latents(pipe, [TEXTS[0]], [SCENE], 1)
    inside = (free[..., :2].abs() < 1.7).all(-1)  # nothing had to be brought back onto the sheet
    assert inside.any()
    torch.testing.assert_close(masked[..., codec.SHEET.span], free[..., codec.SHEET.span], atol=0.2, rtol=0)


def test_one_picture_for_one_instruction(pipe: CutoutsEditPipeline) -> None:
    image = draw(OTHER)
    with pytest.raises(ValueError, match="2 instructions go with 2 source pictures"):
        pipe(list(TEXTS[:2]), [image])
    with pytest.raises(ValueError, match="as many masks"):
        pipe(list(TEXTS[:2]), [image, image], mask_image=image)
    with pytest.raises(ValueError, match="256 x 128 pixels are not square"):
        pipe(TEXTS[0], image.resize((256, 128)))


def test_outputs(pipe: CutoutsEditPipeline) -> None:
    array = pipe(TEXTS[0], draw(OTHER), height=64, width=64, num_inference_steps=1, output_type="np").images
    assert array.shape == (1, 64, 64, 3)
    assert 0 <= array.min() < array.max() <= 1
    (images,) = pipe(TEXTS[0], draw(OTHER), num_inference_steps=1, return_dict=False)
    assert images[0].size == (256, 256)


def test_a_callback_sees_each_step_and_it_can_be_interrupted(pipe: CutoutsEditPipeline) -> None:
    seen: list[int] = []

    def stop(running: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(step)
        running._interrupt = step == 1
        return tensors

    _latents(pipe, [TEXTS[0]], [SCENE], 1, callback_on_step_end=stop)
    assert seen == [0, 1]
    assert pipe.interrupt
    _latents(pipe, [TEXTS[0]], [SCENE], 1)
    assert not pipe.interrupt


def test_as_a_backend(folder: Path, pipe: CutoutsEditPipeline) -> None:
    config = BackendConfig(
        kind="diffusers", model=str(folder), pipeline="mini.editor.pipeline:CutoutsEditPipeline", steps=STEPS, batch_size=4,
        device="cpu", dtype="float32",
    )  # fmt: skip
    backend = DiffusersBackend(config)
    assert backend.modes == {"edit", "inpaint"}
    source, mask = draw(SCENE), Image.new("L", (256, 256), 0)
    tasks = [ImageTask(TEXTS[0], 1, source=source), ImageTask(TEXTS[1], 2, source=source),
             ImageTask(TEXTS[0], 1, source=source, mask=mask)]  # fmt: skip
    edited, _, untouched = backend.render(tasks)
    [expected] = pipe(TEXTS[0], source, num_inference_steps=STEPS, generator=_seeds(1)).images
    assert np.abs(np.asarray(edited, dtype=int) - np.asarray(expected, dtype=int)).mean() < 1.0
    assert untouched.tobytes() == source.tobytes()


# Words


def test_pieces_of_words() -> None:
    tokenizer = train_tokenizer(TEXTS * 5, 200)
    assert tokenizer("make the star blue")["input_ids"] == tokenizer("Make the STAR blue")["input_ids"]
    assert tokenizer("“star”")["input_ids"] == tokenizer('"star"')["input_ids"]
    pieces = tokenizer("satr")["input_ids"]
    assert len(pieces) > 2
    assert tokenizer.unk_token_id not in pieces
    assert tokenizer("")["input_ids"] == [tokenizer.cls_token_id]


# Loss


def _vectors(seed: int, n: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of scenes before and after."""
    rng = np.random.default_rng(seed)
    rows = [sample_edit(rng).rows() for _ in range(n)]
    before, after = (torch.from_numpy(codec.to_vectors(np.stack(each))) for each in zip(*rows, strict=True))
    return before, after


def _sure(clean: torch.Tensor) -> torch.Tensor:
    raw = clean * 20
    raw[..., codec.LENGTHS] = clean[..., codec.LENGTHS]
    return raw


def test_a_perfect_edit_costs_nothing() -> None:
    before, after = _vectors(820)
    assert all(0 <= float(value) < 1e-5 for value in edit_loss(_sure(after), after, before).values())
    torch.testing.assert_close(to_x0(_sure(after)), after, atol=1e-5, rtol=0)


def test_a_copy_costs_what_was_asked_for() -> None:
    before, after = _vectors(821)
    copied = edit_loss(_sure(before), after, before)
    assert all(float(value) > 0.01 for value in copied.values())
    assert float(edit_loss(_sure(before), before, before)["loss"]) < 1e-5


def test_what_was_to_change_weighs_more() -> None:
    """The same mistake, where the edit changes the field and where it does not."""
    before = torch.from_numpy(codec.to_vectors(codec.to_rows(SCENE)[None]))
    other = torch.from_numpy(codec.to_vectors(codec.to_rows(replace(SCENE, sheet="grey"))[None]))
    unasked = edit_loss(_sure(other), before, before)["sheet"]
    undone = edit_loss(_sure(before), other, before)["sheet"]
    assert float(undone) == pytest.approx(train_editor.CHANGED * float(unasked))


# Pools, training, figures


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "pool.npz"
    make_pool(60, 6, path)
    return path


def test_a_pool_of_edits(scenes: Path, tmp_path: Path) -> None:
    pool = load_edit_pool(tmp_path / "deep" / "edits.npz", scenes)
    assert pool.before.shape == pool.after.shape == (60, codec.TOKENS, codec.ROW)
    assert len(pool.canonical) == 60
    assert len(pool.said) == 60 * SAYINGS
    assert not (pool.before == pool.after).all((1, 2)).any()
    again = load_edit_pool(tmp_path / "deep" / "edits.npz", tmp_path / "not there.npz")
    assert again.said == pool.said
    with pytest.raises(ValueError, match="at least one scene"):
        make_edit_pool(pool.before[:0], 0, tmp_path / "none.npz")


def test_two_steps_of_the_editor(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--scenes", str(scenes), "--pool", str(tmp_path / "edits.npz"), "--out", str(tmp_path / "out"),
        "--work", str(tmp_path / "work"), "--max-steps", "2", "--batch", "4", "--score-on", "2",
    ]  # fmt: skip
    train_editor.main(arguments)
    assert (tmp_path / "out" / "transformer" / "diffusion_pytorch_model.safetensors").is_file()
    train_editor.main(arguments)  # finished: saves again, trains no further
    state = torch.load(tmp_path / "work" / "state.pt", weights_only=True)
    assert state["step"] == 2
    edit_figures.main(["--editor", str(tmp_path / "out"), "--count", "3", "--out", str(tmp_path / "figures.json")])
    record = json.loads((tmp_path / "figures.json").read_text())
    assert record["human"]["both"]["of"] == 3
    assert "followed" in capsys.readouterr().out


def test_figures_of_a_copier(copier: CutoutsEditPipeline) -> None:
    found = edit_figures.figures(copier, 12, 0)
    assert found["followed"] == Share(0, 12)
    assert found["kept"] == Share(12, 12)
    assert found["both"].right == 0
    assert sum(share.of for name, share in found.items() if name.startswith("both, ")) == 12


def test_the_same_edits_in_either_wording() -> None:
    human, canonical = (edit_figures.sample_examples(5, 1, "test", wording) for wording in ("human", "canonical"))
    assert [item.case for item in human] == [item.case for item in canonical]
    assert [item.prompt for item in canonical] == [str(item.case.spec) for item in human]
    assert all(a.prompt != b.prompt for a, b in zip(human, canonical, strict=True))


def test_intervals() -> None:
    low, high = Share(90, 100).interval
    assert (round(low, 3), round(high, 3)) == (0.826, 0.945)  # Wilson's, as tabulated
    assert Share(0, 0).share == 0.0
    assert Share(0, 0).interval == (0.0, 1.0)
    assert str(Share(1, 2)).startswith("0.500 (")
