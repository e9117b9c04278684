"""The doctor inside a container: the checks of `nox -s doctor`, with what this image needs written down beside it."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

from sparkbake.doctor import as_json, diagnose, exit_status, last_line
from sparkbake.hostfacts import gather, huggingface_home
from sparkbake.hostvalues import Check, Needs, Trouble

NEEDS = Path(__file__).resolve().parents[1] / "needs.json"
_LAST_PORT = 65535


def load_needs(path: Path = NEEDS) -> Needs:
    """What the image of this container needs, as its build wrote it down."""
    body = json.loads(path.read_text(encoding="utf-8"))
    body["troubles"] = tuple(Trouble(**one) for one in body["troubles"])
    body["drivers"] = tuple((cuda, driver) for cuda, driver in body["drivers"])
    body["ports"] = tuple(body["ports"])
    return Needs(**{one.name: body[one.name] for one in fields(Needs)})


def doctor(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Print what this container and its host lack; 1 with an error."""
    parser = argparse.ArgumentParser(prog="doctor", description="What this container and its host lack.")
    parser.add_argument(
        "--port", dest="ports", type=_port, action="append", metavar="N", help="(default: PORT, or else 8000)"
    )
    parser.add_argument("--model-dir", type=Path, metavar="DIR", help="where models lie (default: as HF_HOME says)")
    parser.add_argument("--json", action="store_true", help="for machines, with all that was gathered")
    options = parser.parse_args(words)
    needs = load_needs()
    if options.ports:
        needs = replace(needs, ports=tuple(options.ports))
    host = gather(
        environment=environment,
        models=options.model_dir or huggingface_home(environment),
        clock=datetime.now(tz=UTC).date().isoformat(),
    )
    checks = diagnose(host, needs)
    if options.json:
        print(json.dumps(as_json(checks, host, needs), indent=2, sort_keys=True))
    else:
        print("\n".join(_lines(checks)))
    return exit_status(checks)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text}: expected a port from 1 to {_LAST_PORT}")
    return int(text)


def _lines(checks: Sequence[Check]) -> list[str]:
    shown = [f"{one.status:<12} {one.id:<19} {one.subject}: {one.found}" for one in checks]
    for one in (one for status in ("error", "warning") for one in checks if one.status == status):
        shown += [
            "",
            f"{one.status}: {one.id} ({one.subject})",
            f"  found       {one.found}",
            f"  expected    {one.expected}",
            f"  why         {one.why}",
            f"  what to do  {one.remedy}",
        ]
    return [*shown, "", last_line(checks)]
