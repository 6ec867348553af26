"""CLIP: frozen image and text encoders. Used by precompute and by vocabularies only, never by training.

An encoder is found by name: a built-in one, that of another installed package, or any model that open_clip knows.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

from ovps.clip.protocol import Encoder, EncoderLoader
from ovps.errors import SetupError
from ovps.plugins import Registry, is_outside
from ovps.protocols import unlike
from ovps.waiting import Waits

REGISTRY = Registry[EncoderLoader]("ovps.encoders", EncoderLoader, {"demo": "ovps.clip.open_clip_encoder:DEMO"})
names = REGISTRY.names  # open_clip's models are not among them
_waits = Waits()


def get(name: str) -> EncoderLoader:
    """The loader of an encoder by name.

    Raises:
        ConfigError: none of that name, and no model of open_clip; the remedy lists what there is.
        SetupError: it cannot be imported.
    """
    if name in names():
        return REGISTRY.get(name)
    from ovps.clip.open_clip_encoder import of_open_clip

    return of_open_clip(name, others=names())


def load(name: str, weights: str | None = None, *, device: str = "cpu", upscale: float = 1.0) -> Encoder:
    """An encoder by name, see `ovps.clip.protocol.EncoderLoader.load`.

    Raises:
        ConfigError: none of that name.
        WeightsError: weights that cannot be used.
        SetupError: it cannot be imported, is not what `Encoder` says, or calls itself otherwise.
    """
    loader = get(name)
    # that of open_clip's models says by itself what it waits for
    with _waits.of(f"encoder {name}", weights or "its usual weights") if is_outside(loader) else nullcontext():
        encoder = loader.load(weights, device=device, upscale=upscale)
    fault, where = unlike(encoder, Encoder) or ("", None)
    if not fault:
        if not (math.isfinite(encoder.temperature) and encoder.temperature > 0):
            fault = f"has the temperature {encoder.temperature}: cosines are divided by it, it is more than 0"
        elif encoder.dim < 1:
            fault = f"has vectors of dim {encoder.dim}"
    if fault:
        raise SetupError(f"encoder {name} {fault}", path=where, remedy=f"Mend the encoder {name}")
    REGISTRY.check_name(encoder, name)
    return encoder
