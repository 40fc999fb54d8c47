"""redraft.profiles: those that come with the package load, and every mistake in a file is told by its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.chat import open_chat
from redraft.errors import ConfigError, ModelMissing
from redraft.openai_chat import OpenAIChat
from redraft.profiles import Profile, ServerConfig, builtin_profiles, load_profile, model_place
from redraft.transformers_chat import TransformersChat

LM = 'model = { kind = "transformers", model = "Qwen/Qwen3-0.6B" }'
GOOD = f"""
[rewriter]
{LM}
[generator]
kind = "diffusers"
model = "x/y"
[judge]
{LM}
"""


def written(tmp_path: Path, text: str, name: str = "mine.toml") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def complaint(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_profile(name)
    return str(caught.value)


@pytest.mark.parametrize("name", ["mini", "workstation", "remote"])
def test_builtin(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.description
    assert name in builtin_profiles()


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile of ours holds a key; what a profile prints or dumps cannot hold one either."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-in-the-environment")
    profile = load_profile("remote")
    assert profile.rewriter.model.server is not None
    assert profile.rewriter.model.server.api_key() == "sk-in-the-environment"
    assert "sk-in" not in repr(profile) + profile.model_dump_json()
    monkeypatch.setenv("OPENAI_API_KEY", "")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set; export it"):
        profile.rewriter.model.server.api_key()
    assert ServerConfig(base_url="http://localhost:8000/v1").api_key() is None


def test_a_users_file(tmp_path: Path) -> None:
    profile = load_profile(written(tmp_path, GOOD))
    assert (profile.name, profile.limits.max_images, profile.limits.pass_at) == ("mine", 8, 0.5)
    assert load_profile(written(tmp_path, "\ufeff" + GOOD)) == profile  # editors on Windows write a mark first
    named = load_profile(written(tmp_path, 'name = "other"\n' + GOOD))
    assert named.name == "other"


def test_a_profile_survives_its_json(tmp_path: Path) -> None:
    for profile in (load_profile(written(tmp_path, GOOD)), *map(load_profile, builtin_profiles())):
        assert Profile.model_validate_json(profile.model_dump_json()) == profile


def test_unknown_names() -> None:
    assert complaint("nonesuch").startswith("unknown profile 'nonesuch'; there are gpu24, mini, ")
    assert "No such file" in complaint("nowhere/mine.toml")


def test_a_folder_and_a_file_that_is_not_text(tmp_path: Path) -> None:
    assert "Is a directory" in complaint(f"{tmp_path}/")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8 text" in complaint(str(tmp_path / "binary.toml"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "must start with http"),
        ("http://me:hunter2@host/v1", "api_key_env"),
        ("https://host/v1?key=hunter2", "api_key_env"),
        ("http://", "scheme, host"),
        ("http://host:99999/v1", "no address of a server"),
        ("http://[::1/v1", "no address of a server"),
    ],
)
def test_addresses(tmp_path: Path, url: str, words: str) -> None:
    server = f'model = {{ kind = "openai", model = "m", server = {{ base_url = "{url}" }} }}'
    said = complaint(written(tmp_path, GOOD.replace(LM, server, 1)))
    assert "rewriter.model.server.base_url: " in said
    assert words in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[judge]", "[judge", "is not valid TOML"),
        ("[judge]", "[judgement]", "judgement: no such setting; check its spelling"),
        ("[judge]", "[judge]\nstlye = 1", "judge.stlye: no such setting"),
        ("[judge]", "[limits]\npass_at = 2\n[judge]", "limits.pass_at: Input should be less than 1"),
        ("[judge]", "[limits]\npass_at = 'high'\n[judge]", "limits.pass_at: Input should be a valid number"),
        ('kind = "diffusers"', 'kind = "painter"', "generator.kind: Input should be 'diffusers' or 'openai_images'"),
        ('kind = "diffusers"\n', "", "generator.kind: is missing"),
        ('kind = "diffusers"', 'kind = "openai_images"', "needs a [server] table with base_url"),
        (LM, 'model = { kind = "openai", model = "m" }', "needs a [server] table with base_url"),
        (
            LM,
            'model = { kind = "openai", model = "m", server = { base_url = "http://x", api_key = "sk-1" } }',
            "rewriter.model.server.api_key: no such setting",
        ),
        (
            LM,
            'model = { kind = "openai", model = "m", server = { base_url = "http://x", api_key_env = "sk-1" } }',
            "rewriter.model.server.api_key_env: must be the NAME of an environment variable",
        ),
        ("[judge]", f"[judge]\npass_at = {'9' * 5000}", "is not valid TOML"),
        ("[judge]", f"[judge]\npass_at = {'[' * 5000}", "is not valid TOML"),
        ("[judge]", "[judge]\nexplain = true", "explain = true needs a judge of kind"),
        (LM, 'model = { kind = "transformers", model = "" }', "rewriter.model.model"),
        ("[judge]", "[limits]\nmax_seconds = nan\n[judge]", "limits.max_seconds"),
        ("[judge]", "[limits]\nmax_seconds = inf\n[judge]", "limits.max_seconds"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, words: str) -> None:
    said = complaint(written(tmp_path, GOOD.replace(old, new, 1)))
    assert words in said
    assert "mine.toml" in said
    assert "sk-1" not in said


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    said = complaint(written(tmp_path, GOOD + "stlye = 1\n[limits]\nmax_rounds = 0\n"))
    assert "judge.stlye" in said
    assert "limits.max_rounds" in said


def test_model_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_place("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    assert model_place(str(tmp_path)) == str(tmp_path)
    assert model_place("package:redraft/profiles") == str(Path(__file__).parents[2] / "redraft" / "profiles")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    assert model_place("~/m") == str(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights" / "mine").mkdir(parents=True)
    assert model_place("weights/mine") == "weights/mine"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("./nowhere", "there is no model folder nowhere"),
        ("/nowhere", "there is no model folder /nowhere"),
        ("a/b/c", "there is no model folder a/b/c"),
        ("package:redraft/nowhere", "there is no folder"),
        ("package:no_such_package/x", "'no_such_package' is not installed"),
        ("package:", "package:NAME/PATH"),
        ("package:../x", "package:NAME/PATH"),
    ],
)
def test_model_places_that_are_not_there(model: str, words: str) -> None:
    with pytest.raises(ModelMissing) as caught:
        model_place(model)
    assert words in str(caught.value)


def test_open_chat(tmp_path: Path) -> None:
    profile = load_profile("workstation")
    assert isinstance(open_chat(profile.judge.model), OpenAIChat)
    mine = load_profile(written(tmp_path, GOOD))
    assert isinstance(open_chat(mine.judge.model), TransformersChat)
    assert open_chat(mine.judge.model).name == "Qwen/Qwen3-0.6B"


def test_paths_of_a_profile_begin_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("conf/style", "conf/models/mine", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    written(
        tmp_path / "conf",
        """
        [rewriter]
        style = "./style"
        target = "target.toml"
        model = { kind = "transformers", model = "models/mine" }
        [generator]
        kind = "diffusers"
        model = "Qwen/Qwen-Image"
        loras = [{ path = "../elsewhere" }]
        [judge]
        style = "keypoint"
        model = { kind = "openai", model = "accounts/x/models/y", server = { base_url = "http://127.0.0.1:1/v1" } }
        """,
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    profile = load_profile("../conf/mine.toml")
    assert profile.rewriter.style == str(tmp_path / "conf" / "style")
    assert profile.rewriter.target == str(tmp_path / "conf" / "target.toml")
    assert profile.rewriter.model.model == str(tmp_path / "conf" / "models" / "mine")
    assert profile.generator.loras[0].path == str(tmp_path / "elsewhere")
    # Names are none of them: those of hubs, of built-in styles, and of a server's models.
    assert profile.generator.model == "Qwen/Qwen-Image"
    assert profile.judge.style == "keypoint"
    assert profile.judge.model.model == "accounts/x/models/y"
    # What a run's folder keeps is the same wherever it is read.
    assert Profile.model_validate(profile.model_dump(mode="json")) == profile


@pytest.mark.parametrize("key", ["sk-1 sk-2", "sk-1\nsk-2", "sk-\x07", "sk-ключ"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ServerConfig(base_url="http://127.0.0.1:1/v1", api_key_env="REDRAFT_TEST_KEY")
    monkeypatch.setenv("REDRAFT_TEST_KEY", f" {key}\n")
    with pytest.raises(ConfigError, match="REDRAFT_TEST_KEY") as caught:
        server.api_key()
    assert "sk-" not in str(caught.value)


def test_white_space_around_a_key_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ServerConfig(base_url="http://127.0.0.1:1/v1", api_key_env="REDRAFT_TEST_KEY")
    monkeypatch.setenv("REDRAFT_TEST_KEY", "  sk-12345\r\n")
    assert server.api_key() == "sk-12345"
    monkeypatch.setenv("REDRAFT_TEST_KEY", " \n")
    with pytest.raises(ConfigError, match="not set"):
        server.api_key()
