"""The mini judge: a small Llava (CLIP vision tower, Qwen3 language model) over 96-pixel pictures, answering yes or no.

A sentence outside the grammar of questions, it was trained to answer with `unsure`, which shows as little label mass.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from mini.world.questions import NUMBERS, plural
from mini.world.scene import COLORS, FILLS, SHAPES, SHEETS, SIZES, WORDS

SIDE, PATCH = 96, 12
IMAGE_TOKENS = (SIDE // PATCH) ** 2
BOS, ANSWER = "<s>", "<answer>"
TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<answer>' }}{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the questions' words; every other word is <unk>."""
    special = ["<pad>", BOS, "</s>", "<unk>", "<image>", ANSWER]
    words = ["yes", "no", "unsure", "?", "Is", "Are", "Do", "Does", "a", "an", "the", "there", "exactly", "all", "at"]
    words += ["of", "than", "and", "have", "same", "colour", "picture", "free", "say"]
    words += ["word", "sheet", "shape", "shapes"]
    words += ["where", "size", "pattern"]  # of the open questions that training asks beside those of the grammar
    words += ["left", "right", "top", "bottom", "above", "below", "inside", "larger", "smaller"]
    words += [*NUMBERS, *SIZES, *COLORS, *FILLS, *SHEETS, *WORDS, *SHAPES, *map(plural, SHAPES)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, *words]))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    core.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token=BOS, eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>", ANSWER], chat_template=TEMPLATE, padding_side="left",
    )  # fmt: skip


def build_processor() -> LlavaProcessor:
    images = CLIPImageProcessorPil(
        do_resize=True, size={"height": SIDE, "width": SIDE}, do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5],
    )  # fmt: skip
    return LlavaProcessor(
        image_processor=images, tokenizer=build_tokenizer(), patch_size=PATCH,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=TEMPLATE,
    )  # fmt: skip


def build_model(width: int = 128, layers: int = 4) -> LlavaForConditionalGeneration:
    """An untrained judge. Heads are 32 wide, which every serving engine's CPU attention takes."""
    tokenizer = build_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, num_attention_heads=width // 32,
        image_size=SIDE, patch_size=PATCH, projection_dim=width, hidden_act="gelu",
    )  # fmt: skip
    text = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=width // 32, num_key_value_heads=width // 32, head_dim=32, max_position_embeddings=512,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1, vision_feature_select_strategy="default", image_seq_length=IMAGE_TOKENS,
        projector_hidden_act="gelu", tie_word_embeddings=True,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    _place_patches(model.model.vision_tower.embeddings.position_embedding.weight, width)
    return model


def _place_patches(positions: Tensor, width: int) -> None:
    """Starts the position table as two-dimensional sines: shapes are read from a patch and its neighbours, and from
    random positions the tower has to find out first which patches those are (shape stayed at 25% for 30,000
    pictures)."""
    grid = SIDE // PATCH
    rates = torch.exp(-torch.arange(width // 4) / (width // 4) * math.log(100.0))
    angles = torch.arange(grid)[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], 1)
    across, down = line[None].expand(grid, -1, -1), line[:, None].expand(-1, grid, -1)
    with torch.no_grad():
        positions[1:] = torch.cat([down, across], -1).flatten(0, 1) * 0.4


def save(model: LlavaForConditionalGeneration, folder: Path) -> None:
    model.generation_config.pad_token_id = build_tokenizer().pad_token_id
    model.save_pretrained(folder, safe_serialization=True)
    build_processor().save_pretrained(folder)
