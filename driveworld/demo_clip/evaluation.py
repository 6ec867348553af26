"""Zero-shot accuracy of a CLIP on held-out streets of drive world: on crops, and densely per pixel.

The vocabulary is the 16 classes with their synonyms, the best synonym counts. Sky is in neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from driveworld.demo_clip.crops import cut, is_main
from driveworld.demo_clip.pictures import SIZE
from driveworld.raw_labels import FLAT
from driveworld.raycast import Caster
from driveworld.render import Picture, render
from driveworld.rig import CAMERAS, make_drive
from driveworld.scene import make_scene, snapshot
from ovps.clip.dense import DenseEncoder, dense_encoder
from ovps.clip.loading import Clip
from ovps.clip.open_clip_encoder import OpenClipEncoder
from ovps.clip.text import build_vocabulary
from ovps.errors import DatasetError
from ovps.progress import progress
from ovps.taxonomy import Taxonomy, load_taxonomy
from ovps.vocabulary import Vocabulary, entries_of

SEED = 9_000_000  # held out: no drive world is built with it
CROP = 64
CONTEXT = 1.2  # side of a crop relative to the object's bounding box
MIN_SIDE = 20  # pixels of an object's bounding box
PIXEL_STEP = 2  # every second pixel in both directions is scored


class LabelledImage(Protocol):
    """An image (H, W, 3) uint8 and its class ids (H, W) uint8, 0 where nothing is to be scored."""

    @property
    def rgb(self) -> NDArray[np.uint8]: ...

    @property
    def classes(self) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class LabelledFile:
    """A `LabelledImage` on disk."""

    image: Path
    labels: Path

    @property
    def rgb(self) -> NDArray[np.uint8]:
        return np.asarray(Image.open(self.image).convert("RGB"))

    @property
    def classes(self) -> NDArray[np.uint8]:
        return np.asarray(Image.open(self.labels))


@dataclass(frozen=True)
class Accuracy:
    """Correct and total counts per class name."""

    correct: dict[str, int]
    total: dict[str, int]

    @property
    def per_class(self) -> dict[str, float]:
        return {n: self.correct[n] / t for n, t in self.total.items() if t}

    @property
    def overall(self) -> float:
        """Accuracy over all crops or pixels alike."""
        return sum(self.correct.values()) / max(1, sum(self.total.values()))

    @property
    def mean(self) -> float:
        """Mean of the classes' accuracies."""
        return float(np.mean(list(self.per_class.values())))

    def as_json(self) -> dict[str, object]:
        rounded = {n: round(a, 4) for n, a in self.per_class.items()}
        return {"overall": round(self.overall, 4), "mean": round(self.mean, 4), "classes": rounded, "total": self.total}


def world_pictures(scenes: int, times: tuple[float, ...] = (0.0, 4.0)) -> list[tuple[Picture, NDArray[np.uint8]]]:
    """All six cameras of the rig on held-out streets, each with the class id of every object of its street."""
    pictures = []
    with progress("held-out streets", "pictures", scenes * len(times) * len(CAMERAS)) as counter:
        for number in range(scenes):
            rng = np.random.default_rng((SEED, number))
            scene = make_scene(rng)
            drive = make_drive(rng, scene.ego_speed, scene.lane_y)
            for time in times:
                caster = Caster(snapshot(scene, time, drive.pose(time)[0][0]))
                for sensor in CAMERAS:
                    pose = drive.scene_from_ego(time) @ sensor.ego_from_sensor
                    pictures.append((render(scene, caster, sensor.intrinsics(SIZE), pose, SIZE, rng), scene.class_ids))
                    counter.advance()
    return pictures


def class_windows(
    picture: Picture, class_ids: NDArray[np.uint8], taxonomy: Taxonomy, rng: np.random.Generator
) -> list[tuple[int, tuple[int, int, int]]]:
    """Find crops, (class id, window): around objects little hidden, with context; parts of the ground."""
    height, width = picture.classes.shape
    found = []
    for owner in np.unique(picture.objects[picture.objects >= 0]):
        class_id = int(class_ids[owner])
        v, u = np.nonzero(picture.objects == owner)
        w, h = int(u.max() - u.min()) + 1, int(v.max() - v.min()) + 1
        flat = taxonomy.by_id[class_id].name in FLAT
        if flat:
            side, pick = CROP, int(rng.integers(len(u)))
            x, y = u[pick] - side / 2, v[pick] - side / 2
        else:
            side = int(max(w, h) * CONTEXT)
            x, y = (u.min() + u.max() - side) / 2, (v.min() + v.max() - side) / 2
            if min(w, h) < MIN_SIDE / 2 or max(w, h) < MIN_SIDE or side > height:
                continue
        window = (int(np.clip(x, 0, width - side)), int(np.clip(y, 0, height - side)), side)
        part = picture.classes[window[1] : window[1] + side, window[0] : window[0] + side]
        if (part == class_id).mean() > 0.6 if flat else is_main(part, class_id):
            found.append((class_id, window))
    return found


@torch.inference_mode()
def crop_accuracy(
    clip: Clip, vocabulary: Vocabulary, pictures: list[tuple[Picture, NDArray[np.uint8]]], per_class: int = 150
) -> Accuracy:
    """Top-1 over at most `per_class` crops of each class."""
    taxonomy, rng = load_taxonomy("nuscenes"), np.random.default_rng(0)
    crops: dict[int, list[NDArray[np.uint8]]] = {c.id: [] for c in taxonomy.classes}
    for index in rng.permutation(len(pictures)):
        picture, class_ids = pictures[index]
        for class_id, window in class_windows(picture, class_ids, taxonomy, rng):
            if len(crops[class_id]) < per_class:
                crops[class_id].append(cut(picture.rgb, window, CROP))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (clip.mean, clip.std))
    correct, total = {}, {}
    for class_id, images in crops.items():
        name = taxonomy.by_id[class_id].name
        total[name], correct[name] = len(images), 0
        if images:
            pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
            embeddings = clip.model.encode_image((pixels - mean) / std, normalize=True)
            correct[name] = int((best_class(embeddings, vocabulary) == class_id).sum())
    return Accuracy(correct, total)


def best_class(features: torch.Tensor, vocabulary: Vocabulary) -> torch.Tensor:
    """Classify features (N, C): class ids (N,), entries being in the taxonomy's order, ids from 1."""
    scores = features @ torch.from_numpy(vocabulary.embeddings).T
    owner = torch.from_numpy(vocabulary.class_index)
    ids = torch.tensor([load_taxonomy("nuscenes").by_name[n].id for n in vocabulary.names])
    return ids[owner[scores.argmax(1)]]


def sampled_features(encoder: DenseEncoder, image: NDArray[np.uint8]) -> torch.Tensor:
    """Sample features bilinearly at every PIXEL_STEP-th pixel, clamped at the border: (H', W', C) float32."""
    cells, (width, height) = encoder.cells, encoder.image_size
    u = (torch.arange(0, width, PIXEL_STEP) + 0.5) / (cells.stride * cells.cols) * 2 - 1
    v = (torch.arange(0, height, PIXEL_STEP) + 0.5) / (cells.stride * cells.rows) * 2 - 1
    grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1)[None]
    features = encoder.encode(image[None]).permute(0, 3, 1, 2)
    sampled = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[0].permute(1, 2, 0)


def dataroot_pictures(dataroot: Path) -> list[LabelledImage]:
    """Key frame images of a world built with camera labels; opened one by one by `dense_accuracy`."""
    labels = sorted((dataroot / "camera_labels").glob("*/*.png"))
    if not labels:
        raise DatasetError("a world without camera labels", path=dataroot, remedy="Build it with write_camera_labels")
    return [LabelledFile(dataroot / "samples" / p.parent.name / f"{p.stem}.jpg", p) for p in labels]


@torch.inference_mode()
def dense_accuracy(
    clip: Clip, vocabulary: Vocabulary, pictures: Sequence[LabelledImage]
) -> tuple[Accuracy, NDArray[np.int64]]:
    """Per pixel that shows a class, and the confusion (17, 17): rows truth, columns answer, by class id."""
    taxonomy = load_taxonomy("nuscenes")
    height, width = pictures[0].classes.shape
    encoder = dense_encoder(clip, (width, height))
    confusion = np.zeros((17, 17), np.int64)
    with progress("dense features", "pictures", len(pictures)) as counter:
        for picture in pictures:
            features = sampled_features(encoder, picture.rgb)
            answer = best_class(features.reshape(-1, clip.dim), vocabulary).numpy()
            truth = picture.classes[::PIXEL_STEP, ::PIXEL_STEP].ravel()
            np.add.at(confusion, (truth, answer), 1)
            counter.advance()
    names = {c.id: c.name for c in taxonomy.classes}
    correct = {n: int(confusion[i, i]) for i, n in names.items()}
    return Accuracy(correct, {n: int(confusion[i].sum()) for i, n in names.items()}), confusion


def vocabulary_of_classes(clip: Clip) -> Vocabulary:
    """The 16 classes with their synonyms."""
    return build_vocabulary(OpenClipEncoder(clip), entries_of(load_taxonomy("nuscenes")))
