"""Options of the commands: the one place of their names, their defaults and their help.

The command line makes its options of these models (`ovps.options.takes`), experiments read them from YAML, and Python
passes them. Nothing heavy is imported here, so that `--help` is quick.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ovps import defaults
from ovps.options import Flag, Once, Options
from ovps.segment_reference import Of

USUAL = "usual"  # splits
DEMO_WORDS = (
    "fire engine, school bus, lorry, hatchback, person on a bicycle, child, scooter, traffic cone, concrete barrier,"
    " excavator, tree:stuff, road:stuff, pavement:stuff, lawn:stuff, house:stuff"
)
_TEXT = BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)
Place = Annotated[str, _TEXT]  # of a store, as `ovps.cache.where.storage_of` takes it


def _usable(device: str | None) -> str | None:
    """A device that is here: told before anything else is done."""
    if device is not None:
        from ovps.devices import device_of  # torch

        device_of(device)
    return device


Device = Annotated[str | None, AfterValidator(_usable)]


class WorldOptions(Options):
    """Settings of a drive world, see `driveworld.build_world`."""

    scenes: int = Field(24, description="Streets, 1,000 at most.")
    frames: int = Field(10, description="Key frames per street, two a second.")
    seed: int = Field(1, description="The same seed gives the same bytes.")
    format: Literal["nuscenes", "semantickitti"] = Field(
        "nuscenes", description="Of the files; `semantickitti`: 64 beams and one camera that looks ahead."
    )
    val_fraction: float = Field(0.25, description="Share of the scenes in split val.")
    workers: int = Field(2, description="Processes.")


class BuildWorldOptions(WorldOptions):
    """Options of `ovps world build`."""

    command: ClassVar[str] = "world build"

    out: Path = Field(Path("data/driveworld"), description="The dataroot to write.")
    camera_labels: bool = Field(False, description="Also write the class of every pixel.")


class DataOptions(Options):
    """Frames to read, and their data set."""

    dataset: str = Field("nuscenes", description="Its name; other packages may add some.")
    dataroot: Path | None = Field(None, description="Its folder. Default: $OVPS_NAME, else ./data/NAME.")
    version: str | None = Field(None, description="Of the data set. Default: its own.")
    subsets: Annotated[tuple[str, ...], Flag("--split", commas=True), Once] = Field(
        (USUAL,),
        min_length=1,
        description="The data set's own splits, comma-separated; `usual`: train and val, or the version's.",
    )
    sweeps: int = Field(
        0, ge=0, le=20, description="Earlier sweeps whose points join a frame's own as input, ego motion taken out."
    )
    cameras: Annotated[tuple[str, ...], Flag(commas=True), Once] = Field(
        (), description="Cameras to use, comma-separated, for example image_2,image_3. Default: the data set's own."
    )


class ClipOptions(Options):
    """Settings by which images become features of voxels."""

    encoder: str = Field(
        defaults.ENCODER, description="`demo`, a model that open_clip knows, or an encoder of another package."
    )
    weights: str | None = Field(
        None, description="An open_clip tag, a file, or `random`. Default: the encoder's usual weights."
    )
    upscale: float = Field(
        1.0,
        ge=1 / 16,
        le=16,
        description="Enlarge images by this factor first, for objects smaller than a feature cell.",
    )
    grid: str = Field("cylinder", description="`cylinder`, `cylinder:RHOxPHIxZ` or `cartesian:METRES`.")
    occlusion: bool = Field(True, description="Leave out cameras from which a point is hidden.")
    workers: int | None = Field(
        None,
        ge=0,
        description="dask worker processes; 0: none. Default: one a GPU, 0 beside one alone, else by cores and memory.",
    )


class PrecomputeOptions(ClipOptions, DataOptions):
    """Options of `ovps precompute`."""

    command: ClassVar[str] = "precompute"

    out: Place = Field(
        defaults.STORE, description="The store to write or to complete: a folder, or a URL such as s3://BUCKET/NAME."
    )
    codec: str | None = Field(
        None,
        description="`cells`, `dense`, both exact; `cells-pca`, `cells-pca-small` and others of docs/cache.md, which"
        " lose a little; or one of another package. Default: the store's; of a new store with 160 training frames or"
        " more the smallest that keeps a cosine of 0.99 to what CLIP gave; else an exact one.",
    )
    like: Annotated[str | None, _TEXT] = Field(
        None, description="A store to be merged with: its codec is taken, and what that was fitted to."
    )
    thumbnails: int | None = Field(
        None, ge=1, le=2**14, description="Keep images of this width in the store, in pixels, for reports."
    )
    scheduler: str | None = Field(
        None, description="A running dask scheduler instead, whose workers see the same paths: tcp://HOST:PORT."
    )
    on_error: Literal["stop", "skip"] = Field("stop", description="`skip`: quarantine bad frames with the reason.")
    partition_frames: int | None = Field(
        None, ge=1, description="Frames of a partition at most. Default: as many as a store allows."
    )
    limit: int | None = Field(None, ge=1, description="Only the first frames of each split.")
    only: Annotated[tuple[str, ...], Once] = Field((), description="Only the frame of this token, again and again.")
    device: Device = Field(None, description="`cpu` or `cuda`. Default: a GPU where there is one.")
    gpus: int | None = Field(None, ge=1, description="GPUs to use, a worker for each. Default: all that are visible.")


class VocabularyOptions(Options):
    """Options of `ovps vocab build`."""

    command: ClassVar[str] = "vocab build"

    names: str | None = Field(
        None, description='Entries `name[:thing|stuff][=synonym|synonym]`, or a file of them; "a, b" may be quoted.'
    )
    images: Annotated[tuple[str, ...], Once] = Field(
        (), description="`NAME[:thing|stuff]=FOLDER`: a class as pictures of it, again and again."
    )
    examples: tuple[str, ...] = Field(
        (),
        description="`NAME[:thing|stuff]=FRAME:OF:NUMBER|CLASS@SUBSET`: a class as segments of a store, again and"
        " again.",
    )
    out: Path = Field(description="The vocabulary file to write.")
    cache: Annotated[str | None, _TEXT] = Field(
        None, description="A store: its encoder is used, and its weights are checked. Default: ./zarr if there is one."
    )
    encoder: str | None = Field(
        None, description=f"Another encoder than the cache's. Default without a cache: {defaults.ENCODER}."
    )
    weights: str | None = Field(None, description="Of the encoder, as for precompute.")


class TrainOptions(Options):
    """Options of `ovps train`."""

    command: ClassVar[str] = "train"

    cache: Place = Field(defaults.STORE, description="A store written by precompute: a folder, or a URL.")
    config: str = Field("driveworld", description="Name of a config in ovps/configs/train, or a YAML file.")
    system: str = Field(
        "ovps", description="What is trained: a name in ovps/configs/systems, or a YAML file of changes."
    )
    split: str | None = Field(None, description="Which classes are novel: a split's name, or a YAML file.")
    out: Path | None = Field(
        None,
        description="Folder of the run; an unfinished one goes on. Default: runs/CONFIG-SYSTEM.",
    )
    overrides: Annotated[tuple[str, ...], Flag("--set")] = Field((), description="KEY=VALUE, again and again.")
    restart: bool = Field(False, description="Forget what is in the folder.")
    stop_after: int | None = Field(
        None, ge=1, description="Stop after this step with a checkpoint; the schedule stays that of the whole run."
    )
    device: Device = Field(None, description="`cpu`, `cuda` or `cuda:0`. Default: a GPU where there is one.")

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.out or Path("runs") / f"{Path(self.config).stem}-{Path(self.system).stem}"


class StoreOptions(Options):
    """A store, and what computes on it."""

    cache: Place = Field(defaults.STORE, description="A store of the same CLIP: a folder, or a URL.")
    device: Device = Field(None, description="`cpu`, `cuda` or `cuda:0`. Default: a GPU where there is one.")
    backend: str | None = Field(
        None, description="Of sparse convolutions: `minkowski`, `torch`. Default: the training's, where installed."
    )


class CachedOptions(StoreOptions):
    """Frames of a store that something is asked about."""

    subset: str = Field("val", description="The data set's own split.")


class RunOptions(CachedOptions):
    """A run, and the frames that it is asked about."""

    run: Path = Field(description="Folder of a training run.")


Settings = Annotated[tuple[str, ...], Flag("--set")]
UnlabelledFrames = Annotated[
    Literal["error", "skip"] | None,
    Field(description="`skip`: score frames that have labels, leave out the others. Default: as the run was trained."),
]


class EvaluateOptions(RunOptions):
    """Options of `ovps eval`."""

    command: ClassVar[str] = "eval"

    vocabulary: Annotated[Path | None, Flag("--vocab")] = Field(
        None, description="Other synonyms or distractors. Default: the data set's own."
    )
    split: str | None = Field(None, description="Which classes to call novel. Default: the run's split.")
    settings: Settings = Field((), description="merge.KEY=VALUE or classifier.KEY=VALUE, again and again.")
    out: Path | None = Field(None, description="Folder of the scores. Default: RUN/eval.")
    unlabelled_frames: UnlabelledFrames = None
    unknown: bool = Field(
        False,
        description="Score novel classes as unknown too: AUROC and FPR95 where the vocabulary has base classes only.",
    )


class TuneOptions(RunOptions):
    """Options of `ovps tune`; what it chooses by is no frame to report on."""

    command: ClassVar[str] = "tune"

    split: str | None = Field(None, description="Which classes are base. Default: the run's split.")
    unlabelled_frames: UnlabelledFrames = None


class PredictOptions(CachedOptions):
    """Options of `ovps predict`."""

    command: ClassVar[str] = "predict"

    run: Path | None = Field(None, description="Folder of a training run. Default: none, CLIP's features alone.")

    out: Path = Field(description="Folder to write.")
    vocabulary: Annotated[Path | None, Flag("--vocab")] = Field(
        None, description="Any vocabulary. Default: the data set's classes."
    )
    fill: bool = Field(False, description="Give uncovered points the nearest class.")
    unknown: bool = Field(False, description="Write how likely each point is none of the vocabulary, too.")
    check: bool = Field(False, description="Predict nothing: check the files in --out.")
    settings: Settings = Field((), description="merge.KEY=VALUE or classifier.KEY=VALUE, again and again.")


class ReportOptions(StoreOptions):
    """Options of `ovps report`. It shows the subset that was scored."""

    command: ClassVar[str] = "report"

    run: Path = Field(description="Folder of a training run.")
    out: Path | None = Field(None, description="HTML file. Default: RUN/report.html.")
    evaluation: Path | None = Field(None, description="Folder of the scores. Default: RUN/eval.")
    vocabulary: Annotated[Path | None, Flag("--vocab")] = Field(
        None, description="That of the evaluation, if it was not the data set's own."
    )
    count: int = Field(4, ge=1, description="Frames to show.")
    dataroot: Path | None = Field(None, description="The data set, for pictures of the cameras.")


class LabelsOptions(Options):
    """Options of `ovps cache labels`."""

    command: ClassVar[str] = "cache labels"

    path: Annotated[str, _TEXT, Flag(positional=True)] = Field(description="A store: a folder, or a URL.")
    dataroot: Path | None = Field(None, description="Folder of the data set. Default: the data set's own default.")
    on_error: Literal["stop", "skip"] = Field(
        "stop", description="`skip`: frames whose labels cannot be read keep those that they have."
    )


class ConvertOptions(Options):
    """Options of `ovps cache convert`."""

    command: ClassVar[str] = "cache convert"

    cache: Place = Field(defaults.STORE, description="The store to read: a folder, or a URL.")
    out: Place = Field(description="The store to write, a folder or a URL; one that was begun goes on.")
    codec: str = Field(
        description="`dense`, `cells`, `cells-pca`, `cells-pca-small`, `cells-int8`, `cells-pq`, `cells-pq-small`, or"
        " one of another package."
    )
    split: str | None = Field(
        None, description="Of the frames that a codec is fitted to. Default: the data set's training split."
    )
    like: Annotated[str | None, _TEXT] = Field(
        None, description="A store of that codec, to be merged with: its fit is taken, and none is made."
    )


class FramesOptions(Options):
    """Frames of a store."""

    cache: Place = Field(defaults.STORE, description="The store to read: a folder, or a URL.")
    subsets: Annotated[tuple[str, ...], Flag("--split", commas=True)] = Field(
        (), description="Only these splits, comma-separated."
    )
    scenes: Annotated[tuple[str, ...], Flag(commas=True)] = Field((), description="Only these scenes, comma-separated.")
    only: tuple[str, ...] = Field((), description="Only the frame of this token, again and again.")
    limit: int | None = Field(None, ge=1, description="Only the first frames of each split.")


class SubsetOptions(FramesOptions):
    """Options of `ovps cache subset`."""

    command: ClassVar[str] = "cache subset"

    out: Place = Field(description="The store to write, a folder or a URL; one that was begun goes on.")


class ArraysOptions(FramesOptions):
    """Options of `ovps cache export`."""

    command: ClassVar[str] = "cache export"

    out: Path = Field(description="Folder to write; one that was begun goes on.")
    format: Literal["npz", "npy"] = Field("npz", description="A file for each frame, or one for each of its arrays.")


class ImportOptions(Options):
    """Options of `ovps cache import`."""

    command: ClassVar[str] = "cache import"

    features: Path = Field(
        description="Folder of a file for each frame: .npy, an array (points, channels), in which a row of zeros or NaN"
        " is a point without a feature; .npz or .pt, the same array called `feat`, or, as OpenScene writes it, `feat`"
        " of the points alone that are True in `mask_full` (points,)."
    )
    names: str = Field(
        "{token}", description="How they are called, without the ending: {token}, {scene}, {subset}, {index}."
    )
    dataset: str = Field("nuscenes", description="Its name; other packages may add some.")
    dataroot: Path | None = Field(None, description="Its folder. Default: $OVPS_NAME, else ./data/NAME.")
    version: str | None = Field(None, description="Of the data set. Default: its own.")
    subsets: Annotated[tuple[str, ...], Flag("--split", commas=True)] = Field(
        (USUAL,), min_length=1, description="The data set's own splits, comma-separated; `usual`: train and val."
    )
    on_error: Literal["stop", "skip"] = Field("stop", description="`skip`: quarantine bad frames with the reason.")
    limit: int | None = Field(None, ge=1, description="Only the first frames of each split.")
    encoder: str = Field(
        description="Whose text embeddings the features are to be compared with: ViT-L-14-336-quickgelu."
    )
    weights: str | None = Field(None, description="Of the encoder, as for precompute.")
    grid: str = Field("cylinder", description="`cylinder`, `cylinder:RHOxPHIxZ` or `cartesian:METRES`.")
    codec: str = Field("dense", description="One that needs no cells of images.")
    out: Place = Field(description="The store to write, a folder or a URL; one that was begun goes on.")


class MergeOptions(Options):
    """Options of `ovps cache merge`."""

    command: ClassVar[str] = "cache merge"

    caches: Annotated[tuple[str, ...], Flag(positional=True)] = Field(
        description="Stores of one provenance: folders, or URLs."
    )
    out: Place = Field(description="The store to write, a folder or a URL; one that was begun goes on.")


class RepairOptions(Options):
    """Options of `ovps cache repair`."""

    command: ClassVar[str] = "cache repair"

    path: Annotated[str, _TEXT, Flag(positional=True)] = Field(description="A store: a folder, or a URL.")
    dataroot: Path | None = Field(None, description="Folder of the data set. Default: the data set's own default.")
    weights: str | None = Field(None, description="Of the store's encoder, as for precompute.")
    on_error: Literal["stop", "skip"] = Field("stop", description="`skip`: quarantine bad frames with the reason.")
    device: Device = Field(None, description="`cpu` or `cuda`. Default: a GPU where there is one.")


class ExperimentOptions(Options):
    """Options of `ovps experiment run`."""

    command: ClassVar[str] = "experiment run"

    experiment: Annotated[str, Flag(positional=True)] = Field(
        description="A name in ovps/configs/experiments, or a YAML file."
    )
    systems: Annotated[tuple[str, ...] | None, Flag(commas=True), Once] = Field(
        None, description="Instead of the file's, comma-separated."
    )
    splits: Annotated[tuple[str, ...] | None, Flag(commas=True), Once] = Field(
        None, description="Instead of the file's, comma-separated."
    )
    seeds: Annotated[tuple[int, ...] | None, Flag(commas=True), Once] = Field(
        None, description="Instead of the file's, comma-separated."
    )
    jobs: int = Field(1, ge=1, description="Trainings at a time, one thread each; 1: the config's.")
    yes: bool = Field(False, description="Start without asking, however long it takes.")


class JoinOptions(Options):
    """Options of `ovps experiment join`."""

    command: ClassVar[str] = "experiment join"

    folders: Annotated[tuple[Path, ...], Flag(positional=True), Once] = Field(
        description="Of the parts; the first one's experiment is the whole."
    )
    out: Path = Field(description="Folder of the joined results; may be one of the parts.")


class TableOptions(Options):
    """Options of `ovps experiment table`."""

    command: ClassVar[str] = "experiment table"

    folder: Annotated[Path, Flag(positional=True)] = Field(description="Of results.parquet and results.json.")
    score: str = Field("pq", description="pq, sq, rq, pq_dagger, miou, mask_recall or mask_recall_merged.")
    split: str | None = Field(None, description="The first one without it.")
    variants: bool = Field(False, description="Also the runs with one setting of inference changed.")
    parts: bool = Field(False, description="Also on the points that a camera sees, and on the others.")


Negatives = Annotated[
    tuple[str, ...],
    Flag("--against", commas=True),
    Once,
    Field(description="What words have to be nearer than, comma-separated; an empty text for none."),
]
NEGATIVES = ("object", "things", "stuff", "texture")


class LookOptions(Options):
    """A store, perhaps with a run, and frames of it to look at."""

    cache: Place = Field(defaults.STORE, description="A store written by precompute: a folder, or a URL.")
    run: Path | None = Field(None, description="Folder of a training run of the same CLIP; none: labels and CLIP only.")
    subset: str | None = Field(None, description="The data set's own split. Default: all frames.")
    frames: Annotated[tuple[str, ...], Flag("--frames", commas=True), Once] = Field(
        (), description="Tokens, or positions from 0, comma-separated. Default: all."
    )
    vocabulary: Annotated[Path | None, Flag("--vocab")] = Field(
        None, description="Any vocabulary of the store's CLIP. Default: the data set's classes."
    )
    settings: Settings = Field((), description="merge.KEY=VALUE or classifier.KEY=VALUE, again and again.")
    device: Device = Field(None, description="`cpu`, `cuda` or `cuda:0`. Default: a GPU where there is one.")
    backend: str | None = Field(
        None, description="Of sparse convolutions: `minkowski`, `torch`. Default: the training's, where installed."
    )


class ViewOptions(LookOptions):
    """Options of `ovps view`."""

    command: ClassVar[str] = "view"

    dataset_root: Path | None = Field(
        None, description="The data set, for camera images. Default: the store's thumbnails, where it has some."
    )
    weights: str | None = Field(None, description="Of the store's encoder, as for precompute; for queries.")
    host: str = Field("127.0.0.1", description="To listen at; 0.0.0.0 lets others in, unencrypted and unasked.")
    port: int = Field(8080, ge=0, le=65535, description="To listen at; 0: a free one.")
    html: Path | None = Field(None, description="Write one file to send to somebody instead; needs no server.")
    queries: Annotated[tuple[str, ...], Flag("--query"), Once] = Field(
        (), description="Words that the file can light up, up to 20, again and again."
    )
    negatives: Negatives = NEGATIVES
    beside: Path | None = Field(None, description="A second run, side by side with the first in the file.")


class QueryOptions(LookOptions):
    """Options of `ovps query`."""

    command: ClassVar[str] = "query"

    text: Annotated[str | None, Flag(positional=True)] = Field(None, description="What to look for, in your own words.")
    like: str | None = Field(
        None, description="FRAME:OF:NUMBER, an example instead of words, as lists and the viewer name it."
    )
    image: Path | None = Field(None, description="A picture, an example instead of words.")
    negatives: Negatives = NEGATIVES
    of: Of | None = Field(
        None,
        description="What is ranked: labelled objects, the run's segments, or clusters found without labels. Default:"
        " the run's segments where one is given, else objects where there are labels, else clusters. `--like` may"
        " say it too.",
    )
    top: int = Field(50, ge=1, description="Objects, and frames, to list.")
    min_points: int | None = Field(
        None, ge=1, description="Smaller objects are left out. Default: as when the data set is scored."
    )
    html: Path = Field(Path("query.html"), description="The contact sheet to write.")
    table: Annotated[Path | None, Flag("--list")] = Field(
        None, description="Also the list, as FILE.json or FILE.parquet."
    )
    index: Path | None = Field(
        None, description="Folder of the index. Default: STORE.query beside the store, or RUN/query."
    )
    dataset_root: Path | None = Field(
        None, description="The data set, for crops. Default: the store's thumbnails, where it has some."
    )
    weights: str | None = Field(None, description="Of the store's encoder, as for precompute.")


class ExportOptions(LookOptions):
    """Options of `ovps export`."""

    command: ClassVar[str] = "export"

    out: Path = Field(description="Folder to write.")
    ply: bool = Field(False, description="PLY, binary, for CloudCompare, MeshLab and Blender.")
    las: bool = Field(False, description="LAS 1.4, for CloudCompare, QGIS and PDAL.")
    npz: bool = Field(False, description="NumPy arrays.")
    to_global: bool = Field(
        False, description="Points in the data set's global frame, in which frames of a scene lie over one another."
    )


class DemoOptions(Options):
    """Options of `ovps demo`."""

    command: ClassVar[str] = "demo"

    out: Path = Field(Path("demo"), description="Folder to write; what is there already, is not made again.")
    words: str = Field(
        DEMO_WORDS, description='What to look for besides the classes, "car, tree:stuff=tree|bush", or a file of it.'
    )
    frames: int = Field(4, ge=1, le=80, description="Key frames of the street, two a second.")
    seed: int = Field(2026, ge=0, description="Of the street; another one is another street.")
    workers: int = Field(0, ge=0, description="dask worker processes for CLIP; 0: none.")
    open: bool = Field(True, description="Open the page in the browser, where there is a desktop.")
    device: Device = Field(None, description="`cpu` or `cuda`. Default: a GPU where there is one.")


class SegmentOptions(Options):
    """Options of `ovps segment`, besides the recording."""

    command: ClassVar[str] = "segment"

    run: Path | None = Field(None, description="Folder of a training run. Default: none, CLIP's features alone.")
    names: str | None = Field(
        None,
        description='Classes to choose from, "car, tree:stuff=tree|bush", or a file of them. Default: its taxonomy.',
    )
    out: Path | None = Field(None, description="Folder to write. Default: RECORDING-segments.")
    encoder: str | None = Field(None, description=f"As for precompute. Default: the run's, or {defaults.ENCODER}.")
    weights: str | None = Field(None, description="Of the encoder, as for precompute.")
    grid: str | None = Field(None, description="As for precompute. Default: the run's, or one that fits the points.")
    limit: int | None = Field(None, ge=1, description="Only the first frames.")
    pictures: int = Field(30, ge=0, description="Frames to draw, evenly spaced; all are labelled.")
    ply: bool = Field(False, description="Also ply/TOKEN.ply of each frame: colours, rows of the names, instances.")
    on_error: Literal["stop", "skip"] = Field("stop", description="`skip`: leave out frames that cannot be read.")
    workers: int = Field(0, ge=0, description="dask worker processes; 0: none.")
    device: Device = Field(None, description="`cpu` or `cuda`. Default: a GPU where there is one.")
