"""The state of a store's codec as a file: safetensors, no pickle."""

from __future__ import annotations

import hashlib

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cache_schemas import Provenance
from ovps.cache.codecs.protocol import State
from ovps.cache.layout import CODEC_STATE
from ovps.cache.storage import LOST, Storage
from ovps.errors import CorruptStoreError
from ovps.shortage import faults


def state_bytes(state: State) -> bytes | None:
    """The file of a state; None where there is none."""
    # safetensors writes the memory as it lies, whatever the strides say
    return save({name: np.ascontiguousarray(array) for name, array in state.items()}) if state else None


def state_sha256(state: State) -> str | None:
    """SHA-256 of its file, as it stands in the provenance."""
    content = state_bytes(state)
    return hashlib.sha256(content).hexdigest() if content is not None else None


def read_state(storage: Storage, provenance: Provenance) -> State:
    """The state of a store's codec; {} where it has none.

    Raises:
        CorruptStoreError: not the bytes that were written.
    """
    if provenance.codec_state_sha256 is None:
        return {}
    try:
        content = storage.get(CODEC_STATE)
        if hashlib.sha256(content).hexdigest() == provenance.codec_state_sha256:
            return load(content)
    except faults(OSError, SafetensorError) as error:
        raise CorruptStoreError(f"cannot be read: {error}", path=storage.at(CODEC_STATE), remedy=LOST) from error
    raise CorruptStoreError("not the state of the codec that was written", path=storage.at(CODEC_STATE), remedy=LOST)
