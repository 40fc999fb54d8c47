"""Profiles of somebody else's send no key before the user has granted it."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.errors import InputError
from redraft.profiles import Profile, load_profile, read_stored_profile
from redraft.trust import Demand, Untrusted, config_folder, grant, grant_own, require_trust

FOREIGN = """
[rewriter]
model = { kind = "openai", model = "m", server = { base_url = "https://models.example/v1", api_key_env = "BANK_TOKEN" } }
[generator]
kind = "diffusers"
model = "someone/painter"
trust_remote_code = true
[judge]
model = { kind = "openai", model = "m", server = { base_url = "https://models.example/v1", api_key_env = "BANK_TOKEN" } }
"""
KEY = Demand("key", "BANK_TOKEN", "https://models.example/v1")
CODE = Demand("code", "", "someone/painter")


@pytest.fixture(autouse=True)
def _own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)


def foreign(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "profile.toml"
    path.write_text(FOREIGN)
    return path


def test_a_profile_from_elsewhere_says_what_it_would_do(tmp_path: Path) -> None:
    path = foreign(tmp_path / "downloads")
    with pytest.raises(Untrusted, match=r"BANK_TOKEN to https://models.example/v1.*redraft trust") as caught:
        load_profile(str(path))
    assert caught.value.demands == (KEY, CODE), "each once"


def test_what_was_granted_is_not_asked_again_and_nothing_else_is_granted(tmp_path: Path) -> None:
    path = foreign(tmp_path / "downloads")
    grant([KEY, CODE])
    load_profile(str(path))
    path.write_text(FOREIGN.replace("models.example", "other.example"))
    with pytest.raises(Untrusted, match="other"):
        load_profile(str(path))


@pytest.mark.parametrize("place", ["here", "here/deeper", "config/redraft"])
def test_ones_own_profiles_need_no_grant(tmp_path: Path, place: str) -> None:
    assert isinstance(load_profile(str(foreign(tmp_path / place))), Profile)


def test_the_checkout_around_the_current_folder_is_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkout" / ".git").mkdir(parents=True)
    (tmp_path / "checkout" / "src").mkdir()
    path = foreign(tmp_path / "checkout" / "profiles")
    monkeypatch.chdir(tmp_path / "checkout" / "src")
    load_profile(str(path))


def test_a_link_into_the_current_folder_makes_no_profile_ones_own(tmp_path: Path) -> None:
    (tmp_path / "here" / "mine.toml").symlink_to(foreign(tmp_path / "downloads"))
    with pytest.raises(Untrusted):
        load_profile("./mine.toml")


def test_a_stored_profile_is_known_by_its_servers_not_by_its_place(tmp_path: Path) -> None:
    profile = load_profile(str(foreign(tmp_path / "here")))
    stored = profile.model_dump(mode="json")
    with pytest.raises(Untrusted):
        read_stored_profile(stored, tmp_path / "here" / "runs" / "theirs")
    grant_own(profile.demands())
    assert read_stored_profile(stored, tmp_path / "elsewhere") == profile
    with pytest.raises(InputError, match="cannot be read"):
        read_stored_profile({"name": 3}, tmp_path)


def test_built_in_profiles_grant_what_they_demand(tmp_path: Path) -> None:
    for name in ("mini", "remote", "workstation"):
        read_stored_profile(load_profile(name).model_dump(mode="json"), tmp_path)
    demand = next(iter(load_profile("remote").demands()))
    with pytest.raises(Untrusted):
        require_trust([demand._replace(place="https://api.openai.example/v1")], tmp_path)


def test_a_folder_that_cannot_be_written_stops_no_run_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file where a folder should be")
    grant_own([KEY])
    with pytest.raises(InputError):
        grant([KEY])


def test_a_damaged_list_is_one_clear_sentence(tmp_path: Path) -> None:
    grant([KEY, CODE])
    path = config_folder() / "trusted.jsonl"
    path.write_bytes(path.read_bytes().replace(b"BANK", b"BONK"))
    with pytest.raises(InputError, match="delete it to be asked again"):
        load_profile(str(foreign(tmp_path / "downloads")))


@pytest.mark.parametrize(
    ("address", "stays"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:1/v1", True),
        ("http://127.0.0.1.example/v1", False),
        ("http://localhost.example/v1", False),
        ("http://10.0.0.1/v1", False),
    ],
)
def test_a_key_to_a_server_of_this_machine_leaves_it_not(tmp_path: Path, address: str, stays: bool) -> None:
    path = foreign(tmp_path / "downloads")
    path.write_text(FOREIGN.replace("https://models.example/v1", address).replace("trust_remote_code = true", ""))
    assert KEY._replace(place=address).stays_here == stays
    if stays:
        stored = load_profile(str(path)).model_dump(mode="json")
        with pytest.raises(Untrusted):
            read_stored_profile(stored, tmp_path / "here" / "runs" / "theirs")
    else:
        with pytest.raises(Untrusted):
            load_profile(str(path))
