"""What training scripts share: YAML settings without unknown keys, models that are there, going on after a kill."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from core.errors import ConfigError, ModelMissing, one_line
from core.profiles import model_place

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def read_settings(kinds: Sequence[Any], argv: Sequence[str], prog: str) -> tuple[Any, ...]:
    """One instance of each dataclass in `kinds`, from `--config FILE` (YAML) and the options that override it.

    Raises ConfigError for a file that cannot be read, for a key or option that does not exist, and for values that the
    dataclasses refuse.
    """
    from trl import TrlParser

    args = list(argv)
    if "--config" in args:
        at = args.index("--config") + 1
        if at == len(args):
            raise ConfigError("--config needs the name of a YAML file behind it")
        _refuse_unknown(Path(args[at]), {f.name for kind in kinds for f in fields(kind) if f.init})
    try:
        return tuple(TrlParser(kinds, prog=prog).parse_args_and_config(args))
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"the settings cannot be used: {one_line(error)}") from error


def find_model(model: str | None, revision: str | None = None) -> str:
    """The folder or hub id of a language model whose configuration can be had. Raises ConfigError, ModelMissing."""
    from transformers import AutoConfig

    if not model:
        raise ConfigError("model_name_or_path is missing; set it to a model folder or a hub id")
    place = model_place(model)
    try:
        AutoConfig.from_pretrained(place, revision=revision)
    except (OSError, ValueError) as error:
        raise missing(place, error) from error
    return place


def missing(place: str, error: Exception) -> ModelMissing:
    """The error for a model that could not be loaded: how to get it."""
    return ModelMissing(
        f"no model could be loaded from {place} ({one_line(error)}); download it (hf download {place}) where there is "
        f"a network, or set model_name_or_path to a folder with config.json, tokenizer and *.safetensors"
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`. One that a kill cut short lacks its state, which is written last, or has
    only the beginning of it."""
    found = sorted((int(match[1]), path) for path in folder.glob("*") if (match := _CHECKPOINT.fullmatch(path.name)))
    return next((path for _, path in reversed(found) if _is_json(path / "trainer_state.json")), None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def _refuse_unknown(path: Path, known: set[str]) -> None:
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the config {path} is not valid YAML: {one_line(error)}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"the config {path} must be a YAML mapping, one `setting: value` a line")
    unknown = [str(key) for key in settings if key != "env" and key not in known]
    if unknown:
        lines = [f"  {key}: no such setting{_meant(key, known)}" for key in unknown]
        raise ConfigError(f"the config {path} has mistakes:\n" + "\n".join(lines))


def _meant(key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
