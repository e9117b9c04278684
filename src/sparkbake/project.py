"""The project's files in one place: the matrix with its rows, the locks, and where things are written."""

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sparkbake.baselock import base_lock_from_json
from sparkbake.doctorneeds import load_standards
from sparkbake.errors import LockError, UsageError
from sparkbake.frozen import freeze, read_base_lock, registry_base
from sparkbake.lockfile import base_lock_path, load_lock, lock_path
from sparkbake.matrix import load_matrix, rows
from sparkbake.mirrors import Mirrors, load_mirrors
from sparkbake.model import Base, ContextFile, Lock, Matrix, Plan, Row, Strategy, Target
from sparkbake.openpins import open_patches
from sparkbake.patches import Series
from sparkbake.render import render_target
from sparkbake.resolve import reference_of, resolve, select, siblings_of
from sparkbake.runtime import runtime_files
from sparkbake.series import load_series
from sparkbake.sourcelock import load_foundation_lock, load_source_lock, source_base
from sparkbake.sourcemodel import SourceTarget
from sparkbake.sourcepins import VLLM
from sparkbake.sourcerender import render_source
from sparkbake.sourceresolve import SourceLocks, SourcePlan, resolve_source
from sparkbake.variants import check_no_variant


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """A checkout.

    Attributes:
        root: its folder; `matrix.yaml`, `doctor.yaml`, `locks/`, `moe_configs/` and `recipes/` are read, `build/` is
            written.
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
        """The rows of some tags or patterns.

        Raises:
            UsageError: one of them matches nothing, or is the tag of a variant.
        """
        for pattern in patterns:
            check_no_variant(self.matrix, self.rows, pattern)
        return select(self.rows, patterns)

    def lock(self, row: Row) -> Lock:
        return load_lock(self.locks, self.matrix, row)

    def lock_state(self, row: Row) -> str:
        """'yes', or why its lock cannot be built from: 'missing', 'stale', 'damaged', or 'open' pins."""
        try:
            if row.release.strategy is Strategy.SOURCE:
                return "open" if self.open_pins(row) else "yes"
            self.lock(row)
        except LockError as err:
            return err.state
        return "yes"

    def open_pins(self, row: Row) -> tuple[str, ...]:
        """What is not known of a compiled row and of its foundation, each as a user is told; none of other rows.

        Raises:
            LockError: a lock is missing, stale or damaged.
            MatrixError: the series of patches has faults.
        """
        if row.release.strategy is not Strategy.SOURCE:
            return ()
        foundation = load_foundation_lock(self.locks, self.matrix, row.foundation)
        patches = open_patches(self.series(), row.release.vllm)
        return (*foundation.open_pins, *load_source_lock(self.locks, self.matrix, row).open_pins, *patches)

    def plan(self, chosen: Sequence[Row], base: Base, *, trim: bool = True) -> Plan:
        """Plan some rows on a base; without `trim` images keep what the matrix would have left out.

        Raises:
            LockError: a lock is missing, stale or damaged.
            UsageError: a row is compiled.
        """
        compiled = [row.tag for row in chosen if row.release.strategy is Strategy.SOURCE]
        if compiled:
            raise UsageError(
                f"{', '.join(compiled)}: compiled from source, which `list`, `lock`, `render`, `build`, `verify`, "
                "`sbom`, `publish`, `check`, `ship` and `clean` know, and this command does not yet; name a row of the "
                "strategy wheels"
            )
        locks = {row.tag: self.lock(row) for row in chosen}
        siblings = {one.tag: self.lock(one) for row in chosen for one in siblings_of(row, self.rows)}
        return resolve(self.matrix, chosen, locks, freeze(base, self.matrix, self.locks), siblings, trim=trim)

    def source_plan(self, chosen: Sequence[Row], variant: str | None = None) -> SourcePlan:
        """Plan some compiled rows, with the foundations that they stand on.

        Args:
            variant: see `resolve_source`.

        Raises:
            LockError: a lock is missing, stale or damaged.
            MatrixError: the series of patches has faults.
            UsageError: there is no such variant, or not of a row.
        """
        matrix, locks = self.matrix, self.locks
        foundations = {row.foundation.name: row.foundation for row in chosen}
        others = [one for row in chosen for one in siblings_of(row, self.rows) if lock_path(locks, one.tag).exists()]
        frozen = freeze(source_base(matrix), matrix, locks)
        return resolve_source(
            matrix,
            chosen,
            SourceLocks(
                foundations={name: load_foundation_lock(locks, matrix, one) for name, one in foundations.items()},
                rows={row.tag: load_source_lock(locks, matrix, row) for row in chosen},
                siblings={one.tag: load_source_lock(locks, matrix, one) for one in others},
                apt_snapshot=frozen.apt_snapshot or "",
            ),
            self.series(),
            variant=variant,
        )

    def series(self) -> Series:
        """The patches of vLLM.

        Raises:
            MatrixError: with every fault of them.
        """
        return load_series(self.root / "patches" / VLLM)

    def contexts(self, plan: Plan) -> dict[str, tuple[ContextFile, ...]]:
        registry = registry_base(self.matrix, self.locks)
        return {one.name: render_target(one, registry, self.recipes, self.runtime(one)) for one in plan.targets}

    def reference(self, row: Row) -> str:
        """What the image of a row is called, `<registry>/<namespace>/<image>:<tag>`, on any base, locked or not."""
        return reference_of(self.matrix, row)

    def source_contexts(self, plan: SourcePlan) -> dict[str, tuple[ContextFile, ...]]:
        """Target name to its build context; images of vLLM alone have files by themselves, their foundations none."""
        runtimes = {one.name: () if one.is_foundation else self.runtime(one) for one in plan.targets}
        return {one.name: render_source(one, self.recipes, runtimes[one.name]) for one in plan.targets}

    def runtime(self, target: Target | SourceTarget) -> tuple[ContextFile, ...]:
        """The files that a target's image has by itself.

        Raises:
            MatrixError: with every fault of doctor.yaml.
        """
        return runtime_files(
            target,
            recipes=self.recipes,
            configs=self.root / "moe_configs",
            standards=load_standards(self.root / "doctor.yaml"),
            compute_capability=self.matrix.chip.compute_capability,
            limits=target.limits if isinstance(target, SourceTarget) else (),
        )

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
    with ExitStack() as stack:
        file = stack.enter_context(
            tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".new-", delete=False, encoding="utf-8")
        )
        # It is there in the end only if it could not be written, as on a full disk.
        stack.callback(Path(file.name).unlink, missing_ok=True)
        file.write(text)
        file.flush()
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
