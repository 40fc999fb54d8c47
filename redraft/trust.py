"""Whose profiles may send keys and run foreign code.

A profile names servers and the environment variables of their keys, and the folders of runs and conversations hold
profiles. So a folder of somebody else's could have a key sent to a server of somebody else's. The rule, as direnv has it:

- What the built-in profiles demand is granted.
- A profile file is one's own if it lies below the user's configuration (`~/.config/redraft`), or below the current folder
  or the checkout that it is in. Whatever it demands is granted, and written down with the first run or conversation that
  is begun with it, so that these are resumed from anywhere. Of other profile files, what stays on this machine is granted:
  keys that go to a loopback address. (In a run's folder such an address was meant for another machine.)
- Whatever else demands must have been granted by the user: on a terminal `redraft` asks, `redraft trust PLACE` grants
  beforehand, anything else raises `Untrusted`.

A grant is of one key to one address, or of one model's code: a run folder that names another server needs another. Grants
are kept in `~/.config/redraft/trusted.jsonl`; whoever deletes the file is asked again.

NOT covered: which requests and pictures are sent to a server without a key, and installed modules that a profile names
with `use` or `pipeline`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from redraft.errors import ConfigError, InputError
from redraft.journal import Journal, read_journal

_KIND = "trust"
_ADVICE = "delete it to be asked again"


class Demand(NamedTuple):
    """What a profile wants that must be granted. kind: "key" (the key in the variable `what` is sent to `place`) or
    "code" (the code that comes with the model `place` runs here)."""

    kind: str
    what: str
    place: str

    def __str__(self) -> str:
        return f"send the key in {self.what} to {self.place}" if self.kind == "key" else f"run the code of {self.place}"

    @property
    def stays_here(self) -> bool:
        """Whether it is of a key that does not leave this machine."""
        host = (urlsplit(self.place).hostname or "").rstrip(".") if self.kind == "key" else ""
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


class Untrusted(ConfigError):  # noqa: N818
    """A profile of somebody else's demands what the user has not granted."""

    def __init__(self, place: Path, demands: Collection[Demand]) -> None:
        wanted, command = ", ".join(map(str, demands)), f"redraft trust {shlex.quote(str(place))}"
        super().__init__(
            f"{place} is not known to be yours, and would {wanted}; if you trust it: {command} (or keep profiles of your own "
            f"in {config_folder()})"
        )
        self.place = place
        self.demands = tuple(demands)


def config_folder() -> Path:
    """Where the user's own profiles and grants are: `$XDG_CONFIG_HOME/redraft`, or `~/.config/redraft`."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path("~/.config").expanduser()) / "redraft"


def is_own(profile: Path) -> bool:
    """Whether a profile file lies below the user's configuration, the current folder, or the checkout that it is in."""
    try:
        path, here = profile.resolve(), Path.cwd().resolve()
    except OSError:  # the current folder was removed
        return False
    checkout = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    return any(path.is_relative_to(folder) for folder in (config_folder().resolve(), here, checkout))


def require_trust(demands: Iterable[Demand], place: Path) -> None:
    """Raises Untrusted unless the user, or a built-in profile, has granted all that is demanded. `place`: the file or folder
    that demands it."""
    wanted = dict.fromkeys(demands)
    missing = wanted.keys() - _granted() if wanted else set()
    missing = missing - _builtin() if missing else missing
    if missing:
        raise Untrusted(place, [demand for demand in wanted if demand in missing])


def grant(demands: Iterable[Demand]) -> None:
    """Writes down that the user grants `demands`. Raises InputError if that cannot be written."""
    wanted = dict.fromkeys(demands)
    if not wanted or wanted.keys() <= _granted():
        return
    with Journal(config_folder() / "trusted.jsonl", _KIND, advice=_ADVICE, shared=True) as journal:
        journal.put_all({tuple(demand): True for demand in wanted if tuple(demand) not in journal})


def grant_own(demands: Iterable[Demand]) -> None:
    """`grant` for what the user begins; if it cannot be written, the user is asked when that is taken up again."""
    with contextlib.suppress(InputError):
        grant(demands)


def _granted() -> set[Demand]:
    path = config_folder() / "trusted.jsonl"
    if not path.is_file():
        return set()
    entries = read_journal(path, _KIND, advice=_ADVICE)
    return {Demand(*entry.key) for entry in entries if len(entry.key) == 3}


def _builtin() -> set[Demand]:
    from redraft.profiles import builtin_profiles, load_profile

    return {demand for name in builtin_profiles() for demand in load_profile(name).demands()}
