"""YAML of a bounded size: with aliases of aliases a file of a kilobyte unpacks to a billion words."""

from __future__ import annotations

from typing import Any

import yaml

MOST = 1_000_000  # lists, dicts and values that a file may unpack to


class _Loader(yaml.SafeLoader):
    """As PyYAML reads and writes, but that 010 is ten and not eight, and 1:30 is text and not ninety."""


def _int(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    text: str = loader.construct_scalar(node)
    if ":" in text:
        return text
    plain = text.replace("_", "")
    return int(plain) if plain.lstrip("+-").isdigit() else loader.construct_yaml_int(node)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float | str:
    text: str = loader.construct_scalar(node)
    return text if ":" in text else loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


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
    except (ValueError, LookupError, AttributeError) as error:  # what PyYAML raises of a date that is none, or !!bool 2
        raise yaml.YAMLError(f"a value is not what it is said to be: {error}") from error
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
