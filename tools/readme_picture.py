"""Draws docs/images/driveworld.png, the picture of the README: truth, prediction and a free text query on one frame.

    python -m tools.readme_picture --run runs/driveworld --cache zarr/driveworld --dataroot data/driveworld

The frame and the camera are chosen by the labels alone: of the validation frames, the view with points of the most
novel classes, then with most of them. So what is predicted there has no say in what is shown.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

import ovps
from ovps import clip, datasets
from ovps.cache.cameras import camera_of
from ovps.cache.frame_data import CachedFrame
from ovps.cache.reader import Store
from ovps.clip.text import build_vocabulary
from ovps.entries import parse_entries
from ovps.files import write_whole
from ovps.frame import Camera
from ovps.geometry.projection import project
from ovps.inference.prediction import class_ids
from ovps.report.colours import class_colours
from ovps.taxonomy import Taxonomy

OUT = Path("docs/images/driveworld.png")
GROUND, INK, FAINT = "#0e1116", "#e8ebf0", "#9aa4b2"
SIZE = (15.0, 9.4)  # inches of 100 pixels
HALF = 27.0  # metres from the car to the edge of the view from above
FEWEST = 40  # points of a class that is there to be seen
# novel classes; yellow, blue, pink, green: of b12n4 vegetation is the last
VIVID = ((255, 210, 63), (63, 200, 255), (255, 93, 143), (94, 226, 122), (179, 136, 255), (255, 140, 66))
MUTED = np.array([62, 70, 84])  # what the colours of base classes are mixed with
UNSEEN = np.array([30, 34, 40], np.uint8)
PER_LINE = 6  # classes in the legend
COLORS = 224  # of the PNG


def best_view(store: Store, dataroot: Path, taxonomy: Taxonomy, novel: tuple[int, ...]) -> tuple[CachedFrame, Camera]:
    """The validation frame and camera that see points of the most novel classes, and of those the most points."""
    best: tuple[tuple[int, int], CachedFrame, Camera] | None = None
    for ref in store.frames:
        if ref.subset != "val" or not ref.labelled:
            continue
        cached = store.read(ref)
        assert cached.label is not None
        classes, _ = taxonomy.decode(cached.label)
        seen = cached.views > 0
        for camera in (camera_of(row, dataroot) for row in cached.cameras):
            counts = np.bincount(classes[project(cached.xyz, camera).inside & seen], minlength=256)[list(novel)]
            rank = (int((counts >= FEWEST).sum()), int(np.minimum(counts, 400).sum()))
            if best is None or rank > best[0]:
                best = rank, cached, camera
    if best is None:
        raise SystemExit("the store has no labelled validation frame")
    return best[1], best[2]


def relevance(frame: CachedFrame, query: str, encoder: str) -> NDArray[np.float64]:
    """Nearness of each point's CLIP feature to a text: 0 at the median, 1 at the best; NaN without a feature."""
    text = build_vocabulary(clip.load(encoder), parse_entries(f'"{query}"')).embeddings.mean(0)
    features = frame.clip / np.maximum(np.linalg.norm(frame.clip, axis=1, keepdims=True), 1e-6)
    cosine = (features @ (text / np.linalg.norm(text)))[frame.point_voxel].astype(float)
    cosine[~frame.valid[frame.point_voxel]] = np.nan
    low, high = np.nanquantile(cosine, [0.5, 0.999])
    return np.clip((cosine - low) / (high - low), 0, 1)


def draw(
    frame: CachedFrame,
    camera: Camera,
    image: NDArray[np.uint8],
    columns: list[tuple[str, str, NDArray[np.uint8], NDArray[np.bool_]]],
    legend: dict[str, list[tuple[str, NDArray[np.uint8]]]],
) -> bytes:
    """A PNG; each column has a title, a note, colours (N, 3) and which points lie on top (N,)."""
    figure = Figure(figsize=SIZE, dpi=100, facecolor=GROUND)
    width, gap, side = 0.3235, 0.008, 0.0067
    across = SIZE[0] / SIZE[1]
    tall = width * across * camera.height / camera.width
    square = width * across
    seen = project(frame.xyz, camera)
    shown = seen.inside & (frame.views > 0)
    for number, (title, note, colours, top) in enumerate(columns):
        left = side + number * (width + gap)
        figure.text(left, 0.964, title, color=INK, fontsize=21, weight="bold", va="center")
        figure.text(left + width, 0.963, note, color=FAINT, fontsize=14, va="center", ha="right")
        ax = figure.add_axes((left, 0.93 - tall, width, tall))
        _camera(ax, seen.uv[shown], image, colours[shown], top[shown])
        ax = figure.add_axes((left, 0.93 - tall - 0.012 - square, width, square))
        _from_above(ax, frame.xyz, colours, top)
    _legend(figure, legend)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    out = io.BytesIO()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def _camera(ax: Axes, uv: NDArray, image: NDArray[np.uint8], colours: NDArray, top: NDArray[np.bool_]) -> None:
    height, width = image.shape[:2]
    grey = image.mean(2, keepdims=True)
    ax.imshow((0.25 * image + 0.25 * grey).astype(np.uint8), interpolation="bilinear")  # dark, for the points to show
    order = np.argsort(top, kind="stable")
    ax.scatter(uv[order, 0], uv[order, 1], c=colours[order] / 255, s=np.where(top[order], 9, 4.5), linewidths=0)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.axis("off")


def _from_above(ax: Axes, xyz: NDArray, colours: NDArray, top: NDArray[np.bool_]) -> None:
    order = np.lexsort((xyz[:, 2], top))
    size = np.where(top[order], 7.0, 2.2)
    ax.scatter(xyz[order, 0], xyz[order, 1], c=colours[order] / 255, s=size, linewidths=0)
    ax.set(xlim=(-HALF, HALF), ylim=(-HALF, HALF), xticks=[], yticks=[], aspect="equal", facecolor=GROUND)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _legend(figure: Figure, legend: dict[str, list[tuple[str, NDArray[np.uint8]]]]) -> None:
    y, line = 0.094, 0.031
    for row, (title, classes) in enumerate(legend.items()):
        dots = [
            Line2D([], [], linestyle="", marker="o", markersize=9, color=colour / 255, label=name)
            for name, colour in classes
        ]
        figure.text(0.0067, y, title, color=INK, fontsize=13, weight="bold", va="center")
        figure.legend(
            handles=dots,
            loc="upper left",
            bbox_to_anchor=(0.21, y + 0.0172),
            ncols=min(len(dots), PER_LINE),
            frameon=False,
            fontsize=13,
            labelcolor=FAINT if row else INK,
            handletextpad=0.1,
            columnspacing=1.2,
            borderpad=0,
            labelspacing=0.45,
        )
        y -= line


def palette(taxonomy: Taxonomy, novel: tuple[int, ...]) -> NDArray[np.uint8]:
    """(256, 3) by class id: novel classes vivid, base classes muted."""
    table = class_colours(np.arange(256), taxonomy)
    table = np.round(0.5 * table + 0.5 * MUTED).astype(np.uint8)
    table[0] = UNSEEN
    table[list(novel)] = VIVID[: len(novel)]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--dataroot", type=Path, required=True)
    parser.add_argument("--query", default="person")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()

    store, run = ovps.open_store(args.cache), ovps.load_run(args.run)
    taxonomy, novel = run.taxonomy, run.split.novel_ids(run.taxonomy)
    dataset = datasets.get(store.provenance.dataset)
    frame, camera = best_view(store, args.dataroot, taxonomy, novel)
    assert frame.label is not None
    true, _ = taxonomy.decode(frame.label)
    predicted = class_ids(run.vocabulary, taxonomy)[ovps.segment(run, frame).entry]
    near = relevance(frame, args.query, store.provenance.encoder)
    heat = np.round(255 * colormaps["inferno"](0.12 + 0.88 * np.nan_to_num(near)))[:, :3].astype(np.uint8)
    heat[np.isnan(near)] = UNSEEN
    colour, thing = palette(taxonomy, novel), [*taxonomy.thing_ids, *novel]
    columns = [
        ("Truth", "labels", colour[true], np.isin(true, thing)),
        ("Prediction", f"after {run.step} steps", colour[predicted], np.isin(predicted, thing)),
        (f"“{args.query}”", "any text, by CLIP", heat, np.nan_to_num(near) > 0.5),
    ]
    there = [c for c in taxonomy.classes if c.id in {*true.tolist(), *predicted.tolist()}]
    named = [(c.id in novel, c.name.replace("_", " "), colour[c.id]) for c in there]
    legend = {
        "never labelled in training": [(name, rgb) for is_novel, name, rgb in named if is_novel],
        "labelled": [(name, rgb) for is_novel, name, rgb in named if not is_novel],
    }
    picture = draw(frame, camera, dataset.image(camera), columns, legend)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, picture)
    print(f"{args.out}: {len(picture) / 1000:.0f} kB, frame {frame.token}, {camera.channel}, run of {run.step} steps")


if __name__ == "__main__":
    main()
