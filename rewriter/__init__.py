"""Makes better prompts of requests, and checks them.

    >>> from rewriter import check_intent, parse_reply
    >>> reply = parse_reply("<think>three, not two</think><answer>Three red apples in a bowl.</answer>")
    >>> check_intent("three red apples", reply.prompt)
    ()

`enhance` is the whole in one call; `CoTRewriter` is the rewriter over a chat model, in a style (how the model is asked)
and for a target (what the image model wants). batch/ rewrites files, train/ trains rewriters, guard/ checks rewrites.

Importing this imports nothing else: a name is looked up when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redraft.lazy import find_lazily

if TYPE_CHECKING:
    from rewriter.api import Enhanced, EnhancedPipeline, Enhancer, enhance, enhance_async, enhance_pipeline
    from rewriter.cot import CoTRewriter
    from rewriter.guard import Finding, GuardSettings, check_intent
    from rewriter.reply import Review, parse_reply, review
    from rewriter.request import clean_request
    from rewriter.styles import Style, load_style
    from rewriter.target import Target, load_target
    from rewriter.types import Feedback, Rewrite, Rewriter

__all__ = [
    "CoTRewriter",
    "Enhanced",
    "EnhancedPipeline",
    "Enhancer",
    "Feedback",
    "Finding",
    "GuardSettings",
    "Review",
    "Rewrite",
    "Rewriter",
    "Style",
    "Target",
    "check_intent",
    "clean_request",
    "enhance",
    "enhance_async",
    "enhance_pipeline",
    "load_style",
    "load_target",
    "parse_reply",
    "review",
]

__getattr__ = find_lazily(
    __name__,
    {
        "rewriter.api": ("Enhanced", "EnhancedPipeline", "Enhancer", "enhance", "enhance_async", "enhance_pipeline"),
        "rewriter.cot": ("CoTRewriter",),
        "rewriter.guard": ("Finding", "GuardSettings", "check_intent"),
        "rewriter.reply": ("Review", "parse_reply", "review"),
        "rewriter.request": ("clean_request",),
        "rewriter.styles": ("Style", "load_style"),
        "rewriter.target": ("Target", "load_target"),
        "rewriter.types": ("Feedback", "Rewrite", "Rewriter"),
    },
)
