"""Vocabulary files: class names as text embeddings, readable without CLIP.

A vocabulary is a safetensors file with `embeddings` (T, C) float32, L2-normalised, one row per synonym,
and `class_index` (T,) int64, the entry each row belongs to; names, kinds and the CLIP they came from are one JSON text
in its metadata (one, because safetensors writes several in an order that changes from run to run).
Building one needs CLIP's text encoder and lives in `ovps.clip.text`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ovps.entries import Entry, said
from ovps.errors import VocabularyError, right_to_read
from ovps.files import safetensors_metadata, write_whole
from ovps.taxonomy import Taxonomy, name_key
from ovps.versions import WROTE_IT, other_format_among

_FORMAT = "ovps-vocabulary-1"
_APART = 1e-4  # between rows of length 1 of the same words, pictures or segments, in another order or batch
_ROWS = 512  # compared at once with all
_ROUNDING = 1e-4  # of a cosine: the same text in another batch, or through float16


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Class names (entries) and the embeddings of their texts.

    Attributes:
        entries: E of them.
        embeddings: (T, C) float32, L2-normalised rows, T the number of synonyms in all.
        class_index: (T,) int64 in 0..E-1.
        encoder: name of the CLIP model.
        weights_sha256: of its weights; `random` weights are named as such.
    """

    entries: tuple[Entry, ...]
    embeddings: NDArray[np.float32]
    class_index: NDArray[np.int64]
    encoder: str
    weights_sha256: str

    def __post_init__(self) -> None:
        rows = len(self.embeddings)
        if self.embeddings.ndim != 2 or self.class_index.shape != (rows,):
            raise VocabularyError(f"embeddings {self.embeddings.shape}, class index {self.class_index.shape} disagree")
        if set(self.class_index.tolist()) != set(range(len(self.entries))):
            raise VocabularyError("every entry of a vocabulary needs at least one text embedding")
        if not np.isfinite(self.embeddings).all():
            raise VocabularyError(
                f"text embeddings of {self.encoder} hold NaN or infinity", remedy="Give other weights (--weights)"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(e.name for e in self.entries)

    @property
    def is_thing(self) -> NDArray[np.bool_]:
        """Tell of each entry whether it is a thing, (E,) bool."""
        return np.array([e.kind == "thing" for e in self.entries])


def entries_of(taxonomy: Taxonomy) -> tuple[Entry, ...]:
    """List a data set's own classes as entries of a vocabulary, in the order of the taxonomy."""
    return tuple(Entry(c.name, c.kind, c.synonyms) for c in taxonomy.classes)


def first_synonyms(vocabulary: Vocabulary) -> Vocabulary:
    """Reduce a vocabulary to the first synonym of each entry."""
    _, rows = np.unique(vocabulary.class_index, return_index=True)  # by entry, the first row of each
    return Vocabulary(
        entries=tuple(replace(e, synonyms=e.synonyms[:1]) for e in vocabulary.entries),
        embeddings=np.ascontiguousarray(vocabulary.embeddings[rows]),
        class_index=np.arange(len(rows)),
        encoder=vocabulary.encoder,
        weights_sha256=vocabulary.weights_sha256,
    )


def same_texts(vocabulary: Vocabulary, other: Vocabulary, names: Collection[str]) -> list[str]:
    """Name the entries of a vocabulary that have a text, whatever they are called, of the `names` in another one.

    Args:
        vocabulary, other: of the same CLIP; texts are the same where their embeddings are, but for rounding.
        names: of entries of `other`.
    """
    keys = {name_key(name) for name in names}
    asked = [number for number, entry in enumerate(other.entries) if name_key(entry.name) in keys]
    texts = other.embeddings[np.isin(other.class_index, asked)]
    alike = (vocabulary.embeddings @ texts.T > 1 - _ROUNDING).any(axis=1)
    return [vocabulary.entries[number].name for number in np.unique(vocabulary.class_index[alike])]


def without_entries(vocabulary: Vocabulary, names: Collection[str]) -> Vocabulary:
    """Leave out of a vocabulary the entries named after some classes.

    Raises:
        VocabularyError: none is left.
    """
    keys = {name_key(name) for name in names}
    kept = [number for number, entry in enumerate(vocabulary.entries) if name_key(entry.name) not in keys]
    if len(kept) == len(vocabulary.entries):
        return vocabulary
    if not kept:
        raise VocabularyError("no entry is left", remedy="Ignore fewer classes in the split, or name further entries")
    rows = np.isin(vocabulary.class_index, kept)
    return replace(
        vocabulary,
        entries=tuple(vocabulary.entries[number] for number in kept),
        embeddings=np.ascontiguousarray(vocabulary.embeddings[rows]),
        class_index=np.searchsorted(kept, vocabulary.class_index[rows]),
    )


def equal_entries(vocabulary: Vocabulary) -> list[str]:
    """Warn of entries with one embedding, whatever they are shown by: a sentence per embedding that several have."""
    owners: dict[int, dict[int, int]] = {}  # by the first of the rows that are equal: entries, and a row of each
    for row, first in enumerate(_first_equal(vocabulary.embeddings)):
        owners.setdefault(first, {}).setdefault(int(vocabulary.class_index[row]), row)
    return [
        f"{' and '.join(_said(vocabulary, row) for row in group.values())} have the same embedding: "
        "which of them a point is called is arbitrary"
        for group in owners.values()
        if len(group) > 1
    ]


def _first_equal(embeddings: NDArray[np.float32]) -> list[int]:
    """For each row the first that equals it up to rounding, itself if none before it does."""
    first: list[int] = []
    square = (embeddings**2).sum(axis=1)
    for start in range(0, len(embeddings), _ROWS):
        part = embeddings[start : start + _ROWS]
        apart = square + square[start : start + _ROWS, None] - 2 * part @ embeddings.T  # squared, with its own rounding
        for row, distance in zip(part, apart, strict=True):
            near = np.flatnonzero(distance < _APART)
            first.append(int(near[np.linalg.norm(embeddings[near] - row, axis=1) < _APART][0]))
    return first


def _said(vocabulary: Vocabulary, row: int) -> str:
    """The entry of a row, and which of its synonyms the row is."""
    number = vocabulary.class_index[row]
    entry = vocabulary.entries[number]
    return said(entry, entry.synonyms[int((vocabulary.class_index[:row] == number).sum())])


def digest(vocabulary: Vocabulary) -> str:
    """Return the SHA-256 of names, kinds and embeddings; two vocabularies with the same digest give the same labels."""
    entries = [[e.name, e.kind] for e in vocabulary.entries]
    content = hashlib.sha256(json.dumps(entries).encode())
    content.update(np.ascontiguousarray(vocabulary.embeddings, np.float32).tobytes())
    content.update(np.ascontiguousarray(vocabulary.class_index, np.int64).tobytes())
    return content.hexdigest()


def _content_sha256(about: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    """Of everything in a vocabulary file: a flipped bit of a number is another number, and would not be noticed."""
    return hashlib.sha256((json.dumps(about, sort_keys=True) + digest(vocabulary)).encode()).hexdigest()


def save_vocabulary(vocabulary: Vocabulary, path: str | PathLike[str]) -> None:
    """Write a vocabulary as a safetensors file, whole or not at all; the folder is made if missing.

    Raises:
        StorageError: the disk does not take it.
    """
    write_whole(Path(path), vocabulary_bytes(vocabulary))


def vocabulary_bytes(vocabulary: Vocabulary) -> bytes:
    """The file of a vocabulary."""
    about: dict[str, Any] = {
        "entries": [{"name": e.name, "kind": e.kind, "synonyms": e.synonyms} for e in vocabulary.entries],
        "encoder": vocabulary.encoder,
        "weights_sha256": vocabulary.weights_sha256,
    }
    about["sha256"] = _content_sha256(about, vocabulary)
    return save(
        # safetensors writes the memory as it lies, whatever the strides say
        {
            "embeddings": np.ascontiguousarray(vocabulary.embeddings),
            "class_index": np.ascontiguousarray(vocabulary.class_index),
        },
        metadata={_FORMAT: json.dumps(about)},
    )


def load_vocabulary(path: str | PathLike[str]) -> Vocabulary:
    """Read a vocabulary file that `save_vocabulary` wrote.

    Raises:
        VocabularyError: no such file, one that may not be read, not a vocabulary, or a damaged one, or one of another
            version.
    """
    path = Path(path)
    if not path.is_file():
        raise VocabularyError(
            "no such vocabulary", path=path, remedy='Make one: ovps vocab build --names "car, bus" --out FILE'
        )
    try:
        content = path.read_bytes()
    except PermissionError as error:
        raise VocabularyError("may not be read", path=path, remedy=right_to_read(path)) from error
    return parse_vocabulary(content, path)


def parse_vocabulary(content: bytes, path: str | PathLike[str]) -> Vocabulary:
    """Read the content of a vocabulary file.

    Args:
        path: of the file, for an error to name.

    Raises:
        VocabularyError: not a vocabulary, or a damaged one, or one of another version.
    """
    try:
        tensors, metadata = load(content), safetensors_metadata(content)
        other = other_format_among(metadata, _FORMAT)
        if other is None:
            return _parsed(tensors, json.loads(metadata[_FORMAT]))
    except (SafetensorError, VocabularyError, KeyError, TypeError, ValueError) as error:
        raise VocabularyError(
            f"not an ovps vocabulary ({error})", path=path, remedy="Build one with `ovps vocab build`"
        ) from error
    raise VocabularyError(other, path=path, remedy=WROTE_IT)


def _parsed(tensors: Mapping[str, NDArray[Any]], about: dict[str, Any]) -> Vocabulary:
    vocabulary = Vocabulary(
        tuple(Entry(e["name"], e["kind"], tuple(e["synonyms"])) for e in about["entries"]),
        tensors["embeddings"],
        tensors["class_index"],
        about["encoder"],
        about["weights_sha256"],
    )
    if about.pop("sha256") != _content_sha256(about, vocabulary):
        raise VocabularyError("its content is not what was written")
    return vocabulary
