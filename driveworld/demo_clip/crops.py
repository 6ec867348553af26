"""Training crops: windows of the pictures at several sizes and zooms, and drawn shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from driveworld.demo_clip.concepts import concept_id, concepts
from driveworld.demo_clip.distractors import draw_shape
from driveworld.demo_clip.pictures import Pictures, Region

Rng = np.random.Generator

# Side of a batch's crops in pixels: how many crops, and how often. Small ones teach single cells, large ones context.
BATCHES: Mapping[int, tuple[int, float]] = {32: (128, 0.3), 48: (64, 0.3), 64: (40, 0.25), 96: (24, 0.15)}
WINDOW, WINDOWS = 128, 9  # side and number of the windows of one batch
STRIDE = 8  # of the demo CLIP
WEIGHT = {"class": 1.0, "sky": 0.6, "object": 0.3, "shape": 0.15}  # how often a concept is shown
FLAT = ("driveable_surface", "other_flat", "sidewalk", "terrain", "sky")  # have no bounding box worth showing
OWN_SHARE = 0.4  # of a window's pixels that must be the concept
BOX_SHARE = 0.2  # the same for a window around an object, where context is wanted
CLEAR_SHARE, MAIN_SHARE = 0.15, 0.6  # of a clear view: of all pixels, and of those that are neither ground nor sky


@dataclass(frozen=True, eq=False)
class Crops:
    """One batch.

    Attributes:
        images: (B, S, S, 3) uint8. concept: (B,) int64. color: B names. sunny: (B,) int64, 1, 0, or -1 for unknown.
    """

    images: NDArray[np.uint8]
    concept: NDArray[np.int64]
    color: tuple[str, ...]
    sunny: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Windows:
    """Larger parts of pictures, labelled cell by cell.

    Attributes:
        images: (B, S, S, 3) uint8. cells: (B, S / 8, S / 8) int64 concepts, -1 where a cell shows more than one.
    """

    images: NDArray[np.uint8]
    cells: NDArray[np.int64]


class CropSampler:
    """Draws batches of crops, every class equally often and every object of a class equally often."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._regions: dict[int, list[Region]] = defaultdict(list)
        for region in pictures.regions:
            self._regions[region.concept].append(region)
        self._shown = [c for c in concepts() if c.kind == "shape" or c.id in self._regions]
        weights = np.array([WEIGHT[c.kind] for c in self._shown])
        self._chance = weights / weights.sum()

    def batch(self, rng: Rng, size: int, count: int) -> Crops:
        """`count` crops of `size` pixels."""
        images: list[NDArray[np.uint8]] = []
        ids: list[int] = []
        colors: list[str] = []
        sunny: list[int] = []
        while len(images) < count:
            concept = self._shown[int(rng.choice(len(self._shown), p=self._chance))]
            if concept.kind == "shape":
                image, color = draw_shape(concept.name, rng, size)
                weather = -1
            else:
                of_concept = self._regions[concept.id]
                region = of_concept[int(rng.integers(len(of_concept)))]
                around = concept.name not in FLAT and rng.random() < 0.4
                window = self._around(rng, region) if around else self._part(rng, region, size)
                if window is None:
                    continue
                image = cut(self._pictures.rgb[region.picture], window, size)
                color, weather = region.color, int(region.sunny)
            images.append(image)
            ids.append(concept.id)
            colors.append(color)
            sunny.append(weather)
        return Crops(np.stack(images), np.array(ids, np.int64), tuple(colors), np.array(sunny, np.int64))

    def windows(self, rng: Rng, size: int, count: int) -> Windows:
        """`count` windows of `size` pixels, each near an object of a class drawn evenly."""
        images, cells = [], []
        rendered = [c.id for c in self._shown if c.kind != "shape"]
        for concept in rng.choice(rendered, count):
            of_concept = self._regions[int(concept)]
            region = of_concept[int(rng.integers(len(of_concept)))]
            side = int(size * np.exp(rng.uniform(np.log(0.6), np.log(1.4))))
            u, v = region.points[int(rng.integers(len(region.points)))]
            du, dv = rng.uniform(-0.5, 0.5, 2) * side
            x, y, side = self._inside(u + du - side / 2, v + dv - side / 2, side)
            images.append(cut(self._pictures.rgb[region.picture], (x, y, side), size))
            truth = self._pictures.concept[region.picture, y : y + side, x : x + side]
            cells.append(cell_labels(truth, size))
        return Windows(np.stack(images), np.stack(cells))

    def _part(self, rng: Rng, region: Region, size: int) -> tuple[int, int, int] | None:
        """A window near one of the region's pixels at about the picture's own scale, mostly filled by the concept."""
        side = int(size * np.exp(rng.uniform(np.log(0.6), np.log(1.4))))
        if region.pixels < OWN_SHARE * side * side:
            return None
        for reach in (0.45, 0.25, 0.1):
            u, v = region.points[int(rng.integers(len(region.points)))]
            du, dv = rng.uniform(-reach, reach, 2) * side
            window = self._inside(u + du - side / 2, v + dv - side / 2, side)
            if self._share(region, window) >= OWN_SHARE:
                return window
        return None

    def _around(self, rng: Rng, region: Region) -> tuple[int, int, int] | None:
        """A square window around the whole of what is seen of an object, with context."""
        x0, y0, x1, y1 = region.box
        side = int(max(x1 - x0, y1 - y0) * rng.uniform(1.0, 1.6))
        if not 16 <= side <= self._pictures.rgb.shape[1]:
            return None
        du, dv = rng.uniform(-0.1, 0.1, 2) * side
        window = self._inside((x0 + x1 - side) / 2 + du, (y0 + y1 - side) / 2 + dv, side)
        return window if self._share(region, window) >= BOX_SHARE else None

    def _inside(self, x: float, y: float, side: int) -> tuple[int, int, int]:
        height, width = self._pictures.rgb.shape[1:3]
        return int(np.clip(x, 0, width - side)), int(np.clip(y, 0, height - side)), side

    def _share(self, region: Region, window: tuple[int, int, int]) -> float:
        x, y, side = window
        return float((self._pictures.concept[region.picture, y : y + side, x : x + side] == region.concept).mean())


def is_main(shown: NDArray[np.uint8], concept: int) -> bool:
    """Tell whether a window, given as its concepts (h, w), mainly shows one: little else is before or around it."""
    own = int((shown == concept).sum())
    upright = int((~np.isin(shown, [concept_id(name) for name in FLAT])).sum())
    return own >= CLEAR_SHARE * shown.size and own >= MAIN_SHARE * upright


def cut(image: NDArray[np.uint8], window: tuple[int, int, int], size: int) -> NDArray[np.uint8]:
    """The square window (x, y, side) of an (H, W, 3) image, resized to (size, size, 3)."""
    x, y, side = window
    part = np.ascontiguousarray(image[y : y + side, x : x + side])
    return np.asarray(Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR))


def cell_labels(truth: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    """Concepts (side, side) to those of the cells of the window resized to `size`: (size / 8, size / 8), -1 if mixed.

    A cell counts as pure where nine places in it agree.
    """
    at = ((np.arange(0, size, STRIDE)[:, None] + (1, 3.5, 6)) * len(truth) / size).astype(int).ravel()
    count = size // STRIDE
    places = truth[np.ix_(at, at)].reshape(count, 3, count, 3).transpose(0, 2, 1, 3).reshape(count, count, 9)
    pure = (places == places[..., :1]).all(-1)
    return np.where(pure, places[..., 0], -1).astype(np.int64)


def augment(images: NDArray[np.uint8], rng: Rng, *, mirror: bool = True) -> Tensor:
    """Images (B, S, S, 3) uint8 to (B, 3, S, S) float32 in 0..1: light, colour cast, contrast, blur, noise, mirror."""
    count = len(images)

    def each(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32))

    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = x * each(0.65, 1.4) * each(0.9, 1.1, 3)
    mean = x.mean((2, 3), keepdim=True)
    x = mean + (x - mean) * each(0.65, 1.3)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * each(0.5, 1.3)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = x + (blurred - x) * each(-0.4, 1.0).clamp(min=0)
    noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32)) * each(0, 0.04)
    mirrored = torch.from_numpy(rng.random(count) < (0.5 if mirror else 0))
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    return (x + noise).clamp(0, 1)
