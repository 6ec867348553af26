"""The page of an experiment: what `ovps.report.systems_page` shows, gathered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ovps import datasets, systems
from ovps.cache.frame_data import FrameRef
from ovps.cache.reader import Store
from ovps.errors import command
from ovps.evaluation.comparison import Scored, main_system, references_of
from ovps.evaluation.results import FrameScore, describe_inference, settings_of, split_of
from ovps.frame import Frame
from ovps.inference.session import Session, open_session, predictions
from ovps.report.opening import best_view
from ovps.report.page import write_page
from ovps.report.pictures import Labels
from ovps.report.systems_page import ComparisonContent, Pictures, render_comparison
from ovps.training.metrics import read_metrics
from ovps.training.run_files import load_settings
from ovps.training.system_files import load_system
from pipelines.evaluate import load_frame_scores, versions
from pipelines.experiment.cell import VOCABULARY
from pipelines.experiment.collect import Collected, warnings_of
from pipelines.experiment.provenance import code_state, this_machine
from pipelines.experiment.schema import Experiment
from pipelines.experiment.stages import Stages, duration
from pipelines.images import ReadImage
from pipelines.look import evenly_spaced
from pipelines.report import cameras_of, clip_facts, frame_view, labels_of, scene_of

EVEN = 3  # frames shown, evenly spaced
SHOWN = 4  # systems drawn, at most


def write_report(experiment: Experiment, cells: Sequence[Collected], missing: Sequence[str], stages: Stages) -> None:
    """Write the HTML file of an experiment of which `cells` are done.

    Raises:
        StorageError: the disk refuses.
    """
    scored = [c.scored for c in cells]
    mains = [_main(cells, split) for split in dict.fromkeys(s.split for s in scored)]
    main = mains[0]
    pictures = [_pictures(experiment, cells, one) for one in mains]
    content = ComparisonContent(
        caveat=_caveat(experiment, scored),
        taught_all=_taught_all(experiment.systems),
        taught_none=_taught_none(experiment.systems),
        scene=_scene(main, pictures[0]),
        title=experiment.name,
        cells=scored,
        descriptions=_descriptions(experiment.systems),
        taxonomy=Store.open(main.training.cache).taxonomy,
        metrics=read_metrics(main.training.run),
        pictures=pictures,
        provenance=_provenance(experiment, cells, main, stages),
        missing=missing,
        warnings=warnings_of(cells),
        not_measured=_not_measured(experiment, scored),
    )
    write_page(experiment.report, render_comparison(content))


def _main(cells: Sequence[Collected], split: str) -> Collected:
    """The cell that speaks for a split."""
    scored = references_of(
        [c.scored for c in cells if c.scored.split == split], main_system([c.scored.system for c in cells])
    )
    return next(c for c in cells if c.scored is scored)


def _taught_all(names: Sequence[str]) -> set[str]:
    """Those of the systems that are trained with the labels of all classes."""
    trained = [system for system in map(load_system, names) if system.train_split == "all"]
    return {system.name for system in trained if systems.get(system.settings["system"]).needs_labels}


def _taught_none(names: Sequence[str]) -> set[str]:
    """Those of the systems that are trained without any label."""
    found = map(load_system, names)
    return {system.name for system in found if not systems.get(system.settings["system"]).needs_labels}


def _descriptions(names: Sequence[str]) -> dict[str, str]:
    found = [load_system(name) for name in names]
    return {system.name: system.description for system in found}


def choose_frames(
    frames: Sequence[FrameRef], scores: Sequence[FrameScore], main: str, count: int = EVEN
) -> tuple[list[FrameRef], str, str | None]:
    """Choose the frames to show; also the rule in words, and the token of the worst one, if it is known.

    `count` frames evenly spaced, chosen before anyone has seen what is predicted on them, and the one with the lowest
    PQ of novel classes of the main system; of several, the first.
    """
    chosen = evenly_spaced(list(frames), count)
    rule = f"Chosen by rule: {len(chosen)} evenly spaced over the subset, whatever is on them"
    known = [s for s in scores if s.novel is not None]
    if not known:
        return chosen, f"{rule}.", None
    worst = min(known, key=lambda s: s.novel or 0.0).token
    order = {ref.token: number for number, ref in enumerate(frames)}
    if worst not in order:
        return chosen, f"{rule}.", None
    tokens = {*(ref.token for ref in chosen), worst}
    chosen = sorted((ref for ref in frames if ref.token in tokens), key=lambda ref: order[ref.token])
    return chosen, f"{rule}; and the frame on which {main} has its lowest PQ of novel classes.", worst


def _pictures(experiment: Experiment, cells: Sequence[Collected], main: Collected) -> Pictures:
    """Frames of the main cell's subset with its prediction, and those of other systems of its split and seed."""
    store = Store.open(main.training.cache)
    frames = store.frames_of([main.scored.result.subset])
    shown, rule, worst = choose_frames(frames, load_frame_scores(main.folder), main.scored.system)
    drawn = _drawn(experiment, cells, main)
    found = {c.scored.system: _predicted(c, shown) for c in drawn}
    others = [name for name in found if name != main.scored.system]
    cameras, no_images = cameras_of(store, shown, *_images(experiment, main.scored.result.subset))

    taxonomy, views = split_of(main.scored.result).scored(store.taxonomy), []
    for ref in shown:
        frame = store.read(ref)
        views.append(
            frame_view(
                frame,
                taxonomy,
                found[main.scored.system][frame.token],
                cameras.get(frame.token, []),
                name=main.scored.system,
                beside=[(name, found[name][frame.token]) for name in others],
                note=f"The lowest PQ of novel classes of {main.scored.system}." if frame.token == worst else "",
            )
        )
    return Pictures(main.scored.split, views, rule, no_images)


def _drawn(experiment: Experiment, cells: Sequence[Collected], main: Collected) -> list[Collected]:
    """The cells of the systems to draw: of the main cell's split and seed, on the same points."""
    same = [
        c
        for c in cells
        if (c.scored.split, c.scored.seed) == (main.scored.split, main.scored.seed)
        and c.scored.system != main.scored.system
    ]
    wanted = [Path(name).stem for name in experiment.show] if experiment.show else [c.scored.system for c in same]
    return [*[c for c in same if c.scored.system in wanted][: SHOWN - 1], main]


def _session(cell: Collected) -> Session:
    """The run of a cell, as it was scored."""
    merge, classifier = settings_of(cell.scored.result, cell.folder)
    file = cell.folder / VOCABULARY
    return open_session(
        cell.training.run,
        cell.training.cache,
        vocabulary=file if file.is_file() else None,
        merge=merge,
        classifier=classifier,
        split=split_of(cell.scored.result),
    )


def _predicted(cell: Collected, shown: Sequence[FrameRef]) -> dict[str, Labels]:
    """Labels of the frames by token. Frames are looked up by token: partitions of another cache may differ."""
    session = _session(cell)
    tokens = {ref.token for ref in shown}
    refs = [ref for ref in session.store.frames if ref.token in tokens]
    return {frame.token: labels_of(session, prediction) for frame, prediction in predictions(session, refs)}


def _scene(main: Collected, pictures: Pictures) -> str | None:
    """The frame that the page begins with, to turn."""
    session = _session(main)
    shown = best_view(pictures.views, session.taxonomy, main.scored.result.novel)
    if shown is None:
        return None
    return scene_of(session, shown.token, {shown.token: shown.cameras})


def _images(experiment: Experiment, subset: str) -> tuple[list[Frame], ReadImage | None]:
    """Frames of the data set with their cameras, and how to read an image; nothing where there is no data set."""
    data = experiment.data
    if data is None:
        return [], None
    dataset, root = datasets.get(data.dataset), data.dataroot or datasets.default_root(data.dataset)
    frames = datasets.frames_of(dataset, root, data.version or dataset.default_version, (subset,))
    return frames, dataset.image


def _provenance(
    experiment: Experiment, cells: Sequence[Collected], main: Collected, stages: Stages
) -> dict[str, Mapping[str, str]]:
    result = main.scored.result
    config, info = load_settings(main.training.run)
    ours = {
        "command": command("ovps", "experiment", "run", experiment.name),
        "code": str(code_state()),
        "machine": this_machine(),
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
        "config": f"{experiment.train}" + "".join(f", {k}={v}" for k, v in experiment.set.items()),
        **{f"tuned, {n}": ", ".join(f"{k}={v}" for k, v in found.items()) for n, found in experiment.tuned.items()},
        "trainings": f"{len({c.training.key for c in cells})} for {len(cells)} evaluations",
        "scores": f"{experiment.out}/results.parquet, results.json",
    }
    training = {
        "data": f"{info.dataset} {info.dataset_version}, {info.frames:,} frames of {', '.join(config.data.subsets)}",
        "steps": f"{result.step:,} of {info.total_steps:,}, {config.frames_per_step(info.processes)} frames each",
        "seeds": ", ".join(map(str, sorted({c.scored.seed for c in cells}))),
        "grid": info.grid,
        "threads": f"{config.threads or 'all cores'}",
        "versions": f"ovps {info.ovps_version}, torch {info.torch_version}",
    }
    seconds = [c.scored.result.seconds for c in cells]
    scoring = {
        "frames": f"{result.frames:,} of {result.subset}",
        "time": f"{duration(sum(seconds) / len(seconds))} each with all rows",
        "machine": result.machine,
        "thresholds": describe_inference(result),
    }
    caches = {str(c.training.cache): c.scored.result.cache for c in cells}
    features = {f"CLIP features, {path}": clip_facts(cache) for path, cache in caches.items()}
    times = {"Commands and times": stages.took()} if stages.seconds else {}
    main_name = f"Training of {main.training.run.name}"
    return {"Experiment": ours, **features, main_name: training, "Evaluation": scoring, **times}


def _caveat(experiment: Experiment, cells: Sequence[Scored]) -> str:
    """Say what weighs most against the result, as the end of a sentence that begins with `but`."""
    if any(c.result.weights_random for c in cells):
        return "some CLIP has random weights, so it shows what chance looks like"
    if experiment.world is not None:
        once = ", trained once" if len({c.seed for c in cells}) == 1 else ""
        return f"this is one procedural world{once}, whose small CLIP was taught all classes in pictures"
    if len({c.seed for c in cells}) == 1:
        return "every system was trained once, and seeds differ"
    return "these frames may have been in view while settings were chosen" if experiment.subset == "val" else ""


def _not_measured(experiment: Experiment, cells: Sequence[Scored]) -> list[str]:
    texts = []
    if len({c.seed for c in cells}) == 1:
        texts.append("The spread over seeds: every system was trained once.")
    else:
        texts.append("The spread over worlds or data sets: all seeds see the same frames, in another order.")
    if len({c.split for c in cells}) == 1:
        texts.append("Other choices of novel classes: there is one split.")
    if experiment.world is not None:
        texts.append("Real driving data: the drive world is procedural, and its CLIP a small stand-in.")
    if experiment.subset == "val":
        texts.append("A test set: settings may have been chosen with these same validation frames in view.")
    texts.append("Speed on a GPU, unless the provenance above names one.")
    return texts
