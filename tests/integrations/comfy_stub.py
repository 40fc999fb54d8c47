"""The part of ComfyUI's V3 API that the nodes use, for where there is no ComfyUI: their tests.

Names, parameters and rules are those of `comfy_api.latest` (V3 schema, API v0_0_2): inputs and outputs are objects,
ids are unique, `define_schema` and `execute` are class methods, and `execute` takes its parameters by the ids of the
inputs.
A setting that the real one does not have is a TypeError here too.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from PIL import Image as PILImage


class _Input:
    io_type = ""

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        extra_dict: dict[str, Any] | None = None,
        raw_link: bool | None = None,
    ) -> None:
        self.id = id
        self.optional = optional
        self.tooltip = tooltip
        self.default: Any = None


class _Widget(_Input):
    """`options` are what this kind of widget has beside the default."""

    options: tuple[str, ...] = ()
    kind: type = object

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        default: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(id, display_name, optional, tooltip, lazy)
        unknown = options.keys() - {*self.options, "socketless", "force_input", "extra_dict", "raw_link"}
        if unknown:
            raise TypeError(f"{self.io_type} input {id!r} has no {', '.join(sorted(unknown))}")
        if default is not None and not isinstance(default, self.kind):
            raise TypeError(f"the default of {id!r} is no {self.io_type}")
        self.default = default
        self.settings = options


class _Output:
    io_type = ""

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> None:
        self.id = id
        self.display_name = display_name


def _type(io_type: str, widget: type[_Input] = _Input) -> Any:
    """A type of ComfyUI: a namespace with an Input and an Output class."""
    made = {
        "Input": type("Input", (widget,), {"io_type": io_type}),
        "Output": type("Output", (_Output,), {"io_type": io_type}),
    }
    return type(io_type.title(), (), {"io_type": io_type, **made})


class _Text(_Widget):
    options = ("multiline", "placeholder", "dynamic_prompts")
    kind = str


class _Number(_Widget):
    options = ("min", "max", "step", "control_after_generate", "display_mode")
    kind = int


class _Fraction(_Widget):
    options = ("min", "max", "step", "round", "display_mode")
    kind = float


class _Switch(_Widget):
    options = ("label_on", "label_off")
    kind = bool


@dataclass
class _Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    hidden: list[Any] = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def validate(self) -> None:
        """Raises ValueError where an id is there twice; inputs and outputs share their names."""
        for number, output in enumerate(self.outputs):
            output.id = output.id or f"_{number}_{output.io_type}_"
        ids = [one.id for one in (*self.inputs, *self.outputs)]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise ValueError(f"Ids must be unique, but {twice} are not.")


class _NodeOutput:
    def __init__(
        self, *args: Any, ui: Any = None, expand: dict[str, Any] | None = None, block_execution: str | None = None
    ) -> None:
        self.args = args
        self.ui = ui

    @property
    def result(self) -> tuple[Any, ...] | None:
        return self.args or None


class _ComfyNode:
    @classmethod
    def define_schema(cls) -> Any:
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def GET_SCHEMA(cls) -> Any:  # noqa: N802 (ComfyUI's name)
        """The schema, looked over as ComfyUI does when it loads a node, and compared with `execute`."""
        schema = cls.define_schema()
        schema.validate()
        parameters = inspect.signature(cls.execute).parameters.values()
        taken = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        given = {one.id for one in schema.inputs}
        if not taken <= given or (taken != given and all(one.kind is not one.VAR_KEYWORD for one in parameters)):
            raise TypeError(f"execute of {cls.__name__} takes {sorted(taken)}, the schema gives {sorted(given)}")
        return schema


class _Io:
    Image = _type("IMAGE")
    Mask = _type("MASK")
    String = _type("STRING", _Text)
    Int = _type("INT", _Number)
    Float = _type("FLOAT", _Fraction)
    Boolean = _type("BOOLEAN", _Switch)
    Schema = _Schema
    NodeOutput = _NodeOutput
    ComfyNode = _ComfyNode


io: Any = _Io


class ComfyExtension(ABC):
    async def on_load(self) -> None:  # noqa: B027 (need not be overridden)
        """Called once, when the extension is loaded."""

    @abstractmethod
    async def get_node_list(self) -> list[Any]: ...


@dataclass(frozen=True)
class Progress:
    value: float
    max_value: float
    preview_image: PILImage.Image | None


class _Execution:
    def __init__(self) -> None:
        self.told: list[Progress] = []
        """What was told, for the tests."""

    async def set_progress(
        self,
        value: float,
        max_value: float,
        node_id: str | None = None,
        preview_image: PILImage.Image | None = None,
        ignore_size_limit: bool = False,
    ) -> None:
        self.told.append(Progress(value, max_value, preview_image))


class ComfyAPI:
    """One object for all, as in ComfyUI."""

    execution = _Execution()
