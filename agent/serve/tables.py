"""The tables of a server's database, in SQL that SQLite and PostgreSQL share, and their rows as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS redraft_sessions (
  id TEXT PRIMARY KEY, client TEXT NOT NULL, title TEXT NOT NULL, profile TEXT NOT NULL, parent TEXT,
  created TEXT NOT NULL, updated TEXT NOT NULL, turns INTEGER NOT NULL DEFAULT 0, thumb TEXT,
  last_event INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS redraft_sessions_client ON redraft_sessions (client, updated);
CREATE TABLE IF NOT EXISTS redraft_turns (
  id TEXT PRIMARY KEY, session TEXT NOT NULL, client TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
  owner TEXT, lease DOUBLE PRECISION NOT NULL, cancelled INTEGER NOT NULL DEFAULT 0, UNIQUE (session));
CREATE TABLE IF NOT EXISTS redraft_events (
  session TEXT NOT NULL, seq INTEGER NOT NULL, turn INTEGER NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL,
  data TEXT NOT NULL, PRIMARY KEY (session, seq), UNIQUE (session, turn, key));
CREATE TABLE IF NOT EXISTS redraft_runs (
  id TEXT PRIMARY KEY, client TEXT NOT NULL, session TEXT, folder TEXT NOT NULL, created TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS redraft_runs_session ON redraft_runs (session);
"""


@dataclass(frozen=True)
class SessionRow:
    id: str
    client: str
    title: str
    profile: str
    parent: str | None
    created: str
    updated: str
    turns: int
    thumb: str | None
    last_event: int
    working: bool | int


@dataclass(frozen=True)
class TurnRow:
    """A turn that is not finished. `body` is what was posted; `number` the turn's number in the conversation."""

    id: str
    session: str
    client: str
    number: int
    body: dict[str, Any]
    cancelled: bool


@dataclass(frozen=True)
class EventRow:
    seq: int
    turn: int
    name: str
    data: dict[str, Any]
