"""`redraft doctor`: every mistake of a first-time user has a line that ends in its mend."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from agent.cli import main
from agent.doctor import Diagnosis, examine, look_at_memory, require_room_for_gallery, roles_of
from agent.models import open_models
from redraft.errors import ConfigError
from redraft.profiles import load_profile
from tests.agent.conftest import StartChat


def profile_at(folder: Path, base_url: str, model: str = "m", more: str = "") -> str:
    served = f'{{ kind = "openai", model = "{model}", server = {{ base_url = "{base_url}", max_retries = 0{more} }} }}'
    path = folder / "mine.toml"
    path.write_text(f"[rewriter]\nmodel = {served}\n[judge]\nmodel = {served}\n")
    return str(path)


def bad(profile: str) -> list[Diagnosis]:
    return [one for one in examine(load_profile(profile), draws=False) if one.state == "bad"]


def test_a_server_that_is_not_there_is_named_with_its_address(tmp_path: Path) -> None:
    found = bad(profile_at(tmp_path, "http://127.0.0.1:9/v1"))
    assert [one.what for one in found] == ["rewriter", "judge"]
    assert all("http://127.0.0.1:9/v1" in one.detail and "start it" in one.detail and one.code == 3 for one in found)


def test_a_wrong_served_name_gets_the_names_that_are_served(tmp_path: Path, chat_server: StartChat) -> None:
    found = bad(profile_at(tmp_path, chat_server(["Qwen/Qwen3-8B", "other"], {"content": "a circle"}), "qwen3"))
    assert "'qwen3'; it serves Qwen/Qwen3-8B, other" in found[0].detail


def test_a_model_that_thinks_first_gets_the_setting_that_stops_it(tmp_path: Path, chat_server: StartChat) -> None:
    address = chat_server(["m"], {"content": "A circle.", "reasoning_content": "Hmm."}, {"yes": -0.1, "no": -3.0})
    notes = [
        one.detail for one in examine(load_profile(profile_at(tmp_path, address)), draws=False) if one.state == "note"
    ]
    assert any("enable_thinking = false" in note for note in notes)


def test_a_judge_whose_probability_goes_elsewhere_is_no_judge(tmp_path: Path, chat_server: StartChat) -> None:
    address = chat_server(["m"], {"content": "A circle."}, {"The": -0.1, "yes": -4.0, "no": -4.0})
    assert [(one.what, one.code) for one in bad(profile_at(tmp_path, address))] == [("judge", 2)]


def test_a_good_pair_of_servers_is_all_right(tmp_path: Path, chat_server: StartChat) -> None:
    address = chat_server(["m"], {"content": "A red circle on white."}, {"yes": -0.05, "no": -4.0})
    found = list(examine(load_profile(profile_at(tmp_path, address)), draws=False))
    assert not [one for one in found if one.state == "bad"], found


def test_a_key_that_is_not_exported_is_said_once(
    tmp_path: Path, chat_server: StartChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOBODYS_KEY", raising=False)
    found = bad(profile_at(tmp_path, chat_server(["m"], {"content": "x"}), more=', api_key_env = "NOBODYS_KEY"'))
    assert [(one.what, one.code) for one in found] == [("key", 2)]
    assert "NOBODYS_KEY" in found[0].detail


def test_weights_larger_than_the_machine_are_refused_with_their_sum(tmp_path: Path) -> None:
    folder = tmp_path / "big"
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(1 << 43)  # eight terabytes of nothing: a sparse file
    (tmp_path / "mine.toml").write_text('[rewriter]\nmodel = { kind = "transformers", model = "./big" }\n')
    (memory,) = [one for one in examine(load_profile(str(tmp_path / "mine.toml"))) if one.what == "memory"]
    assert (memory.state, memory.code) == ("bad", 2)
    assert "rewriter 8796" in memory.detail or "rewriter 17592" in memory.detail


GALLERY = """
[judge]
model = {{ kind = "openai", model = "m", server = {{ base_url = "http://127.0.0.1:9/v1" }} }}
[rewriter]
model = {{ kind = "openai", model = "m", server = {{ base_url = "http://127.0.0.1:9/v1" }} }}
[generator]
kind = "diffusers"
model = "./big"
device = "cpu"
[[gallery]]
name = "other"
kind = "diffusers"
model = "./other"
device = "cpu"
{}
"""


def test_a_gallery_larger_than_the_memory_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    for name in ("big", "other"):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "model.safetensors").open("wb") as file:
            file.truncate(1 << 42)
    (tmp_path / "mine.toml").write_text(GALLERY.format(""))
    with pytest.raises(ConfigError, match="one_at_a_time") as refused:
        open_models(load_profile(str(tmp_path / "mine.toml")))
    assert "gallery other 4398" in str(refused.value) or "gallery other 8796" in str(refused.value)
    for mend in ("[search]\none_at_a_time = true", 'offload = "model"'):
        (tmp_path / "mine.toml").write_text(GALLERY.format(mend))
        require_room_for_gallery(load_profile(str(tmp_path / "mine.toml")))


@pytest.mark.integration
def test_mini_is_well_from_end_to_end(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "mini", "--json"])
    value = json.loads(capfd.readouterr().out)
    assert not ended.value.code
    assert value["ok"] is True
    assert value["findings"][-1]["what"] == "draw"
    assert value["findings"][-1]["state"] == "ok"


def test_a_profile_that_cannot_be_read_ends_with_2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text("[rewriter]\nstyle = 3\n")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(tmp_path / "mine.toml")])
    assert ended.value.code == 2
    assert "Traceback" not in capfd.readouterr().err


def local_judge(folder: Path, model: str) -> str:
    path = folder / "mine.toml"
    small = load_profile("mini").rewriter.model.model
    path.write_text(
        f'[rewriter]\nmodel = {{ kind = "transformers", model = "{small}" }}\n'
        f'[judge]\nmodel = {{ kind = "transformers", model = "{model}" }}\n'
    )
    return str(path)


def test_a_qwen_vl_judge_of_this_process_names_torchvision_before_anything_is_fetched(tmp_path: Path) -> None:
    found = bad(local_judge(tmp_path, "Qwen/Qwen3-VL-4B-Instruct"))
    named = [one for one in found if one.what == "packages"]
    if importlib.util.find_spec("torchvision") is None:
        assert [(one.code, "[vl]" in one.detail) for one in named] == [(2, True)]
    else:
        assert named == []


def test_a_7b_beside_a_generator_of_20_gb_on_24_gb_is_refused_with_the_sum(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    server = "http://127.0.0.1:8000/v1"
    path.write_text(
        f'[rewriter]\nmodel = {{ kind = "openai", model = "Qwen/Qwen2.5-VL-7B", server = {{ base_url = "{server}" }} }}\n'
        '[generator]\nkind = "diffusers"\nmodel = "Tongyi-MAI/Z-Image-Turbo"\n'
        f'[gpu]\nmemory_gb = 24\ngenerator_gb = 20\nservers = [{{ base_url = "{server}", gb = 18 }}]\n'
    )
    profile = load_profile(str(path))
    [found] = [one for one in look_at_memory(profile, roles_of(profile)) if one.what == "gpu"]
    assert (found.state, found.code) == ("bad", 2)
    assert "18.0 + generator 20.0" in found.detail
    assert "= 39.0 GB of 24.0 GB" in found.detail
    assert 'share = "swap"' in found.detail


def test_a_key_in_the_profile_is_refused_with_the_way_to_name_it(tmp_path: Path) -> None:
    path = profile_at(tmp_path, "http://127.0.0.1:9/v1", more=', api_key_env = "sk-abcdefgh12345678"')
    with pytest.raises(ConfigError, match="NAME of an environment variable") as refused:
        load_profile(path)
    assert "abcdefgh" not in str(refused.value)


def test_each_of_several_servers_is_looked_at(tmp_path: Path, chat_server: StartChat) -> None:
    good, other = (
        chat_server(["m"], {"content": "A circle."}, {"yes": -0.05, "no": -4.0}),
        chat_server(["else"], {"content": "x"}),
    )
    served = f'{{ kind = "openai", model = "m", server = {{ base_urls = ["{good}", "{other}"], max_retries = 0 }} }}'
    (tmp_path / "mine.toml").write_text(f"[rewriter]\nmodel = {served}\n")
    found = bad(str(tmp_path / "mine.toml"))
    assert [(one.what, other in one.detail) for one in found] == [("rewriter", True)]
