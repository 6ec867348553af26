"""Synthetic stores that differ in nothing but the labels of some points, written anew by the real writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ovps.cache import codecs
from ovps.cache.frame_data import CachedFrame
from ovps.cache.object_embeddings import find_objects
from ovps.cache.reader import Store
from ovps.cache.where import storage_of
from ovps.cache.writer import create_store, encode_frame, write_partition
from ovps.taxonomy import load_taxonomy
from tests.helpers.synthetic_store import of_dense

# (raw labels (N,), class ids (N,), generator) -> raw labels (N,)
Relabel = Callable[[NDArray[np.uint32], NDArray[np.uint8], np.random.Generator], NDArray[np.integer]]


def relabelled_store(source: Path, out: Path, relabel: Relabel, seed: int = 0) -> Path:
    """A copy of a store with other labels, and the object embeddings that stage 1 would make of them.

    A store relabelled twice needs two seeds, or the second change draws what the first drew.
    """
    store = Store.open(source)
    create_store(storage_of(out), store.provenance, store.taxonomy, store.vocabulary)
    codec = codecs.get(store.provenance.codec)
    for partition, refs in groupby(store.frames, key=lambda ref: ref.partition):
        frames = [_relabelled(store.read(ref), relabel, seed) for ref in refs]
        encoded = [encode_frame(f, of_dense(f.clip, f.valid), codec) for f in frames]
        write_partition(storage_of(out), partition, frames[0].scene, encoded)
    return out


def _relabelled(frame: CachedFrame, relabel: Relabel, seed: int) -> CachedFrame:
    assert frame.label is not None
    taxonomy = load_taxonomy("nuscenes")
    semantic, _ = taxonomy.decode(frame.label)
    label = relabel(frame.label, semantic, np.random.default_rng([seed, frame.index])).astype(np.uint32)
    seen = np.flatnonzero(frame.views > 0)
    ones = np.ones(len(seen), np.float32)
    weights = csr_matrix((ones, (seen, frame.point_voxel[seen])), shape=(len(label), len(frame.coords)))
    objects = find_objects(label, taxonomy, weights, frame.views, frame.clip)
    return replace(
        frame,
        label=label,
        object_class=objects.classes,
        object_instance=objects.instance,
        object_points=objects.points,
        object_seen_points=objects.seen_points,
        object_embedding=objects.embedding,
    )
