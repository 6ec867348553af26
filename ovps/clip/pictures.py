"""A class shown instead of named: a folder of images of it becomes one more embedding of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ovps.clip.asked import embedded_images
from ovps.clip.protocol import Encoder
from ovps.entries import Entry, parse_entries, shown
from ovps.errors import VocabularyError
from ovps.picture_files import colour_fault, count_pictures, ends_in_zeros
from ovps.places import at_home
from ovps.progress import progress
from ovps.shortage import faults
from ovps.taxonomy import Kind, name_key
from ovps.vocabulary import Vocabulary

AT_ONCE = 16  # pictures in memory
_WRITE = "Write NAME=FOLDER, or NAME:stuff=FOLDER; the folder holds pictures of the class, one thing on each"


@dataclass(frozen=True)
class Pictures:
    """Images of a class.

    Attributes:
        kind: None: that of the entry of this name, else a thing.
    """

    name: str
    kind: Kind | None
    folder: Path


def parse_pictures(text: str) -> Pictures:
    """`NAME[:thing|stuff]=FOLDER`.

    >>> parse_pictures("road:stuff=photos/roads")
    Pictures(name='road', kind='stuff', folder=PosixPath('photos/roads'))

    Raises:
        VocabularyError: not of this form.
    """
    head, equals, folder = text.partition("=")
    if not equals or not folder.strip():
        raise VocabularyError(f"no folder of images in {shown(text)!r}", remedy=_WRITE)
    entries = parse_entries(head)
    if len(entries) > 1:
        raise VocabularyError(f"more than one name in {shown(text)!r}", remedy=_WRITE)
    return Pictures(entries[0].name, entries[0].kind if ":" in head else None, at_home(Path(folder.strip())))


def add_pictures(encoder: Encoder, vocabulary: Vocabulary, pictures: Sequence[Pictures]) -> Vocabulary:
    """A vocabulary with one more embedding for each folder of images.

    It belongs to the entry of that name, whose embeddings by text stay, or to a new one. Where an entry lists its
    synonyms, the folder stands for the images.

    Raises:
        VocabularyError: a folder without images, a file that is none, or an entry of this name of the other kind.
    """
    entries, rows, owners = list(vocabulary.entries), [vocabulary.embeddings], list(vocabulary.class_index)
    for shown_by in pictures:
        keys = [name_key(entry.name) for entry in entries]
        files = pictures_in(shown_by.folder)
        label = f"images of {shown_by.folder.name}"
        if (key := name_key(shown_by.name)) in keys:
            number = keys.index(key)
            entry = entries[number]
            if shown_by.kind not in (None, entry.kind):
                raise VocabularyError(f"{entry.name} is {entry.kind}, not {shown_by.kind}", remedy=_WRITE)
            entries[number] = replace(entry, synonyms=(*entry.synonyms, label))
        else:
            number = len(entries)
            entries.append(Entry(shown_by.name, shown_by.kind or "thing", (label,)))
        rows.append(embed_pictures(encoder, files)[None])
        owners.append(np.int64(number))
    order = np.argsort(owners, kind="stable")  # rows of an entry lie together, as its synonyms do
    return replace(
        vocabulary,
        entries=tuple(entries),
        embeddings=np.ascontiguousarray(np.concatenate(rows)[order]),
        class_index=np.array(owners, np.int64)[order],
    )


def embed_pictures(encoder: Encoder, files: Sequence[Path]) -> NDArray[np.float32]:
    """Mean of the pictures' unit vectors, normalised, as of prompts of one name: (C,) float32.

    A few are in memory at a time, since those of a phone take 36 MB each.

    Raises:
        VocabularyError: as `read_picture`.
    """
    vectors = []
    with progress("images", "pictures", len(files)) if len(files) > AT_ONCE else nullcontext() as counter:
        for start in range(0, len(files), AT_ONCE):
            images = [read_picture(file) for file in files[start : start + AT_ONCE]]
            vectors.append(embedded_images(encoder, images))
            if counter:
                counter.show(sum(map(len, vectors)))
    mean = np.concatenate(vectors).mean(axis=0)
    return mean / np.linalg.norm(mean)


def pictures_in(folder: Path) -> list[Path]:
    """List every file of a folder, by name; hidden files are no pictures.

    Raises:
        VocabularyError: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise VocabularyError("no such folder of images", path=folder, remedy=_WRITE)
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if not files:
        raise VocabularyError("no images in the folder", path=folder, remedy=_WRITE)
    return files


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as RGB (H, W, 3) uint8, the way up that it is shown, on white where it is transparent.

    Raises:
        VocabularyError: no image, damaged, of several pictures, or with colours that are neither grey nor RGB of 8 bits
            a channel.
    """
    try:
        raw = path.read_bytes()
        with Image.open(BytesIO(raw)) as image:
            if fault := colour_fault(image):
                raise ValueError(f"it {fault}")
            if (count := count_pictures(image)) > 1:
                raise ValueError(f"it holds {count} pictures")
            if image.format == "JPEG" and ends_in_zeros(raw):  # the decoder fills the rest with grey
                raise ValueError("it ends in zeros: it was not copied to its end")
            return np.asarray(_on_white(ImageOps.exif_transpose(image)).convert("RGB"))
    except faults(UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VocabularyError(
            f"not an image: {error}", path=path, remedy="Save it as PNG or JPEG with 8 bits a channel, or leave it out"
        ) from error


def _on_white(image: Image.Image) -> Image.Image:
    """The picture on a white ground: the colours behind what is transparent mean nothing."""
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
