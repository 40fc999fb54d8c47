"""From a profile's settings to a backend. Importing this is cheap: model libraries load when a backend is opened."""

from __future__ import annotations

from editors.types import ImageBackend
from redraft.extras import require
from redraft.loading import LOADING
from redraft.profiles import BackendConfig, model_place


def open_backend(config: BackendConfig) -> ImageBackend:
    """The backend that `config` describes. Weights load at the first `render` (or an explicit `load`).

    Raises ConfigError where a setting contradicts another or the named key is not in the environment, ModelMissing
    where a model folder is not there.
    """
    if config.kind == "openai_images":
        from editors.openai_images import OpenAIImagesBackend

        return OpenAIImagesBackend(config)
    require("local", "this profile draws or edits in this process")
    model_place(config.model)  # before anything else of a run is paid for
    with LOADING:
        from editors.diffusers_backend import DiffusersBackend

    return DiffusersBackend(config)
