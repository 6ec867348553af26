"""YAML of a bounded size: with aliases of aliases a file of a kilobyte unpacks to a billion words."""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST = 1_000_000  # lists, dicts and values that a file may unpack to
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """Numbers as in YAML 1.2: 010 is ten, not eight, and 1:30 is text, not ninety."""


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 16 if "x" in text else 10)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in (_INT, _FLOAT)]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor(_INT, _int)
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(0x[0-9a-fA-F_]+|[0-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"[-+]?([0-9][0-9_]*)?\.[0-9_]*([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def loads(text: str) -> Any:
    """Read dicts, lists, strings and numbers from YAML.

    Raises:
        yaml.YAMLError: no YAML, a key that a mapping names twice, or aliases that unpack to more than `MOST` values, or
            into themselves.

    >>> loads("{classes: [car, bus], seed: 010}")
    {'classes': ['car', 'bus'], 'seed': 10}
    """
    loader = _Loader(text)
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
