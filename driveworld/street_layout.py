"""Layout of a street: groups of touching objects along both sides of a street.

Lateral zones from the centre line outwards: island, lane, parking strip, sidewalk, then lots that are either a
frontage (hedge, wall, fence or house right behind the sidewalk) or a yard with something at its back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from driveworld.assets import Asset, Style, make_asset
from driveworld.ground import KERB, bumpy, ground_paint, level, markings, raised
from driveworld.mesh import Mesh, moved

Rng = np.random.Generator
Rect = tuple[float, float, float, float]

ISLAND, LANE, PARKING = 0.9, 3.7, 3.1
HALF_ROAD = ISLAND + LANE + PARKING
LANE_Y = ISLAND + LANE / 2
VEHICLES = ("car", "bus", "truck", "trailer", "construction_vehicle")
SMALL = ("pedestrian", "bicycle", "motorcycle", "traffic_cone", "barrier")

# Cards of a deck are dealt in random order, so that every class comes up in every street.
PARKING_DECK = (*VEHICLES, *VEHICLES, "car", *SMALL, *SMALL, "motorcycle", "traffic_cone")
SIDEWALK_DECK = (*SMALL, *SMALL, "pedestrian", "traffic_cone", "vegetation", "manmade")
YARD_DECK = (*VEHICLES, "trailer", "motorcycle", "bicycle", "construction_vehicle")
POSTS = (("vegetation", "tree"), ("manmade", "lamp"), ("manmade", "sign"), ("vegetation", "young_tree"))
ISLAND_DECK = (
    "traffic_cone",
    "barrier",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic_cone",
    "manmade",
    "vegetation",
)


@dataclass(frozen=True, eq=False)
class Placed:
    """An object put down; see `scene.SceneObject`. `category` None means the class's default."""

    mesh: Mesh
    class_name: str
    category: int | None = None
    xyz: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    velocity: float = 0.0
    variant: str = "ground"
    color_name: str = ""


class Deck:
    """Deals its cards in random order, again and again."""

    def __init__(self, rng: Rng, cards: tuple[str, ...]) -> None:
        self._rng, self._cards, self._left = rng, cards, list[str]()

    def deal(self) -> str:
        if not self._left:
            self._left = [str(c) for c in self._rng.permutation(self._cards)]
        return self._left.pop()


@dataclass(eq=False)
class Plot:
    """The street while it is being furnished.

    Attributes:
        placed: what was put down. taken: footprints (x0, y0, x1, y1). islands: ranges of x.
    """

    rng: Rng
    style: Style
    placed: list[Placed] = field(default_factory=list)
    taken: list[Rect] = field(default_factory=list)
    islands: list[tuple[float, float]] = field(default_factory=list)

    def free(self, rect: Rect) -> bool:
        """Tell whether nothing stands on the rectangle (1 cm of overlap is allowed)."""
        e = 0.01
        return all(
            rect[2] <= t[0] + e or rect[0] >= t[2] - e or rect[3] <= t[1] + e or rect[1] >= t[3] - e for t in self.taken
        )

    def put(
        self, asset: Asset, x: float, y: float, yaw: float, *, roll: float = 0.0, velocity: float = 0.0
    ) -> Rect | None:
        """Put an asset's footprint centre at (x, y); None where the place is taken. Returns the footprint."""
        mesh = moved(asset.mesh, roll=roll)
        mesh.vertices[:, 2] -= min(0.0, float(mesh.vertices[:, 2].min()))
        low, high = moved(mesh, yaw=yaw).bounds
        cx, cy = x - (low[0] + high[0]) / 2, y - (low[1] + high[1]) / 2
        rect = (float(low[0] + cx), float(low[1] + cy), float(high[0] + cx), float(high[1] + cy))
        solid = _stem(asset, x, y) or rect
        if not self.free(solid):
            return None
        self.taken.append(solid)
        z = KERB if abs(y) > HALF_ROAD or (abs(y) < ISLAND and self._on_island(x)) else 0.0
        self.placed.append(
            Placed(
                mesh,
                asset.class_name,
                asset.category,
                (float(cx), float(cy), z),
                yaw,
                velocity,
                asset.variant,
                asset.color_name,
            )
        )
        return rect

    def _on_island(self, x: float) -> bool:
        return any(a <= x <= b for a, b in self.islands)

    def ground(self, class_name: str, mesh: Mesh, color_name: str, variant: str = "ground") -> None:
        self.placed.append(Placed(mesh, class_name, color_name=color_name, variant=variant))

    def asset(self, class_name: str, variant: str | None = None) -> Asset:
        return make_asset(class_name, self.rng, self.style, variant)


def _stem(asset: Asset, x: float, y: float) -> Rect | None:
    """The ground a tree or a mast takes is that of its stem: crowns may hang over others."""
    if asset.variant in ("tree", "young_tree", "lamp", "sign"):
        return (x - 0.2, y - 0.2, x + 0.2, y + 0.2)
    return None


def _size(asset: Asset, yaw: float) -> tuple[float, float]:
    low, high = moved(asset.mesh, yaw=yaw).bounds
    return float(high[0] - low[0]), float(high[1] - low[1])


def _companion(plot: Plot, rect: Rect, side: str, class_name: str, variant: str | None = None) -> Rect | None:
    """An object 0 to 15 cm off one side (`x-`, `x+`, `y-`, `y+`) of a footprint."""
    rng = plot.rng
    asset = plot.asset(class_name, variant)
    along = side[0] == "y"  # long sides of things beside one another are parallel
    yaw = (0.0 if along else np.pi / 2) + (np.pi if rng.random() < 0.5 else 0.0)
    if class_name in ("pedestrian", "traffic_cone"):
        yaw = float(rng.uniform(0, 2 * np.pi))
    elif class_name in VEHICLES:
        yaw = 0.0 if rng.random() < 0.5 else np.pi
    w, d = _size(asset, yaw)
    gap = float(rng.uniform(0.0, 0.12))
    sign = -1.0 if side[1] == "-" else 1.0
    if along:
        room = max(0.0, (rect[2] - rect[0]) / 2 - 0.3)
        x = (rect[0] + rect[2]) / 2 + rng.uniform(-room, room)
        y = (rect[1] if sign < 0 else rect[3]) + sign * (gap + d / 2)
    else:
        room = max(0.0, (rect[3] - rect[1]) / 2 - 0.2)
        y = (rect[1] + rect[3]) / 2 + rng.uniform(-room, room)
        x = (rect[0] if sign < 0 else rect[2]) + sign * (gap + w / 2)
    return plot.put(asset, float(x), float(y), yaw)


def _group(
    plot: Plot, class_name: str, x: float, y: float, yaw: float, sides: tuple[str, ...], *, from_end: bool = False
) -> Rect | None:
    """An anchor and companions on some of its `sides`. Returns the anchor's footprint.

    Args:
        x, y: centre of the anchor's footprint; with `from_end`, x is its lower end.
    """
    rng = plot.rng
    anchor = plot.asset(class_name)
    turn = yaw + float(rng.uniform(-0.04, 0.04))
    if from_end:
        x += _size(anchor, turn)[0] / 2
    rect = plot.put(anchor, x, y, turn)
    if rect is None:
        return None
    for side in sides:
        if rng.random() > 0.7:
            continue
        if class_name in ("barrier", "traffic_cone", "bicycle", "motorcycle") and rng.random() < 0.5:
            companion = class_name  # rows of barriers, stands of bicycles
        elif class_name in ("truck", "car") and side[0] == "x" and rng.random() < 0.4:
            companion = "trailer" if class_name == "truck" else "car"
        else:
            companion = str(rng.choice(SMALL))
        other = _companion(plot, rect, side, companion)
        if other is not None and rng.random() < 0.35:
            _companion(plot, other, side, str(rng.choice(("pedestrian", "traffic_cone", "barrier"))))
    return rect


def _parking(plot: Plot, side: int, x: tuple[float, float]) -> None:
    """Groups along the kerb, half of them bumper to bumper with the one before."""
    rng, deck = plot.rng, Deck(plot.rng, PARKING_DECK)
    at = x[0] + float(rng.uniform(0, 4))
    while at < x[1]:
        name = deck.deal()
        depth = 1.45 if name in VEHICLES else float(rng.uniform(0.5, 1.8))
        before = len(plot.taken)
        rect = _group(
            plot,
            name,
            at,
            side * (HALF_ROAD - 0.1 - depth),
            0.0 if side < 0 else np.pi,
            _sides_seen(side),
            from_end=True,
        )
        if rect is not None:
            at = max(t[2] for t in plot.taken[before:])
        at += float(rng.uniform(0.05, 0.3) if rng.random() < 0.5 else rng.uniform(1.0, 4.5))


def _sides_seen(side: int) -> tuple[str, ...]:
    """All sides of a footprint but the one turned away from the road."""
    return ("x-", "x+", "y-" if side > 0 else "y+")


def _sidewalk(plot: Plot, side: int, x: tuple[float, float], back: float) -> None:
    """Things at the back of the sidewalk, 0 to 15 cm from whatever stands behind it, and posts along the kerb."""
    rng, deck = plot.rng, Deck(plot.rng, SIDEWALK_DECK)
    at = x[0]
    while at < x[1]:
        name = deck.deal()
        variant = {"vegetation": "bush", "manmade": "small"}.get(name)
        asset = plot.asset(name, variant)
        yaw = float(rng.uniform(0, 2 * np.pi)) if name in ("pedestrian", "traffic_cone") else 0.0
        _, depth = _size(asset, yaw)
        roll = float(rng.uniform(0.05, 0.16)) * -side if name == "bicycle" else 0.0
        rect = plot.put(asset, at, side * (back - float(rng.uniform(0.02, 0.15)) - depth / 2), yaw, roll=roll)
        if rect is not None:
            for where in _sides_seen(side):
                if rng.random() < 0.5:
                    _companion(plot, rect, where, str(rng.choice(SMALL)))
        at += float(rng.uniform(2.0, 6.0))
    for post in np.arange(x[0], x[1], 9.0):
        name, variant = POSTS[int(rng.integers(len(POSTS)))]
        spot, y = float(post + rng.uniform(0, 4)), side * (HALF_ROAD + 0.45)
        towards_road = 0.0 if side < 0 else np.pi
        yaw = towards_road if name == "manmade" else float(rng.uniform(0, 2 * np.pi))
        asset = plot.asset(name, variant)
        if plot.put(asset, spot, y, yaw) is not None and rng.random() < 0.5:
            _companion(
                plot,
                (spot - 0.12, y - 0.12, spot + 0.12, y + 0.12),
                str(rng.choice(["x-", "x+"])),
                str(rng.choice(("bicycle", "pedestrian", "traffic_cone", "motorcycle"))),
            )


def _row(plot: Plot, x: tuple[float, float], y: float, variant: tuple[str, str], side: int) -> None:
    """Pieces of one kind end to end from x[0] to x[1], their street side at `y`."""
    at = x[0]
    while at < x[1] - 2.0:
        asset = plot.asset(*variant)
        yaw = 0.0 if side > 0 else np.pi
        w, d = _size(asset, yaw)
        plot.put(asset, at + w / 2, y + side * d / 2, yaw)
        at += w + 0.02


def _lot(plot: Plot, side: int, x: tuple[float, float], front: float, deck: Deck) -> None:
    rng, style = plot.rng, plot.style
    kind = str(rng.choice(["hedge", "wall", "fence", "house", "yard", "yard", "yard"]))
    surface = str(rng.choice(["terrain", "terrain", "other_flat"]))
    depth = float(rng.uniform(6.0, 9.0))
    y = sorted((side * front, side * (front + depth + 12)))
    paint, color = ground_paint(rng, surface, style)
    plot.ground(
        surface,
        bumpy(rng, x, (y[0], y[1]), 0.05, paint) if surface == "terrain" else level(x, (y[0], y[1]), KERB, paint),
        color,
    )
    pieces = {"hedge": ("vegetation", "hedge"), "wall": ("manmade", "wall"), "fence": ("manmade", "fence")}
    facade = str(rng.choice(["house", "block"]))
    if kind in pieces:
        _row(plot, x, side * (front + 0.02), pieces[kind], side)
    if kind == "house":
        asset = plot.asset("manmade", facade)
        _, d = _size(asset, 0.0)
        plot.put(asset, (x[0] + x[1]) / 2, side * (front + 0.05 + d / 2), 0.0 if side > 0 else np.pi)
        return
    back = side * (front + depth)
    behind = str(rng.choice(["house", "hedge", "wall"]))
    if behind == "house":
        asset = plot.asset("manmade", facade)
        _, d = _size(asset, 0.0)
        plot.put(asset, (x[0] + x[1]) / 2, back + side * d / 2, 0.0 if side > 0 else np.pi)
        if rng.random() < 0.6:
            _companion(
                plot,
                (x[0] + 1, min(back, back + side), x[1] - 1, max(back, back + side)),
                "y-" if side > 0 else "y+",
                "vegetation",
                "bush",
            )
    else:
        _row(plot, x, back, pieces[behind], side)
    if kind == "yard" or kind == "fence":
        name = deck.deal()
        probe = plot.asset(name)
        _, d = _size(probe, 0.0)
        middle = float(rng.uniform(x[0] + 4, max(x[0] + 4.1, x[1] - 4)))
        rect = plot.put(
            probe, middle, back - side * (float(rng.uniform(0.03, 0.2)) + d / 2), float(rng.choice([0.0, np.pi]))
        )
        if rect is not None:
            for where in _sides_seen(side):
                if rng.random() < 0.7:
                    companions = VEHICLES if where[0] == "x" and rng.random() < 0.4 else SMALL
                    _companion(plot, rect, where, str(rng.choice(companions)))
        _group(
            plot,
            str(rng.choice(SMALL)),
            middle,
            side * (front + 2.2),
            float(rng.choice([0.0, np.pi / 2])),
            ("x-", "x+"),
        )
    for _ in range(int(rng.integers(1, 3))):
        tree = plot.asset("vegetation", str(rng.choice(["tree", "young_tree", "bush"])))
        plot.put(
            tree,
            float(rng.uniform(x[0] + 1, x[1] - 1)),
            side * float(rng.uniform(front + 1, front + depth - 1)),
            float(rng.uniform(0, 6.28)),
        )


def _traffic(plot: Plot, x: tuple[float, float], ego_speed: float) -> None:
    """Oncoming vehicles, one ahead in the ego vehicle's lane, people walking along the sidewalks."""
    rng = plot.rng
    speed = float(rng.uniform(4.0, 8.0))
    moving = ("car", "truck", "bus", "car")
    for start in np.arange(x[0] + rng.uniform(0, 30), x[1] + 60, 38.0):
        plot.put(plot.asset(str(rng.choice(moving))), float(start), LANE_Y, np.pi, velocity=-speed)
    ahead = plot.asset(str(rng.choice(moving)))
    plot.put(ahead, float(rng.uniform(17.0, 28.0)), -LANE_Y, 0.0, velocity=ego_speed)
    for side in (-1, 1):
        for start in np.arange(x[0] + rng.uniform(0, 15), x[1], 18.0):
            heading = 1 if side < 0 else -1
            person = plot.asset("pedestrian")
            plot.put(
                person, float(start), side * (HALF_ROAD + 1.6), 0.0 if heading > 0 else np.pi, velocity=heading * 1.3
            )


def furnish(rng: Rng, x: tuple[float, float], ego_speed: float, style: Style) -> tuple[list[Placed], float]:
    """The objects of a street over the range `x`, and the y of the ego vehicle's lane."""
    plot = Plot(rng, style)
    far = (x[0] - 40, x[1] + 40)
    paint, color = ground_paint(rng, "driveable_surface", style)
    plot.ground("driveable_surface", level(far, (-HALF_ROAD, HALF_ROAD), 0.0, paint), color)
    lines = markings(rng, x, HALF_ROAD - PARKING + 0.6, ISLAND + 0.1, paint)
    plot.ground("driveable_surface", lines, "white", "marking")
    paint, color = ground_paint(rng, "terrain", style)
    for side in (-1, 1):
        y = sorted((side * (HALF_ROAD + 5), side * 90.0))
        plot.ground("terrain", level(far, (y[0], y[1]), KERB - 0.12, paint), color)
    _traffic(plot, x, ego_speed)
    start = x[0] + float(rng.uniform(0, 8))
    deck = Deck(rng, ISLAND_DECK)
    while start < x[1]:
        end = start + float(rng.uniform(9, 18))
        paint, color = ground_paint(rng, "other_flat", style)
        plot.ground("other_flat", raised((start, end), (-ISLAND, ISLAND), paint), color)
        plot.islands.append((start, end))
        for at in np.arange(start + 1.0, end - 0.5, 4.5):
            name = deck.deal()
            variant = {"vegetation": "bush", "manmade": "sign"}.get(name)
            rect = plot.put(
                plot.asset(name, variant), float(at + rng.uniform(0, 2)), float(rng.uniform(-0.2, 0.2)), 0.0
            )
            if rect is not None and rng.random() < 0.7:
                _companion(
                    plot,
                    rect,
                    str(rng.choice(["x-", "x+"])),
                    str(rng.choice(("traffic_cone", "pedestrian", "barrier"))),
                )
        start = end + float(rng.uniform(4, 12))
    for side in (-1, 1):
        width = float(rng.uniform(4.0, 5.0))
        front = HALF_ROAD + width
        yard_deck = Deck(rng, YARD_DECK)
        at = x[0] - 10
        while at < x[1] + 10:
            end = at + float(rng.uniform(11, 18))
            _lot(plot, side, (at, end), front, yard_deck)
            paint, color = ground_paint(rng, "sidewalk", style)
            y = sorted((side * HALF_ROAD, side * front))
            plot.ground("sidewalk", raised((at, end), (y[0], y[1]), paint), color)
            at = end
        _parking(plot, side, x)
        _sidewalk(plot, side, x, front)
    _street_ends(plot, x)
    return plot.placed, -LANE_Y


def _street_ends(plot: Plot, x: tuple[float, float]) -> None:
    """Houses across both ends, so that the street does not run into the void."""
    for end in (x[0] - 25, x[1] + 25):
        for y in np.arange(-40.0, 41.0, 16.0):
            plot.put(plot.asset("manmade", "block"), end, float(y), np.pi / 2)
