"""Reads YAML as a strict parser does: a key that stands twice in a mapping is an error."""

from typing import Any

import yaml
from yaml.constructor import ConstructorError

# libyaml reads the kinds of this project in a quarter of the time; PyYAML may come without it.
_Fastest: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Fastest):
    """Refuses what `yaml.safe_load` passes over: there the last of two equal keys wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_all(text: str) -> list[dict[str, Any]]:
    """Return the documents of a text, empty ones left out."""
    return [each for each in yaml.load_all(text, Loader=_Loader) if each]
