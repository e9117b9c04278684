"""The commands that read only files: `list`, `render` and `docs`."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sparkbake.bake import bake_file
from sparkbake.build import Output, outputs, write_contexts
from sparkbake.errors import MatrixError, UsageError
from sparkbake.frozen import candidates
from sparkbake.model import Row, Strategy
from sparkbake.project import Project, open_project, write_file
from sparkbake.releasepages import records, write_pages
from sparkbake.sourcebuild import render_compiled
from sparkbake.sourcelock import load_foundation_lock, load_source_lock
from sparkbake.tables import (
    ROW_HEADERS,
    markdown_images,
    markdown_records,
    markdown_trims,
    print_table,
    row_cells,
    say,
)
from sparkbake.variants import NOT_COMPILED, Alternative, alternatives


def list_rows(options: argparse.Namespace) -> int:
    """Print every row of the matrix."""
    project = open_project(options.root)
    chosen = project.select(options.tags or ["*"])
    variants = _variants(project, chosen)
    if options.json:
        print(json.dumps([_row_json(project, row, variants.get(row.tag, ())) for row in chosen], indent=2))
        return 0
    print_table(ROW_HEADERS, [_cells(project, row, variants.get(row.tag, ())) for row in chosen])
    return 0


def _variants(project: Project, rows: Sequence[Row]) -> dict[str, tuple[Alternative, ...]]:
    """Tag to the other ways to compile it, of rows that are compiled."""
    compiled = [row for row in rows if row.release.strategy is Strategy.SOURCE]
    if not compiled:
        return {}
    series = project.series()
    return {row.tag: alternatives(project.matrix, row, series) for row in compiled}


def _cells(project: Project, row: Row, variants: Sequence[Alternative]) -> tuple[str, ...]:
    names = [one.name for one in variants if one.refused is None]
    return row_cells(row, project.lock_state(row), _open(project, row), variants=names)


def _open(project: Project, row: Row) -> tuple[str, ...]:
    """The open pins of a row that has a lock."""
    return project.open_pins(row) if project.lock_state(row) == "open" else ()


def _row_json(project: Project, row: Row, variants: Sequence[Alternative]) -> dict[str, object]:
    return {
        "tag": row.tag,
        "replaces": list(row.replaces),
        "strategy": row.release.strategy.value,
        # Of what is published; a compiled row stands on CUDA's images.
        "base": project.matrix.tagging.base if row.release.strategy is Strategy.WHEELS else None,
        "foundation": row.foundation.name,
        "versions": dict(row.versions),
        "overrides": {one.package: one.reason for one in row.overrides},
        "published": row.release.published,
        "limits": [one.sentence for one in row.release.limits],
        "note": row.variant.exceptions.note,
        "variants": [asdict(one) for one in variants],
        "sources": _sources_json(project, row),
        "open_pins": list(_open(project, row)),
        "locked": project.lock_state(row),
    }


def _sources_json(project: Project, row: Row) -> dict[str, object]:
    """What a compiled row is made from: of each repository what was asked for, its commit, and that of the wheel."""
    if project.lock_state(row) not in ("yes", "open") or row.release.strategy is not Strategy.SOURCE:
        return {}
    foundation = load_foundation_lock(project.locks, project.matrix, row.foundation)
    lock = load_source_lock(project.locks, project.matrix, row)
    return {
        one.name: {"tag": one.tag, "commit": one.commit, "wheel_built_from": one.built_from, "differs": one.differs}
        for one in (*foundation.pins, *lock.pins)
    }


def render(options: argparse.Namespace) -> int:
    """Write the build contexts and the bake file of some rows."""
    project = open_project(options.root)
    chosen = project.select(options.tags)
    if any(row.release.strategy is Strategy.SOURCE for row in chosen):
        return render_compiled(project, chosen, options.variant)
    if options.variant is not None:
        raise UsageError(f"--variant: {NOT_COMPILED}")
    plan = project.plan(chosen, candidates(options.base, project.matrix)[0])
    write_contexts(plan, project.contexts(plan), project.build)
    path = project.build / "docker-bake.json"
    path.write_text(bake_file(plan, outputs(plan, Output()), {}), encoding="utf-8")
    for target in plan.targets:
        print(project.build / target.name / "Dockerfile")
    print(path)
    for name in sorted({one.base.name for one in plan.targets if not one.base.image}):
        say(f"{path} has no context for the base {name} yet; `nox -s build` makes the base and names it there")
    return 0


def docs(options: argparse.Namespace) -> int:
    """Write the tables that are generated into the documents that have them, and the release notes of every row; or
    check that they are true.
    """
    project = open_project(options.root)
    for name, tables in generated_tables(project).items():
        path = project.root / name
        before = path.read_text(encoding="utf-8")
        after = before
        for mark, table in tables.items():
            after = with_table(after, mark, table, path)
        if before == after:
            say(f"{path}: up to date")
        elif options.check:
            raise MatrixError([f"{path}: a generated table is not what matrix.yaml and locks say; run `nox -s docs`"])
        else:
            write_file(path, after)
            say(f"{path}: written")
    write_pages(project, is_check=options.check)
    return 0


def generated_tables(project: Project) -> dict[str, dict[str, str]]:
    """Document to the marks of its generated tables, each with the table."""
    return {
        "README.md": {"images": markdown_images(project.rows)},
        "docs/layers.md": {
            "trims": markdown_trims(project.matrix.trims),
            "records": markdown_records((tag, one.base, one.image, one.is_current) for tag, one in records(project)),
        },
    }


def with_table(text: str, mark: str, table: str, path: Path) -> str:
    """A text with what stands between `<!-- MARK -->` and `<!-- end of MARK -->` replaced.

    Raises:
        MatrixError: the marks are not there.
    """
    first, last = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    head, begin, rest = text.partition(first)
    _old, end, tail = rest.partition(last)
    if not begin or not end:
        raise MatrixError([f"{path}: has no '{first}' and '{last}' to put the table between; add them"])
    return f"{head}{begin}\n{table}{end}{tail}"
