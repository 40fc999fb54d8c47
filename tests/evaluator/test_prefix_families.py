"""The shared prefix on model families that keep their past in other ways: M-RoPE (Qwen3-VL), sliding windows (Gemma 3).

Their inputs are made by hand here: Qwen's processor needs torchvision, which the tests do without.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
)

from evaluator.local_judge import VLM, Encoded, Tensors, answer_shared
from redraft.local_models import LocalModel

IMAGE, VISION_START, VISION_END, VOCAB = 90, 91, 92, 100
YES, NO = (7,), (8,)


def make_qwen() -> tuple[Any, Callable[[int], Tensors]]:
    text = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 64,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE,
        video_token_id=93,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )
    model = Qwen3VLForConditionalGeneration(config)

    def picture(seed: int) -> Tensors:
        ids = torch.tensor([[1, VISION_START, *[IMAGE] * 6, VISION_END, 2, 3]])  # a grid of 4 x 6 patches, merged 2 x 2
        generator = torch.Generator().manual_seed(seed)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == IMAGE).long(),
            "pixel_values": torch.randn(24, 3 * 2 * 4 * 4, generator=generator),
            "image_grid_thw": torch.tensor([[1, 4, 6]]),
        }

    return model, picture


def make_gemma() -> tuple[Any, Callable[[int], Tensors]]:
    text = Gemma3TextConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=8,  # shorter than the prefix, so that the cache has let go of its beginning
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4
    )
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=IMAGE)
    config.image_token_id = IMAGE
    model = Gemma3ForConditionalGeneration(config)

    def picture(seed: int) -> Tensors:
        ids = torch.tensor([[1, 2, 3, *[IMAGE] * 4, 4, 5, 6, 9, 10, 11]])
        generator = torch.Generator().manual_seed(seed)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": (ids == IMAGE).long(),
            "pixel_values": torch.randn(1, 3, 16, 16, generator=generator),
        }

    return model, picture


@pytest.mark.parametrize("make", [make_qwen, make_gemma])
def test_shared_prefix_agrees_with_whole_passes(make: Callable[[], tuple[Any, Callable[[int], Tensors]]]) -> None:
    torch.manual_seed(0)
    model, picture = make()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0.0, 0.2)
    model = model.float().eval()
    local = LocalModel("tiny", model, SimpleNamespace(pad_token_id=0), None, context=512, eos=())
    vlm = VLM(local, YES, NO, template_args={})
    suffixes = ((20, 21, 22), (23,), (24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35))
    batch = [Encoded(picture(seed), suffixes) for seed in (1, 2)]
    got = torch.tensor(answer_shared(vlm, batch))
    expected = torch.tensor([[whole(model, one.prefix, suffix) for suffix in suffixes] for one in batch])
    assert (got - expected).abs().max() < 1e-5
    assert expected.std(dim=1).min() > 1e-4
    assert expected.std(dim=0).max() > 1e-4


def whole(model: Any, prefix: Tensors, suffix: tuple[int, ...]) -> tuple[float, float]:
    """(P(yes), P(no)) by one pass over everything, without a cache."""
    more = torch.tensor([suffix])
    longer = {"input_ids": more, "attention_mask": torch.ones_like(more)}
    empty = torch.zeros_like(more)
    inputs = {
        name: torch.cat([value, longer.get(name, empty)], dim=1) if value.shape == prefix["input_ids"].shape else value
        for name, value in prefix.items()
    }
    with torch.no_grad():
        p = model(**inputs, use_cache=False).logits[0, -1].softmax(-1)
    return p[list(YES)].sum().item(), p[list(NO)].sum().item()
