"""What a computation costs before it is timed: FLOPs and bytes, operation by operation, and seconds from ceilings.

Counted while it runs once, on any device, `meta` among them. FLOPs are those of torch.utils.flop_counter: matrix
products, convolutions and attention, two for a multiplication with its addition. Bytes are those of all inputs and
outputs of each operation, as if nothing stayed in a cache and nothing were fused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import MinkowskiEngine as ME
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# Operations after which the host has to wait for the device.
WAITING = {"_local_scalar_dense", "nonzero", "bincount", "_unique2", "masked_select", "unique_dim", "item"}


@dataclass(frozen=True)
class Ceilings:
    """What the device was measured to do at most.

    Attributes:
        flops: per second, by precision: `fp32`, `tf32`, `bf16`.
        bandwidth: bytes per second of a copy, read and written together.
        launch: seconds to start one operation.
    """

    flops: dict[str, float]
    bandwidth: float
    launch: float


@dataclass
class Cost(TorchDispatchMode):
    """Counts what happens inside: `with Cost() as cost: ...`.

    Attributes:
        device: type of the device whose waits count.
        operations: FLOPs and bytes of each operation that computes something.
        waits: how often the host waits for the device: it reads a number of it, or a size that only it knows. On a CPU
            numbers that a GPU run would keep on the CPU count as well.
    """

    device: str = "cpu"
    operations: list[tuple[float, float]] = field(default_factory=list)
    waits: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = func._overloadpacket
        name = packet.__name__
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        there = any(t.device.type == self.device for t in inputs)
        chosen = packet is torch.ops.aten.index and any(t.dtype == torch.bool for t in inputs)
        fetched = name == "_to_copy" and any(t.device.type != self.device for t in outputs)
        self.waits += there and (name in WAITING or chosen or fetched)
        if not getattr(func, "is_view", False) and outputs:
            flops = flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0
            self.operations.append((float(flops), float(sum(map(_bytes, inputs + outputs)))))
        return result

    @property
    def flops(self) -> float:
        return sum(flops for flops, _ in self.operations)

    @property
    def bytes(self) -> float:
        return sum(size for _, size in self.operations)

    def add(self, flops: float, size: float) -> None:
        """What torch does not see."""
        self.operations.append((flops, size))

    def seconds(self, ceilings: Ceilings, precision: str) -> float:
        """Each operation at the ceiling that binds it: arithmetic, memory, or being started at all."""
        rate = ceilings.flops[precision]
        return sum(max(f / rate, b / ceilings.bandwidth, ceilings.launch) for f, b in self.operations)


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@contextmanager
def convolutions_counted(network: nn.Module, cost: Cost, training: bool = True) -> Iterator[None]:
    """Adds MinkowskiEngine's convolutions, which torch does not see: a product for each pair of its kernel map.

    Forward, and with `training` twice as much backward: gradients of features and of kernels.
    """

    def seen(layer: Any, inputs: tuple[ME.SparseTensor], output: ME.SparseTensor) -> None:
        pairs, (cin, cout) = _pairs(layer, inputs[0], output), layer.kernel.shape[-2:]
        for _ in range(3 if training else 1):
            cost.add(2.0 * pairs * cin * cout, 4.0 * pairs * (cin + 2 * cout))

    layers = (ME.MinkowskiConvolution, ME.MinkowskiConvolutionTranspose)
    hooks = [m.register_forward_hook(seen) for m in network.modules() if isinstance(m, layers)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _pairs(layer: Any, x: ME.SparseTensor, y: ME.SparseTensor) -> int:
    if layer.kernel.ndim == 2:
        return len(x.F)
    generator = layer.kernel_generator
    found = x.coordinate_manager.kernel_map(
        x.coordinate_map_key,
        y.coordinate_map_key,
        stride=generator.kernel_stride,
        kernel_size=generator.kernel_size,
        dilation=generator.kernel_dilation,
        region_type=generator.region_type,
        region_offset=generator.region_offsets,
        is_transpose=layer.is_transpose,
        is_pool=False,
    )
    return sum(pair.shape[1] for pair in found.values())


def count(action: Callable[[], object], network: nn.Module) -> Cost:
    """The cost of an action that trains the network, run once."""
    cost = Cost(next(network.parameters()).device.type)
    with cost, convolutions_counted(network, cost):
        action()
    return cost
