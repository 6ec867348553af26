"""Features of points as other programs write them: a file for each frame, checked before a store is made of it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from ovps.errors import FrameError
from ovps.shortage import faults

ENDINGS = ("pt", "pth", "npy", "npz")
FEAT, MASK = "feat", "mask_full"  # as OpenScene calls them

_BYTES = 16  # of a number of a feature at most, with some room
# A store holds float16. A feature whose largest value is smaller than the smallest normal number loses its direction.
_SMALLEST, _LARGEST = float(np.finfo(np.float16).smallest_normal), float(np.finfo(np.float16).max)
_MANY = 100  # features of a sweep, which are never nearly all one
_NEARLY_ALL = 0.9
_ALIKE = 0.9999  # cosine of two features that differ by rounding to float16 alone
_SAMPLED = 4096  # features, by which a share is known to a percent or two
_TRIED = 8  # features of those that lie together, among which the commonest is
_POINTS = "Fuse them for the points of the key frame alone, in the order of its file"
_LAYOUT = (
    f"A file holds `{FEAT}`, a row for each point; or for each point that is True in `{MASK}`, which it then holds too."
    f" A .npy is `{FEAT}` alone"
)


class PointFeatures(NamedTuple):
    """Features (M, C) float32 of a sweep of N points, which of these have one, (N,) bool, and see `same_share`."""

    features: NDArray[np.float32]
    seen: NDArray[np.bool_]
    same: float  # 0 of few features


def read_features(path: Path, points: int, clip_dim: int, token: str) -> PointFeatures:
    """Read the features of a frame's points.

    A `.pt`, `.pth` or `.npz` holds `feat` (M, C), real numbers of any type, and `mask_full` (N,) bool, the points that
    have a feature; or `feat` (N, C) alone, as a `.npy` does, where rows of zeros or of NaN are points without one.

    Args:
        points: N, of the sweep.
        clip_dim: C.
        token: of the frame, for an error to name.

    Raises:
        FrameError: damaged, of another layout or type, not of so many points and channels, without any feature, or
            with features that are none: NaN, infinity, or beyond what float16 keeps.
    """

    def wrong(message: str, remedy: str) -> FrameError:
        return FrameError(message, path=path, frame=token, remedy=remedy)

    again = "Write it again"
    try:
        content = _content(path)
    except pickle.UnpicklingError as error:
        raise wrong(
            "damaged, or more than tensors, which loading might run as a program", "Save a dict of tensors"
        ) from error
    except faults(Exception, most=points * clip_dim * _BYTES) as error:  # bytes of others: the libraries raise anything
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise wrong(f"no features of points: {said}", again) from error
    if FEAT not in content:
        there = ", ".join(content) or "nothing"
        raise wrong(f"no features of points: nothing is called `{FEAT}`, there is {there}", _LAYOUT)
    for name in content.keys() & {FEAT, MASK}:
        if not isinstance(content[name], np.ndarray):
            raise wrong(f"no features of points: `{name}` is a {type(content[name]).__name__}", _LAYOUT)
    feat, mask = content[FEAT], content.get(MASK)
    if feat.dtype.kind not in "fiu":
        raise wrong(f"`{FEAT}` is {feat.dtype}, expected real numbers", "Write the features as float16 or float32")
    if feat.dtype.kind != "f":
        feat = feat.astype(np.float32)
    if feat.ndim != 2:
        raise wrong(f"`{FEAT}` is of shape {feat.shape}, expected two dimensions", _LAYOUT)
    if mask is None:
        if len(feat) != points:
            raise wrong(
                f"`{FEAT}` has {len(feat)} rows, the sweep has {points} points",
                f"{_POINTS}; a row for some alone needs `{MASK}` beside it",
            )
        seen = ~((feat == 0).all(axis=1) | np.isnan(feat).all(axis=1))
    else:
        if mask.dtype.kind not in "biu" or not np.isin(mask, (0, 1)).all():
            raise wrong(f"`{MASK}` is no mask: {mask.dtype}", f"Write bool, True for each point with a row in `{FEAT}`")
        mask = mask.astype(bool)
        if mask.shape != (points,):
            raise wrong(f"`{MASK}` is of shape {mask.shape}, the sweep has {points} points", _POINTS)
        if len(feat) != mask.sum():
            raise wrong(
                f"`{FEAT}` has {len(feat)} rows, and `{MASK}` is True for {mask.sum()} points",
                f"Write {FEAT}[{MASK}]: a row for each point that is True, in their order",
            )
        seen = mask
    if feat.shape[1] != clip_dim:
        raise wrong(
            f"features have {feat.shape[1]} channels, text embeddings of the encoder {clip_dim}",
            "Give the --encoder whose text embeddings they are to be compared with",
        )
    if not seen.any():
        raise wrong(
            f"none of {points} points has a feature",
            "Check the calibration that they were fused with",
        )
    features = feat if mask is not None else feat[seen]
    _check_values(features, np.flatnonzero(seen), wrong)
    same = same_share(features) if len(features) >= _MANY else 0.0
    if same > _NEARLY_ALL:
        raise wrong(
            f"{same * 100:.3g} % of {len(features)} features are one and the same",
            "Check what they were fused from; a point without a feature is a row of zeros, or False in `mask_full`",
        )
    return PointFeatures(np.ascontiguousarray(features, np.float32), seen, same)


def _content(path: Path) -> Mapping[str, Any]:
    """What a file holds by name: arrays where they are asked for and are some.

    Raises:
        Exception: whatever the libraries do with bytes that are none of theirs.
    """
    if path.suffix in (".pt", ".pth"):
        content = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(content, Mapping):
            return {str(name): _array(value) if name in (FEAT, MASK) else None for name, value in content.items()}
        return {f"a {type(content).__name__}": None}
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, NpzFile):
        with loaded:
            return {name: loaded[name] if name in (FEAT, MASK) else None for name in loaded.files}
    return {FEAT: loaded}


def _array(value: object) -> object:
    """A tensor as an array, of float32 where numpy does not know its type; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    tensor = value.detach()
    known = not tensor.is_floating_point() or tensor.dtype in (torch.float16, torch.float32, torch.float64)
    return (tensor if known else tensor.to(torch.float32)).numpy()


def same_share(features: NDArray[np.floating]) -> float:
    """Share, in 0..1, of features (M, C) that have the commonest direction; M is at least 1, and none is zero.

    Its length has no say: what was filled in may have been weighted. Of many features some thousand are looked at.
    """
    features = features[:: -(-len(features) // _SAMPLED)]
    largest = np.abs(features).max(axis=1, keepdims=True)
    unit = features.astype(np.float64) / largest
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    mix = np.random.default_rng(0).normal(size=unit.shape[1])
    place = np.round(unit @ (mix / np.linalg.norm(mix)), 3)  # of equal directions equal, but at the edge of two
    places, counts = np.unique(place, return_counts=True)
    there = np.flatnonzero(place == places[counts.argmax()])
    tried = there[:: -(-len(there) // _TRIED)]
    return float((unit @ unit[tried].T > _ALIKE).mean(axis=0).max())


def _check_values(
    features: NDArray[np.floating], of_points: NDArray[np.int64], wrong: Callable[[str, str], FrameError]
) -> None:
    """Raise an error of features (M, C) that are none, of the points (M,) int64."""
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise wrong(
            f"{bad.sum()} of {len(features)} features hold NaN or infinity, the first that of point"
            f" {of_points[bad.argmax()]}",
            "Leave such points out: as rows of zeros, or as False in `mask_full`",
        )
    largest = np.abs(features).max(axis=1)
    bad = (largest < _SMALLEST) | (largest > _LARGEST)
    if bad.any():
        first = bad.argmax()
        raise wrong(
            f"{bad.sum()} of {len(features)} features are too short or too long for a store, the first that of point"
            f" {of_points[first]}: its largest value is {largest[first]:.3g}, expected {_SMALLEST:.2g} to"
            f" {_LARGEST:.0f}",
            "Scale all of them to about the length of CLIP's, which is 1; a point without a feature is a row of zeros,"
            " or False in `mask_full`",
        )
