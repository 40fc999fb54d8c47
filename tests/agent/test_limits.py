import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import redraft
from agent.serve.wire import ClientOptions
from redraft.limits import CLIENT_LIMITS, Limits, TreeLimits

FIELD = '    max_steps: int = Field(default=90, ge=1)\n    """Most denoiser steps."""\n'
ASK = """
import json
from redraft.limits import option_name
from agent.serve.wire import ClientOptions
from redraft.profiles import load_profile
import sys
limits = load_profile(sys.argv[1]).limits
bad = []
try:
    ClientOptions(max_steps=0)
except ValueError as error:
    bad = [e["loc"][0] for e in error.errors()]
print(json.dumps([limits.max_steps, limits.changed(max_steps=3).max_steps, ClientOptions(max_steps=7).max_steps, bad]))
"""


def test_a_new_limit_is_one_field_in_limits_py(tmp_path: Path) -> None:
    """The rest of what it touches is the line that uses it: profile, command line and server read the field."""
    copied = tmp_path / "code" / "redraft"
    copied.mkdir(parents=True)
    home = Path(redraft.__file__).parent
    for path in home.iterdir():
        (copied / path.name).symlink_to(path)
    (copied / "limits.py").unlink()
    text = (home / "limits.py").read_text()
    text = text.replace("    patience: int", f"{FIELD}    patience: int")
    (copied / "limits.py").write_text(text.replace('"max_seconds")', '"max_seconds", "max_steps")'))
    mine = tmp_path / "mine.toml"
    mine.write_text((home / "profiles" / "mini.toml").read_text().replace("[limits]", "[limits]\nmax_steps = 12"))

    def run(*arguments: str) -> str:
        env = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path / "code"), str(home.parent))), "COLUMNS": "120"}
        done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, cwd=tmp_path)
        return done.stdout + done.stderr

    assert json.loads(run("-c", ASK, str(mine))) == [12, 3, 7, ["max_steps"]]
    assert "--max-steps" in run("-m", "agent.cli", "draw", "--help")
    assert "Most denoiser steps." in run("-m", "agent.cli", "edit", "--help")
    assert "--max-steps 0: Input should be" in run("-m", "agent.cli", "draw", "a star", "--max-steps", "0")


def test_changes_are_checked_and_none_changes_nothing() -> None:
    limits = Limits(max_images=4)
    assert limits.changed(accept_at=0.9, max_rounds=None) == Limits(max_images=4, accept_at=0.9)
    assert limits.changed(tree={"width": 3}).tree == TreeLimits(width=3)
    for change in ({"max_rounds": 0}, {"accept_at": float("nan")}, {"no_such_limit": 1}):
        with pytest.raises(ValidationError):
            limits.changed(**change)


def test_every_limit_says_what_it_is() -> None:
    fields = Limits.model_fields | TreeLimits.model_fields
    assert [name for name, field in fields.items() if not field.description] == ["tree"]


def test_clients_change_what_limits_py_names_and_nothing_else() -> None:
    own = {"size", "negative_prompt", "steps", "guidance", "seed", "search"}
    assert set(ClientOptions.model_fields) == set(CLIENT_LIMITS) | own
    with pytest.raises(ValidationError):
        ClientOptions(patience=1)
