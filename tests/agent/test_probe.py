"""Servers are asked whether they are there before anything is drawn; loading models is not a run's time."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.graph import Clock
from agent.models import open_models, served_roles
from redraft.errors import ServerError
from redraft.local_models import LoadingLock
from redraft.profiles import Profile, ServerConfig, load_profile
from redraft.servers import ServedRole, ServerProbe
from tests.agent.conftest import StartChat

DEAD = "http://127.0.0.1:9/v1"


def profile_of(folder: Path, chats: str, images: str) -> Profile:
    def served(address: str) -> str:
        return f'server = {{ base_url = "{address}", max_retries = 0 }}'

    path = folder / "p.toml"
    path.write_text(
        f'[rewriter]\nmodel = {{ kind = "openai", model = "m", {served(chats)} }}\n'
        f'[generator]\nkind = "openai_images"\nmodel = "painter"\n{served(images)}\n'
        f'[judge]\nmodel = {{ kind = "openai", model = "m", {served(chats)} }}\n'
    )
    return load_profile(str(path))


async def test_a_judge_or_image_server_that_is_down_is_named_before_a_round(
    tmp_path: Path, chat_server: StartChat
) -> None:
    up = chat_server(["m"])
    with pytest.raises(ServerError, match=r"judge: .*127\.0\.0\.1:9.* cannot be reached .*start it"):
        await open_models(profile_of(tmp_path, DEAD, up)).probe()
    with pytest.raises(ServerError, match=r"generator: .*cannot be reached"):
        await open_models(profile_of(tmp_path, up, DEAD)).probe()
    await open_models(profile_of(tmp_path, up, up)).probe()


async def test_a_name_that_is_not_served_gets_those_that_are(tmp_path: Path, chat_server: StartChat) -> None:
    with pytest.raises(ServerError, match=r"judge: .* does not serve 'm'; it serves Qwen/Qwen3-VL-4B"):
        await open_models(profile_of(tmp_path, chat_server(["Qwen/Qwen3-VL-4B"], status=404), chat_server([]))).probe()


async def test_servers_that_list_aliases_or_nothing_pass(tmp_path: Path, chat_server: StartChat) -> None:
    await open_models(profile_of(tmp_path, chat_server(["m:latest"]), chat_server(None))).probe()


async def test_of_several_servers_one_is_enough_and_a_good_answer_is_kept(chat_server: StartChat) -> None:
    now = [0.0]
    several = ServerConfig.model_validate({"base_urls": [DEAD, chat_server(["m"])], "max_retries": 0})
    roles = [ServedRole("judge", several, "m")]
    probe = ServerProbe(roles, lambda: now[0])
    await probe()
    roles[0] = ServedRole("judge", ServerConfig(base_url=DEAD, max_retries=0), "m")
    await ServerProbe([], lambda: now[0])()
    now[0] = 59.0
    await probe()


def test_each_server_is_asked_once_for_a_model(tmp_path: Path) -> None:
    roles = served_roles(profile_of(tmp_path, "http://a/v1", "http://b/v1"))
    assert [role.role for role in roles] == ["judge", "generator"]
    assert served_roles(load_profile("mini")) == []


def test_loading_is_not_a_runs_time() -> None:
    now = [0.0]
    loading = LoadingLock(lambda: now[0])
    clock = Clock(5.0, loading.seconds)
    before = clock.seconds()
    with loading:
        now[0] = 100.0
        with loading:
            now[0] = 300.0
        assert loading.seconds() == 300.0
    assert loading.seconds() == 300.0
    assert clock.seconds() < before  # the clock of this test's loading runs ahead of the real one


def test_one_model_that_draws_and_edits_is_loaded_once(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, "http://a/v1", "http://b/v1")
    models = open_models(profile.model_copy(update={"editor": profile.generator}))
    assert models.editing is not None
    assert models.editing.editor is models.generator
