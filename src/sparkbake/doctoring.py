"""The command that says what is wrong with a host: `doctor`; and how that looks in a terminal."""

import argparse
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime

from sparkbake.doctor import as_json, diagnose, exit_status, last_line
from sparkbake.doctorneeds import load_standards, needs_of
from sparkbake.errors import UsageError
from sparkbake.expected import load_expected
from sparkbake.hostfacts import gather, huggingface_home
from sparkbake.hostread import numbers
from sparkbake.hostvalues import Check, Needs
from sparkbake.model import Row, Strategy
from sparkbake.project import Project, open_project
from sparkbake.resolve import reference_of
from sparkbake.tables import print_table

DEFAULT_PORT = 8000

_LAST_PORT = 65535


def doctor(options: argparse.Namespace) -> int:
    """Print what this host lacks for an image of ours, and the command that mends it.

    Raises:
        UsageError: no row has the tag, or several have; a port is none.
    """
    project = open_project(options.root)
    row = _row(project, options.tag)
    needs = needs_for(project, row, tuple(options.ports or [DEFAULT_PORT]))
    host = gather(
        environment=os.environ,
        models=options.model_dir.expanduser() if options.model_dir else huggingface_home(os.environ),
        clock=datetime.now(tz=UTC).date().isoformat(),
        image="" if row is None else reference_of(project.matrix, row),
        candidates=() if row else [reference_of(project.matrix, one) for one in reversed(project.rows)],
    )
    checks = diagnose(host, needs)
    if options.json:
        print(json.dumps(as_json(checks, host, needs), indent=2, sort_keys=True))
    else:
        print_checks(checks, row.tag if row else None)
    return exit_status(checks)


def _row(project: Project, tag: str | None) -> Row | None:
    if tag is None:
        return None
    rows = project.select([tag])
    if len(rows) != 1:
        raise UsageError(f"{tag}: it means {len(rows)} rows, expected one; `nox -s list` shows them")
    return rows[0]


def needs_for(project: Project, row: Row | None, ports: tuple[int, ...]) -> Needs:
    """What the image of a row asks of a host; without one, what any row that is installed from wheels asks at most.

    Raises:
        UsageError: a port is none.
    """
    for port in ports:
        if not 0 < port <= _LAST_PORT:
            raise UsageError(f"--port {port}: no port, expected one from 1 to {_LAST_PORT}")
    chosen = (row,) if row else [one for one in project.rows if one.release.strategy is Strategy.WHEELS]
    sizes = [one.compressed_bytes for each in chosen for one in load_expected(project.locks, each.tag).values()]
    return needs_of(
        load_standards(project.root / "doctor.yaml"),
        compute_capability=project.matrix.chip.compute_capability,
        cuda=max((dict(each.versions)["cuda"] for each in chosen), key=numbers),
        packed_bytes=max(sizes, default=None),
        ports=ports,
    )


# ---- how it looks


def print_checks(checks: Sequence[Check], tag: str | None) -> None:
    """A diagnosis for a person: all checks, then each finding with why it matters and what to do."""
    title = f"this host, for {tag}" if tag else "this host, for any row (nox -s doctor -- TAG: for one)"
    print_table(("check", "about", "status", "found"), [_cells(one) for one in checks], title=title)
    wrong = [one for status in ("error", "warning") for one in checks if one.status == status]
    for one in wrong:
        print_table(
            ("", ""),
            [("found", one.found), ("expected", one.expected), ("why", one.why), ("what to do", one.remedy)],
            title=f"{one.status}: {one.id} ({one.subject})",
        )
    print(last_line(checks))


def _cells(one: Check) -> tuple[str, ...]:
    return (one.id, one.subject, one.status, one.found)
