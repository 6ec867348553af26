"""Search of a whole store, from the options to what is written."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import pipelines.query.index
import pipelines.query.question
from ovps.cache.reader import Store
from ovps.cli import app, main
from ovps.errors import ConfigError, VocabularyError
from ovps.viewer.index import ObjectIndex
from ovps.viewer.panel import segment_html
from ovps.viewer.view import Question
from pipelines.look import open_catalogue
from pipelines.options import QueryOptions, ViewOptions
from pipelines.query import query
from pipelines.query.found import nothing_found
from pipelines.train import TrainOptions, train
from pipelines.view import write_html
from tests.helpers.fake_text import FakeText
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.test_report import pictures
from tests.pipelines.untrained import LOOSE, TINY, untrained


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("query"))


@pytest.fixture
def ask(made, tmp_path, monkeypatch):
    """Query the store with words of its vocabulary; the index is the test's own."""
    text = FakeText(Store.open(made[1]).vocabulary)
    monkeypatch.setattr("pipelines.query.question.text_of", lambda cache, weights: text)

    def run(words=None, **options):
        given = {"text": words, "cache": made[1], "html": tmp_path / "q.html", "index": tmp_path / "index"} | options
        return query(QueryOptions.asked(**given))

    return run


def test_what_is_asked_for_comes_first(ask, tmp_path):
    found = ask("bus", top=4, table=tmp_path / "q.json")
    listed = json.loads((tmp_path / "q.json").read_text())
    assert (found.of, len(listed)) == ("objects", 4)
    assert [hit["name"] for hit in listed[:4]] == ["bus"] * 4  # one in each of four frames
    assert [hit["score"] for hit in listed] == sorted((h["score"] for h in listed), reverse=True)
    assert listed[0]["score"] > 0.9
    assert listed[0]["distance"] > 5
    assert found.warnings == []


def test_the_contact_sheet_needs_nothing_else_and_shows_each_object(ask, tmp_path):
    found = ask("traffic cone & <script>", top=3)
    page = (tmp_path / "q.html").read_text()
    assert len(pictures(page)) == 3  # from above; the store has no images
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert found.warnings == [
        f"nothing is nearer to “{found.query}” than to the negatives: these are only the least far"
    ]


def test_the_list_as_parquet_has_the_columns_of_the_json(ask, tmp_path):
    ask("car", top=5, table=tmp_path / "q.json")
    ask("car", top=5, table=tmp_path / "q.parquet")
    listed = json.loads((tmp_path / "q.json").read_text())
    assert pq.read_table(tmp_path / "q.parquet").to_pylist() == listed


def test_the_index_is_made_once_and_again_when_the_store_has_changed(ask, tmp_path, monkeypatch):
    calls = []
    collect = pipelines.query.index.collect
    monkeypatch.setattr("pipelines.query.index.collect", lambda *a: calls.append(1) or collect(*a))
    store = write_synthetic_store(tmp_path / "zarr", frames=2)
    first = ask("bus", cache=store)
    assert ask("bus", cache=store).best == first.best
    assert len(calls) == 1
    write_synthetic_store(tmp_path / "other", frames=2, seed=5)
    ask("bus", cache=tmp_path / "other")
    assert len(calls) == 2
    ask("bus", cache=store, subset="val")
    assert len(calls) == 3


def test_an_index_that_cannot_be_kept_is_no_error(ask, tmp_path):
    (tmp_path / "file").write_text("")
    found = ask("bus", index=tmp_path / "file" / "index")
    assert found.best
    assert "could not be kept" in found.warnings[0]


def test_an_example_finds_its_like_but_not_itself(ask, made, tmp_path):
    store = Store.open(made[1])
    token = store.frames[0].token
    frame = store.read(store.frames[0])
    bus = store.taxonomy.by_name["bus"].id
    row = int(np.flatnonzero((frame.object_class == bus) & (frame.object_seen_points > 0))[0])
    found = ask(like=f"{token}:{row}", top=3)
    assert [line.split()[1] for line in found.best] == ["bus"] * 3
    assert not any(line.endswith(f"{token}:objects:{row}") for line in found.best)
    assert ask(like=f"{token}:objects:{row}", top=3).best == found.best
    assert "1.000" not in (tmp_path / "q.html").read_text().split("</style>")[1]  # nor is its frame the best by it


def test_an_example_without_others_is_told_as_that():
    one, unit = np.zeros(1, np.int64), np.eye(1, 4, dtype=np.float32)
    question = Question("like it", unit, np.zeros((0, 4), np.float32), 0.01)
    index = ObjectIndex(unit.astype(np.float16), np.array(["a"], object), one, np.array(["car"], object), one + 20)
    assert nothing_found(question, "objects", [], None, 15, index, itself=0) == [
        "nothing to search: the example is the only object that a camera sees"
    ]
    both = ObjectIndex(*(np.concatenate([x, x]) for x in vars(index).values()))
    (told,) = nothing_found(question, "objects", [], None, 25, both, itself=0)
    assert "no other object has 25 points or more (--min-points), the largest has 20" in told
    none = ObjectIndex(*(x[:0] for x in vars(index).values()))
    for of, said in {"objects": "no camera sees any", "segments": "the run finds no", "clusters": "no camera"}.items():
        assert said in nothing_found(question, of, [], "bus", 15, none)[0]


def test_what_is_listed_is_an_example_as_it_is_named(ask, made):
    """Of whatever kind; a number alone would be another segment of another kind."""
    for of in ("objects", "clusters"):
        reference = ask("bus", of=of).best[0].split()[-1]
        found = ask(like=reference)
        assert (found.of, found.query) == (of, f"like {reference}")
        assert reference.split(":")[1] == of
    with pytest.raises(ConfigError, match="is one of clusters, and objects are asked for") as caught:
        ask(like=reference, of="objects")
    assert caught.value.remedy == "Leave out --of objects"


def test_a_picture_is_an_example(ask, tmp_path, monkeypatch):
    Image.new("RGB", (8, 8), (200, 30, 30)).save(tmp_path / "p.png")
    text = pipelines.query.question.text_of(None, None)
    vector = text.embed(["bus"])

    class Encoder:
        dim = vector.shape[1]

        def embed_images(self, images):
            assert images[0].shape == (8, 8, 3)
            return vector

    monkeypatch.setattr("pipelines.query.question.encoder_of", lambda cache, weights: Encoder())
    assert [line.split()[1] for line in ask(image=tmp_path / "p.png", top=4).best] == ["bus"] * 4
    with pytest.raises(VocabularyError, match="picture"):
        ask(image=tmp_path / "nowhere.png")


def test_a_run_is_asked_about_its_own_segments_and_others_about_clusters(ask, made, tmp_path, monkeypatch):
    loose = tuple(f"merge.{k}={getattr(LOOSE, k)}" for k in ("score", "overlap", "mask"))
    assert ask("bus", run=made[0], settings=loose, subset="val").of == "segments"
    calls = []
    collect = pipelines.query.index.collect
    monkeypatch.setattr("pipelines.query.index.collect", lambda *a: calls.append(1) or collect(*a))
    ask("bus", run=made[0], settings=loose, subset="val")
    assert not calls
    train(TrainOptions(cache=made[1], out=tmp_path / "run", overrides=(*TINY, "seed=1")))
    ask("bus", run=tmp_path / "run", settings=loose, subset="val")
    assert calls  # other weights after as many steps
    plain = write_synthetic_store(tmp_path / "plain", frames=2, labelled=False)
    found = ask("bus", cache=plain, top=3)
    assert found.of == "clusters"
    assert found.objects > 0
    assert "unnamed" in found.best[0]


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (None, {}, "ask for one thing"),
        ("bus", {"like": "a:1"}, "ask for one thing"),
        ("bus", {"table": "q.csv"}, "unknown kind"),
        (None, {"like": "here"}, "FRAME:objects:NUMBER"),
        (None, {"like": "here:99"}, "no segment here:99"),
        ("bus", {"of": "segments"}, "--run"),
        ("bus", {"frames": ("nothing",)}, "no frame nothing"),
        ("bus", {"subset": "test"}, "train, val"),
        ("bus", {"settings": ("merge.score=0.1",)}, "without a run"),
        ("bus", {"vocabulary": Path("words")}, "names segments of a run.*leave out --vocab"),
    ],
)
def test_what_cannot_be_asked_says_why(ask, words, options, message):
    with pytest.raises(ConfigError, match=message):
        ask(words, **options)


@pytest.mark.parametrize("words", ["", "   ", "x" * 1001, "автобус"])
def test_words_that_cannot_be_read_say_so(ask, words):
    with pytest.raises(VocabularyError):
        ask(words)


def test_objects_of_a_store_without_labels_are_refused(ask, tmp_path):
    plain = write_synthetic_store(tmp_path / "plain", frames=1, labelled=False)
    with pytest.raises(ConfigError, match="no labels"):
        ask("bus", cache=plain, of="objects")


def test_the_command_line_takes_words_after_options(made, tmp_path, monkeypatch):
    text = FakeText(Store.open(made[1]).vocabulary)
    monkeypatch.setattr("pipelines.query.question.text_of", lambda cache, weights: text)
    command = ["query", "--cache", str(made[1]), "--html", str(tmp_path / "q.html"), "--top", "2", "bus", "--json"]
    result = CliRunner().invoke(app, [*command, "--index", str(tmp_path / "index")])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["best"]) == 2


@pytest.mark.parametrize("with_run", [True, False])
def test_the_command_of_the_viewer_for_a_segment_does_as_it_stands(made, tmp_path, monkeypatch, with_run):
    run, cache = made
    loose = tuple(f"merge.{k}={getattr(LOOSE, k)}" for k in ("score", "overlap", "mask"))
    options = {"run": run, "settings": loose, "backend": "torch"} if with_run else {}
    catalogue = open_catalogue(ViewOptions(cache=cache, frames=("1",), **options))
    view = catalogue.view(catalogue.frames[0])
    seen = view.pooled[1] if with_run else view.frame.object_seen_points > 0
    segment = int(np.flatnonzero(seen & (view.segments.size >= view.taxonomy.min_points))[0])
    (words,) = re.findall(r"<code>ovps (.*?)</code>", segment_html(view, segment, [], catalogue.flags))
    given = shlex.split(html.unescape(words))
    assert ("--set" in given) is with_run
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*given, "--top", "3", "--index", "index", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["best"]


@pytest.mark.parametrize("option", ["text", "negatives"])
def test_a_word_that_is_no_text_is_refused_before_anything_is_read(ask, tmp_path, option, monkeypatch):
    """As a terminal of Latin-1 writes it."""
    monkeypatch.setattr("pipelines.query.stage.open_catalogue", lambda *_: pytest.fail("the store was read"))
    given = {"text": "bus"} | {option: "caf\udcff" if option == "text" else ("caf\udcff",)}
    with pytest.raises(VocabularyError, match=r"no text, '\\udcff'"):
        ask(given.pop("text"), **given)


def test_such_a_word_is_told_in_json(made, tmp_path, monkeypatch, capsys):
    for command in (("query",), ("view", "--html", str(tmp_path / "v.html"), "--query")):
        monkeypatch.setattr(sys, "argv", ["ovps", *command, "caf\udcff", "--cache", str(made[1]), "--json"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 7
        assert json.loads(capsys.readouterr().out)["error"] == "vocabulary"
    assert not (tmp_path / "v.html").exists()


def test_a_store_whose_name_is_no_text_can_be_looked_at(made, tmp_path, ask):
    odd = tmp_path / "s\udcff"
    shutil.copytree(made[1], odd)
    assert ask("bus", cache=odd, top=1).best
    assert write_html(ViewOptions(cache=odd, frames=("0",)), tmp_path / "v\udcff.html").frames == 1


def test_nothing_that_is_large_enough_has_its_reason(ask):
    found = ask("bus", min_points=10**8)
    assert found.best == []
    assert "no object has 100,000,000 points or more (--min-points), the largest has" in found.warnings[-1]


def test_a_frame_is_named_once_however(ask, made):
    token = Store.open(made[1]).frames[0].token
    with pytest.raises(ConfigError, match=f"frame {token} is named twice"):
        ask("bus", frames=("0", token))
