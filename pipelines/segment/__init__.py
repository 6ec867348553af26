"""A recording of one's own, labelled and drawn: CLIP features, predictions and a page in one command.

ovps segment recordings/monday --names "car, person, road:stuff"            # CLIP alone, nothing trained
ovps segment recordings/monday --run runs/nuscenes

`recording` says which sweeps are meant, and the grid that fits them; `stage` computes their features and labels them;
`page` counts and draws what came of it.
"""

from pipelines.segment.stage import segment
from pipelines.segment.summary import SegmentSummary

__all__ = ["SegmentSummary", "segment"]
