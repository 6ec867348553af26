"""A device that is none: tensors that say they lie on one, computed on the CPU, and whatever a GPU would notice, noted.

Code that runs on it has been told apart from code that works on a CPU only: a tensor of the CPU where one of the device
is needed is an error, as on a GPU. With `with StandIn() as seen: ...` every operation in there is counted with the line
of ovps that asked for it:

- `operations`: what the device is given to do. Views and other bookkeeping are not counted;
- `waits`: the host reads a number of the device (`item`, `float`, `cpu`), or a size that only the device knows
  (`nonzero`, an index or an assignment by a mask, `unique`, `bincount`), and so waits for all that it gave it to do;
- `sends`: copies from the host to the device, tensors made from numbers (`torch.tensor(..., device=...)`) among them.

MinkowskiEngine knows nothing of it: networks need the sparse backend `torch`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

# A CPU, so that autocast works; with a number, so that torch takes it for another device than the CPU.
DEVICE = torch.device("cpu", 1)
PACKAGE = f"{Path(__file__).parents[2] / 'ovps'}/"

# Operations that end with the host knowing something: numbers, or the size of what came out.
_READS = {"_local_scalar_dense", "equal", "is_nonzero"}
_SIZES = {"nonzero", "bincount", "_unique2", "unique_dim", "unique_consecutive", "masked_select"}
_BY_INDEX = {"index", "index_put", "index_put_", "_index_put_impl_"}
_MADE = {torch.tensor, torch.as_tensor, Tensor.new_tensor}
_FREE = {"detach", "alias", "lift_fresh", "is_same_size", "_unsafe_view"}


class OnDevice(Tensor):
    """A tensor on the stand-in; `held` is where its numbers are."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, None)


@dataclass
class Tally:
    """What one place in the code made the device and the host do, see above; `bytes` in and out of its operations."""

    operations: int = 0
    waits: int = 0
    sends: int = 0
    bytes: int = 0

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class StandIn(TorchDispatchMode):
    """Counts what happens inside: `places` has a tally of each line of ovps, `losses/total.py:93`.

    The innermost line counts, whatever it called. What no line of ovps asked for stands under `elsewhere`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, Tally] = defaultdict(Tally)
        self._makers = _Makers()

    def __enter__(self) -> StandIn:
        self._makers.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._makers.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self)

    @property
    def total(self) -> Tally:
        return total(self.places.values())


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of tallies."""
    result = Tally()
    for tally in tallies:
        result.add(tally)
    return result


class _Makers(TorchFunctionMode):
    """Tensors made of numbers are made on the host and sent, as on a GPU; torch would hide the sending."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.tolist and isinstance(args[0], OnDevice):  # torch has none for tensors of this kind
            return args[0].cpu().tolist()
        if func in _MADE and not (args and func is torch.as_tensor and isinstance(args[0], Tensor)):
            like = args[0] if func is Tensor.new_tensor else None
            device = kwargs.pop("device", None) or (like.device if like is not None else torch.device("cpu"))
            if like is not None:
                func, args = torch.tensor, args[1:]
                kwargs.setdefault("dtype", like.dtype)
            return func(*args, **kwargs, device="cpu").to(device)
        return func(*args, **kwargs)


def send(value: Any) -> Any:
    """Tensors, or a module whose parameters and buffers are replaced, on the stand-in; not counted."""
    if not isinstance(value, nn.Module):
        return tree_map_only(Tensor, OnDevice, value)
    for module in value.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(OnDevice(parameter.detach()), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = OnDevice(buffer.detach())
    return value


def _run(func: Any, args: Any, kwargs: dict[str, Any], counter: StandIn | None) -> Any:
    inputs = _tensors((args, kwargs))
    host = [t for t in inputs if not isinstance(t, OnDevice)]
    wanted = kwargs.get("device")
    to_device = wanted is not None and torch.device(wanted) == DEVICE
    if len(host) == len(inputs) and not to_device:
        return func(*args, **kwargs)
    name = func._overloadpacket.__name__
    copies = name in ("_to_copy", "copy_")
    fetched = copies and (
        wanted is not None and not to_device if name == "_to_copy" else not isinstance(args[0], OnDevice)
    )
    sent = copies and bool(host) and not fetched
    if not copies and name not in _BY_INDEX and any(t.ndim for t in host):  # numbers may be mixed, and indices
        raise RuntimeError(f"{func}: a tensor of the CPU, {[tuple(t.shape) for t in host]}, among those of the device")

    held_args, held_kwargs = tree_map_only(OnDevice, lambda t: t.held, (args, kwargs))
    if wanted is not None:
        held_kwargs["device"] = torch.device("cpu")
    result = func(*held_args, **held_kwargs)
    outputs = _tensors(result)
    if counter is not None:
        by_mask = name in _BY_INDEX and any(t.dtype == torch.bool for t in _tensors(args[1]))
        computes = bool(outputs) and not (copies and host) and not fetched
        computes = computes and not getattr(func, "is_view", False) and name not in _FREE
        counter.places[_place()].add(
            Tally(
                operations=int(computes),
                waits=int(fetched or by_mask or name in _READS or name in _SIZES),
                sends=int(sent) + (sum(t.ndim > 0 for t in host) if name in _BY_INDEX else 0),
                bytes=sum(t.numel() * t.element_size() for t in inputs + outputs) if computes else 0,
            )
        )
    if fetched or not outputs:
        return result
    return return_and_correct_aliasing(func, args, kwargs, tree_map_only(Tensor, OnDevice, result))


def _place() -> str:
    """The innermost line of ovps on the stack."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            return f"{path.removeprefix(PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
