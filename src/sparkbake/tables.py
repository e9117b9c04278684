"""Tables for a terminal and for Markdown; the one place that knows how rows look."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparkbake.estimate import Estimate
from sparkbake.expected import Expected
from sparkbake.labels import overrides_label
from sparkbake.model import Plan, Row, Trim
from sparkbake.verify import Report

# No terminal, no edge: a digest or a path that is cut off is worth nothing in a log.
_PIPE_WIDTH = 100_000


def say(text: str) -> None:
    """Tell the user what is going on; standard output is for results."""
    print(f"sparkbake: {text}", file=sys.stderr, flush=True)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """Write a table to standard output; as wide as it needs when that is no terminal."""
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, soft_wrap=False)
    if title:
        console.print(f"[bold]{_shown(title)}[/bold]", highlight=False)
    table = Table(*headers, box=None, pad_edge=False, header_style="bold", show_header=any(headers))
    for row in rows:
        table.add_row(*map(_shown, row))
    console.print(table)
    if title:
        console.print()


def _shown(text: str) -> str:
    """For rich; the name of a file need not be UTF-8."""
    return escape(text.encode(errors="backslashreplace").decode())


def row_cells(row: Row, locked: str, open_pins: Sequence[str] = (), *, variants: Sequence[str] = ()) -> tuple[str, ...]:
    """What `ROW_HEADERS` says; of open pins the number."""
    return (
        row.tag,
        row.release.strategy.value,
        ", ".join(variants),
        row.foundation.name,
        row.variant.transformers,
        overrides_label(row.overrides),
        locked,
        str(len(open_pins)) if open_pins else "",
    )


ROW_HEADERS = ("tag", "strategy", "variants", "foundation", "transformers", "overrides", "locked", "open pins")


def markdown_images(rows: Sequence[Row]) -> str:
    """The table of images in README.md, made from the matrix."""
    names = [name for name, _version in rows[0].versions]
    lines = [f"| tag | {' | '.join(names)} | overrides |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        versions = " | ".join(version for _name, version in row.versions)
        lines.append(f"| `{row.tag}` | {versions} | {overrides_label(row.overrides)} |")
    return "\n".join(lines) + "\n"


def markdown_trims(trims: Sequence[Trim]) -> str:
    """The table of what images do without, made from the matrix."""
    lines = ["| package | versions | what | of | spares at least, MB | why |", "|---|---|---|---|---|---|"]
    for one in trims:
        files = ", ".join(f"`{path}`" for path in one.paths)
        spared = f"{one.saves_bytes / 1e6:.1f}"
        what = "cubins" if one.cubins else "files"
        lines.append(f"| {one.package} | {one.versions or 'all'} | {what} | {files} | {spared} | {one.reason} |")
    return "\n".join(lines) + "\n"


def markdown_records(records: Iterable[tuple[str, str, Expected, bool]]) -> str:
    """The table of recorded digests.

    Args:
        records: tag, base name, record, and whether matrix, lock and recipes still are what it was recorded of.
    """
    lines = [
        "| tag | base | digest | layers | GB compressed | largest layer | GB on disk | without trims "
        "| of what is here now |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for tag, base, one, current in records:
        disk, trimmed = one.disk_bytes, one.trimmed_bytes
        sizes = (
            one.compressed_bytes,
            max(layer.compressed_bytes for layer in one.layers),
            disk,
            None if disk is None or trimmed is None else disk + trimmed,
        )
        shown = " | ".join("not recorded" if size is None else f"{size / 1e9:.2f}" for size in sizes)
        now = "yes" if current else "no, of an earlier state"
        lines.append(f"| `{tag}` | {base} | `{one.digest}` | {len(one.layers)} | {shown} | {now} |")
    return "\n".join(lines) + "\n"


def print_plan(plan: Plan, cost: Estimate, base: str) -> None:
    """What a build will do, for a person."""
    for target in plan.targets:
        print_table(
            ("layer", "packages", "download"),
            [(one.name, str(len(one.wheels)), f"{one.size_bytes / 1e6:.1f} MB") for one in target.layers],
            title=f"{target.reference} ({target.platform})",
        )
        print_table(
            ("", ""),
            [
                ("base", base),
                ("locked", f"{len(target.environment.wheels)} packages by hash, Python {target.environment.python}"),
                ("created", dict(target.labels)["org.opencontainers.image.created"]),
                *((f"override: {one.package}", one.reason) for one in target.overrides),
                *(() if target.overrides else (("overrides", "none"),)),
            ],
        )
    print_table(
        ("", ""),
        [
            ("to download", f"at most {cost.download_bytes / 1e9:.2f} GB (without the base)"),
            ("disk", f"at most {cost.disk_bytes / 1e9:.0f} GB in the engine's data folder"),
        ],
    )


def print_report(report: Report) -> None:
    """A verify report, for a person."""
    print_table(("looked at", f"found (programs: {report.programs})"), report.facts, title=report.reference)
    if report.findings:
        print_table(
            ("finding", "about", "found", "expected", "what to do"),
            [
                (f"{one.severity}: {one.id}", one.subject, one.found, one.expected, one.remedy)
                for one in report.findings
            ],
            title=f"{len(report.findings)} findings",
        )
    if report.waived:
        print_table(
            ("waived", "about", "until", "because"),
            [(one.finding.id, one.finding.subject, one.expires, one.reason) for one in report.waived],
            title=f"{len(report.waived)} findings that matrix.yaml waives",
        )
