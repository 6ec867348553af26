"""YAML without aliases: with them a file of a kilobyte unpacks to a billion words."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"an alias, *{event.anchor}: write out what it stands for", event.start_mark
            )
        return super().compose_node(parent, index)


def loads(text: str) -> Any:
    """Read dicts, lists, strings and numbers from YAML.

    Raises:
        yaml.YAMLError: no YAML, or an alias in it.

    >>> loads("classes: [car, bus]")
    {'classes': ['car', 'bus']}
    """
    return yaml.load(text, Loader=_Loader)
