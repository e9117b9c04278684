"""Strict reading of YAML: every scalar a string, every key known, every fault with its place and what to do."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from sparkbake.errors import MatrixError

_TEXT_TAG = "tag:yaml.org,2002:str"
_NULL_TAG = "tag:yaml.org,2002:null"
_KINDS = {
    "tag:yaml.org,2002:float": "a float",
    "tag:yaml.org,2002:int": "an integer",
    "tag:yaml.org,2002:bool": "a boolean",
    "tag:yaml.org,2002:timestamp": "a date",
}
# A name that is safe in labels, paths and image names.
NAME = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"


class Fields:
    """One mapping of a YAML file, read key by key; `done()` reports the keys nobody asked for.

    A fault does not stop the reading: the reader gets a harmless stand-in, which reports nothing more, and
    `raise_faults()` raises all of them at the end.
    """

    def __init__(self, node: yaml.MappingNode, path: str, source: "_Source") -> None:
        self._path = path
        self._source = source
        self._node = node
        self._values: dict[str, yaml.Node] = {}
        self._asked: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT_TAG:
                source.fault(key, path, f"got the key {_show(key)}, expected a string; quote it")
            elif key.value in self._values:
                source.fault(key, path, f"the key '{key.value}' stands twice, expected once; remove one of them")
            else:
                self._values[key.value] = value

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a mapping whose keys are free to choose, in the order of the file."""
        self._asked.update(self._values)
        return tuple(self._values)

    def __contains__(self, key: str) -> bool:
        """Whether a key that may be absent is there."""
        self._asked.add(key)
        return key in self._values

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of a mapping whose keys are names, in the order of the file."""
        for key in self.keys:
            if not re.fullmatch(NAME, key):
                self.fault(key, f"got the key '{key}', expected a name in lower case such as debian-13; rename it")
        return self.keys

    def fault(self, key: str, message: str) -> None:
        """Report a fault in the value of `key` that only the caller can see."""
        self._source.fault(self._values.get(key, self._node), self.path_of(key), message)

    def path_of(self, key: str) -> str:
        shown = key if re.fullmatch(r"[A-Za-z_][\w-]*", key) else f'"{key}"'
        return f"{self._path}.{shown}" if self._path else shown

    def text(self, key: str, *, pattern: str = ".+", expected: str = "a string that is not empty") -> str:
        """The string at `key`, which `pattern` must match whole."""
        node = self._get(key, expected)
        return "" if node is None else self._text(node, self.path_of(key), pattern, expected)

    def text_or_none(
        self, key: str, *, pattern: str = ".+", expected: str = "a string that is not empty"
    ) -> str | None:
        """The string at `key`; None when the key is absent or its value null."""
        self._asked.add(key)
        node = self._values.get(key)
        if node is None or node.tag == _NULL_TAG:
            return None
        return self._text(node, self.path_of(key), pattern, expected)

    def choice(self, key: str, allowed: Sequence[str]) -> str:
        expected = "one of " + ", ".join(allowed)
        value = self.text(key, expected=expected)
        if value and value not in allowed:
            self.fault(key, f"got '{value}', expected {expected}{_nearest(value, allowed)}")
            return allowed[0]
        return value or allowed[0]

    def flag(self, key: str) -> bool:
        """True or false; false when the key is absent."""
        self._asked.add(key)
        node = self._values.get(key)
        if node is None:
            return False
        if node.tag != "tag:yaml.org,2002:bool" or node.value not in ("true", "false"):
            self.fault(key, f"got {_show(node)}, expected true or false")
        return bool(node.value == "true")

    def texts(self, key: str, *, pattern: str, expected: str) -> tuple[str, ...]:
        """The list of strings at `key`; an absent or empty one is a fault."""
        self._get(key, "a list of strings")
        return self.texts_or_empty(key, pattern=pattern, expected=expected)

    def texts_or_empty(self, key: str, *, pattern: str, expected: str) -> tuple[str, ...]:
        """The list of strings at `key`; an empty list is a fault, an absent key is not."""
        self._asked.add(key)
        node = self._values.get(key)
        if node is None:
            return ()
        path = self.path_of(key)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.fault(key, f"got {_show(node)}, expected a list of strings")
            return ()
        return tuple(self._text(one, f"{path}[{i}]", pattern, expected) for i, one in enumerate(node.value))

    def mapping(self, key: str) -> "Fields":
        """The mapping at `key`; an absent or empty one is a fault."""
        node = self._get(key, "a mapping")
        if isinstance(node, yaml.MappingNode) and not node.value:
            self.fault(key, "got an empty mapping, expected one with keys; fill it")
            node = None
        return self._mapping(node, self.path_of(key))

    def mapping_or_empty(self, key: str) -> "Fields":
        self._asked.add(key)
        return self._mapping(self._values.get(key), self.path_of(key))

    def items(self, key: str) -> tuple["Fields", ...]:
        """The list of mappings at `key`; an absent or empty one is a fault."""
        self._get(key, "a list of mappings")
        return self.items_or_empty(key)

    def items_or_empty(self, key: str) -> tuple["Fields", ...]:
        """The list of mappings at `key`; an empty list is a fault, an absent key is not."""
        self._asked.add(key)
        node = self._values.get(key)
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.fault(key, f"got {_show(node)}, expected a list of mappings")
            return ()
        path = self.path_of(key)
        return tuple(self._mapping(one, f"{path}[{i}]") for i, one in enumerate(node.value))

    def done(self) -> None:
        """Report every key that was not asked for."""
        for key in self._values:
            if key not in self._asked:
                known = sorted(self._asked)
                self.fault(key, f"unknown key, expected one of {', '.join(known)}{_nearest(key, known)}")

    def raise_faults(self) -> None:
        """Raise all faults of the file, in its order.

        Raises:
            MatrixError: there are any.
        """
        self._source.raise_faults()

    def _get(self, key: str, expected: str) -> yaml.Node | None:
        self._asked.add(key)
        node = self._values.get(key)
        if node is None:
            self._source.fault(self._node, self.path_of(key), f"missing, expected {expected}; add it")
        return node

    def _mapping(self, node: yaml.Node | None, path: str) -> "Fields":
        if node is not None and not isinstance(node, yaml.MappingNode):
            self._source.fault(node, path, f"got {_show(node)}, expected a mapping")
        if not isinstance(node, yaml.MappingNode):
            node = yaml.MappingNode("tag:yaml.org,2002:map", [], self._node.start_mark, self._node.end_mark)
            return Fields(node, path, _Source(""))
        return Fields(node, path, self._source)

    def _text(self, node: yaml.Node, path: str, pattern: str, expected: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._source.fault(node, path, f"got {_show(node)}, expected {expected}")
            return ""
        if node.tag == _NULL_TAG:
            self._source.fault(node, path, f"got {node.value or 'nothing'}, expected {expected}; write it")
            return ""
        if node.tag != _TEXT_TAG:
            kind = _KINDS.get(node.tag, "no string")
            self._source.fault(
                node, path, f'got {node.value} unquoted, which YAML reads as {kind}; write "{node.value}"'
            )
            return ""
        if not re.fullmatch(pattern, node.value, re.DOTALL | re.ASCII):
            self._source.fault(node, path, f"got '{node.value}', expected {expected}")
            return ""
        return str(node.value)


class _Source:
    """The file being read, and what is wrong with it so far."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._faults: list[tuple[int, int, str]] = []

    def fault(self, node: yaml.Node, path: str, message: str) -> None:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        where = f"{self._name}:{line}:{column}: {path}" if path else f"{self._name}:{line}:{column}"
        self._faults.append((line, column, f"{where}: {message}"))

    def raise_faults(self) -> None:
        if self._faults:
            raise MatrixError([message for _line, _column, message in sorted(set(self._faults))])


def read_fields(text: str, name: str) -> Fields:
    """Parse YAML whose top level is a mapping.

    Args:
        name: how messages call the file.

    Raises:
        MatrixError: it is no YAML, is empty, or is no mapping.
    """
    try:
        # Not the loader written in C: lists nested some thousand levels deep end the whole process in it.
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise MatrixError([f"{place}: not YAML: {err.problem}; mend the line"]) from err
    except yaml.YAMLError as err:
        raise MatrixError([f"{name}: not YAML: {err}; mend the file"]) from err
    except RecursionError as err:
        raise MatrixError([f"{name}: nested too deep to be read; expected a mapping of keys"]) from err
    if not isinstance(node, yaml.MappingNode):
        raise MatrixError([f"{name}: got {_show(node) if node else 'an empty file'}, expected a mapping of keys"])
    return Fields(node, "", _Source(name))


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises:
        MatrixError: it does not exist or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise MatrixError([f"{path}: cannot be read: {err}; expected a UTF-8 file there"]) from err


def _show(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list" if node.value else "an empty list"
    return f"'{node.value}'" if node.value else "nothing"


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
