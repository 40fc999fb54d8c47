"""Vision-language models of random weights, as small as transformers makes them, saved with their processors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PICTURES_ONLY = """\
from transformers import {base}


class PicturesOnly({base}):
    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)
"""


def save_random_llava(
    folder: Path,
    texts: Sequence[str],
    *,
    hidden: int = 64,
    layers: int = 2,
    vision_hidden: int = 64,
    vision_layers: int = 2,
    image_size: int = 32,
    patch_size: int = 8,
    spread: float = 0.02,
    seed: int = 0,
) -> None:
    """Saves a Llava (CLIP tower, Qwen3 text model with head_dim 32) with its processor to `folder`.

    The tokenizer has one token for each word or mark of `texts`, for yes and for no. `spread` is the standard deviation
    of the weights; a large one makes answers that differ much from question to question.
    """
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        Qwen3Config,
    )

    special = ["<pad>", "<unk>", "<image>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
    tokenizer = _word_tokenizer(texts, special)
    size = {"height": image_size, "width": image_size}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    vision = CLIPVisionConfig(
        hidden_size=vision_hidden,
        intermediate_size=2 * vision_hidden,
        num_hidden_layers=vision_layers,
        num_attention_heads=max(1, vision_hidden // 32),
        image_size=image_size,
        patch_size=patch_size,
        projection_dim=vision_hidden,
        initializer_range=spread,
    )
    text = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 32),
        num_key_value_heads=max(1, hidden // 32),
        head_dim=32,
        initializer_range=spread,
        pad_token_id=0,
        eos_token_id=special.index("<|end|>"),
        bos_token_id=None,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=special.index("<image>"),
        vision_feature_layer=-1,
        image_seq_length=(image_size // patch_size) ** 2,
    )
    _save(lambda: LlavaForConditionalGeneration(config), processor, folder, spread, seed)


def save_random_qwen(
    folder: Path,
    texts: Sequence[str],
    family: Literal["qwen2_5_vl", "qwen3_vl"],
    *,
    hidden: int = 64,
    layers: int = 2,
    spread: float = 0.02,
    seed: int = 0,
) -> None:
    """Saves a Qwen2.5-VL or Qwen3-VL with its processor to `folder`; else as `save_random_llava`.

    The family's own processor class also takes videos, for which it needs torchvision. Here its part for videos is
    left out, by a class whose code lies in the folder: load it with trust_remote_code.
    """
    from transformers import Qwen2VLImageProcessorPil
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    special = ["<pad>", "<unk>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|im_start|>", "<|im_end|>"]
    tokenizer = _word_tokenizer([*texts, "user assistant"], special)
    ids = {name: special.index(f"<|{name}|>") for name in ("image_pad", "video_pad", "vision_start", "vision_end")}
    folder.mkdir(parents=True, exist_ok=True)
    base = {"qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}[family]
    (folder / "pictures_only.py").write_text(_PICTURES_ONLY.format(base=base), encoding="utf-8")
    pictures_only = get_class_from_dynamic_module("pictures_only.PicturesOnly", folder)
    pictures_only.register_for_auto_class("AutoProcessor")
    images = Qwen2VLImageProcessorPil(
        patch_size=4, temporal_patch_size=2, merge_size=2, min_pixels=256, max_pixels=1024
    )
    processor = pictures_only(images, tokenizer, chat_template=QWEN_TEMPLATE)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": hidden // 32,
        "head_dim": 32,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": special.index("<|im_end|>"),
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": hidden,
    }
    tokens = {
        "image_token_id": ids["image_pad"],
        "video_token_id": ids["video_pad"],
        "vision_start_token_id": ids["vision_start"],
        "vision_end_token_id": ids["vision_end"],
    }
    _save(lambda: _qwen(family, text, vision, tokens), processor, folder, spread, seed)


def _qwen(family: str, text: dict[str, Any], vision: dict[str, Any], tokens: dict[str, int]) -> Any:
    if family == "qwen2_5_vl":
        from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

        own = {"window_size": 16, "fullatt_block_indexes": [1]}
        return Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=text, vision_config=vision | own, **tokens)
        )
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    own = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision | own, **tokens))


def _word_tokenizer(texts: Sequence[str], special: Sequence[str]) -> Any:
    """One token for each word or mark; `special` begins with the padding and the unknown token, and ends with that
    which ends a turn."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)} | {"yes", "no"})
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *words])}, unk_token=special[1]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=special[0],
        unk_token=special[1],
        eos_token=special[-1],
        additional_special_tokens=list(special[2:-1]),
    )


def _save(build: Callable[[], Any], processor: Any, folder: Path, spread: float, seed: int) -> None:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0.0, spread)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
