"""The report is one file, complete, and loads nothing from anywhere."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ovps.cache.reader import Store
from ovps.errors import ConfigError, DatasetError
from ovps.evaluation.comparison import Scored
from ovps.evaluation.results import EvalResult
from ovps.frame import Camera, Frame, PointCloud
from ovps.inference.session import open_session
from ovps.report.curves import curve
from ovps.report.pictures import FrameView, Labels, birds_eye
from ovps.report.run_page import ReportContent, render_run
from ovps.report.systems_page import ComparisonContent, Pictures, render_comparison
from ovps.taxonomy import load_taxonomy
from ovps.vocabulary import save_vocabulary, without_entries
from pipelines.evaluate import evaluate, load_frame_scores, load_result, save_result
from pipelines.look import evenly_spaced
from pipelines.report import report
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.untrained import LOOSE, untrained
from tests.training.relabel import relabelled_store

DRAWN = {"polyline", "rect", "path", "line", "circle"}
VOID = {"meta", "img", "br", "link", "input", "hr", "source"}


class Checker(HTMLParser):
    """Balanced tags, and everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.frames: list[str] = []
        self.scenes: list[str] = []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("link", "script")
        found = [v for k, v in attrs if k in ("src", "href", "srcset", "data", "poster")]
        self.sources += found
        if "article" in self.open:
            self.frames += found
        if tag == "img":
            assert dict(attrs)["alt"]
        if tag == "iframe":
            assert dict(attrs)["sandbox"] == "allow-scripts"  # of an origin of its own
            self.scenes.append(dict(attrs)["srcdoc"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in DRAWN:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        assert tag in DRAWN


def pictures(page: str) -> list[Image.Image]:
    """Those of the frames, after a look at everything else."""
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert all(s.startswith("data:image/") for s in checker.sources)
    assert all("default-src 'none'" in scene and not re.search(r"https?:", scene) for scene in checker.scenes)
    return [Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))) for s in checker.frames]


def fake_camera() -> Camera:
    """Looking ahead (+y)."""
    camera_from_lidar = np.eye(4)
    camera_from_lidar[:3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    camera = Camera("CAM_<FRONT>", "x.jpg", 320, 180, np.diag([200.0, 200.0, 1.0]), camera_from_lidar, 0)
    camera.intrinsics[:2, 2] = 160, 90
    return camera


def fake_frames(cache) -> list[Frame]:
    """Frames of the store with one camera."""
    camera = fake_camera()
    return [
        Frame("synthetic", "1", r.subset, r.scene, r.token, r.index, 0, "", None, (camera,), np.eye(4))
        for r in Store.open(cache).frames
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run, cache = untrained(tmp_path_factory.mktemp("report"))
    evaluate(run, cache, merge=LOOSE)
    return run, cache


@pytest.mark.parametrize(("frames", "count"), [(4, 4), (8, 8), (12, 12), (7, 4), (3, 9), (81, 4), (5, 1)])
def test_as_many_frames_as_asked_for_are_shown_evenly_spaced(frames, count):
    shown = evenly_spaced(list(range(frames)), count)
    assert len(shown) == min(frames, count)
    steps = np.diff([-1 - shown[0], *shown, 2 * frames - 1 - shown[-1] + 1])  # as far from the ends as half a step
    assert max(steps[1:-1], default=0) - min(steps[1:-1], default=0) <= 1
    assert abs(shown[0] - (frames - 1 - shown[-1])) <= 1


def test_report_with_camera_pictures(made, tmp_path):
    run, cache = made
    path = report(
        run,
        cache,
        out=tmp_path / "r.html",
        count=2,
        frames=fake_frames(cache),
        read_image=lambda camera: np.full((180, 320, 3), 90, np.uint8),
        commands={"ovps train --cache <zarr>": "1 s"},
    )
    page = path.read_text(encoding="utf-8")
    found = pictures(page)
    assert [p.format for p in found] == ["PNG", "JPEG"] * 2
    assert min(p.size[0] for p in found) > 1000
    own = re.sub(r"data:image/[a-z]+;base64,[^\"]*|srcdoc=\"[^\"]*\"", "", page)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", own)
    assert "CAM_&lt;FRONT&gt;" in page
    assert "&lt;zarr&gt;" in page
    assert "<polyline" in page
    assert "Random CLIP weights" not in page
    for text in ("prefers-color-scheme: dark", "random class", "true masks", "clip argmax", "synthetic-0001, frame"):
        assert text in page
    for c in load_taxonomy("nuscenes").classes:
        assert c.name.replace("_", " ") in page


def test_pictures_of_another_drive_whose_frames_are_called_the_same_are_refused(made, tmp_path, capsys):
    run, cache = made
    own = {ref.token: Store.open(cache).read(ref) for ref in Store.open(cache).frames}

    def page(points):
        return report(
            run,
            cache,
            out=tmp_path / "r.html",
            frames=fake_frames(cache),
            read_image=lambda camera: np.full((180, 320, 3), 90, np.uint8),
            read_points=points,
        )

    page(lambda frame: PointCloud(own[frame.token].xyz[::-1], own[frame.token].intensity))  # in another order
    assert "images" not in capsys.readouterr().err
    (tmp_path / "r.html").unlink()
    other = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    with pytest.raises(DatasetError, match=r"another sweep as this frame of scene 'synthetic-0001'.*Name the data set"):
        page(lambda frame: PointCloud(other, np.zeros(500, np.float32)))
    assert not (tmp_path / "r.html").exists()


def test_pictures_are_of_the_subset_that_was_scored(made, tmp_path, monkeypatch):
    from ovps import cli, datasets

    run, cache = made
    scored = tmp_path / "eval"
    evaluate(run, cache, subset="train", out=scored, merge=LOOSE)
    asked = []
    known = SimpleNamespace(
        name="nuscenes", frames=lambda root, version, subsets: asked.append(subsets) or (), image=None, points=None
    )
    monkeypatch.setattr(datasets, "get", lambda name: known)
    words = [
        "--run",
        run,
        "--cache",
        cache,
        "--evaluation",
        scored,
        "--dataroot",
        tmp_path,
        "--out",
        tmp_path / "r.html",
    ]
    monkeypatch.setattr(sys, "argv", ["ovps", "report", *map(str, words)])
    with pytest.raises(SystemExit):
        cli.main()
    assert asked == [("train",)]
    assert " of train" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_frames_are_drawn_by_the_split_they_were_scored_by_and_counted_of_all_processes(made, tmp_path, monkeypatch):
    run, cache = made
    evaluate(run, cache, split="pla_b12n3", out=tmp_path / "eval", merge=LOOSE)
    opened = []

    def opened_as_of_three(*arguments, **options):
        session = open_session(*arguments, **options)
        info = session.run.info.model_copy(update={"processes": 3})
        opened.append(replace(session, run=replace(session.run, info=info)))
        return opened[-1]

    monkeypatch.setattr("pipelines.report.open_session", opened_as_of_three)
    page = report(run, cache, evaluation=tmp_path / "eval", out=tmp_path / "r.html").read_text()
    assert "1 of 1, 3 frames each" in page
    (session,) = opened
    assert "other_flat" not in session.vocabulary.names
    assert session.split.novel == ("motorcycle", "pedestrian", "traffic_cone")


def test_without_the_data_set_the_report_says_so_and_random_weights_are_marked(made, tmp_path):
    run, cache = made
    result = evaluate(run, cache, out=tmp_path / "eval").model_copy(update={"weights_random": True})
    save_result(result, tmp_path / "eval")
    page = report(run, cache, out=tmp_path / "r.html", evaluation=tmp_path / "eval", count=1).read_text()
    assert [p.format for p in pictures(page)] == ["PNG"]
    assert "No camera pictures: the cache holds no images" in page
    assert "Random CLIP weights" in page


def test_a_run_that_is_not_evaluated(made, tmp_path):
    run, cache = made
    with pytest.raises(ConfigError, match="not evaluated yet") as caught:
        report(run, cache, evaluation=tmp_path / "own")
    assert caught.value.remedy == f"Run: ovps eval --run {run} --cache {cache} --out {tmp_path / 'own'}"


def test_scores_of_other_weights_are_not_shown(made, tmp_path):
    run, cache = made
    result = evaluate(run, cache, merge=LOOSE, out=tmp_path / "eval")
    assert report(run, cache, evaluation=tmp_path / "eval", out=tmp_path / "r.html", count=1).exists()
    save_result(result.model_copy(update={"checkpoint_sha256": "0" * 64}), tmp_path / "eval")
    with pytest.raises(
        ConfigError, match=rf"scores are of other weights.*Evaluate again: ovps eval --run {run} --cache"
    ):
        report(run, cache, evaluation=tmp_path / "eval", count=1)


def test_scores_of_another_store_are_not_shown_beside_pictures_of_this(made, tmp_path):
    run, cache = made
    evaluate(run, cache, merge=LOOSE, out=tmp_path / "eval")
    other = write_synthetic_store(tmp_path / "other", frames=1)
    assert Store.open(other).provenance == Store.open(cache).provenance
    grid = write_synthetic_store(tmp_path / "grid", grid="cylinder:30x20x4")
    for store in (other, grid):
        with pytest.raises(ConfigError, match=rf"not of the frames of {store}.*--cache {store}") as told:
            report(run, store, evaluation=tmp_path / "eval", out=tmp_path / "r.html")
        assert "Name by --cache the store that was scored" in told.value.remedy


def test_scores_of_another_vocabulary_are_not_shown_beside_pictures_of_this(made, tmp_path):
    run, cache = made
    few = without_entries(Store.open(cache).vocabulary, ("bus", "car"))
    save_vocabulary(few, tmp_path / "few.safetensors")
    evaluate(run, cache, merge=LOOSE, out=tmp_path / "eval", vocabulary=tmp_path / "few.safetensors")
    given = {"evaluation": tmp_path / "eval", "out": tmp_path / "r.html", "count": 1}
    with pytest.raises(ConfigError, match="scores are of another vocabulary, barrier"):
        report(run, cache, **given)
    report(run, cache, vocabulary=tmp_path / "few.safetensors", **given)
    evaluate(run, cache, merge=LOOSE, out=tmp_path / "eval")
    with pytest.raises(ConfigError, match="another vocabulary"):
        report(run, cache, vocabulary=tmp_path / "few.safetensors", **given)


def test_warnings_of_the_scores_are_shown(made, tmp_path, capsys):
    run, cache = made
    result = evaluate(run, cache, merge=LOOSE, out=tmp_path / "eval")
    save_result(result.model_copy(update={"warnings": ["2 of <3> frames"]}), tmp_path / "eval")
    run = shutil.copytree(run, tmp_path / "run")
    (run / "metrics.jsonl").write_bytes(bytes(500))  # of a machine whose power failed
    page = report(run, cache, evaluation=tmp_path / "eval", out=tmp_path / "r.html", count=1).read_text()
    assert '<p class="warning">2 of &lt;3&gt; frames</p>' in page
    assert f'<p class="warning">the curves of {run / "metrics.jsonl"} end at step 0, and the run is at step 1' in page
    assert "warning: 2 of <3> frames" in capsys.readouterr().err


def test_labels_that_were_mended_after_the_scores_are_told(made, tmp_path, capsys):
    run, cache = made
    mended = relabelled_store(cache, tmp_path / "zarr", lambda raw, semantic, rng: np.roll(raw, 300))
    evaluate(run, cache, merge=LOOSE, out=tmp_path / "eval")
    for store in (cache, mended):
        page = report(run, store, evaluation=tmp_path / "eval", out=tmp_path / "r.html", count=1).read_text()
        text = f"labels of {store} lie in other files than when it was scored: pictures may not go with the scores"
        assert (text in page) == (text in capsys.readouterr().err) == (store == mended)


def test_frames_that_came_after_the_scores_are_not_shown(made, tmp_path, monkeypatch):
    run, cache = made
    evaluate(run, cache, merge=LOOSE, out=tmp_path / "eval")
    scores = load_frame_scores(tmp_path / "eval")
    monkeypatch.setattr("pipelines.report.load_frame_scores", lambda folder: scores[:1])
    report(run, cache, evaluation=tmp_path / "eval", out=tmp_path / "r.html", count=9)
    shown = set(re.findall(r"synthetic-\d+, frame (\d+)", (tmp_path / "r.html").read_text()))
    assert shown == {str(scores[0].index)}


def test_scores_of_a_version_that_had_not_all_settings_are_not_shown_beside_pictures_of_today(made, tmp_path):
    run, cache = made
    result = evaluate(run, cache, merge=LOOSE, out=tmp_path / "eval")
    before = {name: value for name, value in result.inference.items() if name != "split_length"}
    save_result(result.model_copy(update={"inference": before}), tmp_path / "eval")
    with pytest.raises(ConfigError, match=r"knew nothing of split_length .*eval\)\. Evaluate again"):
        report(run, cache, evaluation=tmp_path / "eval", count=1)
    evaluate(run, cache, merge=LOOSE, out=tmp_path / "eval")
    assert report(run, cache, evaluation=tmp_path / "eval", out=tmp_path / "r.html", count=1).exists()


class Pieces(HTMLParser):
    """Tags, attributes and texts of a page in order; pictures left out."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen += [f"<{tag}", *(f"{k}={v}" for k, v in attrs if k != "src")]

    def handle_endtag(self, tag):
        self.seen.append(f"/{tag}")

    def handle_data(self, data):
        self.seen.append(data)


def run_and_comparison(result: EvalResult, name: str) -> list[str]:
    """Both pages, with `name` for everything that a user or a data set names."""
    old = result.system.panoptic.classes[0].name
    renamed = result.model_dump_json().replace(json.dumps(old), json.dumps(name))
    result = EvalResult.model_validate_json(renamed).model_copy(update={"run": name, "split": name, "subset": name})
    row = result.references[0].model_copy(update={"name": name, "description": name})
    result = result.model_copy(update={"variants": [row], "references": [*result.references, row]})
    taxonomy = load_taxonomy("nuscenes")
    classes = tuple(c.model_copy(update={"name": name}) if c.name == old else c for c in taxonomy.classes)
    taxonomy = taxonomy.model_copy(update={"classes": classes})
    first = taxonomy.classes[0].id
    labels, missed = (Labels(np.full(20, of), np.ones(20, np.int64)) for of in (4, first))
    camera = replace(fake_camera(), channel=name)
    image = np.zeros((180, 320, 3), np.uint8)
    ahead = np.tile(np.array([0, 9, 0], np.float32), (20, 1))
    view = FrameView(name, name, 0, ahead, missed, labels, [(camera, image)], name, [(name, labels)], name)
    metrics = [{"step": 1, f"loss/{name}": 1.0}]
    facts = {name: {name: name}}
    cells = [Scored(name, name, seed, result, 1.0) for seed in (0, 1)]
    pictures = [Pictures(name, [view], name, name)]
    return [
        render_run(ReportContent(result, taxonomy, metrics, [view], facts, name, (name,))),
        render_comparison(
            ComparisonContent(name, cells, {name: name}, taxonomy, metrics, pictures, facts, [name], [name])
        ),
    ]


def test_a_training_that_several_splits_score_costs_once(made):
    result = load_result(made[0] / "eval")
    trained = {seed: result.model_copy(update={"checkpoint_sha256": f"{seed}" * 64}) for seed in range(3)}
    minutes = (10.0, 12.0, 20.0)
    cells = [Scored("s", split, seed, trained[seed], minutes[seed]) for split in "abc" for seed in trained]
    (cost,) = ComparisonContent("t", cells, {"s": ""}, load_taxonomy("nuscenes"), [], [], {}, [], []).costs
    assert cost.numbers[2:] == (f"{np.mean(minutes):.1f} ± {np.std(minutes, ddof=1):.1f}", "3")


def test_names_are_text_wherever_they_appear(made):
    """With any name, a page has the tags and attributes that it has with a plain one, and says that name instead."""
    name, result = "<script>&\"' onload=1", load_result(made[0] / "eval")
    for plain, odd in zip(run_and_comparison(result, "plain"), run_and_comparison(result, name), strict=True):
        assert Pieces(odd).seen == [piece.replace("plain", name) for piece in Pieces(plain).seen]


def test_curves_take_what_is_there():
    metrics = [{"step": i, "loss/total": 3 / i, "loss/off": 0.0} for i in range(1, 500)]
    assert curve(metrics, "loss/total").svg.count("<polyline") == 2
    assert curve(metrics, "loss/off") is curve(metrics, "loss/none") is None
    assert "<polyline" in curve(metrics[:1], "loss/total").svg


@pytest.mark.parametrize("points", [0, 1, 50])
def test_birds_eye_of_hardly_any_points(points):
    labels = Labels(np.full(points, 4), np.arange(points))
    view = FrameView("t", "s", 0, np.zeros((points, 3), np.float32), labels, labels)
    picture = Image.open(io.BytesIO(birds_eye(view, load_taxonomy("nuscenes"), frozenset({4}))))
    assert picture.size[0] == 1240
