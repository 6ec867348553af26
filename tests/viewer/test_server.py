"""The server without a browser: what it listens at, and what it gives to whom."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import numpy as np
import pytest
import viser
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ovps.cache.reader import Store
from ovps.errors import CacheError, ConfigError, DatasetError, SetupError, VocabularyError
from ovps.extras import extra
from ovps.taxonomy import load_taxonomy
from ovps.viewer.catalogue import Catalogue, chosen_frames
from ovps.viewer.offline import NAMELESS, _entries
from ovps.viewer.server import Visitor, same_site, start_viewer
from ovps.vocabulary import save_vocabulary
from pipelines.look import image_reader, inside, open_catalogue, present
from pipelines.options import LookOptions, ViewOptions
from pipelines.train import TrainOptions, train
from pipelines.view import serve, write_html
from tests.helpers.synthetic_store import vocabulary, write_synthetic_store
from tests.pipelines.untrained import TINY, untrained


@pytest.fixture(scope="module")
def viewer(store):
    opened = Store.open(store)
    catalogue = Catalogue(opened, opened.frames, opened.vocabulary, None, frozenset(), opened.pictures)
    started = start_viewer(catalogue, None, host="127.0.0.1", port=0, title="test")
    yield started
    started.stop()


def get(viewer, path):
    connection = http.client.HTTPConnection(viewer.url.removeprefix("http://"), timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../../../etc/passwd",
        "/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..\\..\\..\\..\\etc\\passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/store.json",
        "/index.html/../../../_viser.py",
        "/etc/passwd?/index.html",
        "/./.././../etc/passwd",
        "/%252e%252e/%252e%252e/etc/passwd",
        "/%2fetc%2fpasswd",
        "/assets/%00/../../../../etc/passwd",
        "http://127.0.0.1/etc/passwd",
        "file:///etc/passwd",
    ],
)
def test_no_file_but_the_page_is_served(viewer, path):
    status, content = get(viewer, path)
    assert status == 404
    assert b"root:" not in content


def test_the_page_is_served_and_the_server_listens_at_loopback_alone(viewer):
    assert get(viewer, "/")[0] == 200
    assert viewer.url.startswith("http://127.0.0.1:")
    assert viewer.server._websock_server._host == "127.0.0.1"


def test_nobody_can_have_it_shared_through_another_host(viewer):
    assert viewer.server.request_share_url() is None


@pytest.mark.parametrize(
    ("host", "headers", "answer"),
    [
        ("127.0.0.1", {"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:8080"}, True),
        ("127.0.0.1", {"Host": "localhost:8080", "Origin": "http://localhost:8080"}, True),
        ("127.0.0.1", {"Host": "127.0.0.1:8080"}, True),  # no browser
        ("127.0.0.1", {"Host": "127.0.0.1:8080", "Origin": "https://evil.example"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:9000"}, False),
        ("127.0.0.1", {"Host": "evil.example:8080", "Origin": "http://evil.example:8080"}, False),  # rebound DNS
        ("0.0.0.0", {"Host": "gpu7:8080", "Origin": "http://gpu7:8080"}, True),
        ("0.0.0.0", {"Host": "gpu7:8080", "Origin": "http://evil.example"}, False),
    ],
)
def test_pages_of_other_sites_are_shown_nothing(host, headers, answer):
    assert same_site(headers, host) is answer


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:9", "null"])
def test_a_socket_of_another_site_is_closed_before_anything_is_sent(viewer, origin, capsys):
    for _ in range(2):
        with pytest.raises(ConnectionClosed) as closed, _connected(viewer, origin) as socket_of_theirs:
            socket_of_theirs.recv(timeout=20)
        assert closed.value.rcvd.reason == "another site"
    assert capsys.readouterr().err.count(f"a page of '{origin}' was shown nothing: open {viewer.url} itself") == 1
    with _connected(viewer, viewer.url) as own:
        assert own.recv(timeout=20)


def _connected(viewer, origin):
    url, version = viewer.url.replace("http", "ws"), f"viser-v{viser.__version__}"
    return connect(url, origin=origin, subprotocols=[version], compression=None)


def test_a_port_that_is_taken_is_an_error_with_a_way_out(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"{port}.*in use") as error:
            serve(ViewOptions(cache=store, port=port))
    assert "--port" in str(error.value)


def test_ipv6_stands_in_brackets_in_what_people_copy(store):
    with socket.socket(socket.AF_INET6) as taken:
        with suppress(OSError):  # a machine without IPv6: cannot be listened at either
            taken.bind(("::1", 18080))
            taken.listen()
        with pytest.raises(ConfigError, match=r"\[::1\]:18080: "):
            serve(ViewOptions(cache=store, host="::1", port=18080))


def test_a_host_that_is_none_is_an_error(store):
    with pytest.raises(ConfigError, match=r"no\.such\.host\.invalid"):
        serve(ViewOptions(cache=store, host="no.such.host.invalid"))


def test_frames_are_found_by_token_and_by_position(store):
    opened = Store.open(store)
    first, second, *_ = [ref for ref in opened.frames if ref.subset == "val"]
    assert chosen_frames(opened, "val", ("1", first.token)) == (second, first)
    assert len(chosen_frames(opened, None)) == len(opened.frames)
    with pytest.raises(ConfigError, match="no frame 99"):
        chosen_frames(opened, None, ("99",))
    with pytest.raises(ConfigError, match="train, val"):
        chosen_frames(opened, "test")


def test_an_empty_store_says_so(tmp_path):
    empty = write_synthetic_store(tmp_path / "zarr", frames=0)
    with pytest.raises(ConfigError, match=r"holds no frame yet.*ovps precompute"):
        open_catalogue(LookOptions(cache=empty))


def test_a_run_and_a_vocabulary_of_another_clip_are_refused(tmp_path):
    run, _ = untrained(tmp_path)
    other = write_synthetic_store(tmp_path / "other", frames=1, clip_dim=8)
    with pytest.raises(CacheError):
        open_catalogue(LookOptions(cache=other, run=run))
    save_vocabulary(vocabulary(clip_dim=16), tmp_path / "v.safetensors")
    catalogue = open_catalogue(LookOptions(cache=other, vocabulary=tmp_path / "v.safetensors"))
    assert catalogue.vocabulary.names
    changed = vocabulary(clip_dim=16)
    object.__setattr__(changed, "weights_sha256", "1" * 64)
    save_vocabulary(changed, tmp_path / "w.safetensors")
    with pytest.raises(VocabularyError, match="vocab build"):
        open_catalogue(LookOptions(cache=other, vocabulary=tmp_path / "w.safetensors"))


def test_classes_of_another_data_set_are_novel_unless_the_run_was_taught_their_name(tmp_path):
    run, own = untrained(tmp_path)
    taxonomy = load_taxonomy("semantickitti")
    other = write_synthetic_store(tmp_path / "other", frames=1, taxonomy=taxonomy)
    here = open_catalogue(LookOptions(cache=own, run=run))
    names = {here.store.taxonomy.by_id[i].name for i in here.novel}
    assert names == {"bus", "motorcycle", "pedestrian", "vegetation"}
    there = open_catalogue(LookOptions(cache=other, run=run))
    taught = {"car", "truck", "bicycle", "sidewalk", "terrain"}
    assert {taxonomy.by_id[i].name for i in there.novel} == {c.name for c in taxonomy.classes} - taught


def test_images_outside_the_data_root_are_not_read(store, tmp_path):
    opened = Store.open(store)
    (camera, *_) = opened.cameras(opened.frames[0], tmp_path)
    with pytest.raises(DatasetError, match=r"no such image, which the store was made of.*Give the folder that"):
        present(inside(tmp_path, camera))
    with pytest.raises(DatasetError, match=r"no such image, which the store was made of.*Give the folder that"):
        image_reader(opened, tmp_path)
    Path(camera.image_path).parent.mkdir(parents=True)
    Path(camera.image_path).touch()
    assert present(inside(tmp_path, camera)) is camera
    for path in ("../secret.jpg", "/etc/passwd", "samples/../../secret.jpg"):
        outside = type(camera)(**{**vars(camera), "image_path": str(tmp_path / path)})
        with pytest.raises(DatasetError, match="outside the data root"):
            inside(tmp_path, outside)
    (tmp_path / "link.jpg").symlink_to("/etc/passwd")
    with pytest.raises(DatasetError, match="the image is a link to /etc/passwd"):
        inside(tmp_path, type(camera)(**{**vars(camera), "image_path": str(tmp_path / "link.jpg")}))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/samples").symlink_to(tmp_path / "samples")  # of another disk
    linked = type(camera)(**{**vars(camera), "image_path": camera.image_path.replace("/samples/", "/data/samples/")})
    assert present(inside(tmp_path / "data", linked)) is linked
    with pytest.raises(DatasetError, match="no such data root"):
        image_reader(opened, tmp_path / "nowhere")


def test_too_many_queries_are_told_before_a_frame_is_read(store, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.view.open_catalogue", lambda *given: pytest.fail("the store was read"))
    with pytest.raises(ConfigError, match=r"21 queries in one file.*at most 20"):
        write_html(ViewOptions(cache=store, queries=tuple(f"w{n}" for n in range(21))), tmp_path / "v.html")


def test_a_program_learns_the_address(store):
    command = [sys.executable, "-m", "ovps.cli", "view", "--cache", str(store), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        lines = [process.stdout.readline() for _ in range(3)]  # while it serves
        url = json.loads("".join(lines))["url"]
        assert urlopen(url, timeout=20).status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


def test_an_end_as_soon_as_the_address_is_said_is_in_order(store, capsys):
    def end_it(url):
        raise KeyboardInterrupt

    serve(ViewOptions(cache=store, port=0), started=end_it)
    assert "the viewer has ended" in capsys.readouterr().err


def test_a_file_of_frames_is_small_and_says_where_things_lie(store, tmp_path):
    summary = write_html(ViewOptions(cache=store, frames=("0", "2")), tmp_path / "v.html")
    assert summary.frames == 2
    assert summary.bytes_per_frame < 200_000
    page = Path(tmp_path / "v.html").read_text(encoding="utf-8")
    assert "http://" not in page
    assert "https://" not in page
    with pytest.raises(ConfigError, match="--beside"):
        write_html(ViewOptions(cache=store, beside=tmp_path), tmp_path / "v.html")
    with pytest.raises(ConfigError, match="--against without --query"):
        write_html(ViewOptions(cache=store, negatives=("road",)), tmp_path / "v.html")


def test_two_runs_whose_folders_have_one_name_are_told_apart(made, tmp_path):
    run, store = made
    for place in ("first", "second"):
        shutil.copytree(run, tmp_path / place / "seed0")
    options = ViewOptions(cache=store, run=tmp_path / "first/seed0", beside=tmp_path / "second/seed0", frames=("0",))
    write_html(options, tmp_path / "v.html")
    page = (tmp_path / "v.html").read_text(encoding="utf-8")
    assert "first/seed0 beside second/seed0" in page
    info = tmp_path / "second/seed0/run.json"
    known = json.loads(info.read_text())
    info.write_text(json.dumps(known | {"total_steps": 9}))
    (warning,) = write_html(options, tmp_path / "v.html").warnings
    assert warning.startswith(f"{tmp_path / 'second/seed0'}: the run is at step 1 of 9")
    assert '"first/seed0","second/seed0"' in page.replace(", ", ",")


def test_without_the_extra_the_error_says_how_to_get_it():
    with pytest.raises(SetupError, match=r"ovps\[viewer\]"), extra("viewer"):
        raise ModuleNotFoundError("no viser", name="viser")


def test_a_page_holds_the_names_of_a_large_vocabulary():
    many = SimpleNamespace(palette=SimpleNamespace(names=[str(n) for n in range(1300)]), entry=np.array([-1, 0, 1299]))
    np.testing.assert_array_equal(_entries(many), np.array([NAMELESS, 0, 1299], np.uint16))


def test_what_is_novel_is_so_by_the_split_of_each_run(made, tmp_path):
    run, store = made
    other = tmp_path / "other"
    train(TrainOptions(cache=store, out=other, overrides=(*TINY, "split=b10n6")))
    write_html(ViewOptions(cache=store, run=run, beside=other, frames=("0",)), tmp_path / "v.html")
    page = (tmp_path / "v.html").read_text(encoding="utf-8")
    (frame,) = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])["frames"]
    assert [len(layer["novel"]) for layer in frame["layers"]] == [4, 6]


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit("enough")])
def test_what_anything_raises_is_told_on_the_page(error):
    said = []
    with Visitor._told(SimpleNamespace(_tell=said.append)):
        raise error
    assert said == [f"{type(error).__name__}: {error}"]
