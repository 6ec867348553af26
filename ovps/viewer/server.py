"""The viewer in the browser: one page for any number of visitors, each with a frame and colours of their own."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ovps.cache.frame_data import FrameRef
from ovps.errors import ConfigError, OvpsError
from ovps.extras import extra
from ovps.progress import say
from ovps.viewer import colouring, panel
from ovps.viewer.catalogue import Catalogue
from ovps.viewer.pictures import frustum, heading, most_seen, pick, with_points
from ovps.viewer.relevance import NEGATIVES
from ovps.viewer.view import QUERY, Question, View, legend, paint
from ovps.viewer.words import Words, split_words

with extra("viewer"):
    import viser

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_TOLD = 8  # other sites
WAIT_S = 0.35  # after the last key, before a query is asked
CLOUD, SELECTION, CAMERAS = "/points", "/selection", "/cameras"
POINTS, SEGMENTS = "points", "segments"
_WHITE = (255, 255, 255)


class _Server(viser.ViserServer):
    """viser's server, which never opens itself to the world: its share link leads through a host of others."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        return None


@dataclass(eq=False)
class Viewer:
    """A running server.

    Attributes:
        url: where the page is.
        visitors: by viser's number of the client; for tests.
    """

    server: viser.ViserServer
    url: str
    visitors: dict[int, Visitor]

    def forget(self, client: int) -> None:
        """Take leave of a visitor who has gone."""
        self.visitors.pop(client, None)

    def stop(self) -> None:
        """End it; whoever looks is told by viser."""
        with contextlib.redirect_stdout(io.StringIO()):  # viser says so by itself, in its own words
            self.server.stop()


def start_viewer(catalogue: Catalogue, words: Words | None, *, host: str, port: int, title: str) -> Viewer:
    """Start the server; it works in threads of its own until it is stopped.

    Args:
        catalogue: of the frames.
        words: for queries; None where the store's CLIP cannot be had.
        host, port: to listen at; port 0: a free one.
        title: of the panel.

    Raises:
        ConfigError: the port is taken, or there is no such host.
        SetupError: viser is not installed.
    """
    port = _free(host, port)
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)  # a closed browser is no error of ours
    warnings.filterwarnings("ignore", "Queued a .* on a closed connection")
    with contextlib.redirect_stdout(io.StringIO()):
        server = _Server(host=host, port=port, label=title, verbose=False)
    server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, control_width="large")
    ahead = heading(catalogue.store.cameras(catalogue.frames[0]))
    x, y = float(np.cos(ahead)), float(np.sin(ahead))
    server.initial_camera.position = (-26 * x, -26 * y, 19.0)
    server.initial_camera.look_at = (5 * x, 5 * y, 0.0)
    server.initial_camera.up = (0.0, 0.0, 1.0)
    viewer = Viewer(server, f"http://{_netloc(host, server.get_port())}", {})

    told: set[str] = set()

    async def guard(client: Any) -> None:  # before anything is sent
        if _is_foreign(server, client.client_id, host):
            origin = _origin_of(server, client.client_id)
            if origin not in told and len(told) < MOST_TOLD:  # its own page, behind a proxy, cannot say why it is empty
                told.add(origin)
                say(f"view: a page of {origin} was shown nothing: open {viewer.url} itself, from afar through ssh -L")
            await server._websock_server._live_connections[client.client_id].close(1008, "another site")

    def connect(client: viser.ClientHandle) -> None:
        if _is_foreign(server, client.client_id, host):
            return
        viewer.visitors[client.client_id] = visitor = Visitor(client, catalogue, words)
        visitor.begin()

    server._websock_server.on_client_connect(guard)
    server.on_client_connect(connect)
    server.on_client_disconnect(lambda client: viewer.forget(client.client_id))
    return viewer


def _free(host: str, port: int) -> int:
    """The port, found free: viser takes the next free one without a word, and waits for ever on a host that is none."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, number) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot listen at {_netloc(host, port)}: {reason}",
            remedy="Choose another port (--port 8081; 0: any free one), or --host 127.0.0.1",
        ) from error


def _netloc(host: str, port: int) -> str:
    """Host and port as in a URL, where the colons of IPv6 stand in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_foreign(server: viser.ViserServer, client: int, host: str) -> bool:
    """Whether a page of another site has connected, which a browser lets it; it is shown nothing, and the door."""
    connection = server._websock_server._live_connections.get(client)
    request = connection.request if connection else None
    return request is not None and not same_site(request.headers, host)


def _origin_of(server: viser.ViserServer, client: int) -> str:
    request = server._websock_server._live_connections[client].request
    return ascii((request.headers.get("Origin") if request else None) or "another host")[:100]


def _held(slider: Any) -> float:
    """The value of a slider within its ends: the number box beside it takes any."""
    return float(min(max(slider.value, slider.min), slider.max))


def same_site(headers: Any, host: str) -> bool:
    """Say whether a request comes from the viewer's own page, or from no browser.

    Args:
        headers: of the request.
        host: that the server listens at: behind loopback, only its own names count (DNS rebinding).
    """
    origin, own = headers.get("Origin"), headers.get("Host", "")
    name = urlsplit(f"//{own}").hostname
    if host in LOOPBACK and name not in LOOPBACK:
        return False
    return origin is None or urlsplit(origin).netloc == own


class Visitor:
    """One browser: its panel, and what it is shown.

    Callbacks come in threads of their own; they take turns, and whatever fails is told in the page.
    """

    def __init__(self, client: viser.ClientHandle, catalogue: Catalogue, words: Words | None) -> None:
        self.client, self.catalogue, self.words = client, catalogue, words
        self.scenes = catalogue.scenes
        self.ref: FrameRef | None = None  # that is drawn
        self.question: Question | None = None
        self.warnings: list[str] = []
        self.selected: int | None = None
        self._turn = threading.RLock()
        self._framed: set[str] = set()  # cameras that are drawn
        self._asked = 0
        self._cloud: Any = None

    # ---- the panel

    def begin(self) -> None:
        """Lay out the panel and draw where this browser was before, else the first frame."""
        with self._told():
            last = self._last()
            scene = next((s for s in self.scenes if s == last.get("scene")), next(iter(self.scenes)))
            self._lay_out(scene, last)
            self._listen()
            self.draw()

    def _lay_out(self, scene: str, last: dict[str, Any]) -> None:
        gui: Any = self.client.gui  # viser types what its controls hold as read-only
        titles = self.catalogue.colourings
        self.status = gui.add_html("")
        frames = len(self.scenes[scene])
        self.scene = gui.add_dropdown("Scene", tuple(self.scenes), initial_value=scene)
        number = min(max(int(last.get("number", 0)), 0), frames - 1)
        self.number = gui.add_slider("Frame", 0, max(frames - 1, 1), 1, number, disabled=frames < 2)
        self.about = gui.add_html("")
        colour = last.get("colour") if last.get("colour") in titles else titles[0]
        self.colour = gui.add_dropdown("Colour", (*titles, QUERY), initial_value=colour)
        self.size = gui.add_slider("Point size, cm", 2, 20, 1, 7)
        self.cameras = gui.add_checkbox("Camera images", initial_value=True)
        self.legend = gui.add_html("")
        with gui.add_folder("Ask in your own words"):
            self.query = gui.add_text("Query", "", hint="A few words; what is like them lights up")
            self.threshold = gui.add_slider("Threshold", 0.0, 1.0, 0.01, 0.5)
            self.of = gui.add_dropdown("Light up", (SEGMENTS, POINTS), initial_value=SEGMENTS)
            self.negatives = gui.add_text(
                "Against", ", ".join(NEGATIVES), hint="Comma-separated: what the query has to be nearer than"
            )
            self.answer = gui.add_html(panel.said("text CLIP is loaded when you first ask") if self.words else "")
        with gui.add_folder("Segment"):
            self.segment = gui.add_html(panel.said("click a segment"))
        self.next = gui.add_command("Next frame", hotkey="N")
        self.previous = gui.add_command("Previous frame", hotkey="P")
        self.other = gui.add_command("Next colouring", hotkey="C")
        self.toggle = gui.add_command("Camera images on or off", hotkey="I")
        gui.add_html(panel.said("keys: N next frame, P previous, C next colouring, I camera images"))

    def _listen(self) -> None:
        def then(do: Callable[[], None]) -> Callable[[Any], None]:
            def run(_: Any) -> None:
                with self._told():
                    do()

            return run

        self.scene.on_update(then(self._change_scene))
        self.number.on_update(then(self.draw))
        for control in (self.colour, self.threshold, self.of):
            control.on_update(then(self._paint))
        self.size.on_update(then(self._resize))
        self.cameras.on_update(then(self._draw_cameras))
        for text in (self.query, self.negatives):
            text.on_update(then(self._ask_soon))
        self.next.on_trigger(then(lambda: self._step(1)))
        self.previous.on_trigger(then(lambda: self._step(-1)))
        self.other.on_trigger(then(self._next_colouring))
        self.toggle.on_trigger(then(lambda: setattr(self.cameras, "value", not self.cameras.value)))
        self.client.scene.on_click()(self._click)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell the page what goes wrong in here; the server lives on."""
        try:
            yield
        except OvpsError as error:
            self._tell(str(error))
        except BaseException as error:  # another package may end by sys.exit
            self._tell(f"{type(error).__name__}: {error}")

    def _tell(self, text: str) -> None:
        say(f"view: {text}")
        with contextlib.suppress(Exception):  # the browser may be closed
            self.status.content, self.about.content = panel.problem(text), ""

    # ---- frames

    def _change_scene(self) -> None:
        frames = len(self.scenes[self.scene.value])
        self.number.max, self.number.disabled = max(frames - 1, 1), frames < 2
        if self.number.value:
            self.number.value = 0  # its own callback draws
        else:
            self.draw()

    def _step(self, by: int) -> None:
        number = int(_held(self.number)) + by
        if 0 <= number < len(self.scenes[self.scene.value]):
            self.number.value = number

    def _next_colouring(self) -> None:
        titles = self.catalogue.colourings
        here = titles.index(self.colour.value) if self.colour.value in titles else -1
        self.colour.value = titles[(here + 1) % len(titles)]

    def _wanted(self) -> FrameRef:
        frames = self.scenes[self.scene.value]
        return frames[min(int(_held(self.number)), len(frames) - 1)]

    def draw(self) -> None:
        """Show the frame that the slider is at; whatever it passed on the way is left out."""
        wanted = self._wanted()
        if not self.catalogue.has(wanted):
            self.about.content = panel.said("reading ...")
        with self._turn:
            if wanted != self._wanted() or wanted == self.ref:
                return
            begin = time.perf_counter()
            view = self.catalogue.view(wanted)
            back = self.ref is not None and self.ref.scene == wanted.scene and wanted.index < self.ref.index
            self.ref, self.selected, self.status.content = wanted, None, ""
            self._put_cloud(view)
            self._drop(SELECTION)
            self.segment.content = panel.said("click a segment")
            where = f"frame {wanted.index} of {wanted.scene} ({wanted.subset}), token {wanted.token}"
            points = f"{len(view.frame.xyz):,} points, {len(view.segments.segment_entry)} {view.source}"
            self.about.content = panel.said(f"{where}: {points}; {time.perf_counter() - begin:.2f} s")
            self._remember()
            self.client.flush()
            self._draw_cameras()
        self._read_ahead(wanted, back)

    def _put_cloud(self, view: View) -> None:
        colours = self._colours(view)
        if self._cloud is not None and len(self._cloud.points) == len(view.frame.xyz):
            self._cloud.points, self._cloud.colors = view.frame.xyz, colours
            return
        self._cloud = self.client.scene.add_point_cloud(
            CLOUD,
            view.frame.xyz,
            colours,
            point_size=_held(self.size) / 100,
            point_shape="circle",
            point_shading="flat",
            precision="float32",
        )

    def _read_ahead(self, ref: FrameRef, back: bool) -> None:
        """Make the neighbours ready while the visitor looks: first two the way that the slider goes."""
        frames = self.scenes[ref.scene]
        here = frames.index(ref)
        after, before = frames[here + 1 : here + 3], frames[max(here - 2, 0) : here][::-1]
        for other in (*before, *after[:1]) if back else (*after, *before[:1]):
            if self.ref == ref == self._wanted():
                with contextlib.suppress(OvpsError):  # told when the visitor asks for it
                    self.catalogue.view(other)
                    self.catalogue.pictures(other)

    # ---- colours

    def _colours(self, view: View) -> np.ndarray:
        """Colours of the points, with the legend and the answer that belong to them."""
        title = self.colour.value
        if title != QUERY:
            self.legend.content = panel.legend_html(legend(view, title))
            return paint(view, title)
        threshold = _held(self.threshold)
        if self.question is None:
            self.legend.content = panel.said("write a query below")
            return colouring.by_relevance(np.full(len(view.frame.xyz), -1.0), 0.0)
        relevance = view.relevance(self.question, self.of.value == SEGMENTS)
        self.legend.content = ""
        self.answer.content = panel.answer_html(view, self.question, relevance, threshold, self.warnings)
        return colouring.by_relevance(relevance, threshold)

    def _paint(self) -> None:
        with self._turn:
            if self.ref is None:
                return
            self._cloud.colors = self._colours(self.catalogue.view(self.ref))
            self._remember()
            self.client.flush()
            self._draw_cameras()

    def _resize(self) -> None:
        with self._turn:
            self._cloud.point_size = _held(self.size) / 100

    def _draw_cameras(self) -> None:
        with self._turn:
            if self.ref is None:
                return
            if not self.cameras.value:
                self._drop(CAMERAS)
                return
            pictures = self.catalogue.pictures(self.ref)
            self.cameras.disabled = not pictures
            if not pictures:
                self._drop(CAMERAS)
                self.cameras.hint = (
                    "None here: no thumbnails (ovps precompute --thumbnails, into a new store), no files of"
                    " --dataset-root"
                )
                return
            self.cameras.hint = None
            colours = self._cloud.colors
            channels = {seen.camera.channel for seen in pictures}
            for gone in self._framed - channels:  # a frame may have fewer images than the one before
                self._drop(f"{CAMERAS}/{gone}")
            self._framed = channels
            for seen in pictures:
                place = frustum(seen.camera)
                self.client.scene.add_camera_frustum(
                    f"{CAMERAS}/{seen.camera.channel}",
                    fov=place.fov,
                    aspect=place.aspect,
                    scale=2.2,
                    color=(150, 156, 164),
                    image=with_points(seen, colours),
                    jpeg_quality=80,
                    wxyz=place.wxyz,
                    position=place.position,
                    cast_shadow=False,
                    receive_shadow=False,
                )

    # ---- questions

    def _ask_soon(self) -> None:
        """Ask when the visitor has stopped typing; the tower is loaded meanwhile."""
        if self.words is not None:
            self.words.start()
        self._asked += 1
        mine = self._asked
        time.sleep(WAIT_S)
        if mine == self._asked:
            self._ask()

    def _ask(self) -> None:
        text = self.query.value
        if self.words is None or not text.strip():
            self.question = None
            self.answer.content = ""
            self._paint()
            return
        if not self.words.ready:
            self.answer.content = panel.said("text CLIP is loading ...")
        try:
            question, warnings = self.words.ask(text, split_words(self.negatives.value))
        except OvpsError as error:
            self.answer.content = panel.problem(str(error))
            return
        if text != self.query.value:
            return  # another query is on its way
        with self._turn:
            self.question, self.warnings = question, warnings
            if self.colour.value == QUERY:
                self._paint()
            else:
                self.colour.value = QUERY  # its own callback paints

    # ---- segments

    def _click(self, event: Any) -> None:
        with self._told(), self._turn:
            if self.ref is None:
                return
            view = self.catalogue.view(self.ref)
            point = pick(view.frame.xyz, np.array(event.ray_origin), np.array(event.ray_direction))
            segment = -1 if point is None else int(view.segments.segment[point])
            if segment < 0:
                self.selected = None
                self._drop(SELECTION)
                self.segment.content = panel.said("no segment there")
                return
            self.select(view, segment)

    def select(self, view: View, segment: int) -> None:
        """Show one segment: its points white, and in the panel what it is."""
        inside = view.segments.segment == segment
        self.selected = segment
        self.client.scene.add_point_cloud(
            SELECTION,
            view.frame.xyz[inside],
            _WHITE,
            point_size=1.35 * _held(self.size) / 100,
            point_shape="circle",
            point_shading="flat",
            precision="float32",
        )
        assert self.ref is not None
        crops = most_seen(self.catalogue.pictures(self.ref), inside)
        self.segment.content = panel.segment_html(view, segment, crops, self.catalogue.flags)

    # ---- what a browser keeps, and what it is rid of

    def _drop(self, name: str) -> None:
        self.client.scene.remove_by_name(name)

    def _remember(self) -> None:
        state = {"scene": self.scene.value, "number": int(_held(self.number)), "colour": self.colour.value}
        self.client.local_storage.set_item(self._key, json.dumps(state))

    def _last(self) -> dict[str, Any]:
        """What this browser looked at before it was reloaded; nothing where it does not say."""
        try:
            found = json.loads(self.client.local_storage.get_item(self._key, timeout=2.0) or "{}")
            return found if isinstance(found, dict) and isinstance(found.get("number", 0), int) else {}
        except (RuntimeError, TimeoutError, ValueError):
            return {}

    @property
    def _key(self) -> str:
        return f"ovps {self.catalogue.store.path}"
