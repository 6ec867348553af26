"""Frames of a store for any trainer: a plain `torch.utils.data.Dataset`. See docs/python.md.

Features travel as they are stored, cells and how voxels mix them, and are multiplied out where they are needed: a
loader's process makes no (V, C) float32, and less goes to the GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ovps.cache.reader import Store
from ovps.cache.where import Where
from ovps.errors import ConfigError

NO_LABELS = -1


@dataclass(frozen=True, eq=False)
class FrameTensors:
    """One or several frames: N points, V voxels, K cells of C channels, M shares of cells in voxels.

    Attributes:
        tokens: of the B frames.
        xyz: (N, 3) float32, metres, each in the LiDAR frame of its own.
        intensity: (N,) float32, 0..1.
        label: (N,) int64, as the data set gives it; -1 in frames without labels.
        point_voxel: (N,) int64, row of `coords`.
        point_frame, voxel_frame: (N,) and (V,) int64, which of the frames it is of.
        coords: (V, 3) int32, index on the store's grid.
        valid: (V,) bool, the voxel has a CLIP feature.
        cells: (K, C) float32.
        voxel, cell: (M,) int64; share: (M,) float32: feature of a voxel = sum of share * cell.
    """

    tokens: tuple[str, ...]
    xyz: Tensor
    intensity: Tensor
    label: Tensor
    point_voxel: Tensor
    point_frame: Tensor
    coords: Tensor
    valid: Tensor
    voxel_frame: Tensor
    cells: Tensor
    voxel: Tensor
    cell: Tensor
    share: Tensor

    def features(self) -> Tensor:
        """Multiply out the CLIP features of the voxels, (V, C) float32, on the tensors' device; zeros if not valid."""
        place = torch.stack([self.voxel, self.cell])
        shape = (len(self.coords), len(self.cells))
        # by voxel, then cell, each once: nothing to add up or to sort before the product
        weights = torch.sparse_coo_tensor(place, self.share, shape, is_coalesced=True, check_invariants=False)
        return torch.sparse.mm(weights, self.cells)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> FrameTensors:
        """Move every tensor."""
        return FrameTensors(self.tokens, *(t.to(device, non_blocking=non_blocking) for t in self._tensors()))

    def pin_memory(self) -> FrameTensors:
        """Copy into memory that a GPU reads from by itself; a `DataLoader` with `pin_memory=True` calls it."""
        return FrameTensors(self.tokens, *(t.pin_memory() for t in self._tensors()))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)[1:]]


class FrameDataset(Dataset[FrameTensors]):
    """The frames of a store as tensors, by scene and time. Each loader process opens the files that it reads.

    It also imports the script that starts it, whose loop over the loader stands below `if __name__ == "__main__":`.

    Args:
        store: a folder, a URL, or an open store.
        subset: of the data set, e.g. `train`, or several; None: all frames.

    Raises:
        ConfigError: no frame of one of them.
        CacheError: no store there, or a damaged one.
    """

    def __init__(self, store: Store | Where, subset: str | Sequence[str] | None = None) -> None:
        self.store = store if isinstance(store, Store) else Store.open(store)
        self.refs = self.store.frames_of([subset] if isinstance(subset, str) else subset)

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, number: int) -> FrameTensors:
        """Read one frame.

        Raises:
            CorruptStoreError: bytes that are not those that were written.
            CacheError: the store does not hold the frame any more.
        """
        ref = self.refs[number]
        arrays, features = self.store.factors(ref)
        points, voxels = len(arrays["points/xyz"]), len(arrays["voxels/coords"])
        label = arrays.get("points/label")
        weights = features.weights
        return FrameTensors(
            tokens=(ref.token,),
            xyz=torch.from_numpy(arrays["points/xyz"]),
            intensity=torch.from_numpy(arrays["points/intensity"]),
            label=torch.full((points,), NO_LABELS) if label is None else torch.from_numpy(label.astype(np.int64)),
            point_voxel=torch.from_numpy(arrays["points/voxel"].astype(np.int64)),
            point_frame=torch.zeros(points, dtype=torch.int64),
            coords=torch.from_numpy(arrays["voxels/coords"]),
            valid=torch.from_numpy(arrays["voxels/valid"]),
            voxel_frame=torch.zeros(voxels, dtype=torch.int64),
            cells=torch.from_numpy(features.cells),
            voxel=torch.from_numpy(np.repeat(np.arange(voxels), np.diff(weights.indptr))),
            cell=torch.from_numpy(weights.indices.astype(np.int64)),
            share=torch.from_numpy(weights.data.astype(np.float32, copy=False)),
        )


def join_frames(frames: Iterable[FrameTensors]) -> FrameTensors:
    """Join frames into one batch, in order: the `collate_fn` of a `DataLoader` over a `FrameDataset`.

    Raises:
        ConfigError: there are none.
    """
    joined: dict[str, list[Tensor]] = {}
    counted, voxels, cells = 0, 0, 0
    frames = tuple(frames)
    if not frames:
        raise ConfigError("no frames to join", remedy="Give one or more of a `FrameDataset`")
    for frame in frames:
        moved = {
            "point_voxel": voxels,
            "voxel": voxels,
            "cell": cells,
            "point_frame": counted,
            "voxel_frame": counted,
        }
        for field in fields(frame)[1:]:
            tensor = getattr(frame, field.name)
            joined.setdefault(field.name, []).append(tensor + moved[field.name] if field.name in moved else tensor)
        counted, voxels, cells = counted + len(frame.tokens), voxels + len(frame.coords), cells + len(frame.cells)
    tokens = tuple(token for frame in frames for token in frame.tokens)
    return FrameTensors(tokens, **{name: torch.cat(parts) for name, parts in joined.items()})
