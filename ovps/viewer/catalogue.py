"""The frames of a store to look at: read, answered by the run and kept for a while, for any number of visitors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ovps.cache.frame_data import FrameRef
from ovps.cache.layout import INFO
from ovps.cache.reader import Store
from ovps.errors import CacheError, ConfigError, OvpsError
from ovps.frame import Camera
from ovps.geometry.visibility import Occlusion
from ovps.inference.session import Session
from ovps.options import each_once
from ovps.recently_used import RecentlyUsed
from ovps.shortage import faults
from ovps.viewer.answers import answer_of
from ovps.viewer.pictures import Seen, look
from ovps.viewer.view import View, available
from ovps.vocabulary import Vocabulary

KEPT_BYTES, LEAST = 768 << 20, 4  # of frames, as of their images: a scene of small ones; of large ones, what is ahead

ReadImages = Callable[[FrameRef], list[tuple[Camera, NDArray[np.uint8]]]]


@dataclass(eq=False)
class Catalogue:
    """A store, perhaps with a run.

    Attributes:
        store: which has frames.
        frames: of it, to look at.
        vocabulary: names to choose from.
        session: the run; None without one.
        novel: ids of the classes that were not labelled in training.
        read_images: the images of a frame with their cameras, none where there are none.
        flags: options with which other commands look at the same: `--cache`, `--run` and so on.
    """

    store: Store
    frames: tuple[FrameRef, ...]
    vocabulary: Vocabulary
    session: Session | None
    novel: frozenset[int]
    read_images: ReadImages
    flags: tuple[str, ...] = ()
    _views: RecentlyUsed[str, View] = field(default_factory=lambda: RecentlyUsed(_bytes_of_view, KEPT_BYTES, LEAST))
    _pictures: RecentlyUsed[str, list[Seen]] = field(
        default_factory=lambda: RecentlyUsed(_bytes_of_images, KEPT_BYTES, LEAST)
    )
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def warnings(self) -> list[str]:
        """Warn of what is missing in the store, or makes the answers of the run worse than they could be."""
        if self.session:
            return self.session.warnings()
        random = ["random CLIP weights: the features mean nothing"] if self.store.provenance.weights_random else []
        return [*self.store.warnings(), *random]

    @property
    def scenes(self) -> dict[str, list[FrameRef]]:
        """Frames by scene, in order of time."""
        found: dict[str, list[FrameRef]] = {}
        for ref in self.frames:
            found.setdefault(ref.scene, []).append(ref)
        return found

    @property
    def colourings(self) -> list[str]:
        """Titles of the colourings that there are."""
        labelled = any(ref.labelled for ref in self.frames)
        return available(labelled, self.session is not None, bool(self.novel))

    def view(self, ref: FrameRef) -> View:
        """One frame as it is shown; one at a time, so that a network is not run twice on a frame.

        Raises:
            CacheError: the store does not hold it any more, or is damaged.
        """
        with self._lock:
            return self._views.get(ref.token, lambda: self._view(ref))

    def pictures(self, ref: FrameRef) -> list[Seen]:
        """The images of a frame with the points that they see.

        Raises:
            CacheError, DatasetError: they cannot be read.
        """
        xyz = self.view(ref).frame.xyz
        with self._lock:
            return self._pictures.get(ref.token, lambda: self._look(ref, xyz))

    def has(self, ref: FrameRef) -> bool:
        """Say whether a frame is there without waiting."""
        return ref.token in self._views

    def forget(self) -> None:
        """Keep nothing of what was read."""
        with self._lock:
            self._views.clear()
            self._pictures.clear()

    @contextmanager
    def reading(self, frame: str | None = None) -> Iterator[None]:
        """Say of what cannot be read in here, where it is so, that the store has gone.

        Raises:
            CacheError: it has.
        """
        try:
            yield
        except faults(OvpsError, OSError) as error:
            if isinstance(error, OvpsError) and INFO in self.store.storage.children():
                raise
            raise CacheError(
                "the store has gone, or cannot be read any more",
                path=self.store.path,
                frame=frame,
                remedy="Put it back and try again, or start anew with another store",
            ) from error

    def _view(self, ref: FrameRef) -> View:
        with self.reading(ref.token):
            frame = self.store.read(ref)
        known = frame, self.store.taxonomy, self.vocabulary, self.novel
        if self.session is None:
            return View(*known, None)
        return View(*known, answer_of(self.session, frame), self.session.classifier.clip_tau)

    def _look(self, ref: FrameRef, xyz: NDArray[np.float32]) -> list[Seen]:
        settings = self.store.provenance.occlusion
        occlusion = Occlusion.model_validate(settings) if settings else None
        with self.reading(ref.token):
            images = self.read_images(ref)
        return [look(xyz, camera, image, occlusion) for camera, image in images]


def _bytes_of_view(view: View) -> int:
    return sum(value.nbytes for value in vars(view.frame).values() if isinstance(value, np.ndarray))


def _bytes_of_images(pictures: list[Seen]) -> int:
    return sum(seen.image.nbytes + seen.rows.nbytes + seen.uv.nbytes for seen in pictures)


def chosen_frames(store: Store, subset: str | None, wanted: tuple[str, ...] = ()) -> tuple[FrameRef, ...]:
    """The frames of a store that were asked for, in its order.

    Args:
        subset: the data set's own split; None: all.
        wanted: tokens, or positions from 0 among those; none: all.

    Raises:
        ConfigError: there are none, or no such frame.
        CorruptStoreError: as `Store.frames_of`.
    """
    frames = tuple(store.frames_of(None if subset is None else [subset]))
    by_name = {str(position): ref for position, ref in enumerate(frames)} | {ref.token: ref for ref in frames}
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        raise ConfigError(
            f"no frame {', '.join(unknown)}",
            path=store.path,
            remedy=f"Give tokens (in double quotes where they hold a comma: '\"a,b\"'), or positions from 0 to"
            f" {len(frames) - 1}; the first token is {frames[0].token}",
        )
    chosen = tuple(by_name[name] for name in wanted) if wanted else frames
    try:
        each_once([ref.token for ref in chosen])  # by its token and by its position
    except ValueError as error:
        raise ConfigError(f"frame {error}", path=store.path, remedy="Name each once") from error
    return chosen
