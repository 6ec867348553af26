"""Content of the partitions that a run learns from: one that goes on should learn from the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ovps.cache.manifest import read_manifests
from ovps.cache.reader import FrameRef, Store
from ovps.errors import CheckpointError, ConfigError, faults_of
from ovps.shortage import faults
from ovps.training.files import write_whole

CACHE = "cache.json"


class CacheContent(BaseModel, frozen=True, extra="forbid"):
    """Content of the partitions of a store that hold some frames, as those of a training.

    Attributes:
        codec: of their CLIP features.
        features_sha256, labels_sha256: of the hashes of their files, whatever partitions and folders are called.
    """

    codec: str
    features_sha256: str
    labels_sha256: str

    def renewed(self, now: CacheContent) -> list[str]:
        """Name what is of other files now: `features`, `labels`, both, or nothing."""
        same = {
            "features": self.features_sha256 == now.features_sha256,
            "labels": self.labels_sha256 == now.labels_sha256,
        }
        return [part for part, equal in same.items() if not equal]


def content_of(store: Store, frames: Iterable[FrameRef]) -> CacheContent:
    """Read from the manifests what the partitions of some frames hold; no array is touched.

    Raises:
        CorruptStoreError: a manifest that cannot be read.
    """
    used = {ref.partition for ref in frames}
    rows = [row for row in read_manifests(store.storage) if row.partition in used]
    features = (file.sha256 for row in rows for file in row.features.files)
    labels = (file.sha256 for row in rows if row.labels for file in row.labels.files)
    return CacheContent(
        codec=store.provenance.codec, features_sha256=_together(features), labels_sha256=_together(labels)
    )


def save_content(run: Path, content: CacheContent) -> None:
    """Write `cache.json` of a run.

    Raises:
        CheckpointError: the disk refuses.
    """
    write_whole(run / CACHE, (content.model_dump_json(indent=2) + "\n").encode())


def changes(run: Path, now: CacheContent) -> list[str]:
    """Say what a store holds now that a run did not begin with; nothing of runs of earlier versions, which do not know.

    Raises:
        ConfigError: the store is of another codec.
        CheckpointError: a damaged `cache.json`.
    """
    before = load_content(run)
    if before is None:
        return []
    if before.codec != now.codec:
        raise ConfigError(
            f"the run was begun with other CLIP features: codec {before.codec!r} there, {now.codec!r} now",
            path=run,
            remedy="Give the store that it was begun with, another --out, or --restart to begin anew",
        )
    anew = " and ".join(before.renewed(now))
    if not anew:
        return []
    how = "lie in other files than when the run began, written anew or merged otherwise: it goes on with these"
    return [f"{anew} of the store {how}"]


def load_content(run: Path) -> CacheContent | None:
    """Read what a run began with; None of runs of earlier versions.

    Raises:
        CheckpointError: a damaged `cache.json`.
    """
    path = run / CACHE
    if not path.is_file():
        return None
    try:
        return CacheContent.model_validate_json(path.read_text(encoding="utf-8"))
    except faults(OSError, UnicodeDecodeError, ValidationError) as error:
        raise CheckpointError(
            f"damaged, or of another version: {faults_of(error)}",
            path=path,
            remedy="Delete it: only its comparison with the store is lost",
        ) from error


def _together(hashes: Iterable[str]) -> str:
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()
