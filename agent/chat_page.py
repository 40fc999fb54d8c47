"""A conversation as one HTML page that needs nothing but itself and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from agent.talk_types import Entry, Picture
from agent.trace import data_uri
from redraft.store import ImageStore


def render_page(name: str, home: Path, store: ImageStore, entries: Sequence[Entry], pictures: Sequence[Picture]) -> str:
    """The page as text. What users and models said is escaped."""
    environment = Environment(
        loader=PackageLoader("agent", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cards = {picture.number: {"picture": picture, "src": data_uri(store.path(picture.image))} for picture in pictures}
    turns = [{"entry": entry, "cards": [cards[n] for n in entry.pictures]} for entry in entries]
    return environment.get_template("chat.html.j2").render(name=name, turns=turns, home=home)
