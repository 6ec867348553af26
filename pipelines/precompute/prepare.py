"""Preparing a run: the workers' job, what the store says about itself, and the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ovps
from cache_schemas import Provenance
from ovps import datasets
from ovps.cache.codecs.state import state_sha256
from ovps.cache.store_info import read_info
from ovps.cache.where import storage_of
from ovps.cache.writer import check_provenance, create_store, is_store
from ovps.clip.activation import activation_warnings
from ovps.clip.protocol import Encoder
from ovps.clip.text import build_vocabulary, encoder_warnings
from ovps.datasets import Dataset
from ovps.frame import Frame
from ovps.vocabulary import entries_of
from pipelines.precompute.codec_choice import check_like, choose_codec, codec_like
from pipelines.precompute.options import Resolved
from pipelines.precompute.task import Job, encoder_of


def prepare(options: Resolved, frames: list[Frame]) -> tuple[Job, Provenance]:
    """Prepare what the workers need, and what the store says about itself. Loads CLIP, to hash its weights.

    A new store's codec may be fitted to training frames: CLIP is run on them.
    """
    device, dataset = options.device, datasets.at(options.dataset, options.dataroot)
    encoder = encoder_of(options.encoder, options.weights, device, options.upscale)
    occlusion = dataset.occlusion if options.occlusion else None
    job = Job(
        out=storage_of(options.out),
        dataset=options.dataset,
        encoder=options.encoder,
        weights=options.weights,
        weights_sha256=encoder.weights.sha256,
        device=device,
        upscale=options.upscale,
        grid=options.grid,
        occlusion=occlusion,
        codec=options.codec or "dense",
        state={},
        skip_bad_frames=options.on_error == "skip",
        dataroot=options.dataroot,
        thumbnails=options.thumbnails,
        sweeps=options.sweeps,
        gpus=options.gpus if device == "cuda" else 0,
    )
    # val has no say in how the features that are trained on are rounded; it may be all there is
    first = [frame for frame in frames if frame.subset == options.subsets[0]] or frames
    chosen = choose_codec(job, options.codec, options.like, first)
    job = replace(job, codec=chosen.name, state=chosen.state, fidelity=chosen.fidelity)
    provenance = provenance_of(
        options,
        dataset,
        encoder,
        precision=getattr(encoder, "precision", "float32"),
        occlusion=occlusion.model_dump() if occlusion else None,
        cameras=options.cameras or None,
        codec=job.codec,
        codec_state_sha256=state_sha256(job.state),
    )
    if options.like is not None:
        check_like(options.like, provenance)
    return job, provenance


def provenance_of(options: Resolved, dataset: Dataset, encoder: Encoder, **features: Any) -> Provenance:
    """State what a store is made of; `features` are the fields that say how its features come about."""
    return Provenance(
        **_without_clip(options, dataset),
        encoder=encoder.name,
        weights_sha256=encoder.weights.sha256,
        weights_random=encoder.weights.random,
        clip_dim=encoder.dim,
        **features,
    )


def _without_clip(options: Resolved, dataset: Dataset) -> dict[str, Any]:
    """The fields of a provenance that need neither CLIP nor a codec."""
    return {
        "dataset": options.dataset,
        "dataset_version": options.version,
        "taxonomy": dataset.taxonomy.name,
        "taxonomy_sha256": dataset.taxonomy.sha256,
        "upscale": options.upscale,
        "grid": options.grid,
        "code_version": ovps.__version__,
        "sweeps": options.sweeps,
    }


def check_settings(options: Resolved) -> None:
    """Check that stores go with the settings, as far as is known without CLIP: its weights are taken to be the same.

    Raises:
        ProvenanceError: the store to write, or the one that it is to be like, was made with other settings; names both
            values of each.
    """
    dataset = datasets.at(options.dataset, options.dataroot)
    now = _without_clip(options, dataset) | {
        "encoder": options.encoder,
        "occlusion": dataset.occlusion.model_dump() if options.occlusion else None,
        "cameras": options.cameras or None,
    }
    if options.like:
        codec, state = codec_like(options.like, options.codec, encoder=options.encoder)
        now |= {"codec": codec, "codec_state_sha256": state_sha256(state)}
    elif options.codec:
        now["codec"] = options.codec
    storage = storage_of(options.out)
    if is_store(storage):
        check_provenance(storage, read_info(storage).provenance.model_copy(update=now))
    if options.like:
        check_like(options.like, read_info(storage_of(options.like)).provenance.model_copy(update=now))


def open_store(job: Job, provenance: Provenance) -> list[str]:
    """Make the store with the vocabulary of the data set's own classes, or check that it may be added to.

    Returns:
        Warnings of an encoder by which a new store is of no use.
    """
    if is_store(job.out):
        check_provenance(job.out, provenance)
        return []
    encoder = encoder_of(job.encoder, job.weights, job.device, job.upscale)
    taxonomy = datasets.at(job.dataset, job.dataroot).taxonomy
    vocabulary = build_vocabulary(encoder, entries_of(taxonomy))
    create_store(job.out, provenance, taxonomy, vocabulary, job.state)
    return [*activation_warnings(job.encoder, job.weights), *encoder_warnings(encoder, vocabulary)]
