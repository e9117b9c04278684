"""The commands that read only files: `list`, `render` and `docs`."""

import argparse
import json
from pathlib import Path

from sparkbake.bake import bake_file
from sparkbake.build import Output, outputs, write_contexts
from sparkbake.errors import MatrixError
from sparkbake.frozen import candidates
from sparkbake.model import Row
from sparkbake.project import Project, open_project
from sparkbake.tables import IMAGES_BEGIN, IMAGES_END, ROW_HEADERS, markdown_images, print_table, row_cells, say


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
    """Write the tables that are generated from the matrix into README.md, or check that they are true."""
    project = open_project(options.root)
    path = project.root / "README.md"
    before = path.read_text(encoding="utf-8")
    after = with_table(before, markdown_images(project.rows), path)
    if before == after:
        say(f"{path}: up to date")
    elif options.check:
        raise MatrixError([f"{path}: its table of images is not what matrix.yaml says; run `nox -s docs`"])
    else:
        path.write_text(after, encoding="utf-8")
        say(f"{path}: written")
    return 0


def with_table(text: str, table: str, path: Path) -> str:
    """A text with what stands between its two marks replaced.

    Raises:
        MatrixError: the marks are not there.
    """
    head, begin, rest = text.partition(IMAGES_BEGIN)
    _old, end, tail = rest.partition(IMAGES_END)
    if not begin or not end:
        raise MatrixError([f"{path}: has no '{IMAGES_BEGIN}' and '{IMAGES_END}' to put the table between; add them"])
    return f"{head}{begin}\n{table}{end}{tail}"
