"""Pictures of one frame: bird's-eye views and camera images with projected points, truth beside prediction."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ovps.frame import Camera
from ovps.geometry.projection import project
from ovps.report.colours import class_colours, instance_colours, novel_colours
from ovps.taxonomy import Taxonomy

GROUND = "#14171b"
INK = "#c9ced6"
WIDTH_PX = 1240


@dataclass(frozen=True, eq=False)
class Labels:
    """Class ids (N,) and instances (N,)."""

    semantic: NDArray[np.integer]
    instance: NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class FrameView:
    """One frame to show.

    Attributes:
        xyz: (N, 3) float32, metres, LiDAR frame.
        true, predicted: of its points; instances of true stuff are the segments that the evaluation counts.
        cameras: with their images (H, W, 3) uint8; none: the images are not at hand.
        name: of what predicted.
        beside: other systems by name, and their labels.
        note: why this frame is shown, perhaps.
    """

    token: str
    scene: str
    index: int
    xyz: NDArray[np.float32]
    true: Labels
    predicted: Labels
    cameras: list[tuple[Camera, NDArray[np.uint8]]] = field(default_factory=list)
    name: str = "prediction"
    beside: list[tuple[str, Labels]] = field(default_factory=list)
    note: str = ""


def birds_eye(view: FrameView, taxonomy: Taxonomy, novel: frozenset[int]) -> bytes:
    """PNG, truth above the predictions: all classes, things by instance, novel classes alone."""
    rows = [*view.beside, (view.name, view.predicted)]
    true = (view.true.semantic, view.true.instance)
    things = [instance_colours(true, (labels.semantic, labels.instance), taxonomy) for _, labels in rows]
    drawn = [("ground truth", view.true, things[0][0])]
    drawn += [(name, labels, pair[1]) for (name, labels), pair in zip(rows, things, strict=True)]

    height = 0.34 * len(drawn) * WIDTH_PX / 100
    figure = Figure(figsize=(WIDTH_PX / 100, height), dpi=100, facecolor=GROUND)
    axes = figure.subplots(len(drawn), 3, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    figure.subplots_adjust(left=0.025, right=0.998, top=1 - 0.295 / height, bottom=0.002)
    for row, (name, labels, thing) in enumerate(drawn):
        panels = [
            (class_colours(labels.semantic, taxonomy), np.isin(labels.semantic, taxonomy.thing_ids)),
            thing,
            novel_colours(labels.semantic, taxonomy, novel),
        ]
        for ax, (colours, subject) in zip(axes[row], panels, strict=True):
            _scatter_plane(ax, view.xyz, colours, subject)
        axes[row, 0].set_ylabel(name, color=INK, fontsize=10)
    for ax, title in zip(axes[0], ("classes", "things, by instance", "novel classes"), strict=True):
        ax.set_title(title, color=INK, fontsize=10, pad=5)
    return _png(figure)


def _scatter_plane(ax: Axes, xyz: NDArray, colours: NDArray[np.uint8], subject: NDArray[np.bool_]) -> None:
    """Points from above, x right, y up; what the panel is about lies on top, and larger: things are few points."""
    half = float(np.clip(np.quantile(np.abs(xyz[:, :2]), 0.95), 15, 50)) if len(xyz) else 50.0
    size = float(np.clip(16000 / max(len(xyz), 1), 0.7, 9))
    order = np.lexsort((xyz[:, 2], subject))
    ax.scatter(
        xyz[order, 0],
        xyz[order, 1],
        c=colours[order] / 255,
        s=np.where(subject[order], max(1.6 * size, 3.5), size),
        linewidths=0,
    )
    ax.set(xlim=(-half, half), ylim=(-half, half), xticks=[], yticks=[], aspect="equal", facecolor=GROUND)
    for spine in ax.spines.values():
        spine.set_color("#2b3036")


def camera_overlays(
    view: FrameView, taxonomy: Taxonomy, novel: frozenset[int], count: int = 2
) -> list[tuple[str, bytes]]:
    """JPEGs, by camera channel: truth beside prediction, for the cameras that see most points of novel classes."""
    is_novel = np.isin(view.true.semantic, list(novel))
    seen = [(project(view.xyz, camera), camera, image) for camera, image in view.cameras]
    seen.sort(key=lambda s: (-int((s[0].inside & is_novel).sum()), -int(s[0].inside.sum()), s[1].channel))
    return [
        (c.channel, _overlay(view, p.uv[p.inside], p.inside, image, taxonomy, novel)) for p, c, image in seen[:count]
    ]


def _overlay(
    view: FrameView,
    uv: NDArray[np.float64],
    inside: NDArray[np.bool_],
    image: NDArray[np.uint8],
    taxonomy: Taxonomy,
    novel: frozenset[int],
) -> bytes:
    height, width = image.shape[:2]
    half = WIDTH_PX / 2 / 100
    figure = Figure(figsize=(2 * half, half * height / width), dpi=100, facecolor=GROUND)
    axes = figure.subplots(1, 2, gridspec_kw={"wspace": 0.006})
    figure.subplots_adjust(left=0, right=1, top=1, bottom=0)
    size = float(np.clip(6000 / max(len(uv), 1), 1.5, 12))
    for ax, labels, title in zip(axes, (view.true, view.predicted), ("ground truth", view.name), strict=True):
        semantic = labels.semantic[inside]
        is_novel = np.isin(semantic, list(novel))
        ax.imshow(image // 2 + 20)  # darker, for the points to show
        colours = class_colours(semantic, taxonomy) / 255
        known = semantic > 0
        for points, rim in ((known & ~is_novel, 0.0), (known & is_novel, 0.5)):
            ax.scatter(
                uv[points, 0],
                uv[points, 1],
                c=colours[points],
                s=size * (2 if rim else 1),
                linewidths=rim,
                edgecolors="white" if rim else "none",
            )
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        ax.text(0.01, 0.975, title, transform=ax.transAxes, va="top", color="white", fontsize=9, bbox=_LABEL)
        ax.axis("off")
    return _jpeg(figure)


_LABEL = {"facecolor": "#000000a0", "edgecolor": "none", "pad": 2.5}


def _pixels(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _png(figure: Figure) -> bytes:
    """256 colours are enough for points on a plain ground, at a third of the size."""
    out = io.BytesIO()
    _pixels(figure).quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def _jpeg(figure: Figure) -> bytes:
    out = io.BytesIO()
    _pixels(figure).save(out, "JPEG", quality=86)
    return out.getvalue()


def jpeg_url(picture: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) as the `src` of an img, compressed."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=82)
    return data_url(out.getvalue())


def data_url(picture: bytes) -> str:
    """A PNG or JPEG as the `src` of an img."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
