"""Load a CLIP model: by open_clip's own tags, from a file, or with random weights where that is asked for.

The demo CLIP goes exactly the way of the big ones; only its config and its default weights come with this package.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import open_clip
import torch

from ovps import defaults
from ovps.clip import demo
from ovps.clip.activation import check_activation
from ovps.clip.protocol import RANDOM
from ovps.errors import ConfigError, WeightsError
from ovps.places import check_text
from ovps.shortage import faults
from ovps.waiting import Waits

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
USUAL = {defaults.ENCODER: "laion2b_s29b_b131k_ft_soup"}  # open_clip's tag; open_clip downloads them once
_waits = Waits()


@dataclass(frozen=True, eq=False)
class Clip:
    """A frozen CLIP model in evaluation mode, float32.

    Attributes:
        name: open_clip's name of the architecture.
        model: open_clip's model; no parameter requires a gradient.
        tokenizer: texts to (B, context) int64 tokens; `context_length` in place of the model's own.
        dim: C, of its embeddings.
        weights_sha256: over names, shapes and bytes of the state dict in sorted order, whatever file it came from.
        weights_random: nothing was learned: results mean chance.
        mean, std: of the images it was trained on, RGB in 0..1.
    """

    name: str
    model: Any  # open_clip.CLIP or CustomTextCLIP; open_clip has no types
    tokenizer: Callable[..., torch.Tensor]
    dim: int
    weights_sha256: str
    weights_random: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def load_clip(encoder: str, weights: str | None = None, seed: int = 0) -> Clip:
    """Load an open_clip model on the CPU.

    Args:
        encoder: a name open_clip knows, e.g. `convnext_large_d_320`, or `demo`.
        weights: an open_clip tag (downloaded by open_clip), the path of a safetensors or torch file, or `random`.
            None: the usual ones, for the default encoder (`USUAL`) and for `demo`, whose weights ship with the package.
        seed: of random weights.

    Raises:
        ConfigError: no such encoder.
        WeightsError: weights not named, not found, not downloadable, damaged, not finite, or of another architecture.
    """
    check_known(encoder)
    weights = named_weights(encoder, weights)
    with _waits.of(f"the weights of {encoder}", _source(encoder, weights)):  # a large CLIP takes a minute from a disk
        return _load(encoder, weights, seed)


def _load(encoder: str, weights: str, seed: int) -> Clip:
    model = _create_random(encoder, seed) if weights == RANDOM else _create_with_weights(encoder, weights)
    model = model.float().eval().requires_grad_(False)
    _check_finite(encoder, weights, model.state_dict())
    preprocess = model.visual.preprocess_cfg
    with _without_logging():  # open_clip builds the tokenizer from the same config; the BPE table is in its package
        tokenizer = open_clip.get_tokenizer(encoder)
    return Clip(
        name=encoder,
        model=model,
        tokenizer=tokenizer,
        dim=open_clip.get_model_config(encoder)["embed_dim"],
        weights_sha256=state_sha256(model.state_dict()),
        weights_random=weights == RANDOM,
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
    )


def named_weights(encoder: str, weights: str | None) -> str:
    """Name the weights that would be loaded, which are there or can be asked for; nothing is loaded yet.

    Raises:
        WeightsError: weights not named, not found, of an unknown kind, or trained with another activation.
    """
    if weights is None:
        weights = _default_weights(encoder)
    if weights != RANDOM:
        _check_named(encoder, weights)
    return weights


def check_known(encoder: str, others: Sequence[str] = ()) -> None:
    """Raise ConfigError unless open_clip has a model of this name; the remedy names similar ones, `others` too."""
    demo.register()
    known = open_clip.list_models()
    if encoder not in known:
        near = get_close_matches(encoder, {*known, *others}, n=3) or [defaults.ENCODER, demo.NAME, *others]
        raise ConfigError(
            f"no encoder named {encoder!r}, nor has open_clip a model of that name",
            remedy=f"Did you mean {' or '.join(dict.fromkeys(near))}?",
        )


def state_sha256(state: dict[str, torch.Tensor]) -> str:
    """Hash of a state dict: name, shape, dtype and bytes of every tensor, in sorted order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_finite(encoder: str, weights: str, state: dict[str, torch.Tensor]) -> None:
    bad = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if bad:
        raise WeightsError(
            f"the weights of {encoder} hold NaN or infinity in {len(bad)} tensors, the first is {bad[0]}",
            path=weights if Path(weights).is_file() else None,
            remedy=f"They are damaged, or were trained to nothing. {_ways(encoder)}",
        )


def _default_weights(encoder: str) -> str:
    if encoder in USUAL:
        return USUAL[encoder]
    if encoder != demo.NAME:
        raise WeightsError(f"no weights chosen for {encoder}", remedy=_ways(encoder))
    if not demo.weights_path().is_file():
        raise WeightsError(
            "the demo CLIP's weights are not installed",
            path=demo.weights_path(),
            remedy="Install the package again, which brings them",
        )
    return str(demo.weights_path())


def _create_random(encoder: str, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]), _without_logging():
        torch.manual_seed(seed)
        try:
            return open_clip.create_model(encoder, pretrained=None, pretrained_text=False)
        except faults(Exception) as error:  # some text towers are described on the Hub only
            raise WeightsError(
                f"cannot build {encoder}: {error}", remedy="Choose an encoder with its own text tower"
            ) from error


def _is_tag(encoder: str, weights: str) -> bool:
    return weights in open_clip.list_pretrained_tags_by_model(encoder)


def _check_named(encoder: str, weights: str) -> None:
    path, is_tag = Path(weights), _is_tag(encoder, weights)
    if not is_tag and not path.is_file():
        looks_like_path = len(path.parts) > 1 or path.suffix in SUFFIXES
        raise WeightsError(
            "no such file of weights" if looks_like_path else f"{encoder} has no weights tagged {weights!r}",
            path=weights if looks_like_path else None,
            remedy=_ways(encoder),
        )
    if not is_tag and path.suffix not in SUFFIXES:
        raise WeightsError(
            "weights of an unknown kind", path=path, remedy=f"Give a file ending in {', '.join(SUFFIXES)}"
        )
    if not is_tag:
        check_text(path)
    check_activation(encoder, weights)


def _create_with_weights(encoder: str, weights: str) -> Any:
    try:
        with _without_logging():
            return open_clip.create_model(encoder, pretrained=weights, require_pretrained=True, weights_only=True)
    except faults(Exception) as error:  # open_clip, torch, safetensors and huggingface_hub each raise their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if _is_tag(encoder, weights):
            raise WeightsError(
                f"cannot get the weights {weights} of {encoder}: {reason}", remedy=_ways(encoder)
            ) from error
        raise WeightsError(
            f"not weights of {encoder}: {reason}",
            path=weights,
            remedy="The file is damaged, of another architecture, or a pickle; save its state dict as safetensors",
        ) from error


def _source(encoder: str, weights: str) -> str:
    return f"{weights}, from the network where they are not here yet" if _is_tag(encoder, weights) else weights


def _ways(encoder: str) -> str:
    tags = open_clip.list_pretrained_tags_by_model(encoder)
    named = f"Name one of open_clip's tags ({', '.join(tags)}), which needs the network once" if tags else ""
    path = "give the path of a .safetensors or .pt file copied from elsewhere (--weights PATH)"
    return f"{named + '; or ' if named else ''}{path}; or ask for --weights random to try things out"


@contextmanager
def _without_logging() -> Iterator[None]:
    """Keep open_clip from installing a root handler and warning of what is raised or recorded here anyway."""
    before, held = logging.root.manager.disable, logging.NullHandler()  # with one the root is given no other
    logging.disable(logging.ERROR)
    logging.root.addHandler(held)
    try:
        yield
    finally:
        logging.root.removeHandler(held)
        logging.disable(before)
