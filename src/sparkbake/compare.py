"""Say every difference of two images that should be the same, by layer and path."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TypeAlias

from sparkbake.imageinfo import Entry, ImageInfo, LayerInfo, layer_name, parse_json

SHOWN_PER_LAYER = 50
DIFFERENCE_HEADERS = ("layer", "path", "what", "first", "second")
_CONFIG = "config"
_ONLY_FIRST = "only in the first"
_ONLY_SECOND = "only in the second"
_ABSENT = "absent"

# Reads a layer; None where the contents of an image are not at hand.
ReadEntries: TypeAlias = Callable[[LayerInfo], Iterable[Entry]] | None
# Of entries with one path, the nth: a tar may carry a path twice.
_Keyed: TypeAlias = dict[tuple[str, int], Entry]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One thing that is not the same in both images.

    Attributes:
        layer: "4 (cuda)", counted from 1; "config"; "" of the image as a whole.
        path: of an entry; the key of a config's value ("history[3].created"); "" of a layer as a whole.
        what: "content", "mode", "mtime", "owner", "kind", "link target", "headers", "only in the first", "only in the
            second" or "order" of entries; "compression" (one tar, other blobs), "tar format" (the same entries, other
            tars) or "not read" (other tars, whose entries are not at hand) of a layer; "number of layers"; "value" of a
            config; "manifest" when nothing else is another.
        first, second: what the images have there.
    """

    layer: str
    path: str
    what: str
    first: str
    second: str


def differences(
    first: ImageInfo, second: ImageInfo, first_entries: ReadEntries, second_entries: ReadEntries
) -> tuple[Difference, ...]:
    """Every difference of two images: of the config, then of the layers, which are paired by position.

    Args:
        first_entries, second_entries: read a layer; called only where the tars of a pair differ.
    """
    found = list(config_differences(first.config, second.config))
    if len(first.layers) != len(second.layers):
        counts = str(len(first.layers)), str(len(second.layers))
        found.append(Difference(layer="", path="", what="number of layers", first=counts[0], second=counts[1]))
    for position, (one, other) in enumerate(zip(first.layers, second.layers, strict=False), start=1):
        name = _title(position, one, other)
        if one.diff_id != other.diff_id and first_entries and second_entries:
            found += entry_differences(name, first_entries(one), second_entries(other)) or [
                Difference(layer=name, path="", what="tar format", first=one.diff_id, second=other.diff_id)
            ]
        elif one.diff_id != other.diff_id:
            found.append(Difference(layer=name, path="", what="not read", first=one.diff_id, second=other.diff_id))
        elif one.digest != other.digest:
            found.append(Difference(layer=name, path="", what="compression", first=_blob(one), second=_blob(other)))
    if not found and first.digest != second.digest:
        found.append(Difference(layer="", path="", what="manifest", first=first.digest, second=second.digest))
    return tuple(found)


def _title(position: int, one: LayerInfo, other: LayerInfo) -> str:
    names = list(dict.fromkeys(name for name in (layer_name(one), layer_name(other)) if name))
    return f"{position} ({' and '.join(names)})" if names else str(position)


def _blob(layer: LayerInfo) -> str:
    return f"{layer.digest} ({layer.media_type}, {layer.size_bytes} bytes)"


# ---- entries


def entry_differences(layer: str, first: Iterable[Entry], second: Iterable[Entry]) -> list[Difference]:
    """Every difference of the entries of two layers, in the order of paths.

    Args:
        layer: its name, for the result.
    """
    one, other = _keyed(first), _keyed(second)
    found = [
        Difference(layer=layer, path=key[0], what=what, first=before, second=after)
        for key in sorted(one.keys() | other.keys())
        for what, before, after in _changes(one.get(key), other.get(key))
    ]
    orders = [key for key in one if key in other], [key for key in other if key in one]
    for here, there in zip(*orders, strict=True):
        if here != there:
            found.append(Difference(layer=layer, path=here[0], what="order", first=here[0], second=there[0]))
            break
    return found


def _keyed(entries: Iterable[Entry]) -> _Keyed:
    seen: Counter[str] = Counter()
    keyed: _Keyed = {}
    for entry in entries:
        keyed[entry.path, seen[entry.path]] = entry
        seen[entry.path] += 1
    return keyed


def _changes(one: Entry | None, other: Entry | None) -> Iterator[tuple[str, str, str]]:
    """What is different, in the first and in the second."""
    if one is None or other is None:
        kinds = [each.kind if each else _ABSENT for each in (one, other)]
        yield _ONLY_SECOND if one is None else _ONLY_FIRST, kinds[0], kinds[1]
        return
    if one == other:
        return
    facts = zip(_facts(one), _facts(other), strict=True)
    yield from ((what, before, after) for (what, before), (_what, after) in facts if before != after)


def _facts(entry: Entry) -> tuple[tuple[str, str], ...]:
    content = f"sha256:{entry.sha256} ({entry.size_bytes} bytes)" if entry.kind == "file" else ""
    return (
        ("kind", entry.kind),
        ("content", content),
        ("link target", entry.target),
        ("mode", f"{entry.mode:04o}"),
        ("owner", f"{entry.uid}:{entry.gid}"),
        ("mtime", str(entry.mtime)),
        ("headers", ", ".join(f"{name}={value}" for name, value in entry.headers)),
    )


# ---- configs


def config_differences(first: str, second: str) -> Iterator[Difference]:
    """Every value that is not the same in two configs.

    Args:
        first, second: JSON objects. Lists of objects (history) are gone into, other lists are one value.
    """
    one = dict(_flat("", parse_json(_CONFIG, first)))
    other = dict(_flat("", parse_json(_CONFIG, second)))
    for key in sorted(one.keys() | other.keys()):
        before, after = one.get(key, _ABSENT), other.get(key, _ABSENT)
        what = _ONLY_SECOND if key not in one else _ONLY_FIRST if key not in other else "value"
        if what != "value" or before != after:
            yield Difference(layer=_CONFIG, path=key, what=what, first=before, second=after)


def _flat(key: str, value: object) -> Iterator[tuple[str, str]]:
    if value and isinstance(value, dict):
        for name in value:
            yield from _flat(f"{key}.{name}" if key else name, value[name])
    elif value and isinstance(value, list) and all(isinstance(one, dict) for one in value):
        for position, one in enumerate(value):
            yield from _flat(f"{key}[{position}]", one)
    else:
        yield key, json.dumps(value, ensure_ascii=False)


# ---- for people, and for machines


def difference_rows(found: Sequence[Difference]) -> list[tuple[str, ...]]:
    """Cells below DIFFERENCE_HEADERS: of each layer the first 50 differences, and how many more there are."""
    rows: list[tuple[str, ...]] = []
    for layer, group in groupby(found, key=lambda one: one.layer):
        some = list(group)
        rows += [(one.layer, one.path, one.what, one.first, one.second) for one in some[:SHOWN_PER_LAYER]]
        left = len(some) - SHOWN_PER_LAYER
        rows += [(layer, f"and {left} more (--json has all)", "", "", "")] if left > 0 else []
    return rows


def differences_json(found: Sequence[Difference]) -> list[dict[str, str]]:
    """The same, all of them, as JSON has it."""
    return [asdict(one) for one in found]
