"""Targets: what an image model wants of a prompt. One TOML file each, in `rewriter/targets/` or a folder of the user's.

A target adds its notes to the rewriter's messages, and its own checks to the guard's rules: whether the
prompt fits what the model's text encoder reads, its form, and its quality words.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from redraft.errors import ConfigError, RedraftError
from redraft.files import PACKAGE, package_path
from redraft.profiles import BackendConfig, model_place
from rewriter.guard import detect_language, estimate_tokens, load_languages

_NEGATIVE = re.compile(r"(?:\A|\n)[^\S\n]*negative prompt\s*[:：]\s*", re.IGNORECASE)
_QUALITY = re.compile(
    r"\b(?:masterpiece|(?:best|top|high|highest|ultra|amazing|insane) quality|score_\d\w*"
    r"|trending on \w+|award[- ]winning"
    r"|(?:ultra|highly|extremely|super|hyper|insanely|incredibly)[- ]?(?:detailed|realistic|real|sharp)"
    r"|(?:ultra )?(?:hd|uhd)|hdr|(?:4|8|16)k(?: (?:resolution|uhd|hd|wallpaper))?|octane render|unreal engine(?: \d)?"
    r"|absurdres|highres|very aesthetic|stunning(?:ly beautiful)?|breathtaking)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[^\W\d]{2}[.!?](?:\s|\Z)|[。！？]")
_ITEM = re.compile(r"[,\n，、;]+")
Form = Literal["prose", "tags"]
"""How a rewriter that was trained for both writes: sentences, or short items between commas."""
AnyForm = Form | Literal["any"]
TARGET_OF_FORM: Mapping[str, str] = {"prose": "flux", "tags": "sdxl"}
"""The target that stands for a form if training names the form alone."""
_LONG_TAG = 10
"""Words of a comma-separated item from which it reads as a sentence, not as a tag."""


class Target(BaseModel):
    """A target's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    form: AnyForm = "prose"
    """prose: sentences; tags: short items between commas; any: not checked."""
    max_tokens: int = Field(ge=8)
    """What the text encoder reads of a prompt, without its special tokens."""
    tokenizer: str | None = None
    """Which tokenizer counts them: a folder, a hub id (with a subfolder behind a second "/"), package:NAME/FOLDER. It
    is used if its tokenizer.json is on this machine; nothing is ever downloaded. Otherwise tokens are estimated."""
    reads: tuple[str, ...] = ()
    """Languages that the text encoder reads, as two letters; () if it reads most."""
    negative_prompt: bool = False
    """Whether the rewriter writes a negative prompt too."""
    quality_words: bool = False
    """Whether "masterpiece, 8k" and the like may be added."""
    notes: str = ""
    """What the rewriter reads about this model."""
    pipelines: tuple[str, ...] = ()
    """diffusers pipelines that draw with it."""
    models: tuple[str, ...] = ()
    """What names of its checkpoints contain, whatever their case: servers say no more than a name."""

    def count(self, text: str) -> int:
        """Tokens of `text`, counted if the tokenizer is at hand, else estimated."""
        encode = _encoder(self.tokenizer)
        return estimate_tokens(text) if encode is None else encode(text)

    @property
    def counts(self) -> bool:
        """Whether `count` is exact."""
        return _encoder(self.tokenizer) is not None

    def split(self, answer: str) -> tuple[str, str | None]:
        """Prompt and negative prompt of an answer: the latter stands behind "Negative prompt:" on a line of its own. What it says
        again between commas is left out, as small models go on and on there."""
        prompt, *rest = _NEGATIVE.split(answer)
        items: dict[str, str] = {}
        for item in (" ".join(item.split()) for part in rest for item in part.split(",")):
            items.setdefault(item.casefold(), item)
        return prompt.strip(), ", ".join(item for item in items.values() if item) or None

    def end_negative(self, answer: str) -> str | None:
        """An answer that was cut off in its negative prompt, up to its last whole item; None if it was cut off elsewhere."""
        *_, last = [None, *_NEGATIVE.finditer(answer)] if self.negative_prompt else [None]
        comma = -1 if last is None else answer.rfind(",", last.end())
        return answer[:comma] if comma > 0 else None

    def faults(self, request: str, prompt: str, negative: str | None) -> list[tuple[str, str]]:
        """(rule, plain sentence) for all that `prompt` does not do as this model wants it."""
        faults = []
        tokens, most = self.count(prompt), max(self.max_tokens, self.count(request))
        if tokens > most:
            faults.append(("budget", f"The prompt has {tokens} tokens; the image model reads {most}. Make it shorter."))
        if not self.quality_words:
            known = request.casefold()
            words = dict.fromkeys(m[0] for m in _QUALITY.finditer(prompt) if m[0].casefold() not in known)
            if words:
                listed = ", ".join(repr(word) for word in words)
                faults.append(("quality_words", f"Leave out {listed}: this image model draws no better for it."))
        if negative is not None and not self.negative_prompt:
            faults.append(("negative_prompt", "This image model takes no negative prompt; write the prompt alone."))
        if negative is not None and self.negative_prompt:
            wanted = {item for item in _items(prompt) if item in set(_items(negative))}
            if wanted:
                listed = ", ".join(repr(item) for item in sorted(wanted))
                faults.append(("negative_prompt", f"The prompt and the negative prompt both name {listed}."))
        if self.form == "tags" and _is_prose(prompt):
            faults.append(("form", "This image model wants short tags between commas, not sentences."))
        if self.form == "prose" and _is_tags(prompt) and not _is_tags(request):
            faults.append(("form", "This image model wants running text in sentences, not a list of tags."))
        return faults

    def notice(self, request: str) -> str | None:
        """What a user should know about `request` and no rewrite mends: that the model may not read its language."""
        language = detect_language(request) if self.reads else None
        if language is None or language in self.reads:
            return None
        known = " and ".join(load_languages().name(code) for code in self.reads)
        return f"target: {self.name} reads {known}; this request is in {load_languages().name(language)}"


def builtin_targets() -> dict[str, Path]:
    """Name to file of the targets that come with redraft."""
    return _files(Path(str(resources.files("rewriter"))) / "targets")


def user_folder() -> Path:
    """The folder for users' own targets: redraft/targets in the configuration folder (XDG_CONFIG_HOME)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "redraft" / "targets"


def known_targets() -> dict[str, Path]:
    """Name to file of all targets that can be picked by name. A user's own wins over one of redraft's."""
    return builtin_targets() | _files(user_folder())


def load_target(name: str) -> Target:
    """The target of that name, or the one in the TOML file `name` or `package:NAME/FILE`. Raises ConfigError."""
    known = known_targets()
    is_path = name.endswith(".toml") or os.sep in name
    if not is_path and name not in known:
        raise ConfigError(
            f"unknown target {name!r}; there are {', '.join(known)}, or give a path to a .toml file, "
            f"or put one into {user_folder()}"
        )
    if name.startswith(PACKAGE):
        path = package_path(name)
    else:
        path = Path(name).expanduser() if is_path else known[name]
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return Target.model_validate({"name": path.stem} | data)
    except OSError as error:
        raise ConfigError(f"cannot read target {path}: {error.strerror}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or '(file)'}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"target {path} has mistakes:\n" + "\n".join(lines)) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"target {path} is not valid TOML: {error}") from error


def target_of_pipeline(pipeline: object) -> Target | None:
    """The target whose file names the class of a diffusers pipeline, or one of its bases; None if none does."""
    targets = [load_target(name) for name in known_targets()]
    for base in type(pipeline).__mro__:
        for target in targets:
            if base.__name__ in target.pipelines:
                return target
    return None


def target_of_generator(generator: BackendConfig) -> Target | None:
    """The target that names the generator's pipeline class (from the profile, or from the model's folder if it is on this
    machine), else the one that names its model; None if none does."""
    targets = [load_target(name) for name in known_targets()]
    classes = [] if generator.pipeline is None else [generator.pipeline.rpartition(":")[2]]
    if generator.kind == "diffusers" and generator.pipeline is None:
        classes += _class_in(generator.model)
    for target in targets:
        if not set(classes).isdisjoint(target.pipelines):
            return target
    name = generator.model.casefold()
    return next((target for target in targets if any(word.casefold() in name for word in target.models)), None)


def _class_in(model: str) -> list[str]:
    try:
        index = json.loads((Path(model_place(model)) / "model_index.json").read_text(encoding="utf-8"))
        return [str(index["_class_name"])]
    except (OSError, ValueError, TypeError, KeyError, RedraftError):
        return []


def _files(folder: Path) -> dict[str, Path]:
    try:
        return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    except OSError:
        return {}


def _items(text: str) -> list[str]:
    return [" ".join(item.casefold().split()) for item in _ITEM.split(text) if item.strip(" .")]


def _is_prose(text: str) -> bool:
    items = _items(text)
    longest = max((len(item.split()) for item in items), default=0)
    return len(_SENTENCE_END.findall(text)) > 1 or longest > 2 * _LONG_TAG or (longest > _LONG_TAG and len(items) < 3)


def _is_tags(text: str) -> bool:
    """Many short items and no sentence; of a short text one cannot say."""
    items = _items(text)
    return len(items) >= 8 and sum(len(item.split()) for item in items) <= 3 * len(items) and "." not in text[:-1]


@lru_cache(maxsize=16)
def _encoder(tokenizer: str | None) -> Callable[[str], int] | None:
    """Counts the tokens of a text; None if there is no tokenizer.json, or nothing that reads it."""
    path = _tokenizer_file(tokenizer) if tokenizer else None
    if path is None:
        return None
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:  # it comes with the extra local
        return None
    try:
        loaded = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ConfigError(f"the tokenizer {path} cannot be read: {error}") from error
    loaded.no_truncation()
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)


def _tokenizer_file(tokenizer: str) -> Path | None:
    if tokenizer.startswith(("package:", ".", "/", "~")):
        folder = Path(model_place(tokenizer))
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ConfigError(f"there is no tokenizer.json in {folder}; mend `tokenizer` in the target")
        return path
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:
        return None
    owner, name, *below = tokenizer.split("/")
    cached = try_to_load_from_cache(f"{owner}/{name}", "/".join([*below, "tokenizer.json"]))
    return Path(cached) if isinstance(cached, str) else None
