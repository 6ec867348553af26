"""The contract of a codec: how the CLIP features of voxels become arrays of a store, and come back.

The built-in ones are `dense`, `cells` and those of `lossy_cells`; another package adds one by an entry point in the
group `ovps.codecs` that leads to an object like these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cache_schemas import Array, check_shapes, dims_of
from ovps.errors import FrameError, SetupError
from ovps.plugins import misgiven
from ovps.protocols import described
from ovps.waiting import Waits

Arrays = dict[str, NDArray[Any]]
State = Mapping[str, NDArray[Any]]
_waits = Waits()


@dataclass(frozen=True, eq=False)
class VoxelFeatures:
    """The CLIP features of V voxels, in factors.

    Everything after the image encoder is linear (bilinear sampling, mean over views, mean over points), so voxel
    features are `weights (V, K) @ cells (K, C)`.

    Attributes:
        cells: (K, C) float32, features of the cells of all cameras.
        weights: (V, K) CSR float32; a row sums to 1, that of a voxel that no camera sees is empty.
    """

    cells: NDArray[np.float32]
    weights: csr_array

    @classmethod
    def of_voxels(cls, dense: NDArray[np.float32], valid: NDArray[np.bool_]) -> VoxelFeatures:
        """Features (V, C) of which no cells are known: every voxel that is `valid` (V,) bool is its own cell."""
        count = int(valid.sum())
        indptr = np.concatenate([[0], np.cumsum(valid)]).astype(np.int32)
        parts = (np.ones(count, np.float32), np.arange(count, dtype=np.int32), indptr)
        return cls(np.ascontiguousarray(dense[valid], np.float32), csr_array(parts, shape=(len(valid), count)))

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Tell of each voxel whether it has a feature, (V,) bool."""
        return np.diff(self.weights.indptr) > 0

    def of(self, voxels: NDArray[np.int64]) -> VoxelFeatures:
        """The features of some voxels, (M,) int64."""
        return VoxelFeatures(self.cells, self.weights[voxels])

    def dense(self) -> NDArray[np.float32]:
        """Compute the features of all voxels, (V, C) float32; zeros where not valid."""
        return np.asarray(self.weights @ self.cells, dtype=np.float32)


class Codec(Protocol):
    """One way to store voxel features. Pure: the same features and state give the same arrays.

    Attributes:
        name: of the entry point; stands in the provenance of a store.
        lossless: exact but for rounding to float16. Only built-in codecs are ever chosen unasked, see `choice`.
        keeps_cells: `factors` gives back what voxel features are made of: labels that come later need no CLIP.
        fit_frames: how many training frames its state is made of; 0: it has none.
        arrays: what it stores. Names begin with `clip/`. The first dimension of an array is its own to name: arrays of
            one dimension are of one length in every frame, those of `points` and `voxels` have a row for each.
    """

    name: str
    lossless: bool
    keeps_cells: bool
    fit_frames: int
    arrays: tuple[Array, ...]

    def fit(self, sample: NDArray[np.float32]) -> State:
        """The state of a store, made once when it is made: a basis, a codebook.

        Args:
            sample: (M, C) float32 of `fit_frames` training frames, see `sample_of`; never called where that is 0.
        """
        ...

    def encode(self, features: VoxelFeatures, state: State) -> Arrays:
        """The arrays of one frame, by name."""
        ...

    def decode(self, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], state: State) -> NDArray[np.float32]:
        """Voxel features (V, C) float32 from the arrays of one frame; zeros where not `valid` (V,) bool."""
        ...

    def factors(self, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], state: State) -> VoxelFeatures:
        """The features of one frame in factors, as they are stored: of the cells that a voxel uses, in their order.

        Only of a codec that `keeps_cells`.
        """
        ...

    def expected_bytes(self, weights: csr_array, clip_dim: int) -> int:
        """Bytes of a frame's arrays before compression, for weights (V, K) CSR, without any feature at hand."""
        ...


def sample_of(codec: Codec, features: VoxelFeatures) -> NDArray[np.float32]:
    """Rows (M, C) float32 of a frame that a codec is fitted to: its cells if it keeps some, else voxel features."""
    if codec.keeps_cells:
        return features.cells[np.unique(features.weights.indices)]
    return features.dense()[features.valid]


def fitted(codec: Codec, sample: NDArray[np.float32]) -> State:
    """The state that a codec makes of a sample (M, C).

    Raises:
        SetupError: it makes no arrays by name, or some with NaN.
    """
    with _waits.of(f"codec {codec.name}", f"its fit to {len(sample):,} features"):
        state: Any = codec.fit(sample)
    wanted = "expected arrays of numbers by name"
    if not isinstance(state, Mapping):
        raise misgiven("codec", codec, "fit", f"{described(state)}, {wanted}", SetupError)
    for name, array in state.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise misgiven("codec", codec, "fit", f"{name!r}: {described(array)}, {wanted}", SetupError)
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise misgiven("codec", codec, "fit", f"NaN in {name}", SetupError)
    return {name: _kept(array) for name, array in state.items()}


def _kept(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that nobody can change, like what is read from a store: what one frame did to it the next would have."""
    kept = array.copy()
    kept.flags.writeable = False
    return kept


@dataclass(frozen=True, eq=False)
class Encoded:
    """The features of a frame as arrays of a store, and as they will be read from them."""

    arrays: Arrays
    stored: VoxelFeatures


def encoded(codec: Codec, features: VoxelFeatures, state: State) -> Encoded:
    """Encode the features of a frame, and read them back.

    Raises:
        FrameError: the codec makes other arrays than it says, or none that can be read back.
    """
    arrays = codec.encode(features, state)
    _check_arrays(codec, arrays, features)
    stored = read_back(codec, arrays, features.valid, state)
    method, clip_dim = "factors" if codec.keeps_cells else "decode", features.cells.shape[1]
    if stored.cells.shape[1] != clip_dim:
        raise misgiven("codec", codec, method, f"{stored.cells.shape[1]} channels, expected {clip_dim}", FrameError)
    if not np.isfinite(stored.cells).all() or not np.isfinite(stored.weights.data).all():
        raise misgiven("codec", codec, method, "features with NaN or infinity", FrameError)
    return Encoded(arrays, stored)


def read_back(codec: Codec, arrays: Arrays, valid: NDArray[np.bool_], state: State) -> VoxelFeatures:
    """The features of a frame from its arrays, in factors; each voxel its own cell where the codec keeps none.

    Raises:
        FrameError: the codec gives something else.
    """
    if codec.keeps_cells:
        factors: Any = codec.factors(arrays, valid, state)
        if not isinstance(factors, VoxelFeatures):
            raise misgiven("codec", codec, "factors", f"{described(factors)}, expected VoxelFeatures", FrameError)
        if factors.weights.shape != (len(valid), len(factors.cells)):
            fault = f"weights {factors.weights.shape} of {len(factors.cells)} cells for {len(valid)} voxels"
            raise misgiven("codec", codec, "factors", fault, FrameError)
        return factors
    dense: Any = codec.decode(arrays, valid, state)
    if not isinstance(dense, np.ndarray) or dense.dtype.kind != "f" or dense.ndim != 2 or len(dense) != len(valid):
        wanted = f"expected float32, a row for each of {len(valid)} voxels"
        raise misgiven("codec", codec, "decode", f"{described(dense)}, {wanted}", FrameError)
    return VoxelFeatures.of_voxels(dense, valid)


def _check_arrays(codec: Codec, arrays: Any, features: VoxelFeatures) -> None:
    if not isinstance(arrays, Mapping):
        raise _fault(codec, f"{described(arrays)}, expected arrays by name")
    shapes = {name: (np.shape(array), np.asarray(array).dtype) for name, array in arrays.items()}
    offsets = {f"offsets/{dim}": ((2,), np.dtype(np.int64)) for dim in dims_of(codec.arrays)}
    try:
        sizes = check_shapes(shapes | offsets, codec.arrays, clip_dim=features.cells.shape[1])
    except ValueError as error:
        raise _fault(codec, f"other arrays than it says: {error}") from error
    voxels = features.weights.shape[0]
    if sizes.get("voxels", voxels) != voxels:
        raise _fault(codec, f"{sizes['voxels']} rows for {voxels} voxels")


def _fault(codec: Codec, fault: str) -> FrameError:
    return misgiven("codec", codec, "encode", fault, FrameError)


class CodecError(NamedTuple):
    """Absolute error, |stored - computed|, over the float32 voxel features of a frame, or `SAMPLED` of its voxels."""

    largest: float
    mean: float


SAMPLED = 512  # voxels, whose error is that of the frame: looking at all of them took a third of stage 1 without CLIP


_HALF = 2**-10  # of the largest number, the most by which weights and cells in float16 are off


def check_lossless(codec: Codec, error: CodecError, features: VoxelFeatures) -> None:
    """Refuse a codec that says it loses nothing, and is off by more than rounding to float16.

    Raises:
        FrameError: names both.
    """
    # unit vectors first, which all but features of other sources are: looking at every cell takes its time
    if codec.lossless and error.largest > _HALF and error.largest > _HALF * float(np.abs(features.cells).max()):
        fault = f"features that are off by {error.largest:.2g}, and `lossless` is True: it means exact but for float16"
        raise misgiven("codec", codec, "factors" if codec.keeps_cells else "decode", fault, FrameError)


def codec_error(stored: VoxelFeatures, features: VoxelFeatures) -> CodecError:
    """Error of the features as they are stored, over voxels that are evenly spread over the frame."""
    rows = np.flatnonzero(features.valid)
    if not len(rows):
        return CodecError(0.0, 0.0)
    rows = rows[np.arange(min(SAMPLED, len(rows))) * len(rows) // min(SAMPLED, len(rows))]
    difference = np.abs(stored.of(rows).dense() - features.of(rows).dense())
    return CodecError(float(difference.max()), float(difference.mean(dtype=np.float64)))
