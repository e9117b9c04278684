"""The commands that read only files: `list`, `render` and `docs`."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from sparkbake.bake import bake_file
from sparkbake.build import Output, outputs, write_contexts
from sparkbake.errors import MatrixError
from sparkbake.expected import Expected, load_expected
from sparkbake.frozen import candidates
from sparkbake.model import Row
from sparkbake.project import Project, open_project
from sparkbake.tables import (
    ROW_HEADERS,
    markdown_images,
    markdown_records,
    markdown_trims,
    print_table,
    row_cells,
    say,
)


def list_rows(options: argparse.Namespace) -> int:
    """Print every row of the matrix."""
    project = open_project(options.root)
    chosen = project.select(options.tags or ["*"])
    if options.json:
        print(json.dumps([_row_json(project, row) for row in chosen], indent=2))
        return 0
    print_table(ROW_HEADERS, [row_cells(row, project.lock_state(row)) for row in chosen])
    return 0


def _row_json(project: Project, row: Row) -> dict[str, object]:
    return {
        "tag": row.tag,
        "strategy": row.release.strategy.value,
        "foundation": row.foundation.name,
        "versions": dict(row.versions),
        "overrides": {one.package: one.reason for one in row.overrides},
        "published": row.release.published,
        "locked": project.lock_state(row),
    }


def render(options: argparse.Namespace) -> int:
    """Write the build contexts and the bake file of some rows."""
    project = open_project(options.root)
    plan = project.plan(project.select(options.tags), candidates(options.base, project.matrix)[0])
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
    """Write the tables that are generated into the documents that have them, or check that they are true."""
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
            path.write_text(after, encoding="utf-8")
            say(f"{path}: written")
    return 0


def generated_tables(project: Project) -> dict[str, dict[str, str]]:
    """Document to the marks of its generated tables, each with the table."""
    return {
        "README.md": {"images": markdown_images(project.rows)},
        "docs/layers.md": {
            "trims": markdown_trims(project.matrix.trims),
            "records": markdown_records(_records(project)),
        },
    }


def _records(project: Project) -> Iterator[tuple[str, str, Expected, bool]]:
    for row in project.rows:
        recorded = load_expected(project.locks, row.tag)
        for base in project.matrix.bases:
            if base.name in recorded:
                (target,) = project.plan([row], base).targets
                one = recorded[base.name]
                yield row.tag, base.name, one, one.plan_digest == project.plan_digest(target)


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
