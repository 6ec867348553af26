"""Index of all objects of a store, kept from one search to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ovps.cache.disk import LocalStorage
from ovps.cache.frame_data import FrameRef
from ovps.cache.layout import manifest_key
from ovps.cache.manifest import partitions
from ovps.cache.storage import Storage
from ovps.errors import ConfigError, StorageError
from ovps.files import file_sha256
from ovps.progress import progress
from ovps.segment_reference import Of
from ovps.training.run_files import LAST
from ovps.viewer.catalogue import Catalogue
from ovps.viewer.index import (
    FrameObjects,
    ObjectIndex,
    collect,
    load_index,
    save_index,
)
from ovps.viewer.labelling import Labelling
from ovps.viewer.pooling import label_free, pooled_clip
from ovps.viewer.view import View
from ovps.vocabulary import digest
from pipelines.options import QueryOptions


def usual_kind(catalogue: Catalogue) -> Of:
    """Choose what is ranked where nobody says: segments of the run, else labelled objects, else clusters."""
    if catalogue.session is not None:
        return "segments"
    return "objects" if any(ref.labelled for ref in catalogue.frames) else "clusters"


def check_kind(catalogue: Catalogue, of: Of) -> None:
    """Check that the frames have what is to be ranked.

    Raises:
        ConfigError: segments without a run, or objects of frames without labels.
    """
    if of == "segments" and catalogue.session is None:
        raise ConfigError("segments are those of a run", remedy="Give --run, or choose --of objects or clusters")
    if of == "objects" and not any(ref.labelled for ref in catalogue.frames):
        raise ConfigError(
            "these frames have no labels", path=catalogue.store.path, remedy="Choose --of clusters, or give --run"
        )


def kept_index(options: QueryOptions, catalogue: Catalogue, of: Of) -> tuple[ObjectIndex, list[str]]:
    """Make the index of the frames, or take it from its folder if it was made of them.

    Returns:
        The index, and a warning if it could not be kept.

    Raises:
        CacheError: a damaged store.
    """
    session = catalogue.session
    folder = options.index or (
        session.run.path / "query" if session and of == "segments" else _beside(catalogue.store.storage)
    )
    made_of = _made_of(catalogue, of)
    index = load_index(folder, made_of)
    if index is not None:
        return index, []
    with progress("index", "frames", len(catalogue.frames)) as counter:

        def objects(ref: FrameRef) -> FrameObjects:
            found = _objects(catalogue, of, ref)
            counter.advance()
            return found

        index = collect(catalogue.frames, objects, catalogue.store.provenance.clip_dim)
    try:
        save_index(index, folder, made_of)
    except StorageError as error:
        return index, [f"the index could not be kept and will be made again: {error}"]
    return index, []


def _beside(storage: Storage) -> Path:
    """The folder of an index beside its store; here, if that is in a bucket."""
    folder = storage.root.parent if isinstance(storage, LocalStorage) else Path()
    return folder / f"{storage.name}.query"


def _made_of(catalogue: Catalogue, of: Of) -> dict[str, Any]:
    """Everything that decides an index."""
    storage, session = catalogue.store.storage, catalogue.session
    with catalogue.reading():
        names = partitions(storage)
        hashes = storage.each(storage.sha256, map(manifest_key, names))
        manifests = {f"{name}.parquet": sha256 for name, sha256 in zip(names, hashes, strict=True)}
    made_of: dict[str, Any] = {
        "of": of,
        "store": manifests,
        "frames": [ref.token for ref in catalogue.frames],
    }
    if of == "segments" and session is not None:
        made_of |= {
            "run": session.run.info.model_dump(mode="json"),
            "weights_sha256": file_sha256(session.run.path / LAST),
            "vocabulary": digest(session.vocabulary),
            "merge": session.merge.model_dump(mode="json"),
            "classifier": session.classifier.model_dump(mode="json"),
        }
    return made_of


def _objects(catalogue: Catalogue, of: Of, ref: FrameRef) -> FrameObjects:
    if of == "objects":
        by_id = catalogue.store.taxonomy.by_id
        with catalogue.reading(ref.token):
            found = catalogue.store.objects(ref)
        names = [by_id[int(c)].name for c in found.classes]
        return FrameObjects(found.embedding, found.seen_points > 0, names, found.points)
    view = catalogue.view(ref)
    labels = labels_of(view, of)
    features, seen = pooled_clip(view.frame, labels)
    names = [labels.palette.name(int(e)) if e >= 0 else "" for e in labels.segment_entry]
    return FrameObjects(features, seen, names, labels.size)


def labels_of(view: View, of: Of) -> Labelling:
    """Segments of a frame that `of` speaks of, in the order in which they are numbered."""
    labels = {"objects": view.truth, "segments": view.predicted, "clusters": None}[of]
    return labels if labels is not None else label_free(view.frame)
