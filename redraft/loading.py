"""One model is loaded at a time in this process, whatever library loads it. Importing this is cheap."""

from __future__ import annotations

import threading

LOADING = threading.RLock()
"""Held around every `from_pretrained`, and every first import of a model library, that a thread of ours makes.

Two threads that import transformers and diffusers at once get half a module: Python breaks the deadlock of their import
locks that way ("module 'transformers' has no attribute 'AutoConfig'").

Two threads that meet inside one break it, in ways that outlast both: transformers switches `tie_weights` off for all
models while one loads and puts back what it found, which is the switched-off one where another load was under way.
From then on no model of the process has its tied weights. diffusers loads its text encoders through transformers.
"""
