"""YAML of a bounded size: with aliases of aliases a file of a kilobyte unpacks to a billion words."""

from __future__ import annotations

from typing import Any

import yaml

MOST = 1_000_000  # lists, dicts and values that a file may unpack to


def loads(text: str) -> Any:
    """Read dicts, lists, strings and numbers from YAML.

    Raises:
        yaml.YAMLError: no YAML, a key that a mapping names twice, or aliases that unpack to more than `MOST` values, or
            into themselves.

    >>> loads("classes: [car, bus]")
    {'classes': ['car', 'bus']}
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_keys(node, set())
        if _unpacked(node, {}) > MOST:
            raise yaml.YAMLError(f"its aliases unpack to more than {MOST:,} values: write out what they stand for")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_keys(node: yaml.Node, known: set[int]) -> None:
    """YAML has each key of a mapping once; PyYAML takes the last of two without a word."""
    if id(node) in known or not isinstance(node, yaml.CollectionNode):
        return
    known.add(id(node))
    lines: dict[tuple[str, str], int] = {}
    for child in node.value:
        for part in child if isinstance(node, yaml.MappingNode) else (child,):
            _check_keys(part, known)
        if isinstance(node, yaml.MappingNode) and isinstance(child[0], yaml.ScalarNode):
            key, line = (child[0].tag, child[0].value), child[0].start_mark.line + 1
            if key in lines:
                raise yaml.YAMLError(f"{key[1]} is named twice, in line {lines[key]} and in line {line}")
            lines[key] = line


def _unpacked(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values that a node stands for, those of aliases counted each time."""
    if id(node) not in known:
        known[id(node)] = MOST + 1  # should it be found within itself
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        pairs = isinstance(node, yaml.MappingNode)
        inner = (part for child in children for part in (child if pairs else (child,)))
        known[id(node)] = 1 + sum(_unpacked(child, known) for child in inner)
    return known[id(node)]
