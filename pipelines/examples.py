"""Examples of a class out of a store: the segments that `ovps vocab build --examples` names, and their features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ovps.cache.frame_data import FrameRef
from ovps.cache.reader import Store
from ovps.errors import VocabularyError, listed
from ovps.examples import ClassOf, Examples, add_examples, shift_to_texts
from ovps.progress import progress
from ovps.segment_reference import Segment
from ovps.taxonomy import Kind, name_key
from ovps.viewer.pooling import label_free, pooled_clip
from ovps.vocabulary import Vocabulary

GAP_FRAMES = 20  # frames whose mean feature says where image features lie
_LISTED = 20


def show_examples(vocabulary: Vocabulary, store: Store, examples: Sequence[Examples]) -> Vocabulary:
    """Add examples out of a store to a vocabulary of the same CLIP.

    Raises:
        VocabularyError: a vocabulary of another CLIP, no such frame, segment or class, or one that no camera sees.
        CacheError: the store is damaged.
    """
    known = store.provenance
    if (vocabulary.encoder, vocabulary.weights_sha256) != (known.encoder, known.weights_sha256):
        raise VocabularyError(
            f"examples have features of {known.encoder}, the names those of {vocabulary.encoder}",
            path=store.path,
            remedy="Leave out --encoder and --weights: those of the store are used",
        )
    for one in examples:
        refs, vectors = zip(*(_of(store, item) for item in one.items), strict=True)
        shift = gap(store, [ref for found in refs for ref in found])
        kind = one.kind or _kind(store, vocabulary, one)
        vocabulary = add_examples(vocabulary, one.name, kind, np.concatenate(vectors), shift)
    return vocabulary


def _kind(store: Store, vocabulary: Vocabulary, shown: Examples) -> Kind | None:
    """What the classes are that show a new entry, if they agree: an entry shown as vegetation is stuff."""
    if name_key(shown.name) in map(name_key, vocabulary.names):
        return None
    by_key = store.taxonomy.by_key
    kinds = {by_key[name_key(item.name)].kind if isinstance(item, ClassOf) else None for item in shown.items}
    return kinds.pop() if len(kinds) == 1 else None


def no_names(store: Store) -> Vocabulary:
    """A vocabulary of the store's CLIP without an entry, to which examples come."""
    known = store.provenance
    nothing = np.zeros((0, known.clip_dim), np.float32)
    return Vocabulary((), nothing, np.zeros(0, np.int64), known.encoder, known.weights_sha256)


def gap(store: Store, refs: Sequence[FrameRef]) -> NDArray[np.float32]:
    """Compute the way, (C,), from the image features of at most GAP_FRAMES of some frames to the store's texts."""
    tokens = {ref.token for ref in refs}
    distinct = [ref for ref in store.frames if ref.token in tokens]  # the same, in whatever order they are named
    chosen = [distinct[i] for i in sorted(set(np.linspace(0, len(distinct) - 1, GAP_FRAMES).round().astype(int)))]
    frames = map(store.read, chosen)
    return shift_to_texts([frame.clip[frame.valid] for frame in frames], store.vocabulary.embeddings)


def _of(store: Store, item: Segment | ClassOf) -> tuple[list[FrameRef], NDArray[np.float32]]:
    return _of_class(store, item) if isinstance(item, ClassOf) else _of_segment(store, item)


def _of_segment(store: Store, item: Segment) -> tuple[list[FrameRef], NDArray[np.float32]]:
    """The feature of one segment. Where `of` is not said: a labelled object where there are labels, else a cluster."""
    if item.of == "segments":
        raise VocabularyError(
            f"{item} is a segment of a run, and a store has none",
            path=store.path,
            frame=item.frame,
            remedy="Name an object or a cluster: `ovps query` without a run lists them",
        )
    ref = next((ref for ref in store.frames if ref.token == item.frame), None)
    if ref is None:
        raise VocabularyError(
            f"no frame {item.frame}", path=store.path, remedy="Give the token of a frame of the store: ovps query"
        )
    if item.of == "objects" or (item.of is None and ref.labelled):
        found = store.objects(ref)
        vectors, seen = found.embedding, found.seen_points > 0
    else:
        frame = store.read(ref)
        vectors, seen = pooled_clip(frame, label_free(frame))
    if item.number >= len(vectors) or not seen[item.number]:
        raise VocabularyError(
            f"no segment {item} that a camera sees",
            path=store.path,
            frame=item.frame,
            remedy=f"The frame has {listed(np.flatnonzero(seen), _LISTED)}; `ovps query` shows them"
            if seen.any()
            else "Name another frame: no camera sees any segment of this one",
        )
    return [ref], vectors[item.number][None]


def _of_class(store: Store, item: ClassOf) -> tuple[list[FrameRef], NDArray[np.float32]]:
    """The features of all objects of a class with enough points that a camera sees."""
    classes = store.taxonomy.by_key
    if (key := name_key(item.name)) not in classes:
        raise VocabularyError(
            f"{item.name} is no class of {store.taxonomy.name}",
            remedy=f"There are: {', '.join(store.taxonomy.by_name)}",
        )
    refs, vectors = [], []
    labelled = [ref for ref in store.frames if ref.subset == item.subset and ref.labelled]
    with progress("examples", "frames", len(labelled)) as counter:
        for ref in labelled:
            found = store.objects(ref)
            kept = (found.classes == classes[key].id) & (found.seen_points >= store.taxonomy.min_points)
            if kept.any():
                refs.append(ref)
                vectors.append(found.embedding[kept])
            counter.advance()
    if not vectors:
        subsets = ", ".join(sorted({ref.subset for ref in store.frames if ref.labelled})) or "none"
        raise VocabularyError(
            f"no labelled {item.name} in {item.subset} that cameras see",
            path=store.path,
            remedy=f"Name a subset with labels ({subsets}), or segments as FRAME:clusters:NUMBER",
        )
    return refs, np.concatenate(vectors)
