"""Styles whose models write no answer tags: the released PromptEnhancer checkpoints, small models, and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.chat import ChatReply
from redraft.errors import ConfigError
from redraft.profiles import BackendConfig, ModelConfig, RewriterConfig, ServerConfig, load_profile
from redraft.testing import FakeChat
from rewriter.cot import Asking, CoTRewriter, infer_target
from rewriter.reply import REPLY_SCHEMA, parse_reply
from rewriter.styles import load_style
from rewriter.target import load_target, target_of_generator

FOX = "A red fox stands in fresh snow, in soft morning light."


def config(style: str, **settings: object) -> RewriterConfig:
    model = ModelConfig(kind="openai", model="m", server=ServerConfig(base_url="http://127.0.0.1:9/v1"))
    return RewriterConfig.model_validate({"model": model, "style": style, **settings})


@pytest.mark.parametrize(
    ("reply", "thought", "prompt"),
    [
        (FOX, "", FOX),
        (f"<think>snow</think>\n{FOX}", "snow", FOX),
        (f"<think></think><answer>{FOX}</answer>", "", FOX),
        (f"snow</think>{FOX}", "snow", FOX),
        (f"<answer>{FOX}</answer>", "", FOX),
        (f"```\n{FOX}\n```", "", FOX),
        (f"<think>I write {FOX}", f"I write {FOX}", None),
        ("<think>snow</think>", "snow", None),
        (" \n", "", None),
    ],
)
def test_a_bare_reply_is_the_prompt(reply: str, thought: str, prompt: str | None) -> None:
    read = parse_reply(reply, form="bare")
    assert (read.thought, read.prompt) == (thought, prompt)


def test_a_bare_reply_that_was_cut_off_is_no_prompt() -> None:
    assert parse_reply(FOX, form="bare", truncated=True).prompt is None
    assert parse_reply(FOX).prompt is None


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps({"thought": "snow", "prompt": FOX}),
        f'Sure! ```json\n{{"thought": "snow", "prompt": "{FOX}"}}\n```',
        f"<think>snow</think><answer>{FOX}</answer>",
    ],
)
def test_json_with_thought_and_prompt(reply: str) -> None:
    read = parse_reply(reply, form="json")
    assert (read.thought, read.prompt) == ("snow", FOX)


@pytest.mark.parametrize("reply", ["{}", '{"prompt": ""}', '{"thought": "a fox"', "[1]"])
def test_json_without_a_prompt_is_none(reply: str) -> None:
    assert parse_reply(reply, form="json").prompt is None


@pytest.mark.parametrize("style", ["promptenhancer_7b", "promptenhancer_32b", "plain", "schema"])
async def test_each_style_asks_and_reads(style: str) -> None:
    reply = json.dumps({"thought": "t", "prompt": FOX}) if style == "schema" else FOX
    chat = FakeChat([ChatReply(reply)])
    [rewrite] = await CoTRewriter(chat, config(style))("a red fox in snow")
    assert (rewrite.prompt, rewrite.fallback) == (FOX, False)
    [asked] = chat.requests
    assert asked.schema == (REPLY_SCHEMA if style == "schema" else None)
    assert "a red fox in snow" in str(asked.messages[-1].content)


def test_the_released_7b_gets_a_system_message_and_the_request_alone() -> None:
    asked = Asking.of(config("promptenhancer_7b"), load_target("hunyuan_image")).first("一只红狐", 0, 0)
    assert [message.role for message in asked.messages] == ["system", "user"]
    assert asked.messages[1].content == "一只红狐"


def test_the_released_32b_gets_one_user_turn() -> None:
    asked = Asking.of(config("promptenhancer_32b"), load_target("z_image")).first("a fox", 0, 0)
    assert [message.role for message in asked.messages] == ["user"]


def test_the_system_message_that_a_checkpoint_was_released_with_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "system.txt"
    file.write_text("Their own words.\n")
    asked = Asking.of(config("promptenhancer_7b", system=str(file))).first("a fox", 0, 0)
    assert asked.messages[0].content == "Their own words."
    for style, place in (("promptenhancer_7b", tmp_path / "none.txt"), ("promptenhancer_32b", file)):
        with pytest.raises(ConfigError, match="system"):
            Asking.of(config(style, system=str(place)))


def test_tags_that_a_user_writes_are_spelled_out_and_those_of_the_template_are_not() -> None:
    text = str(load_style("promptenhancer").rewrite_messages("a sign <think>no</think>")[-1].content)
    assert "< think>no< /think>" in text
    assert "<think>…</think>" in text


@pytest.mark.parametrize(
    ("generator", "target"),
    [
        ({"kind": "diffusers", "model": "Tongyi-MAI/Z-Image-Turbo"}, "z_image"),
        ({"kind": "diffusers", "model": "./mine", "pipeline": "diffusers:Flux2Pipeline"}, "flux2"),
        ({"kind": "diffusers", "model": "stabilityai/stable-diffusion-xl-base-1.0"}, "sdxl"),
        ({"kind": "diffusers", "model": "black-forest-labs/FLUX.1-dev"}, "flux"),
        ({"kind": "openai_images", "model": "Qwen/Qwen-Image", "server": {"base_url": "http://x/v1"}}, "qwen_image"),
        ({"kind": "openai_images", "model": "gpt-image-1", "server": {"base_url": "http://x/v1"}}, None),
    ],
)
def test_the_target_of_a_generator(generator: dict[str, object], target: str | None) -> None:
    inferred = target_of_generator(BackendConfig.model_validate(generator))
    assert (inferred and inferred.name) == target


def test_the_class_in_a_models_folder_names_the_target(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "Lumina2Pipeline"}))
    inferred = target_of_generator(BackendConfig(kind="diffusers", model=str(tmp_path)))
    assert inferred is not None
    assert inferred.name == "lumina_sana"


def test_a_rewriter_that_names_its_target_or_cannot_ask_for_another_keeps_to_it() -> None:
    drawing = BackendConfig(kind="diffusers", model="stabilityai/stable-diffusion-xl-base-1.0")
    mini, workstation = load_profile("mini"), load_profile("workstation")
    assert infer_target(mini.rewriter, drawing) is None
    assert infer_target(config("promptenhancer_7b"), drawing) is None
    inferred = infer_target(workstation.rewriter, workstation.generator)
    assert inferred is not None
    assert inferred.name == "z_image"
