"""The common part of `ovps view`, `query` and `export`: frames, a run, images, and the store's CLIP for words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovps import datasets
from ovps.cache.cameras import resized
from ovps.cache.frame_data import FrameRef
from ovps.cache.reader import Store
from ovps.cache.where import Where
from ovps.clip.asked import temperature_warnings
from ovps.clip.protocol import Encoder
from ovps.clip.text import build_vocabulary, prompt_warnings
from ovps.entries import Entry
from ovps.errors import ConfigError, DatasetError, VocabularyError
from ovps.frame import Camera
from ovps.inference.session import Session, inference_settings, open_session
from ovps.places import at_home
from ovps.viewer.catalogue import Catalogue, ReadImages, chosen_frames
from ovps.vocabulary import Vocabulary, load_vocabulary
from pipelines.images import Images
from pipelines.options import LookOptions
from pipelines.vocabulary import encoder_of

_ROOT = "Give the folder that precompute read from"
ASKED = 16  # frames, of whose images one must be there
WIDEST = 800  # pixels of an image of the data set, as it is shown


@dataclass(frozen=True, eq=False)
class StoreText:
    """`ovps.viewer.words.TextTower` of an encoder: names through its prompt templates, as vocabularies are made."""

    encoder: Encoder

    @cached_property
    def temperature(self) -> float:
        return self.encoder.temperature

    def embed(self, names: Sequence[str]) -> NDArray[np.float32]:
        return build_vocabulary(self.encoder, [_entry(name) for name in names]).embeddings

    def warnings(self, name: str) -> list[str]:
        return [*prompt_warnings(self.encoder, [_entry(name)]), *temperature_warnings(self.encoder)]


def _entry(name: str) -> Entry:
    return Entry(name, "thing", (name,))


def text_of(cache: Where, weights: str | None) -> StoreText:
    """Load the text tower of the CLIP that a store was made with.

    Raises:
        ConfigError, WeightsError: it is not here.
    """
    return StoreText(encoder_of(cache, weights))


def open_catalogue(
    options: LookOptions, dataset_root: Path | None = None, run: Path | None = None, *, clip_names: bool = False
) -> Catalogue:
    """A store with the frames that were asked for, and the run.

    Args:
        options: as they were asked for.
        dataset_root: for images; None: the store's thumbnails.
        run: instead of the options' own.
        clip_names: where there is a vocabulary and no run, CLIP's features alone name points, as `ovps predict` does.

    Raises:
        ConfigError: no such frames, or settings that are not of inference.
        CacheError: no store, or one of another CLIP than the run's.
        CheckpointError: no run, or a damaged one.
        VocabularyError: of another CLIP, or no vocabulary.
        DatasetError: no such data root.
    """
    store = Store.open(options.cache)
    frames = chosen_frames(store, options.subset, options.frames)
    session = open_run(options, run or options.run)
    if session is None and options.settings:
        raise ConfigError("settings of inference without a run", remedy="Give --run, or leave out --set")
    if session is None and options.vocabulary and clip_names:
        session = open_session(None, options.cache, vocabulary=options.vocabulary, device=options.device)
    return Catalogue(
        store=store,
        frames=frames,
        vocabulary=session.vocabulary if session else _vocabulary(store, options.vocabulary),
        session=session,
        novel=novel_of(session) if session else frozenset(),
        read_images=image_reader(store, dataset_root),
        flags=_flags(options, dataset_root),
    )


def _flags(options: LookOptions, dataset_root: Path | None) -> tuple[str, ...]:
    """Options with which another command looks at the same frames of the same run, with the same names."""
    given = {
        "--cache": options.cache,
        "--run": options.run,
        "--vocab": options.vocabulary if options.run else None,  # it names segments of a run
        "--dataset-root": dataset_root,
        "--device": options.device,
        "--backend": options.backend,
    }
    flags = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return (*flags, *(word for setting in options.settings for word in ("--set", setting)))


def open_run(options: LookOptions, run: Path | None) -> Session | None:
    """The run of the options, ready to answer; None where there is none."""
    if run is None:
        return None
    merge, classifier = inference_settings(run, options.settings)
    return open_session(
        run,
        options.cache,
        vocabulary=options.vocabulary,
        merge=merge,
        classifier=classifier,
        device=options.device,
        backend=options.backend,
    )


def novel_of(session: Session) -> frozenset[int]:
    """Ids of the store's classes that the run was not trained on; it may be of another data set than the store."""
    trained = set(session.run.info.classes.names)
    return frozenset(c.id for c in session.store.taxonomy.classes if c.name not in trained)


def image_reader(store: Store, dataset_root: Path | None) -> ReadImages:
    """Make a reader of the images of a frame: of the data set where its root is given, else the store's thumbnails.

    Raises:
        DatasetError: no such folder, or none of the store's images is there.
        ConfigError: the data set is of a package that is not installed.
    """
    if dataset_root is None:
        return store.pictures
    root: Path = at_home(dataset_root).resolve()
    if not root.is_dir():
        raise DatasetError("no such data root", path=dataset_root, remedy=_ROOT)
    _check_root(store, root)
    data = datasets.get(store.provenance.dataset)
    images = Images(store, lambda camera: data.image(present(camera)))

    def read(ref: FrameRef) -> list[tuple[Camera, NDArray[np.uint8]]]:
        cameras = [inside(root, camera) for camera in store.cameras(ref, root)]
        return [_small(camera, image) for camera, image in images.of(ref, cameras)]

    return read


def _check_root(store: Store, root: Path) -> None:
    """One image that cannot be read is no reason to show nothing; none of many that are there is another data set.

    Raises:
        DatasetError: of frames all over the store, none has an image there, or one names a file elsewhere.
    """
    refs = store.frames[:: max(1, len(store.frames) // ASKED)]
    cameras = [inside(root, camera) for ref in refs for camera in store.cameras(ref, root)]
    if cameras and not any(Path(camera.image_path).exists() for camera in cameras):
        present(cameras[0])


def inside(root: Path, camera: Camera) -> Camera:
    """The camera, whose image lies below a root, wherever a store says that it is.

    Folders of the data root may be links, as on several disks; an image that is one itself may lead no further.

    Raises:
        DatasetError: it lies elsewhere.
    """
    path = Path(camera.image_path)
    if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root)):
        raise DatasetError(
            "the store names an image outside the data root", path=path, remedy="Precompute the store again"
        )
    if path.is_symlink() and not any(path.resolve().is_relative_to(near) for near in (root, path.parent.resolve())):
        raise DatasetError(
            f"the image is a link to {path.resolve()}",
            path=path,
            remedy="Name the data root that it leads into, put the image there, or make links of folders",
        )
    return camera


def present(camera: Camera) -> Camera:
    """The camera, whose image is there.

    Raises:
        DatasetError: it is not.
    """
    if not Path(camera.image_path).exists():
        raise DatasetError("no such image, which the store was made of", path=camera.image_path, remedy=_ROOT)
    return camera


def _small(camera: Camera, image: NDArray[np.uint8]) -> tuple[Camera, NDArray[np.uint8]]:
    height, width = image.shape[:2]
    if width > WIDEST:
        size = (WIDEST, round(height * WIDEST / width))
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    return resized(camera, image.shape[1], image.shape[0]), image


def _vocabulary(store: Store, path: Path | None) -> Vocabulary:
    if path is None:
        return store.vocabulary
    vocabulary, known = load_vocabulary(path), store.provenance
    if (vocabulary.encoder, vocabulary.weights_sha256) != (known.encoder, known.weights_sha256):
        raise VocabularyError(
            f"a vocabulary of {vocabulary.encoder} {vocabulary.weights_sha256[:12]}…,"
            f" the store is of {known.encoder} {known.weights_sha256[:12]}…",
            path=path,
            remedy="Build one for this store: ovps vocab build --cache STORE",
        )
    return vocabulary


def evenly_spaced(frames: Sequence[FrameRef], count: int) -> list[FrameRef]:
    """`count` frames, evenly spaced: chosen before anyone has seen what is predicted on them."""
    shown = min(count, len(frames))
    return [frames[(2 * i + 1) * len(frames) // (2 * shown)] for i in range(shown)]
