import xml.etree.ElementTree as ET

import pytest

from ovps.report.scatter import CLOSE, Point, scatter

POINTS = [
    Point("long", 20.0, 0.5),
    Point("short & <small>", 5.0, 0.4),
    Point("none", 10.0, 0.0),
    Point("near", 6.0, 0.41),
]


def drawn(points):
    return ET.fromstring(scatter("PQ", "minutes", points, "base").svg)


def test_points_lie_where_their_values_are():
    """On a straight scale from zero, upwards and to the right: three points give the other."""
    circles = sorted((float(c.get("cx")), float(c.get("cy"))) for c in drawn(POINTS).iter("circle"))
    assert len(circles) == 4
    (x5, y40), (x6, y41), (x10, y0), (x20, y50) = circles
    assert x6 == pytest.approx(x5 + (x20 - x5) / 15, abs=0.1)
    assert x10 == pytest.approx(x5 + (x20 - x5) / 3, abs=0.1)
    assert y41 == pytest.approx(y0 + (y50 - y0) * 41 / 50, abs=0.1)
    assert y50 < y41 < y40 < y0


def test_names_do_not_overlap_and_are_escaped():
    texts = {t.text: float(t.get("y")) for t in drawn(POINTS).iter("text")}
    assert "short & <small>" in texts
    assert abs(texts["short & <small>"] - texts["near"]) >= CLOSE


@pytest.mark.parametrize("value", [0.0, 1e-3, 0.37, 1.0])
def test_every_range_has_an_axis(value):
    root = drawn([Point("one", 100 * value, value)])
    assert all(0 <= float(c.get("cx")) <= 560 and 0 <= float(c.get("cy")) <= 300 for c in root.iter("circle"))
