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

from ovps.clip.loading import Clip
from ovps.errors import ConfigError
from ovps.vocabulary import Entry, Vocabulary

DEFAULT_TEMPLATES = "vild"
BATCH = 256  # prompts through the text tower at once


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


def build_vocabulary(clip: Clip, entries: Sequence[Entry], templates: Sequence[str] | None = None) -> Vocabulary:
    """Text embeddings of all synonyms of all entries.

    Args:
        entries: classes with their synonyms.
        templates: prompts with `{}` for the name; None takes ViLD's.
    """
    templates = load_templates() if templates is None else tuple(templates)
    bad = [t for t in templates if "{}" not in t]
    if bad or not templates:
        raise ConfigError(f"prompt templates without {{}}: {bad}" if bad else "no prompt templates given")
    synonyms = [(index, synonym) for index, entry in enumerate(entries) for synonym in entry.synonyms]
    return Vocabulary(
        entries=tuple(entries),
        embeddings=embed_names(clip, [synonym for _, synonym in synonyms], templates),
        class_index=np.array([index for index, _ in synonyms], np.int64),
        encoder=clip.name,
        weights_sha256=clip.weights_sha256,
    )


@torch.inference_mode()
def embed_names(clip: Clip, names: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
    """(len(names), C) float32, unit rows: the mean over templates of the normalised prompt embeddings, normalised."""
    prompts = [fill(template, name) for name in names for template in templates]
    device = next(clip.model.parameters()).device
    parts = []
    for start in range(0, len(prompts), BATCH):
        tokens = clip.tokenizer(prompts[start : start + BATCH]).to(device)
        parts.append(F.normalize(clip.model.encode_text(tokens).float(), dim=-1))
    embeddings = torch.cat(parts) if parts else torch.empty(0, clip.dim)
    mean = embeddings.reshape(len(names), len(templates), -1).mean(1)
    return F.normalize(mean, dim=-1).cpu().numpy()
