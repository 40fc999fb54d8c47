"""The fast paths find a model's keys and values under the name that transformers has for them, before 5.24 and after."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from redraft.local_models import cache_argument, cache_of


@dataclass
class Before:
    past_key_values: str = "keys"

    def forward(self, input_ids: int, past_key_values: object = None) -> None:
        """As transformers 5.23 has it."""


@dataclass
class After:
    cache: str = "keys"

    def forward(self, input_ids: int, cache: object = None) -> None:
        """As transformers 5.24 has it."""


@pytest.mark.parametrize(("model", "name"), [(Before(), "past_key_values"), (After(), "cache")])
def test_the_name_of_the_cache(model: Before | After, name: str) -> None:
    assert cache_argument(model) == name
    assert cache_of(model) == "keys"
