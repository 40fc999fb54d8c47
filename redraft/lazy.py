"""Names that a package shows without importing what makes them: `import rewriter` stays cheap.

    __getattr__ = find_lazily(__name__, {"rewriter.target": ("Target", "load_target")})

Type checkers read the same names under `if TYPE_CHECKING` and in `__all__`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def find_lazily(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562): `names` are a module's names, by its dotted path. A name is imported when it is
    first used."""
    modules = {name: module for module, group in names.items() for name in group}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return find
