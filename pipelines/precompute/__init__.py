"""Stage 1: images and points of a data set to a self-contained cache. The only stage that runs CLIP on images.

    ovps precompute --dataset nuscenes                       # ./data/nuscenes to ./zarr
    ovps precompute --dataset nuscenes --dry-run             # frames, bytes and hours, writing nothing
    ovps precompute --dataset nuscenes --dataroot data/driveworld --encoder demo --out runs/zarr --workers 2

The client reads the data set's tables once and cuts the frames that the store lacks (`held`) into partitions of
consecutive frames (`plan`); one task per partition (`task`) brings its frames through the encoder (`flow`), each in
three steps (`compute_frame`), and commits; a dask cluster, or this very process, runs the tasks (`executor`). Running
the same command again does only what is missing, or what has been mended or labelled since.
"""

from pipelines.options import PrecomputeOptions
from pipelines.precompute.estimate import PrecomputeEstimate, estimate
from pipelines.precompute.stage import precompute
from pipelines.precompute.summary import PrecomputeSummary

__all__ = ["PrecomputeEstimate", "PrecomputeOptions", "PrecomputeSummary", "estimate", "precompute"]
