"""A run's report: one HTML file with tables, training curves and pictures of validation frames.

ovps report --run runs/driveworld-ovps --cache ./zarr
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache_schemas import Provenance
from ovps.cache.frame_data import CachedFrame, FrameRef
from ovps.cache.reader import Store
from ovps.cache.where import Where
from ovps.errors import ConfigError, command, listed
from ovps.evaluation.results import EvalResult, describe_inference, settings_of, split_of
from ovps.files import check_writable, file_sha256
from ovps.frame import Camera, Frame, PointCloud
from ovps.inference.prediction import FramePrediction, class_ids
from ovps.inference.session import Session, open_session, predictions
from ovps.places import check_free
from ovps.progress import show_warnings
from ovps.report.opening import best_view
from ovps.report.page import write_page
from ovps.report.pictures import FrameView, Labels
from ovps.report.run_page import NOT_MEASURED, ReportContent, render_run
from ovps.taxonomy import Taxonomy
from ovps.training.cache_content import content_of
from ovps.training.metrics import lost_curves, read_metrics, training_seconds
from ovps.training.run_files import LAST
from ovps.viewer.catalogue import Catalogue
from ovps.viewer.offline import Shown, render_offline
from ovps.vocabulary import digest
from pipelines.drives import check_drive
from pipelines.evaluate import load_frame_scores, load_result, other_labels
from pipelines.images import Images, ReadImage
from pipelines.look import evenly_spaced


def report(
    run: Path,
    cache: Where,
    *,
    out: Path | None = None,
    evaluation: Path | None = None,
    vocabulary: Path | None = None,
    count: int = 4,
    frames: Iterable[Frame] = (),
    read_image: ReadImage | None = None,
    read_points: Callable[[Frame], PointCloud] | None = None,
    commands: Mapping[str, str] | None = None,
    not_measured: tuple[str, ...] = NOT_MEASURED,
    device: str | None = None,
    backend: str | None = None,
) -> Path:
    """Write the report of an evaluated run and return its path.

    Args:
        run, cache: as for the evaluation.
        out: HTML file; None: `RUN/report.html`.
        evaluation: folder of metrics.json; None: `RUN/eval`.
        vocabulary: that of the evaluation, if it was not the data set's own.
        count: frames to show, evenly spaced over the subset, whatever is on them.
        frames: of the data set, for the camera pictures; matched by token. Others are shown with the store's
            thumbnails, if it has some.
        read_image: reads the image of a camera (`Dataset.image`).
        read_points: reads the points of a frame (`Dataset.points`), to compare with those of the store; None: pictures
            are taken for those of the same drive.
        commands: what was run and how long it took, in order.
        not_measured: what the numbers say nothing about.
        device: None: a GPU if there is one.
        backend: engine of the sparse convolutions; None: that of the training, where it is installed.

    Raises:
        ConfigError: the run is not evaluated yet, or has other weights since, or was evaluated by an earlier version,
            on another store or with another vocabulary.
        CheckpointError, CacheError, VocabularyError: see `open_session`.
        DatasetError: the data set is another drive whose frames are called the same.
        StorageError: the disk refuses.
    """
    path = out or run / "report.html"
    check_free(path, file=".html")
    check_writable(path, file=True)
    result = scores_of(run, cache, evaluation)
    merge, classifier = settings_of(result, evaluation or run / "eval")
    session = open_session(
        run,
        cache,
        vocabulary=vocabulary,
        merge=merge,
        classifier=classifier,
        split=split_of(result),
        device=device,
        backend=backend,
    )
    if result.checkpoint_sha256 not in (None, file_sha256(run / LAST)):
        raise ConfigError(
            f"its scores are of other weights, those of step {result.step}, than the run has now",
            path=evaluation or run / "eval",
            remedy=f"Evaluate again: {_evaluating(run, cache, evaluation)}",
        )
    if result.vocabulary_sha256 not in (None, digest(session.vocabulary)):
        raise ConfigError(
            f"its scores are of another vocabulary, {listed(result.vocabulary)}",
            path=evaluation or run / "eval",
            remedy="Name by --vocab the file that was scored, or leave it out if none was named then",
        )
    scored = _scored(session, result, evaluation or run / "eval")
    known = session.run
    lost = lost_curves(run, known.step, known.info.total_steps, known.config.log_interval)
    warnings = list(dict.fromkeys([*result.warnings, *session.warnings(), *_renewed(session, result, scored), *lost]))
    show_warnings(warnings)
    taught, hidden = other_labels({c.name: c.novel for c in result.system.panoptic.classes}, session.run)
    result = result.model_copy(update={"novel_taught": taught, "base_hidden": hidden})  # of older versions too
    shown = evenly_spaced(scored, count)
    frames = list(frames)
    if read_points is not None:
        check_drive(session.store, shown, frames, read_points)
    cameras, no_images = cameras_of(session.store, shown, frames, read_image)
    if frames and no_images:
        show_warnings([no_images])
    views = [
        frame_view(frame, session.taxonomy, labels_of(session, prediction), cameras.get(frame.token, []))
        for frame, prediction in predictions(session, shown)
        if frame.label is not None
    ]
    turned = best_view(views, session.taxonomy, result.novel)
    content = ReportContent(
        caveat=run_caveat(session.store.provenance),
        scene=scene_of(session, turned.token, cameras) if turned else None,
        evaluation=result,
        taxonomy=session.taxonomy,
        metrics=read_metrics(run),
        views=views,
        provenance=_provenance(session, result, read_metrics(run), commands or {}),
        warnings=warnings,
        no_images=no_images,
        not_measured=not_measured,
        unlabelled=not session.run.system.needs_labels,
    )
    write_page(path, render_run(content))
    return path


def _scored(session: Session, result: EvalResult, folder: Path) -> list[FrameRef]:
    """The frames that the scores are of; of an earlier version, which did not name them, all of the subset.

    Raises:
        ConfigError: they are those of another store.
    """
    frames = session.store.frames_of([result.subset])
    tokens = {score.token for score in load_frame_scores(folder)} or {ref.token for ref in frames}
    if result.cache != session.store.provenance or not tokens <= {ref.token for ref in frames}:
        again = command("ovps", "eval", "--run", session.run.path, "--cache", session.store.path)
        raise ConfigError(
            f"the scores are not of the frames of {session.store.path}",
            path=folder,
            remedy=f"Name by --cache the store that was scored, or score this one: {again}",
        )
    return [ref for ref in frames if ref.token in tokens]


def scores_of(run: Path, cache: Where, evaluation: Path | None) -> EvalResult:
    """Read the scores that a report is of.

    Args:
        evaluation: folder of metrics.json; None: `RUN/eval`.

    Raises:
        ConfigError: see `load_result`.
    """
    return load_result(evaluation or run / "eval", _evaluating(run, cache, evaluation))


def _evaluating(run: Path, cache: Where, evaluation: Path | None) -> str:
    where = ("--out", evaluation) if evaluation else ()
    return command("ovps", "eval", "--run", run, "--cache", cache, *where)


def _renewed(session: Session, result: EvalResult, scored: Sequence[FrameRef]) -> list[str]:
    """Warn of labels or features that the store holds now, and that the scores are not of."""
    store = session.store
    anew = " and ".join(result.content.renewed(content_of(store, scored))) if result.content else ""
    text = f"{anew} of {store.path} lie in other files than when it was scored: pictures may not go with the scores"
    return [f"{text}; evaluate again, by the same `ovps eval`"] if anew else []


def run_caveat(known: Provenance) -> str:
    """Say what weighs most against the scores of one run, as the end of a sentence that begins with `but`."""
    if known.weights_random:
        return "its CLIP has random weights, so it shows what chance looks like"
    return "it was trained once, and these frames may have been in view while settings were chosen"


def scene_of(session: Session, token: str, cameras: Mapping[str, Sequence[tuple[Camera, NDArray[np.uint8]]]]) -> str:
    """A page of one frame to turn, as `ovps view --html` writes it.

    Args:
        token: of the frame.
        cameras: with their images, by frame token.
    """
    (ref,) = (ref for ref in session.store.frames if ref.token == token)
    catalogue = Catalogue(
        store=session.store,
        frames=(ref,),
        vocabulary=session.vocabulary,
        session=session,
        novel=frozenset(session.novel),
        read_images=lambda ref: list(cameras.get(ref.token, ())),
    )
    run = session.run.path.resolve().name
    return render_offline(run, [run], [Shown([catalogue.view(ref)], catalogue.pictures(ref))], [])


def cameras_of(
    store: Store, shown: list[FrameRef], frames: Iterable[Frame], read_image: ReadImage | None
) -> tuple[dict[str, list[tuple[Camera, NDArray[np.uint8]]]], str | None]:
    """Cameras and images by frame token, and why some are missing: of the data set, or else the store's thumbnails."""
    by_token = {f.token: f for f in frames} if read_image else {}
    images = Images(store, read_image) if read_image else None
    cameras = {
        ref.token: images.of(ref, by_token[ref.token].cameras)
        if images and ref.token in by_token
        else store.pictures(ref)
        for ref in shown
    }
    missing = sum(not pairs for pairs in cameras.values())
    if not missing:
        return cameras, None
    if not by_token:
        return cameras, "the cache holds no images (`ovps precompute --thumbnails`), and the data set was not given"
    return cameras, f"{missing} of {len(shown)} frames, or their images, are not in the data set that was given"


def labels_of(session: Session, prediction: FramePrediction) -> Labels:
    """Predicted entries as the classes of the data set."""
    semantic = class_ids(session.vocabulary, session.taxonomy)[prediction.labels.entry]
    return Labels(semantic, prediction.labels.instance)


def frame_view(
    frame: CachedFrame,
    taxonomy: Taxonomy,
    predicted: Labels,
    cameras: list[tuple[Camera, NDArray[np.uint8]]],
    **more: Any,
) -> FrameView:
    """A labelled frame to show, with what is predicted on it; `more`: further fields of `FrameView`."""
    assert frame.label is not None
    return FrameView(
        token=frame.token,
        scene=frame.scene,
        index=frame.index,
        xyz=frame.xyz,
        true=Labels(*taxonomy.true_segments(frame.label)),
        predicted=predicted,
        cameras=cameras,
        **more,
    )


def _provenance(
    session: Session, result: EvalResult, metrics: list[dict[str, float]], commands: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Everything a reader needs to know where a number comes from."""
    cache, run = result.cache, session.run
    config, info = run.config, run.info
    seconds = training_seconds(metrics, run.step)
    features = clip_facts(cache)
    training = {
        "data": f"{info.dataset} {info.dataset_version}, {info.frames:,} frames of {', '.join(config.data.subsets)}",
        "split": f"{run.split.name}: {', '.join(run.split.hidden) or 'nothing'} never labelled",
        "steps": f"{run.step:,} of {info.total_steps:,}, {config.frames_per_step(info.processes)} frames each",
        "seed": str(config.seed),
        "time": f"{seconds / run.step:.2f} s per step, {seconds / 60:.1f} min in all" if seconds else "not logged",
        "grid": info.grid,
        "parameters": f"{sum(p.numel() for p in run.network.parameters()):,}",
        "versions": f"ovps {info.ovps_version}, torch {info.torch_version}",
    }
    scoring = {
        "frames": f"{result.frames:,} of {result.subset}",
        "time": f"{result.seconds:.1f} s, {result.frames / max(result.seconds, 1e-9):.2f} frames/s with all rows",
        "machine": result.machine,
        "thresholds": describe_inference(result),
        "versions": ", ".join(f"{k} {v}" for k, v in result.versions.items()),
        "frames shown": "evenly spaced over the subset, not chosen by what is on them",
    }
    sections = {"CLIP features": features, "Training": training, "Evaluation": scoring}
    return sections | ({"Commands and times": dict(commands)} if commands else {})


def clip_facts(cache: Provenance) -> dict[str, str]:
    """Describe where the features of a cache come from, for people."""
    return {
        "encoder": cache.encoder,
        "weights": "random: features mean nothing" if cache.weights_random else f"SHA-256 {cache.weights_sha256[:16]}…",
        "images": f"enlarged {cache.upscale:g} times",
        "channels": str(cache.clip_dim),
        "grid": cache.grid,
        "codec": cache.codec,
        "visibility test": str(cache.occlusion) if cache.occlusion else "off",
        "written by": cache.code_version,
    }
