"""redraft as ComfyUI nodes: enhance a prompt, judge a picture, draw until it is right."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
