"""Targets: the files that come with redraft, a user's own, and what they make of a prompt."""

from __future__ import annotations

from pathlib import Path

import diffusers
import pytest

from redraft.chat import ChatReply
from redraft.errors import ConfigError
from redraft.profiles import ModelConfig, RewriterConfig
from redraft.testing import FakeChat, text_of
from rewriter.batch.maker import own_columns
from rewriter.cot import CoTRewriter
from rewriter.guard import GuardSettings
from rewriter.reply import Review, Rules, review
from rewriter.target import Target, builtin_targets, known_targets, load_target, target_of_pipeline

SDXL, FLUX, MINI = load_target("sdxl"), load_target("flux"), load_target("package:mini/rewriter/target.toml")


def rules_broken(target: Target, original: str, prompt: str, negative: str | None = None) -> list[str]:
    return [rule for rule, _ in target.faults(original, prompt, negative)]


@pytest.mark.parametrize("name", builtin_targets())
def test_files_that_come_with_redraft(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.description
    assert ("Negative prompt:" in target.notes) == target.negative_prompt
    for pipeline in target.pipelines:
        assert pipeline in dir(diffusers)
    if name != "generic":
        assert target.tokenizer
        assert "double quotation marks" in target.notes


def test_all_families_are_there() -> None:
    families = "flux flux2 z_image qwen_image hunyuan_image sd3 sdxl lumina_sana generic"
    assert set(builtin_targets()) == set(families.split())


def test_tokens_are_counted_by_the_models_tokenizer_where_it_is_here() -> None:
    assert MINI.counts
    assert MINI.count("one large blue circle") == 4
    assert rules_broken(MINI, "x", "one red star " * 22) == ["budget"]
    assert rules_broken(MINI, "one red star " * 22, "one red star " * 22) == [], "a user's own length is not a fault"
    absent = Target(name="x", description="", max_tokens=20, tokenizer="nobody/such-a-model/tokenizer")
    assert not absent.counts
    assert absent.count("four letters each word " * 4) == 23
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        Target(name="x", description="", max_tokens=20, tokenizer="package:rewriter/templates").count("x")


@pytest.mark.parametrize(
    ("target", "prompt", "broken"),
    [
        (FLUX, "A red fox sits on a wall. Masterpiece, 8k, highly detailed.", ["quality_words"]),
        (SDXL, "red fox, sitting on a wall, masterpiece, best quality", []),
        (SDXL, "A red fox is sitting on an old wall. The light is soft. It looks at us.", ["form"]),
        (SDXL, "red fox with a blue scarf, sitting on a wall, watercolor, soft light", []),
        (FLUX, "red fox, wall, scarf, watercolor, soft light, autumn, leaves, close-up, warm", ["form"]),
        (FLUX, "A red fox with a blue scarf, painted in watercolor, sits on a wall.", []),
    ],
)
def test_form_and_quality_words(target: Target, prompt: str, broken: list[str]) -> None:
    assert rules_broken(target, "a red fox on a wall", prompt) == broken


def test_quality_words_of_the_users_own_may_stay() -> None:
    assert rules_broken(FLUX, "a fox, 8k, HDR", "A fox on a wall, 8k, hdr.") == []


def test_negative_prompts() -> None:
    assert SDXL.split("red fox, wall\nNegative prompt: blurry,\n hats") == ("red fox, wall", "blurry, hats")
    said_again = "red fox\nNegative prompt: (blurry:1.2), Hats, hats,, (a, b), hats, text"
    assert SDXL.split(said_again) == ("red fox", "(blurry:1.2), Hats, (a, b), text")
    assert SDXL.split("red fox, wall") == ("red fox, wall", None)
    assert rules_broken(SDXL, "a fox", "red fox, wall", "blurry, Red  Fox") == ["negative_prompt"]
    assert rules_broken(SDXL, "a fox", "red fox, wall", "blurry, hat") == []
    assert rules_broken(FLUX, "a fox", "A red fox on a wall.", "blurry") == ["negative_prompt"]
    assert "negative_prompt" in own_columns(SDXL, thought=False, n=1, scored=False)
    assert "negative_prompt" not in own_columns(FLUX, thought=False, n=1, scored=False)


def test_a_reply_is_read_by_guard_and_target_together() -> None:
    rules = Rules.of(GuardSettings(), SDXL)
    said = "<think>so</think><answer>two red foxes, on a wall, masterpiece\nNegative prompt: hats</answer>"
    read = review("three red foxes on a wall, no hats", ChatReply(said), rules)
    assert (read.prompt, read.negative_prompt) == ("two red foxes, on a wall, masterpiece", "hats")
    assert {finding.partition(":")[0] for finding in read.findings} <= {"numbers", "counts"}
    assert read.faults
    fine = review("red foxes, no hats", ChatReply(said.replace("two ", "")), rules)
    assert (fine.faults, fine.negative_prompt) == ((), "hats")


def test_a_reply_that_is_cut_off_in_its_negative_prompt_has_a_whole_prompt() -> None:
    def read(text: str, target: Target = SDXL) -> Review:
        return review("a red fox", ChatReply(text, truncated=True), Rules.of(GuardSettings(), target))

    cut = "<think>so</think><answer>red fox, on a wall\nNegative prompt: blurry, noise, blurry, noise, blur"
    assert (read(cut).prompt, read(cut).negative_prompt) == ("red fox, on a wall", "blurry, noise")
    for text in (
        "<think>so</think><answer>red fox, on a wall, in the",
        "<think>so</think><answer>red fox, on a wall\nNegative prompt: blur",
        "<think>red fox\nNegative prompt: blurry, noise, blur",
    ):
        assert read(text).prompt is None, text
    assert read(cut, FLUX).prompt is None, "FLUX takes none, so that it is no part of the form"


def test_what_the_model_cannot_read_is_told_but_not_repaired() -> None:
    original = "ein roter Fuchs sitzt auf der Mauer und liest ein Buch"
    said = f"<think>so</think><answer>{original}, im weichen Licht des Morgens</answer>"
    read = review(original, ChatReply(said), Rules.of(GuardSettings(), FLUX))
    assert read.faults == ()
    assert read.notices == ("target: flux reads English; this request is in German",)


async def test_the_rewriter_is_told_and_asked_again() -> None:
    config = RewriterConfig(model=ModelConfig(kind="transformers", model="fake"), target="sdxl")
    chat = FakeChat(
        [
            "<think>a</think><answer>A fox sits on the wall. It is red. It reads.</answer>",
            "<think>a</think><answer>red fox, sitting on the wall\nNegative prompt: blurry</answer>",
        ]
    )
    [rewrite] = await CoTRewriter(chat, config)("a red fox on a wall")
    assert (rewrite.prompt, rewrite.negative_prompt, rewrite.tries) == ("red fox, sitting on the wall", "blurry", 2)
    assert [finding.partition(":")[0] for finding in rewrite.findings] == ["form"]
    system = chat.requests[0].messages[0]
    assert system.role == "system"
    assert str(system.content).endswith(SDXL.notes.strip())
    assert "short tags between commas, not sentences" in text_of(chat.requests[1])


def test_a_rewriter_that_reads_no_notes_says_so() -> None:
    config = RewriterConfig(model=ModelConfig(kind="transformers", model="fake"), style="package:mini/rewriter/style")
    with pytest.raises(ConfigError, match="--target"):
        CoTRewriter(FakeChat([]), config, target=FLUX)
    CoTRewriter(FakeChat([]), config, target=MINI)


def test_targets_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "redraft" / "targets"
    folder.mkdir(parents=True)
    (folder / "mymodel.toml").write_text('description = "mine"\nmax_tokens = 99\nnotes = "be brief"\n')
    (folder / "flux.toml").write_text('description = "my flux"\nmax_tokens = 77\n')
    assert load_target("mymodel").max_tokens == 99
    assert load_target("flux").description == "my flux", "a user's own wins"
    assert {"mymodel", "sdxl"} <= set(known_targets())
    assert load_target(str(folder / "mymodel.toml")).notes == "be brief"
    (folder / "bad.toml").write_text('description = "x"\nmax_tokens = 3\ncolour = "red"\n')
    with pytest.raises(ConfigError, match=r"max_tokens: (?s:.*)colour: "):
        load_target("bad")
    (folder / "worse.toml").write_text("max_tokens = = 3")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_target("worse")
    for name in ("nosuch", str(tmp_path / "nosuch.toml")):
        with pytest.raises(ConfigError, match="nosuch"):
            load_target(name)


def test_the_target_of_a_pipeline() -> None:
    class FluxPipeline:
        pass

    class Mine(FluxPipeline):
        pass

    found = target_of_pipeline(Mine())
    assert found is not None
    assert found.name == "flux"
    assert target_of_pipeline(object()) is None
