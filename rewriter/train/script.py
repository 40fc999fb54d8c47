"""What the training scripts share; it lies in `core.training`, since the judge's training needs it too."""

from core.training import find_model, last_checkpoint, missing, read_settings

__all__ = ["find_model", "last_checkpoint", "missing", "read_settings"]
