"""Which judge a profile means."""

from __future__ import annotations

from evaluator.types import Judge
from redraft.profiles import JudgeConfig


def open_judge(config: JudgeConfig) -> Judge:
    """The judge of `config`: in this process for kind "transformers", else through the chat model's server.

    Raises ConfigError for a style or a key that cannot be used, ModelMissing where local weights are not there.
    """
    judge = _open(config)
    if config.guard:
        from evaluator.guarded import GuardedJudge

        return GuardedJudge(judge, config.style)
    return judge


def _open(config: JudgeConfig) -> Judge:
    if config.model.kind == "transformers":
        from evaluator.local_judge import TransformersJudge

        return TransformersJudge(config)
    from evaluator.server_judge import ServerJudge
    from redraft.models import open_chat

    return ServerJudge(open_chat(config.model), config, explain=config.explain, coordinates=config.coordinates)
