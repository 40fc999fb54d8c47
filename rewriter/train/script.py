"""What the scripts of the rewriter's training share, besides `redraft.training`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from redraft import training
from redraft.errors import ConfigError
from redraft.profiles import model_place
from redraft.training import find_model, naming_mistakes, read_settings, set_model_kwargs
from rewriter.reply import parse_reply
from rewriter.train.data import Chat


def recipes() -> dict[str, Path]:
    """Name to YAML file of the recipes that come with the package."""
    return training.recipes("rewriter.train")


def settings_of(kinds: Sequence[Any], argv: Sequence[str], prog: str) -> tuple[Any, ...]:
    """`redraft.training.read_settings`, with `--config NAME` for a recipe of that name, besides `--config FILE`."""
    return read_settings(kinds, argv, prog, recipes())


def check_template(tokenizer: Any, chat: Chat, reply: str, **template_args: Any) -> None:
    """Raises ConfigError if the chat template does not give a taught reply back, as templates do that drop thoughts: the
    model would learn, or be trained on, something other than what its parser reads."""
    prompt = str(tokenizer.apply_chat_template(chat, tokenize=False, **template_args))
    opened = str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **template_args))
    turn = {"role": "assistant", "content": reply}
    whole = str(tokenizer.apply_chat_template([*chat, turn], tokenize=False, **template_args))
    # Templates that open the thought themselves do so only for generation: there `opened` is no part of the whole.
    read, taught = parse_reply(whole.removeprefix(opened).removeprefix(prompt)), parse_reply(reply)
    if read.prompt != taught.prompt or not read.thought.endswith(taught.thought):
        raise ConfigError(
            "the model's chat template does not give a reply back as it was taught: it changes the thought or the answer; "
            "set chat_template_path to a template that keeps them, or take another model"
        )


def at_least_one(text: str) -> int:
    """The `type` of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1, not {text!r}")
    return int(text)


def first_mistake(error: ValidationError, whole: str = "") -> str:
    """The first mistake that pydantic names, as "name: why". `whole` is the name if the mistake is not in one field."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or whole
    return f"{name}: {str(first['msg']).removeprefix('Value error, ')}"


def adapter_base(place: str | None) -> str | None:
    """The model that the adapter in the folder `place` is for; None if there is no adapter. Raises ConfigError, ModelMissing."""
    path = Path(model_place(place)) / "adapter_config.json" if place else None
    if path is None or not path.is_file():
        return None
    try:
        base = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError) as error:
        raise ConfigError(f"the adapter {path.parent} does not say what model it is for ({error})") from error
    return find_model(str(base))


def tokenizer_place(place: str | None, revision: str | None = None) -> str:
    """The folder of the tokenizer of the model, or of the adapter, in `place`; its base's if an adapter has none of its own.
    Raises ConfigError, ModelMissing."""
    base = adapter_base(place)
    if base is None:
        return find_model(place, revision)
    folder = Path(model_place(str(place)))
    return str(folder) if (folder / "tokenizer_config.json").is_file() else base


def make_trainer(
    kind: Any, settings: Any, model: Any, rows: list[Any], eval_rows: list[Any] | None = None, **more: Any
) -> Any:
    """A trainer of TRL's (or of a class of its) on `rows`. ModelConfig names a model, to which an adapter is added if it
    wants one, or a folder with an adapter, as SFT leaves it: that adapter is trained on. `more` goes to the trainer.

    Raises ConfigError, ModelMissing.
    """
    from datasets import Dataset
    from trl import get_quantization_config

    name = model.model_name_or_path
    base = adapter_base(name)
    place = find_model(name, model.model_revision) if base is None else name
    with naming_mistakes(place):
        return kind(
            args=settings,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=None if eval_rows is None else Dataset.from_list(eval_rows),
            quantization_config=get_quantization_config(model),
            **(_whole(place, settings, model) if base is None else _adapter(place, base, model)),
            **more,
        )


def _whole(place: str, settings: Any, model: Any) -> dict[str, Any]:
    from trl import get_peft_config

    set_model_kwargs(settings, model)
    return {"model": place, "peft_config": get_peft_config(model)}


def _adapter(place: str, base: str, model: Any) -> dict[str, Any]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(
        base, dtype=model.dtype, attn_implementation=model.attn_implementation, use_safetensors=True
    )
    return {
        "model": PeftModel.from_pretrained(loaded, model_place(place), is_trainable=True),
        "processing_class": AutoTokenizer.from_pretrained(tokenizer_place(place), padding_side="left"),
    }
