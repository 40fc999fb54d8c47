"""From a prompt to its record: ask for rewrites, pick one, say what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from redraft.chat import Usage
from redraft.errors import BackendError
from rewriter.batch.types import Choice, Keys, Record, Selector, Status
from rewriter.types import Rewrite, Rewriter


class Maker:
    """Makes the record of a prompt: the same one in every process that has the same settings and the same model.

    Raises InputError for a prompt that cannot be used, BackendError where the model or the selector failed.
    """

    def __init__(self, rewriter: Rewriter, keys: Keys, *, n: int = 1, selector: Selector | None = None) -> None:
        self._rewriter = rewriter
        self._keys = keys
        self._n = n
        self._selector = selector

    async def __call__(self, prompt: str, key: bytes | None = None) -> Record:
        """`key` is that of `prompt`, where the caller has it already."""
        seed = self._keys.seed(self._keys.key(prompt) if key is None else key)
        rewrites = await self._rewriter(prompt, n=self._n, seed=seed)
        lost = [finding for rewrite in rewrites if rewrite.fallback for finding in rewrite.findings]
        if all(rewrite.fallback for rewrite in rewrites) and (broken := [f for f in lost if f.startswith("server: ")]):
            # Not the model's judgement of this prompt: the second try never came through.
            raise BackendError(broken[0].removeprefix("server: "))
        choice = Choice(0) if self._selector is None else await self._selector(prompt, rewrites, seed)
        return record_of(prompt, rewrites, choice, seed, many=self._n > 1)


def record_of(prompt: str, rewrites: Sequence[Rewrite], choice: Choice, seed: int, *, many: bool = False) -> Record:
    """The record of a prompt from its rewrites; `many` where more than one was asked for."""
    usage = sum((rewrite.usage for rewrite in rewrites), Usage())
    taken = rewrites[0 if choice.index is None else choice.index]
    kept = choice.index is None or taken.fallback
    status = Status.KEPT if kept else Status.REPAIRED if taken.tries > 1 else Status.REWRITTEN
    return Record(
        status=status,
        rewrite=prompt if kept else taken.prompt,
        seed=seed,
        negative_prompt=None if kept else taken.negative_prompt,
        thought=taken.thought,
        model=taken.model,
        findings=taken.findings + choice.findings,
        candidates=tuple(rewrite.prompt for rewrite in rewrites) if many else (),
        scores=choice.scores,
        tokens=(usage.prompt_tokens, usage.completion_tokens),
    )


def result_of(prompt: str, record: Record, own: tuple[str, ...]) -> dict[str, object]:
    """redraft's columns of a row; `own` names them, "original" first."""
    value: dict[str, object] = {"original": prompt}
    for name in own[1:]:
        item = getattr(record, name)
        value[name] = list(item) if isinstance(item, tuple) else str(item) if name == "status" else item
    return value


def failed(prompt: str, seed: int, error: BackendError) -> Record:
    return Record(Status.FAILED, prompt, seed, findings=(f"failed: {error}",))
