"""What a picture says about itself: PNG text chunks, readable by any tool that shows PNG metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from agent.types import Attempt
from redraft.images import save_png


def provenance(request: str, attempt: Attempt, names: Mapping[str, str]) -> dict[str, str]:
    """Text chunks by keyword. `redraft:prompt` is what the generator read."""
    text = {
        "Software": "redraft",
        "redraft:request": request,
        "redraft:prompt": attempt.prompt,
        "redraft:negative-prompt": attempt.negative_prompt or "",
        "redraft:seed": str(attempt.seed),
        "redraft:round": str(attempt.round),
        "redraft:kind": attempt.kind,
        "redraft:parent": attempt.parent or "",
        "redraft:pixels": attempt.image,
        "redraft:score": "" if attempt.score is None else f"{attempt.score:.4f}",
        **{f"redraft:{role}": name for role, name in names.items()},
    }
    return {keyword: value for keyword, value in text.items() if value}


def save_picture(picture: Image.Image, path: Path, request: str, attempt: Attempt, names: Mapping[str, str]) -> None:
    save_png(picture, path, provenance(request, attempt, names))
