"""Follow a build: turn BuildKit's raw progress into lines for a person, a full log, and the facts about its end."""

import base64
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_KEPT_LINES = 20
_CANCELED = "context canceled"
# BuildKit's own steps, and the second half of each `COPY --link`.
_UNREMARKABLE = ("[internal]", "] LINK ", "[context ", "resolving provenance")
# As BuildKit calls the step that writes a cache, whichever target it is of.
_CACHE_EXPORT = "exporting cache to "
# What the recipes' own scripts say of their progress.
_REMARKS = ("apt-packages: ", "layout: ", "os-packages: ")


@dataclass(kw_only=True, slots=True)
class _Step:
    """One vertex of the build graph."""

    name: str
    started: bool = False
    finished: bool = False
    cached: bool = False
    error: str = ""
    began_s: float = 0.0
    partial: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The step that broke a build: its name, BuildKit's error, and the last lines it printed."""

    step: str
    error: str
    lines: tuple[str, ...]


class Progress:
    """Reads the lines of `docker buildx bake --progress rawjson`.

    Args:
        show: told each line for the user.
        log: told each line for the full log.
        verbose: whether the user sees what the steps print, too.
    """

    def __init__(self, show: Callable[[str], None], log: Callable[[str], None], *, verbose: bool) -> None:
        self._show = show
        self._log = log
        self._verbose = verbose
        self._steps: dict[str, _Step] = {}
        self._other: deque[str] = deque(maxlen=_KEPT_LINES)
        self._told: set[str] = set()

    def feed(self, line: str) -> None:
        """Take one line; what is no JSON is BuildKit speaking plainly, and is kept as it is."""
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            event = None
        if not isinstance(event, dict):
            self._other.append(line)
            self._log(line)
            return
        for vertex in event.get("vertexes") or []:
            self._vertex(vertex)
        for status in event.get("statuses") or []:
            self._status(status)
        for entry in event.get("logs") or []:
            self._entry(entry)

    @property
    def executed(self) -> tuple[str, ...]:
        """Names of the steps that ran and did not come from the cache; BuildKit's own are left out."""
        return tuple(
            one.name for one in self._steps.values() if one.finished and not one.cached and _is_instruction(one.name)
        )

    @property
    def failure(self) -> Failure | None:
        """What broke the build; None when no step failed."""
        for step in self._steps.values():
            if step.error and _CANCELED not in step.error:
                return Failure(step=_short(step.name), error=step.error, lines=tuple(step.lines))
        return None

    @property
    def unwritten(self) -> tuple[str, ...]:
        """Why caches could not be written; a build that bears it ends well."""
        return tuple(one.error for one in self._steps.values() if one.error and _CACHE_EXPORT in one.name)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The last lines that buildx printed outside of its progress: errors of its own, warnings."""
        return tuple(self._other)

    def _vertex(self, vertex: dict[str, Any]) -> None:
        step = self._steps.setdefault(vertex["digest"], _Step(name=vertex.get("name", "")))
        step.name = vertex.get("name") or step.name
        if vertex.get("cached"):
            step.cached = True
        if vertex.get("started") and not step.started:
            step.started, step.began_s = True, time.monotonic()
            self._say(step, f"{_short(step.name)}")
        if vertex.get("error"):
            step.error = vertex["error"]
        if vertex.get("completed") and not step.finished:
            step.finished = True
            if step.partial:
                self._print(step, step.partial)
                step.partial = ""
            self._say(step, f"{_short(step.name)}: {_state(step)}, {time.monotonic() - step.began_s:.1f} s")

    def _entry(self, entry: dict[str, Any]) -> None:
        step = self._steps.setdefault(entry["vertex"], _Step(name="?"))
        text = step.partial + base64.b64decode(entry.get("data") or "").decode(errors="replace")
        # A chunk may end in the middle of a line.
        *lines, step.partial = text.split("\n")
        for line in lines:
            self._print(step, line.rstrip("\r"))

    def _print(self, step: _Step, line: str) -> None:
        step.lines.append(line)
        self._log(f"    {line}")
        if self._verbose or line.startswith(_REMARKS):
            self._show(f"    {line}")

    def _status(self, status: dict[str, Any]) -> None:
        """What BuildKit does inside a step; of interest where it exports, which takes long and prints nothing else."""
        step = self._steps.get(status.get("vertex", ""))
        key = f"{status.get('vertex')} {status.get('id')}"
        if step is None or not step.name.startswith("exporting") or key in self._told:
            return
        self._told.add(key)
        self._say(step, f"    {status.get('id')}")

    def _say(self, step: _Step, line: str) -> None:
        self._log(line)
        if self._verbose or not any(part in step.name for part in _UNREMARKABLE):
            self._show(line)


def _state(step: _Step) -> str:
    """How a step ended; BuildKit stops one that is also another target's, and goes on with that."""
    if step.error:
        return "stopped" if _CANCELED in step.error else "failed"
    return "cached" if step.cached else "done"


def _is_instruction(name: str) -> bool:
    return name.startswith("[") and any(f"] {word} " in name for word in ("RUN", "COPY", "ADD", "WORKDIR"))


def _short(name: str) -> str:
    """A step's name on one line: bind and secret mounts say nothing to the user."""
    words = [word for word in name.split() if not word.startswith("--mount=")]
    text = " ".join(words)
    return text if len(text) <= 150 else text[:147] + "..."  # noqa: PLR2004
