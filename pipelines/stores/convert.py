"""A store in another codec, without CLIP: `ovps cache convert --cache ./zarr --out ./small --codec cells-pca`."""

from __future__ import annotations

import numpy as np

from cache_schemas import PartitionRow, Provenance
from ovps import datasets
from ovps.cache import codecs
from ovps.cache.codecs.protocol import Codec, State, check_lossless, codec_error, encoded, fitted, read_back, sample_of
from ovps.cache.codecs.state import read_state, state_sha256
from ovps.cache.frame_data import FrameRef
from ovps.cache.late_labels import relabelled
from ovps.cache.manifest import read_manifest, read_manifests
from ovps.cache.partition import Partition
from ovps.cache.reader import Store
from ovps.cache.storage import Storage
from ovps.cache.store_info import read_info
from ovps.cache.where import storage_of
from ovps.cache.writer import EncodedFrame, is_store
from ovps.errors import CacheError, ConfigError
from ovps.taxonomy import Taxonomy
from pipelines.options import ConvertOptions
from pipelines.precompute.codec_choice import check_like, codec_like, spread
from pipelines.precompute.task import bytes_of
from pipelines.stores.derived import DerivedSummary, Known, Made, Piece, write_derived
from pipelines.stores.select import check_known
from pipelines.stores.versions import Stored, other_versions


def convert(options: ConvertOptions) -> DerivedSummary:
    """Write a store anew in another codec, and in the compression of this version.

    Points and labels stay bit for bit. Embeddings of objects are made of the cells as they are stored now, as
    precompute would have done, where the codec keeps cells. The codec's error in the manifest is that of both. A store
    of what another codec has lost something of says so, and does not go with one of what CLIP gave.

    Raises:
        CacheError: the store keeps no cells, and the codec needs some.
        ConfigError, CorruptStoreError: it has no frame; see `Store.frames_of`.
        OvpsError: as `write_derived`.
    """
    source = Store.open(options.cache)
    codec = codecs.get(options.codec)
    if codec.keeps_cells and not codecs.get(source.provenance.codec).keeps_cells:
        raise CacheError(
            f"codec {source.provenance.codec} keeps features of voxels, and {codec.name} is made of cells",
            path=source.path,
            remedy=_with_cells(source.provenance, codec),
        )
    source.frames_of(None)  # or tell why there is none
    state = _state(options, source, codec)
    provenance = _provenance(source.provenance, codec, state)
    if options.like is not None:
        check_like(options.like, provenance)
    rows = list(read_manifests(source.storage))
    pieces = []
    for row in rows:

        def make(row: PartitionRow = row) -> Made:
            if not row.frames:
                return Made([], row.skipped)
            partition = Partition.open(source.storage, row, source.provenance)
            if provenance == source.provenance:
                return Made([EncodedFrame(frame, partition.encoded(frame.token)) for frame in row.frames], row.skipped)
            made = [converted(partition, frame.token, codec, state, source.taxonomy) for frame in row.frames]
            return Made(made, row.skipped)

        def changed(out: Storage, there: PartitionRow, row: PartitionRow = row) -> list[str]:
            both = Stored(source.storage, row), Stored(out, there)
            return other_versions(*both, both[0].frames, converted=provenance != source.provenance)

        pieces.append(Piece(row.partition, row.scene, tuple(map(Known.of, row.frames)), make, changed))
    return write_derived(
        options.out,
        [source.storage],
        provenance,
        source.taxonomy,
        source.vocabulary,
        state,
        pieces,
        name="convert",
        bytes_before=sum(map(bytes_of, rows)),
    )


def _with_cells(provenance: Provenance, codec: Codec) -> str:
    """How to come to the features of a store of voxels in a codec of cells: not by others than it holds."""
    if provenance.cameras == ():
        return f"Leave them in {provenance.codec}: they were imported for points, and have no cells of images"
    if provenance.converted_from:
        return f"Convert the store that this one was made of, of codec {provenance.converted_from[-1].split()[0]}"
    return (
        f"Convert the store of cells that it was made of, if it was; or run `ovps precompute --codec {codec.name}` into"
        " another folder, which needs CLIP once more"
    )


def _provenance(before: Provenance, codec: Codec, state: State) -> Provenance:
    """That of the new store, which says what its features have lost on the way."""
    after = before.model_copy(update={"codec": codec.name, "codec_state_sha256": state_sha256(state)})
    if after == before:
        return before
    lost = before.converted_from
    if not codecs.get(before.codec).lossless:
        lost = (*lost, _with_state(before))
    if lost and lost[-1] == _with_state(after):
        lost = lost[:-1]  # what is rounded is not rounded again: this is the store of before
    return after.model_copy(update={"converted_from": lost})


def _with_state(provenance: Provenance) -> str:
    state = provenance.codec_state_sha256
    return provenance.codec if state is None else f"{provenance.codec} {state}"


def converted(partition: Partition, token: str, codec: Codec, state: State, taxonomy: Taxonomy) -> EncodedFrame:
    """One frame of a store in another codec.

    Raises:
        CacheError: this machine lifts points otherwise than the one that wrote the store.
        CorruptStoreError: bytes that are not those that were written.
        FrameError: the codec gives something else than it says.
    """
    row, arrays = partition.row.frames[partition.positions[token]], partition.encoded(token)
    valid = arrays["voxels/valid"]
    features = read_back(partition.codec, arrays, valid, partition.state)
    clip = encoded(codec, features, state)
    error = codec_error(clip.stored, features)
    check_lossless(codec, error, features)
    others = {name: array for name, array in arrays.items() if not name.startswith("clip/")}
    errors = {
        "codec_max_error": row.codec_max_error + error.largest,
        "codec_mean_error": row.codec_mean_error + error.mean,
    }
    frame = EncodedFrame(row.model_copy(update=errors), others | clip.arrays)
    if not (row.labelled and codec.keeps_cells):
        return frame
    folder, label = partition.parts["features"], arrays["points/label"]
    return relabelled(
        frame, codec, state, partition.provenance, label, taxonomy, path=folder.path, remedy=folder.remedy
    )


def _state(options: ConvertOptions, source: Store, codec: Codec) -> State:
    """That of the store that is there, of the one that it is to be like, of the source, or made of training frames.

    Raises:
        ConfigError: no such split, or `--like` is of another codec or encoder.
    """
    out = storage_of(options.out)
    if options.split is not None:
        check_known("split", [options.split], {ref.subset for ref in source.frames}, source)
    if is_store(out) and read_info(out).provenance.codec == codec.name:
        return read_state(out, read_info(out).provenance)
    if options.like is not None:
        return codec_like(options.like, codec.name, weights_sha256=source.provenance.weights_sha256)[1]
    if codec.name == source.provenance.codec:
        return read_state(source.storage, source.provenance)
    if not codec.fit_frames:
        return {}
    refs = _training_frames(source, options.split)
    sample = []
    for ref in (refs[number] for number in spread(codec.fit_frames, len(refs))):
        partition = Partition.open(source.storage, read_manifest(source.storage, ref.partition), source.provenance)
        arrays = partition.encoded(ref.token)
        sample.append(sample_of(codec, read_back(partition.codec, arrays, arrays["voxels/valid"], partition.state)))
    return fitted(codec, np.concatenate(sample))


def _training_frames(source: Store, split: str | None) -> list[FrameRef]:
    """The frames that a codec may be fitted to; those of val have no say, but where they are all there is."""
    wanted = split or _usual_split(source)
    refs = [ref for ref in source.frames if ref.subset == wanted]
    return refs or list(source.frames)


def _usual_split(source: Store) -> str:
    try:
        dataset = datasets.get(source.provenance.dataset)
    except ConfigError:  # of a package that is not installed here
        return "train"
    return datasets.usual_subsets(dataset, source.provenance.dataset_version)[0]
