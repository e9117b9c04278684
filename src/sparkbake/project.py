"""The project's files in one place: the matrix with its rows, the locks, and where things are written."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparkbake.baselock import base_lock_from_json
from sparkbake.errors import LockError
from sparkbake.frozen import freeze, read_base_lock, registry_base
from sparkbake.lockfile import base_lock_path, load_lock
from sparkbake.matrix import load_matrix, rows
from sparkbake.mirrors import Mirrors, load_mirrors
from sparkbake.model import Base, ContextFile, Lock, Matrix, Plan, Row, Target
from sparkbake.render import render_target
from sparkbake.resolve import resolve, select, siblings_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """A checkout.

    Attributes:
        root: its folder; `matrix.yaml`, `locks/` and `recipes/` are read, `build/` is written.
        cache: bootstrapped bases, shared by all checkouts of this user.
    """

    root: Path
    cache: Path
    matrix: Matrix
    rows: tuple[Row, ...]

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    @property
    def build(self) -> Path:
        return self.root / "build"

    def select(self, patterns: Sequence[str]) -> tuple[Row, ...]:
        return select(self.rows, patterns)

    def lock(self, row: Row) -> Lock:
        return load_lock(self.locks, self.matrix, row)

    def lock_state(self, row: Row) -> str:
        """'yes', or why its lock cannot be built from: 'missing', 'stale' or 'damaged'."""
        try:
            self.lock(row)
        except LockError as err:
            return err.state
        return "yes"

    def plan(self, chosen: Sequence[Row], base: Base, *, trim: bool = True) -> Plan:
        """Plan some rows on a base; without `trim` images keep what the matrix would have left out.

        Raises:
            LockError: a lock is missing, stale or damaged.
        """
        locks = {row.tag: self.lock(row) for row in chosen}
        siblings = {one.tag: self.lock(one) for row in chosen for one in siblings_of(row, self.rows)}
        return resolve(self.matrix, chosen, locks, freeze(base, self.matrix, self.locks), siblings, trim=trim)

    def contexts(self, plan: Plan) -> dict[str, tuple[ContextFile, ...]]:
        registry = registry_base(self.matrix, self.locks)
        return {one.name: render_target(one, registry, self.recipes) for one in plan.targets}

    def plan_digest(self, target: Target) -> str:
        """Digest of what a target is built from; see `manifest.plan_digest`."""
        files = self.contexts(Plan(targets=(target,)))[target.name]
        manifest = next(one.content for one in files if one.path.name == "manifest.json")
        return str(json.loads(manifest)["plan_digest"])

    def os_packages(self, target: Target) -> dict[str, str] | None:
        """Name to version of the packages that a target's base consists of; None of a base from a registry.

        Raises:
            LockError: the lock of the base is missing or damaged.
        """
        if target.base.image:
            return None
        lock = base_lock_from_json(
            read_base_lock(target.base, self.locks), str(base_lock_path(self.locks, target.base))
        )
        return {one.name: one.version for one in lock.packages_of(target.platform.partition("/")[2])}

    def mirrors(self, path: Path | None) -> Mirrors:
        return load_mirrors(path, tuple(one.name for one in self.matrix.bases)) if path else Mirrors()


def open_project(root: Path) -> Project:
    """Read a checkout's matrix.

    Raises:
        MatrixError: with every fault of it.
    """
    root = root.resolve()
    matrix = load_matrix(root / "matrix.yaml")
    return Project(root=root, cache=cache_folder(), matrix=matrix, rows=rows(matrix))


def cache_folder() -> Path:
    """Where downloads of this user are kept, outside of any checkout."""
    named = os.environ.get("SPARKBAKE_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparkbake"


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all, with its folder; to what is no file (/dev/stdout) as it goes."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".new-", delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
