"""Numbers of objects in labels: without them all cars of a frame are learned and scored as one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ovps.cache.frame_data import FrameRef
from ovps.cache.reader import Store
from ovps.errors import listed
from ovps.taxonomy import Taxonomy

_FRAMES = 16  # that are looked at


def without_numbers(store: Store, refs: Sequence[FrameRef], classes: Collection[int] | None = None) -> list[str]:
    """Warn of labels in which no object has a number, by some frames of a store, in one sentence, or none.

    Args:
        classes: ids of those that are looked at; None: all.

    Raises:
        CorruptStoreError: a frame that is damaged.
    """
    labelled = [ref for ref in refs if ref.labelled]
    some = [store.objects(ref) for ref in labelled[:: -(-len(labelled) // _FRAMES) or 1]]
    looked_at = (one.instance if classes is None else one.instance[np.isin(one.classes, list(classes))] for one in some)
    odd = odd_things(store.taxonomy, looked_at)
    return [odd] if odd else []


def odd_things(taxonomy: Taxonomy, labels: Iterable[NDArray[np.integer]]) -> str | None:
    """Say that no thing has a number in raw labels (N,) of some frames; None if one has, or there are no things."""
    pooled = set[int]()
    for raw in labels:
        semantic, _ = taxonomy.decode(raw)
        things = np.isin(semantic, taxonomy.thing_ids)
        if taxonomy.instance_number(raw[things]).any():
            return None
        pooled |= {*np.unique(semantic[things]).tolist()}
    if not pooled:
        return None
    return (
        f"no object has a number in the labels that were read: of {listed(taxonomy.by_id[one].name for one in pooled)}"
        " all points of a frame count as one object. Number the objects of a class from 1 in each frame, or make it"
        " stuff in the taxonomy, unless there is never more than one of them"
    )
