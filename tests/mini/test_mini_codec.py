"""Scenes as rows and as the generator's vectors, and back."""

from __future__ import annotations

import numpy as np

from mini.world import codec
from mini.world.sampling import sample_pair
from mini.world.scene import CutOut, PrintedWord, Scene


def _scenes(seed: int, n: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [sample_pair(rng, "train" if i % 2 else "test")[1] for i in range(n)]


def _close(a: Scene, b: Scene) -> bool:
    """Equal but for the rounding of lengths to float32."""
    cuts = zip(a.cutouts, b.cutouts, strict=True)
    named = [(x.shape, x.color, x.fill) == (y.shape, y.color, y.fill) for x, y in cuts]
    lengths = [(x.x - y.x, x.y - y.y, x.radius - y.radius) for x, y in zip(a.cutouts, b.cutouts, strict=True)]
    words = (a.word is None) == (b.word is None)
    if a.word is not None and b.word is not None:
        words = a.word.text == b.word.text
        lengths.append((a.word.x - b.word.x, a.word.y - b.word.y, 0.0))
    return all(named) and words and a.sheet == b.sheet and bool((np.abs(lengths) < 1e-5).all())


def test_rows_there_and_back() -> None:
    for scene in _scenes(401, 200):
        rows = codec.to_rows(scene)
        assert rows.shape == (codec.TOKENS, codec.ROW)
        assert _close(codec.from_rows(rows), scene)


def test_vectors_there_and_back() -> None:
    scenes = _scenes(402, 200)
    vectors = codec.to_vectors(np.stack([codec.to_rows(scene) for scene in scenes]))
    assert vectors.shape == (200, codec.TOKENS, codec.WIDTH)
    assert vectors.dtype == np.float32
    assert all(_close(a, b) for a, b in zip(codec.to_scenes(vectors), scenes, strict=True))


def test_vectors_with_little_noise_are_the_same_scene_but_for_lengths() -> None:
    scenes = _scenes(403, 50)
    vectors = codec.to_vectors(np.stack([codec.to_rows(scene) for scene in scenes]))
    noisy = vectors + np.random.default_rng(0).normal(0, 0.1, vectors.shape).astype(np.float32)
    for read, scene in zip(codec.to_scenes(noisy), scenes, strict=True):
        assert [(c.shape, c.color, c.fill) for c in read.cutouts] == [(c.shape, c.color, c.fill) for c in scene.cutouts]
        assert read.sheet == scene.sheet
        assert (read.word and read.word.text) == (scene.word and scene.word.text)


def test_an_empty_sheet() -> None:
    scene = Scene("lilac", ())
    vectors = codec.to_vectors(codec.to_rows(scene)[None])
    assert codec.to_scenes(vectors) == [scene]
    # Fields that a token does not use are 0.
    assert not vectors[0, :, codec.LENGTHS].any()
    assert not vectors[0, : codec.SHEET_TOKEN, codec.COLOR.start : codec.FILL.span.stop].any()


def test_one_hot_fields_are_plus_and_minus_one() -> None:
    scene = Scene("white", (CutOut("circle", "red", "plain", 0.5, 0.5, 0.095),), PrintedWord("HELLO", 0.5, 0.1))
    vector = codec.to_vectors(codec.to_rows(scene)[None])[0]
    for token, field, chosen in (
        (0, codec.SHAPE, 1),
        (1, codec.SHAPE, 0),
        (0, codec.COLOR, 0),
        (0, codec.FILL, 0),
        (codec.SHEET_TOKEN, codec.SHEET, 0),
        (codec.WORD_TOKEN, codec.WORD, 1),
    ):
        expected = np.full(field.size, -1.0)
        expected[chosen] = 1.0
        np.testing.assert_array_equal(vector[token, field.span], expected)
    np.testing.assert_allclose(vector[0, codec.LENGTHS], 0, atol=1e-6)  # the middle of the sheet, of middling size


def test_lengths_of_any_vector_can_be_drawn() -> None:
    """Far off the data, a scene's lengths are bounded."""
    wild = np.random.default_rng(404).normal(0, 50, (20, codec.TOKENS, codec.WIDTH)).astype(np.float32)
    for scene in codec.to_scenes(wild):
        assert all(0.0199 < c.radius <= 0.5 and -0.5 <= min(c.x, c.y) <= max(c.x, c.y) <= 1.5 for c in scene.cutouts)


def test_a_seventh_cutout_is_left_out() -> None:
    many = tuple(CutOut("star", "red", "plain", 0.1 * i, 0.5, 0.06) for i in range(1, 8))
    assert len(codec.from_rows(codec.to_rows(Scene("white", many))).cutouts) == 6
