"""Class names to a vocabulary file.

ovps vocab build --names "car, fire truck, road:stuff=road|street" --out vocab.safetensors
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ovps.clip.loading import load_clip
from ovps.clip.text import build_vocabulary, prompt_warnings
from ovps.entries import read_entries
from ovps.vocabulary import save_vocabulary


@dataclass(frozen=True)
class VocabularySummary:
    """What was written.

    Attributes:
        classes: E, entries.
        embeddings: T, synonyms in all.
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


def build(names: str, out: Path, encoder: str, weights: str | None = None) -> VocabularySummary:
    """Write the vocabulary of class names.

    Args:
        names: entries, or the path of a file of them, see `ovps.entries.read_entries`.
        out: file to write.
        encoder, weights: see `ovps.clip.loading.load_clip`.

    Raises:
        VocabularyError: names that cannot be read.
        ConfigError, WeightsError: no such CLIP.
        StorageError: the disk refuses.
    """
    entries = read_entries(names)
    clip = load_clip(encoder, weights)
    vocabulary = build_vocabulary(clip, entries)
    save_vocabulary(vocabulary, out)
    random = ["random CLIP weights: the embeddings mean nothing"] if clip.weights_random else []
    embeddings, dim = vocabulary.embeddings.shape
    return VocabularySummary(
        file=out,
        classes=len(entries),
        embeddings=embeddings,
        dim=dim,
        encoder=clip.name,
        weights_sha256=clip.weights_sha256,
        weights_random=clip.weights_random,
        warnings=[*prompt_warnings(clip, entries), *random],
    )
