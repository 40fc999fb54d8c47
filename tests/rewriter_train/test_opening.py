"""From settings to the reward's models: which device they go to, and how a profile is changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.errors import ConfigError
from redraft.profiles import load_profile
from rewriter.train.image_reward import RewardArguments, open_image_reward, place_on
from rewriter.train.script import tokenizer_place


def test_each_process_has_its_reward_models_on_its_own_gpu() -> None:
    profile = load_profile("workstation")
    assert (profile.generator.device, profile.judge.model.local.device) == ("cuda", "auto")
    moved = place_on(profile, "cuda:3")
    assert (moved.generator.device, moved.judge.model.local.device) == ("cuda:3", "cuda:3")
    assert moved.generator.model_copy(update={"device": "cuda"}) == profile.generator
    # What a profile puts on a device of its own choice stays there.
    assert place_on(load_profile("mini"), "cuda:3").generator.device == "cpu"


def test_settings_that_no_reward_has() -> None:
    with pytest.raises(ConfigError, match="seeds, passes, batch_size"):
        open_image_reward(RewardArguments(profile="mini", images_per_rewrite=0), max_failed=0.2)
    with pytest.raises(ConfigError, match="unknown template style"):
        open_image_reward(RewardArguments(profile="mini"), "no-such", max_failed=0.2)


def test_an_adapter_without_a_tokenizer_has_that_of_its_base(tmp_path: Path) -> None:
    base = "package:mini/weights/rewriter"
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}), encoding="utf-8")
    assert tokenizer_place(str(tmp_path)) == tokenizer_place(base)
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    assert tokenizer_place(str(tmp_path)) == str(tmp_path)
