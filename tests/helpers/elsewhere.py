"""A GPU that is not there: tensors that say they are on `cuda` and are computed on the CPU.

Forward only: torch has no backward pass without the real device. As on a real one, tensors of two devices do not mix
(but for numbers, and indices on the CPU), what is on it has no `numpy()`, and autocast follows the rules of CUDA.
Kernels, rounding and speed are the CPU's. MinkowskiEngine reads memory, so `LidarFeatures` stands in for the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

CPU = torch.device("cpu")
MOVES = {"_to_copy", "copy_", "_copy_from"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
STRICT = {"cat", "stack"}  # here not even numbers may be elsewhere


class Elsewhere(Tensor):
    """A tensor on the GPU that is not there; `inner` is on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("cuda", 0),
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __repr__(self) -> str:  # torch's own would read the memory
        return f"Elsewhere({self.inner!r})"

    def tolist(self) -> list:  # torch refuses it to every kind of tensor but its own
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


class _Everything(TorchDispatchMode):
    """Sees what no tensor of ours takes part in: moves and new tensors."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


def _compute(func, args, kwargs):
    name = func._overloadpacket.__name__
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    here = any(isinstance(t, Elsewhere) for t in tensors)
    if here and name not in MOVES:
        _check(name, args, tensors)
    target = kwargs.get("device")
    if target is not None:
        here = torch.device(target).type != "cpu"
        kwargs = kwargs | {"device": CPU}
    plain_args, plain_kwargs = tree_map_only(Elsewhere, lambda t: t.inner, (args, kwargs))
    result = func(*plain_args, **plain_kwargs)
    if name == "copy_":
        return args[0]
    if not here:
        return result
    wrapped = tree_map_only(Tensor, lambda t: t if isinstance(t, Elsewhere) else Elsewhere(t), result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if target is None else wrapped


def _check(name: str, args, tensors: list[Tensor]) -> None:
    strangers = [t for t in tensors if not isinstance(t, Elsewhere)]
    if name in INDEXED and isinstance(args[0], Elsewhere):
        strangers = [t for t in strangers if t.dtype not in (torch.int64, torch.bool, torch.int32, torch.uint8)]
    if name not in STRICT:
        strangers = [t for t in strangers if t.ndim]
    if strangers:
        shapes = [tuple(t.shape) for t in strangers]
        raise RuntimeError(f"{name}: tensors on two devices; on the CPU are those of shape {shapes}")


@contextmanager
def gpu() -> Iterator[None]:
    """Inside, `cuda` is a device that tensors and modules can be brought to."""
    torch._C._ensureCUDADeviceGuardSet()
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # ours are no memory to exchange
    with (
        mock.patch.object(torch.cuda, "_lazy_init", return_value=None),
        mock.patch.object(torch.cuda, "is_bf16_supported", return_value=True),
        mock.patch.object(torch.cuda.amp.common, "amp_definitely_not_available", return_value=False),
        _Everything(),
    ):
        only_cpu = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor makes it here, and then brings it there
        try:
            yield
        finally:
            torch._C._set_only_lift_cpu_tensors(only_cpu)
            torch.__future__.set_overwrite_module_params_on_conversion(overwrite)


class LidarFeatures(nn.Module):
    """In place of the sparse encoder: a linear layer, float32 like the encoder."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, width)

    def forward(self, coords: Tensor, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return self.layer(features.float())
