"""Captions, human wordings and the rewriter's lessons, and that its prompts are those of the "mini" styles."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from core.chat import Message
from core.profiles import ChecklistConfig
from core.templates import fill, load_template
from evaluator.checklist import ChecklistBuilder, parse_lines
from evaluator.fakes import FakeJudge
from evaluator.keypoints import all_keypoints
from mini import questions, wording
from mini.captions import caption, group_phrase
from mini.generator import build_tokenizer
from mini.lessons import TASKS, Lesson, Task, first_come, lesson
from mini.questions import parse
from mini.sampling import Split, resolve, sample_pair, sample_spec, truths
from mini.wording import Wording, say, turned
from mini.world import HELD_OUT_PAIRS, RELATIONS, Absent, Group, Relation, Spec, held_out
from rewriter.parse import parse_reply
from rewriter.styles import load_style
