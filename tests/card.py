"""A stand-in for a GPU that counts what makes the host wait for it. Its tensors have shapes and no numbers (the meta device)."""

import traceback
from collections import Counter
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import featviz
from featviz.networks.network import Network
from featviz.networks.table import NETWORKS

PACKAGE = Path(featviz.__file__).parent

UPLOADS = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)
"""Functions that make a tensor of numbers of the host."""


def network(name: str) -> Network:
    """A network of the table on the stand-in."""
    with torch.device("meta"):
        made = Network(NETWORKS[name], NETWORKS[name].build())
    made._mean, made._std = made._mean.to("meta"), made._std.to("meta")
    return made


class Waits(TorchDispatchMode):
    """A context that counts the operations for which the host waits, by their line in featviz.

    Reads of numbers, results whose shape depends on numbers, eigenvalues (PyTorch reads their error code), copies to the CPU that
    are not asynchronous, and uploads. A number that is read is 1, and a condition false.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: Counter[str] = Counter()
        self._uploads = _Uploads(self._count)

    def __enter__(self):
        self._uploads.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._uploads.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        there = [it for it in tree_leaves((args, kwargs)) if isinstance(it, torch.Tensor) and it.is_meta]
        masks = [it for it in there if it.dtype == torch.bool]
        if name == "_local_scalar_dense" and there:
            self._count("number read")
            return torch.ones((), dtype=args[0].dtype).item() if args[0].dtype != torch.bool else False
        if name == "index" and any(it is mask for it in args[1] for mask in masks):
            self._count("shape that depends on numbers")
            return args[0]
        if there and ("linalg_eig" in name or name in ("nonzero", "masked_select", "equal", "_unique2")):
            self._count(name)
        if name == "_to_copy" and there and torch.device(kwargs.get("device") or "meta").type == "cpu":
            if not kwargs.get("non_blocking"):
                self._count("copy to the CPU")
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        result = func(*args, **kwargs)
        if name in ("_to_copy", "copy_") and result.is_meta and any(not it.is_meta for it in tree_leaves(args) if _is_tensor(it)):
            self._count("upload")
        return result

    def _count(self, what: str) -> None:
        own = [frame for frame in traceback.extract_stack() if PACKAGE in Path(frame.filename).parents]
        self.lines[f"{what}: {Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].line}" if own else what] += 1


class _Uploads(TorchFunctionMode):
    """Counts tensors that are made of numbers of the host, and indices that are lists."""

    def __init__(self, count) -> None:
        super().__init__()
        self._count = count

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        listed = func is torch.Tensor.__getitem__ and any(isinstance(it, (list, range)) for it in _each(args[1]))
        if _is_tensor(result) and result.is_meta and (func in UPLOADS or listed):
            self._count("upload")
        return result


def _each(index) -> tuple:
    return index if isinstance(index, tuple) else (index,)


def _is_tensor(value) -> bool:
    return isinstance(value, torch.Tensor)
