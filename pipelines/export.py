"""Points with classes, instances and colours as files for other programs.

ovps export --cache ./zarr --run runs/driveworld --frames 0,4 --ply --out exported
ovps export --cache ./zarr --vocab vocab.safetensors --ply --out named                 # no run: CLIP's features alone
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovps.errors import ConfigError, listed
from ovps.file_names import file_of
from ovps.files import refusals, write_whole
from ovps.inference.session import Session
from ovps.places import check_free
from ovps.progress import progress
from ovps.shortage import faults
from ovps.viewer.catalogue import Catalogue
from ovps.viewer.export import WRITERS, check_packages, columns
from ovps.vocabulary import digest
from pipelines.about import name_of, training_sha256
from pipelines.drives import DRIVES, exchanged, first_of_scenes, hashed
from pipelines.look import open_catalogue
from pipelines.options import ExportOptions

NAMES = "names.json"
_WORDS = {
    "classes": "classes",
    "entries": "entries of a vocabulary",
    "frame": "coordinates, global or the LiDAR's",
    "made_of": "labels, of another run, other thresholds or another vocabulary",
}
_ELSEWHERE = "Give another --out, or delete the folder"


@dataclass(frozen=True)
class ExportSummary:
    """Files that were written: OUT/TOKEN.KIND of every frame, and OUT/names.json: what the numbers of classes mean."""

    out: Path
    frames: int
    points: int
    kinds: list[str]
    bytes: int
    seconds: float
    warnings: tuple[str, ...]


def export(options: ExportOptions) -> ExportSummary:
    """Write frames. A folder holds files of one meaning: further frames are added, other entries are refused.

    Classes are those of the run; without one, those that the vocabulary's texts are nearest to in CLIP's features
    alone; without a vocabulary, the labels'; without labels there are clusters of no class.

    Raises:
        ConfigError: no kind of file was named, no such frames, or a folder that holds files of other classes or
            entries, in the other frame of reference, or of another drive.
        CacheError, CheckpointError, VocabularyError: see `pipelines.look.open_catalogue`.
        SetupError: the package that writes them is not installed.
        StorageError: the disk refuses.
    """
    kinds = [kind for kind in WRITERS if getattr(options, kind)]
    if not kinds:
        raise ConfigError("no kind of file", remedy="Give --ply, --las or --npz, or several")
    check_free(options.out)
    check_packages(kinds)
    begin = time.perf_counter()
    catalogue = open_catalogue(options, clip_names=True)
    names = {
        "classes": {str(c.id): c.name for c in catalogue.store.taxonomy.classes},
        "entries": _entries(catalogue),
        "frame": "global" if options.to_global else "LiDAR",
        "made_of": _made_of(catalogue.session) if catalogue.session else None,
    }
    _claim(options.out / NAMES, names, catalogue)
    points = size = 0
    poses: dict[str, list[NDArray[np.float64]]] = {}  # by scene
    with progress("export", "frames", len(catalogue.frames)) as counter:
        for ref in catalogue.frames:
            view = catalogue.view(ref)
            found = columns(view, options.to_global)
            for kind in kinds:
                content = WRITERS[kind](found)
                write_whole(file_of(options.out, ref.token, f".{kind}"), content)
                size += len(content)
            points += len(view.frame.xyz)
            poses.setdefault(ref.scene, []).append(view.frame.global_from_lidar)
            counter.advance()
    warnings = (*catalogue.warnings(), *(_standing(poses) if options.to_global else ()))
    return ExportSummary(options.out, len(catalogue.frames), points, kinds, size, time.perf_counter() - begin, warnings)


def _entries(catalogue: Catalogue) -> list[str]:
    """What `entry` counts: the vocabulary of the run, or the classes of the labels."""
    if catalogue.session:
        return list(catalogue.vocabulary.names)
    return [c.name for c in catalogue.store.taxonomy.classes]


def _made_of(session: Session) -> dict[str, Any]:
    """Everything that decides the labels of a run but how far it has come, which may go on."""
    return {
        "run": name_of(session.run.path),
        "training_sha256": training_sha256(session.run.config, session.run.info),
        "vocabulary_sha256": digest(session.vocabulary),
        "merge": session.merge.model_dump(mode="json"),
        "classifier": session.classifier.model_dump(mode="json"),
    }


def _standing(poses: Mapping[str, Sequence[NDArray[np.float64]]]) -> tuple[str, ...]:
    """Warn of scenes whose frames all have one pose, which a recording without poses has."""
    still = [scene for scene, found in poses.items() if len(found) > 1 and all((p == found[0]).all() for p in found)]
    if not still:
        return ()
    return (
        f"all frames of {listed(still)} have the same pose: without poses the vehicle is held to stand still, and what"
        " it passed lies in one place",
    )


def _claim(path: Path, names: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Write what numbers mean, and of which drives, before the first of them.

    What lies there already may mean nothing else, and be of no other drive whose frames are called the same.
    """
    drives = _drives_there(path, names)
    by_token = {ref.token: ref for ref in catalogue.store.frames}
    known = [by_token[token] for token in drives or () if token in by_token]
    if others := exchanged(drives or {}, hashed(catalogue.store, known)):
        raise ConfigError(
            f"the folder holds frame {others[0]} with other points, as of another drive whose frames are called the"
            " same",
            path=path,
            remedy=_ELSEWHERE,
        )
    new = hashed(catalogue.store, first_of_scenes(catalogue.frames, but={ref.scene for ref in known}))
    if drives is None or new:
        write_whole(path, (json.dumps({**names, DRIVES: (drives or {}) | new}, indent=2) + "\n").encode())


def _drives_there(path: Path, names: Mapping[str, Any]) -> dict[str, Any] | None:
    """The drives of files that are there, and mean the same; None where there are none."""
    with refusals(path.parent):
        raw = path.read_bytes() if path.exists() else None
    if raw is None:
        return None
    try:
        there = dict(json.loads(raw))
        there.setdefault("made_of", names["made_of"] if there.get("entries") else None)  # an earlier version was silent
        if there["made_of"] is None:
            there["entries"] = there.get("entries") or names["entries"]  # and named those of a run alone
        other = [name for name in names if there.get(name) != names[name]]
        drives = dict(there.get(DRIVES, {}))  # nor did it say anything of drives
    except faults(ValueError, TypeError, RecursionError) as error:
        raise ConfigError("not what `ovps export` writes", path=path, remedy=_ELSEWHERE) from error
    if other:
        raise ConfigError(
            f"the folder holds exported points with other {' and other '.join(_WORDS[name] for name in other)}",
            path=path,
            remedy=_ELSEWHERE,
        )
    return drives
