"""Say which jobs build some rows, on which runner and how: from what `list --json` prints to lines of $GITHUB_OUTPUT.

    ./quickstart list --json 0.32.0-t5 | RUNNER=dgx-spark python3 .github/scripts/jobs.py [--publish]

A row of wheels is a job of its own on a hosted arm64 runner, or on that which RUNNER names. Rows that are compiled are
one job for each foundation, on a Spark: they share what takes hours, which is in that Spark's build cache, and perhaps
in that of a registry, in the repository that CACHE names.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

HOSTED, SPARK = "ubuntu-24.04-arm", "dgx-spark"
# After how many minutes a job has gone wrong. A hosted runner ends at 360.
HOSTED_MINUTES, SPARK_MINUTES = 350, 2880
STRATEGIES = ("wheels", "source")
# Labels that every runner of one's own has beside its name; GitHub does not tell small letters from large ones.
_OF_A_SPARK = ("self-hosted", "linux", "arm64")


def main(arguments: Sequence[str], runner: str, cache: str) -> int:
    """Print `jobs=[...]`; 1 where that cannot be.

    Args:
        arguments: with --publish all rows must be ready, and those from wheels come out as they are recorded.
        runner: label of the runner for rows of wheels; empty for the hosted one.
        cache: repository with what was compiled; empty for none. What is published is compiled here.
    """
    rows, publish = json.load(sys.stdin), "--publish" in arguments
    fault = _fault_of_words(runner, cache) or _fault(rows, publish=publish)
    if fault:
        _say("error", fault)
        return 1
    ready = [row for row in rows if row["locked"] == "yes"]
    for row in rows:
        if row not in ready:
            _say("warning", f"{row['tag']} is left out: its lock is {row['locked']}; `nox -s list` says more")
    if runner not in ("", SPARK) and any(row["strategy"] == "source" for row in ready):
        published = ", and are published from there" if publish else ""
        _say("warning", f"the runner {runner} is for rows of wheels; compiled ones are built on a Spark{published}")
    print(f"jobs={json.dumps(list(jobs_of(ready, runner, cache, publish=publish)))}")
    return 0


def _fault_of_words(runner: str, cache: str) -> str | None:
    """What is wrong with what a person has typed; None when nothing is."""
    if runner and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", runner):
        return f"got the runner '{runner}', expected the label of one, such as {HOSTED} or {SPARK}; or leave it empty"
    if runner.casefold() in _OF_A_SPARK or (runner != SPARK and runner.casefold() == SPARK):
        return f"got the runner '{runner}', which may be a Spark; expected {SPARK}, or the label of a hosted one"
    if cache and not re.fullmatch(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+", cache):
        return (
            f"got the cache '{cache}', expected a repository as HOST/NAME, such as registry.example/sparks/cache; "
            "correct the variable BUILD_CACHE, or remove it"
        )
    return None


def _fault(rows: Sequence[Mapping[str, Any]], *, publish: bool) -> str | None:
    """Why there can be no jobs of some rows; None when there can."""
    if unknown := {row["strategy"] for row in rows} - set(STRATEGIES):
        return f"no runner for the strategy {', '.join(sorted(unknown))}; expected one of {', '.join(STRATEGIES)}"
    if all(row["locked"] != "yes" for row in rows):
        return f"none of {len(rows)} rows can be built; `nox -s list` says why, `nox -s lock -- TAG` locks one"
    if any(row["strategy"] == "wheels" and not row["base"] for row in rows):
        return "matrix.yaml: publish.base: missing, expected the base that images are published on; add it"
    return _why_not_published(rows) if publish else None


def _why_not_published(rows: Sequence[Mapping[str, Any]]) -> str | None:
    if unlocked := ", ".join(f"{row['tag']} ({row['locked']})" for row in rows if row["locked"] != "yes"):
        return f"cannot be built: {unlocked}; `nox -s list` says why; name others"
    return None


def jobs_of(
    rows: Sequence[Mapping[str, Any]], runner: str, cache: str, *, publish: bool
) -> Iterator[dict[str, object]]:
    """The jobs of rows, in their order; a job's `tags` and its `options` of `build` have spaces between them.

    `publisher` is the runner that publishes: never a Spark, since nothing is built there and it is given the secrets.
    A cache decides what an image is made of, and others may have written it: nothing is published from there.
    """
    names = [row["tag"] if row["strategy"] == "wheels" else row["foundation"] for row in rows]
    for name in dict.fromkeys(names):
        own = [row for row, its in zip(rows, names, strict=True) if its == name]
        is_compiled = own[0]["strategy"] == "source"
        on_spark = is_compiled or runner == SPARK
        job: dict[str, object] = {"name": name, "tags": " ".join(row["tag"] for row in own)}
        job["runner"] = ["self-hosted", SPARK] if on_spark else [runner or HOSTED]
        job["minutes"] = SPARK_MINUTES if on_spark else HOSTED_MINUTES
        if is_compiled:
            job["options"] = "--wheels build/wheels" + (f" --cache-from {cache}" if cache and not publish else "")
        else:
            job["options"] = f"--base {own[0]['base']}" + (" --recorded" if publish else "")
        job["compiled"] = is_compiled
        if publish:
            job["publisher"] = [HOSTED if runner in ("", SPARK) else runner]
        yield job


def _say(level: str, message: str) -> None:
    print(f"::{level}::jobs.py: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ.get("RUNNER", ""), os.environ.get("CACHE", "")))
