"""YAML of a bounded size: with aliases of aliases a file of a kilobyte unpacks to a billion words."""

from __future__ import annotations

from typing import Any

import yaml

MOST = 1_000_000  # lists, dicts and values that a file may unpack to


def loads(text: str) -> Any:
    """Read dicts, lists, strings and numbers from YAML.

    Raises:
        yaml.YAMLError: no YAML, or its aliases unpack to more than `MOST` values, or into themselves.

    >>> loads("classes: [car, bus]")
    {'classes': ['car', 'bus']}
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _unpacked(node, {}) > MOST:
            raise yaml.YAMLError(f"its aliases unpack to more than {MOST:,} values: write out what they stand for")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _unpacked(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values that a node stands for, those of aliases counted each time."""
    if id(node) not in known:
        known[id(node)] = MOST + 1  # should it be found within itself
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        pairs = isinstance(node, yaml.MappingNode)
        inner = (part for child in children for part in (child if pairs else (child,)))
        known[id(node)] = 1 + sum(_unpacked(child, known) for child in inner)
    return known[id(node)]
