"""On PYTHONPATH of the vLLM environment: lets PyPI's torchvision be imported beside the CPU build of torch.

vLLM needs torchvision for models that see. PyPI's wheel is built against the CUDA build of torch: its library of
operators does not load beside the CPU build, and then `import torchvision` fails with "operator torchvision::nms does
not exist", as it describes operators that nobody defined. Two empty definitions mend that; resizing and the like are
plain torch. Where the library does load, nothing is done. Python imports a module of this name by itself at its start.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder


class _BeforeTorchvision(MetaPathFinder):
    """Acts at the first import of torchvision, so that programs which need no torch start without it."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _define_operators(PathFinder.find_spec(fullname))


def _define_operators(found):
    import torch

    for folder in (found.submodule_search_locations or ()) if found else ():
        try:
            torch.ops.load_library(f"{folder}/_C.so")
        except OSError:
            continue
        return
    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", signature)


sys.meta_path.insert(0, _BeforeTorchvision())
