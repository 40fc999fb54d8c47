"""Models of all libraries are loaded at once by the threads of a run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from transformers import PreTrainedModel

from editors.diffusers_backend import DiffusersBackend
from redraft.local_models import load_local
from redraft.profiles import load_profile


@pytest.mark.integration
def test_models_loaded_by_several_threads_at_once_are_whole() -> None:
    profile = load_profile("mini")
    tie_weights = PreTrainedModel.tie_weights
    for _ in range(3):
        start = Barrier(3)

        def chat(start: Barrier = start) -> bool:
            start.wait()
            model = load_local(profile.rewriter.model).model
            return model.lm_head.weight is model.model.embed_tokens.weight

        def generator(start: Barrier = start) -> bool:
            start.wait()
            DiffusersBackend(profile.generator).load()
            return True

        with ThreadPoolExecutor(3) as threads:
            jobs = [threads.submit(work) for work in (chat, generator, chat)]
            assert all(job.result() for job in jobs)
        assert PreTrainedModel.tie_weights is tie_weights, "transformers no longer ties weights in this process"
