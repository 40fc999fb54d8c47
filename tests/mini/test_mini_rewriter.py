"""The rewriter's tokenizer and model: nothing of a lesson is lost on the way in and out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from mini.rewriter.lessons import Lesson, lesson
from mini.rewriter.model import END, MAX_TOKENS, START, build_model, save, train_tokenizer
from mini.rewriter.train import encode
from redraft.chat import ChatRequest, Message
from redraft.profiles import LocalConfig, ModelConfig
from redraft.transformers_chat import TransformersChat

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
SIZE = 640


def _lessons(seed: int, n: int) -> list[Lesson]:
    rng = np.random.default_rng(seed)
    return [lesson(rng, "train" if i % 3 else "test") for i in range(n)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([text for one in _lessons(801, 600) for text in (one.prompt, one.reply)], SIZE)


@pytest.fixture(scope="module")
def folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("rewriter")
    save(build_model(tokenizer, width=64, layers=1), tokenizer, path)
    return path


def test_every_lesson_comes_back_byte_for_byte(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    saved = AutoTokenizer.from_pretrained(folder)
    for one in _lessons(802, 400):
        for text in (one.prompt, one.reply):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids, skip_special_tokens=True) == text
            assert saved(text, add_special_tokens=False)["input_ids"] == ids
            assert saved.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize(
    "text", ["", " two  spaces ", "“ZOO”\n\ttab", "naïve 星 🌙", "<thinking> a < b </answer", "\x00"]
)
def test_any_text_comes_back_byte_for_byte(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_tags_are_whole_tokens_that_survive_decoding(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == SIZE
    for tag in TAGS:
        assert len(tokenizer(tag)["input_ids"]) == 1
        assert tag not in tokenizer.all_special_tokens
    reply = "<think>Things: one, star.</think><answer>one star</answer>"
    ids = tokenizer(reply + END)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == reply
    assert tokenizer.decode(ids) == reply + END


def test_a_tag_in_what_the_user_wrote_is_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """The chat's own marks are special, so that no prompt can hold them unseen; tags are plain text to the parser."""
    assert tokenizer.eos_token == END
    assert {START, END, "<|endoftext|>"} <= {str(token) for token in tokenizer.added_tokens_decoder.values()}


def test_the_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    chat = [{"role": "user", "content": "Rewrite: {{ a star }}"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == f"{START}user\nRewrite: {{{{ a star }}}}{END}\n{START}assistant\n"


def test_a_lesson_is_learnt_from_its_reply_on(tokenizer: PreTrainedTokenizerFast) -> None:
    for one in _lessons(803, 50):
        ids, head = encode(tokenizer, one)
        assert tokenizer.decode(ids[:head]) == f"{START}user\n{one.prompt}{END}\n{START}assistant\n"
        assert tokenizer.decode(ids[head:]) == one.reply + END
        assert ids[-1] == tokenizer.eos_token_id


def test_lessons_fit_the_model(tokenizer: PreTrainedTokenizerFast) -> None:
    assert max(len(encode(tokenizer, one)[0]) for one in _lessons(804, 400)) < MAX_TOKENS


def test_saved_and_loaded(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert model.get_input_embeddings().weight is model.lm_head.weight
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert not model.generation_config.do_sample
    assert (folder / "model.safetensors").is_file()


async def test_as_a_chat_model(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """One that has learnt a single lesson by heart gives its reply to the letter, thought and tags included."""
    torch.manual_seed(0)
    model = build_model(tokenizer, width=64, layers=1)
    [one] = _lessons(805, 1)
    ids, head = encode(tokenizer, one)
    chat = torch.tensor([ids])
    labels = chat.masked_fill(torch.arange(len(ids)) < head, -100)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        model(input_ids=chat, labels=labels).loss.backward()
        optimiser.step()
    save(model, tokenizer, tmp_path)
    local = LocalConfig(device="cpu", dtype="float32", micro_batch=4)
    learnt = TransformersChat(ModelConfig(kind="transformers", model=str(tmp_path), local=local))
    reply = await learnt(ChatRequest((Message("user", one.prompt),), max_tokens=320, temperature=0.0))
    await learnt.aclose()
    assert reply.text == one.reply
    assert not reply.truncated


def test_lessons_without_thoughts_end_in_the_same_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    for one in _lessons(804, 40):
        ids, head = encode(tokenizer, one, thoughts=False)
        reply = tokenizer.decode(ids[head:-1])
        assert reply == (one.reply if one.task == "checklist" else one.reply[one.reply.index("<answer>") :])
