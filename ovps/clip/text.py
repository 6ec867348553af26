"""Class names to text embeddings, through prompt templates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch.nn import functional as F

from ovps.clip.asked import alike, embedded, readings, temperature_warnings
from ovps.clip.protocol import Encoder
from ovps.entries import Entry, said
from ovps.errors import ConfigError, VocabularyError
from ovps.vocabulary import Vocabulary
from ovps.waiting import Waits

DEFAULT_TEMPLATES = "vild"
TEXTS = 256  # names read at once
_waits = Waits()


@cache
def load_templates(name: str = DEFAULT_TEMPLATES) -> tuple[str, ...]:
    """A list of prompt templates shipped in `templates.yaml`.

    Raises:
        ConfigError: no such list.
    """
    text = resources.files("ovps.clip").joinpath("templates.yaml").read_text(encoding="utf-8")
    lists: dict[str, list[str]] = yaml.safe_load(text)
    if name not in lists:
        raise ConfigError(f"no list of prompt templates named {name!r}", remedy=f"There are: {', '.join(lists)}")
    return tuple(lists[name])


def fill(template: str, name: str) -> str:
    """A prompt.

    >>> fill("a photo of a {}.", "excavator")
    'a photo of an excavator.'
    """
    if name[:1].lower() in "aeio":  # not u: "a utility pole"
        template = template.replace("a {}", "an {}")
    return template.replace("{}", name)


def build_vocabulary(encoder: Encoder, entries: Sequence[Entry], templates: Sequence[str] | None = None) -> Vocabulary:
    """Text embeddings of all synonyms of all entries.

    Args:
        entries: classes with their synonyms.
        templates: prompts with `{}` for the name; None takes ViLD's.

    Raises:
        ConfigError: templates without a place for the name.
        VocabularyError: a name in which the tokenizer finds nothing to read.
    """
    templates = load_templates() if templates is None else tuple(templates)
    bad = [t for t in templates if "{}" not in t]
    if bad or not templates:
        raise ConfigError(f"prompt templates without {{}}: {bad}" if bad else "no prompt templates given")
    synonyms = [(index, synonym) for index, entry in enumerate(entries) for synonym in entry.synonyms]
    _check_readable(encoder, [synonym for _, synonym in synonyms])
    return Vocabulary(
        entries=tuple(entries),
        embeddings=embed_names(encoder, [synonym for _, synonym in synonyms], templates),
        class_index=np.array([index for index, _ in synonyms], np.int64),
        encoder=encoder.name,
        weights_sha256=encoder.weights.sha256,
    )


def prompt_warnings(encoder: Encoder, entries: Sequence[Entry], templates: Sequence[str] | None = None) -> list[str]:
    """Warn of prompts that are too long for the encoder: it does not get to see their ends.

    Args:
        entries, templates: as for `build_vocabulary`.

    Returns:
        One sentence per entry whose prompts are cut.
    """
    templates = load_templates() if templates is None else tuple(templates)
    warnings = []
    for entry in entries:
        for synonym in entry.synonyms:
            if any(reading.cut for reading in readings(encoder, [fill(template, synonym) for template in templates])):
                warnings.append(f"{said(entry, synonym)} is too long for {encoder.name}: its prompts are cut")
                break
    return warnings


def encoder_warnings(encoder: Encoder, vocabulary: Vocabulary) -> list[str]:
    """Warn of an encoder by which no class can be told from another: by its temperature, or by what it makes of names.

    Args:
        vocabulary: built by it.
    """
    number = len(vocabulary.entries)
    same = f"encoder {encoder.name} gives one and the same vector for the names of all {number} classes"
    told = [f"{same}, and no class can be told from another by it: mend its `embed`, or give other weights"]
    return [*temperature_warnings(encoder), *(told if number > 1 and alike(vocabulary.embeddings) else [])]


def _check_readable(encoder: Encoder, names: Sequence[str]) -> None:
    (nothing,) = readings(encoder, [""])
    for start in range(0, len(names), TEXTS):
        part = names[start : start + TEXTS]
        for name, reading in zip(part, readings(encoder, part), strict=True):
            if reading.seen == nothing.seen:
                raise VocabularyError(
                    f"the tokenizer of {encoder.name} reads nothing in the name {name!a}", remedy="Write a word"
                )


def embed_names(encoder: Encoder, names: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
    """Mean over templates of the normalised prompt embeddings, normalised: (len(names), C) float32, unit rows.

    Raises:
        SetupError: the encoder gives something else than it says.
    """
    prompts = [fill(template, name) for name in names for template in templates]
    with _waits.of(encoder.name, f"{len(prompts):,} prompts of names"):  # a large CLIP on a CPU takes minutes
        vectors = embedded(encoder, prompts)
    mean = torch.from_numpy(vectors).reshape(len(names), len(templates), encoder.dim).mean(1)
    return F.normalize(mean, dim=-1).numpy()
