"""Bags of ROS 1 and ROS 2 (MCAP and SQLite) as recordings of one's own.

ovps data import drive.mcap --list
ovps data import drive.mcap --out recordings/drive --points /lidar/points --camera /front/image_raw/compressed

`topics` says what a bag holds; `messages` brings clouds and images to arrays; `transforms` keeps what /tf and
/tf_static say; `convert` chooses, matches and writes.
"""

from pipelines.bag.convert import ImportSummary, import_bag
from pipelines.bag.topics import Topic, list_topics

__all__ = ["ImportSummary", "Topic", "import_bag", "list_topics"]
