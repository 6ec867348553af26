"""Class names, images and examples of what has none, to a vocabulary file.

ovps vocab build --names "car, fire truck, road:stuff=road|street" --out vocab.safetensors
ovps vocab build --cache ./zarr --names "car, bus" --images scooter=photos/scooters --out vocab.safetensors
ovps vocab build --cache ./zarr --names "car, bus" --examples bus=TOKEN:objects:12 --out vocab.safetensors
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovps import clip, defaults
from ovps.cache.reader import Store
from ovps.cache.store_info import read_info
from ovps.cache.where import Where, storage_of
from ovps.cache.writer import is_store
from ovps.clip.activation import activation_warnings, trained_as
from ovps.clip.pictures import Pictures, add_pictures, parse_pictures
from ovps.clip.protocol import RANDOM, Encoder
from ovps.clip.text import build_vocabulary, prompt_warnings
from ovps.entries import odd_names, read_entries
from ovps.errors import ConfigError, VocabularyError, WeightsError
from ovps.examples import Examples, parse_examples
from ovps.files import check_writable
from ovps.places import check_free
from ovps.taxonomy import name_key
from ovps.vocabulary import equal_entries, save_vocabulary
from pipelines.examples import no_names, show_examples
from pipelines.options import VocabularyOptions


@dataclass(frozen=True)
class VocabularySummary:
    """Summary of `ovps vocab build`.

    Attributes:
        classes: E, entries.
        embeddings: T, synonyms and sets of images in all.
        dim: C.
        encoder, weights_sha256: the CLIP.
        weights_random: nothing was learned: the embeddings mean nothing.
        warnings: prompts that were cut, entries with equal embeddings, random weights.
    """

    file: Path
    classes: int
    embeddings: int
    dim: int
    encoder: str
    weights_sha256: str
    weights_random: bool
    warnings: list[str]


def build(options: VocabularyOptions) -> VocabularySummary:
    """Write the vocabulary of class names, images and examples.

    Raises:
        VocabularyError: names, images or examples that cannot be read, or none.
        ConfigError, WeightsError: no such encoder, or not the one of the cache.
        CacheError: no cache where one was named.
        StorageError: the disk refuses.
    """
    entries = read_entries(options.names) if options.names is not None else ()
    pictures = [parse_pictures(item) for item in options.images]
    examples = [parse_examples(item) for item in options.examples]
    if not entries and not pictures and not examples:
        raise VocabularyError(
            "neither names nor images nor examples",
            remedy='Give --names "car, bus", --images NAME=FOLDER or --examples NAME=FRAME:objects:NUMBER',
        )
    check_free(options.out, file=".safetensors")
    check_writable(options.out, file=True)
    _check_folders(pictures, options.out)
    _check_examples(examples)
    store = Store.open(options.cache or defaults.STORE) if examples else None
    encoder = _encoder(options) if entries or pictures or store is None else None
    if encoder is not None:
        vocabulary = add_pictures(encoder, build_vocabulary(encoder, entries), pictures)
        is_random = encoder.weights.random
    else:
        assert store is not None  # nothing but examples
        vocabulary, is_random = no_names(store), store.provenance.weights_random
    if store is not None:
        vocabulary = show_examples(vocabulary, store, examples)
    save_vocabulary(vocabulary, options.out)
    activation = activation_warnings(encoder.name, options.weights) if encoder is not None else []
    odd = [*odd_names(entries), *activation, *(prompt_warnings(encoder, entries) if encoder is not None else [])]
    random = ["random CLIP weights: the embeddings mean nothing"] if is_random else []
    embeddings, dim = vocabulary.embeddings.shape
    return VocabularySummary(
        file=options.out,
        classes=len(vocabulary.entries),
        embeddings=embeddings,
        dim=dim,
        encoder=vocabulary.encoder,
        weights_sha256=vocabulary.weights_sha256,
        weights_random=is_random,
        warnings=[*(store.warnings() if store else ()), *odd, *equal_entries(vocabulary), *random],
    )


def _check_folders(pictures: Sequence[Pictures], out: Path) -> None:
    """Raise ConfigError for a folder of images that is named twice for one class, or that would get the vocabulary."""
    seen = set()
    for one in pictures:
        folder = os.path.realpath(one.folder)
        if (name_key(one.name), folder) in seen:
            raise ConfigError(f"images of {one.name} are named twice", path=one.folder, remedy="Name each folder once")
        seen.add((name_key(one.name), folder))
        if os.path.realpath(out.parent) == folder:
            raise ConfigError("this would be written among images", path=out, remedy="Give another folder")


def _check_examples(examples: Sequence[Examples]) -> None:
    """Raise ConfigError for a class that is shown twice, or an example that is named twice: it would count twice."""
    shown = [name_key(one.name) for one in examples]
    for one in examples:
        if shown.count(name_key(one.name)) > 1:
            raise ConfigError(f"--examples of {one.name} twice", remedy="Join what shows a class with |")
        if len(set(one.items)) < len(one.items):
            raise ConfigError(f"an example of {one.name} is named twice", remedy="Name each example once")


def _encoder(options: VocabularyOptions) -> Encoder:
    """The one that was asked for; else that of the cache, with its weights; else the default one."""
    cache = options.cache
    store = storage_of(cache or defaults.STORE)
    if options.encoder is not None or (cache is None and not is_store(store)):
        return clip.load(options.encoder or defaults.ENCODER, options.weights)
    return encoder_of(store, options.weights)


def encoder_of(where: Where, weights: str | None = None) -> Encoder:
    """The encoder that a store was made with, its weights checked.

    Raises:
        CacheError: no store there.
        ConfigError, WeightsError: no such encoder here, or with other weights.
    """
    store = storage_of(where)
    known = read_info(store).provenance
    twin = trained_as(known.encoder, weights)
    if twin:
        raise WeightsError(
            f"its features were computed by {known.encoder} with GELU, the weights {weights} trained with QuickGELU",
            path=store.at(),
            remedy=f"Make it anew in another folder, with the encoder {twin}",
        )
    encoder = clip.load(known.encoder, weights or (RANDOM if known.weights_random else None))
    if encoder.weights.sha256 != known.weights_sha256:
        raise WeightsError(
            f"{known.encoder} has weights {encoder.weights.sha256[:12]}… here,"
            f" the cache was made with {known.weights_sha256[:12]}…",
            path=weights or store.at(),
            remedy="Give the weights of the cache (--weights FILE)",
        )
    return encoder
