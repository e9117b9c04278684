"""Hold what an image says of itself against its plan: labels, config, manifest, packages, and what it lacks."""

import hashlib
import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from sparkbake.findings import Finding, of_build
from sparkbake.imageinfo import parse_json
from sparkbake.manifest import MANIFEST
from sparkbake.model import Target
from sparkbake.ownership import record_text, recorded
from sparkbake.runtime import FOLDER
from sparkbake.sourcemodel import SourceTarget
from sparkbake.surveyed import Survey
from sparkbake.versions import normalise, same_version

# Of the environment; OS packages have theirs in dist-packages.
_INFO = re.compile(r"(.*/site-packages)/([^/]+)-([^-/]+)\.dist-info/(RECORD|TRIMMED\.json|PRUNED\.json)")
# Keys of a config that are no setting of a recipe: labels are looked at by themselves, and the other is how Docker
# writes CMD down.
_OTHERWISE = {"Labels", "ArgsEscaped"}
# What `verify` says of a package, too, when it has run the image's programs.
_NANOSECONDS = {"s": 10**9, "m": 60 * 10**9}
_WHOLE = "whole"
# What recipes/scripts/layout.py notes beside a RECORD: whether of cubins, and in words what is done to a package, to a
# file of it, and else not.
_NOTES = {
    "TRIMMED.json": (False, "some files are left out", "left out", "there"),
    "PRUNED.json": (True, "cubins of other chips are overwritten", "pruned", "not pruned"),
}


def judge_words(survey: Survey, target: Target, context: Mapping[str, str], label_prefix: str) -> Iterator[Finding]:
    """Find where an image says something else of itself than its plan.

    Args:
        context: path to content of the build context that the plan has for it.
        label_prefix: of the labels that nobody but us sets, "org.example".

    Raises:
        ImageError: a TRIMMED.json or a RECORD is damaged.
    """
    yield from judge_said(survey, target, context, label_prefix)
    yield from judge_settings(survey, target, settings(context["Dockerfile"]))
    yield from judge_packages(survey, target, {one.name: one.version for one in target.environment.wheels})
    yield from _stray(survey, target)
    yield from _trims(survey, target)


def judge_said(
    survey: Survey, target: Target | SourceTarget, context: Mapping[str, str], label_prefix: str
) -> Iterator[Finding]:
    """What is held against a plan alike, whichever way an image is made; see `judge_words`."""
    yield from _labels(survey, target, label_prefix)
    yield from _architecture(survey, target)
    yield from _manifest(survey, target, context["manifest.json"])
    yield from _runtime(survey, target, context)


def _labels(survey: Survey, target: Target | SourceTarget, label_prefix: str) -> Iterator[Finding]:
    """Every label of the plan, and no other of ours; a base may have some of its own."""
    found, wanted = dict(survey.labels), dict(target.labels)
    ours = {key for key in found if key.startswith(f"{label_prefix}.")}
    for key in sorted({*wanted, *ours}):
        if found.get(key) != wanted.get(key):
            shown, expected = found.get(key, "nothing"), wanted.get(key, "nothing")
            yield of_build("label", key, tag=target.tag, found=shown, expected=expected)


def _architecture(survey: Survey, target: Target | SourceTarget) -> Iterator[Finding]:
    found = str(json.loads(survey.config).get("architecture"))
    expected = target.platform.partition("/")[2]
    if found != expected:
        yield of_build("architecture", "config", tag=target.tag, found=found, expected=expected)


def judge_settings(
    survey: Survey, target: Target | SourceTarget, wanted: Mapping[str, object], *, inherited: str = r"(?!)"
) -> Iterator[Finding]:
    """What a container starts with is what the recipe says and nothing else, so no LD_PRELOAD and no user.

    Args:
        wanted: as `settings` has them.
        inherited: regular expression of the variables that a base may have set beside these.
    """
    config = json.loads(survey.config).get("config") or {}
    for key in sorted({*wanted, *config} - _OTHERWISE):
        found, expected = config.get(key), wanted.get(key)
        if key == "Env" and found:
            ours = set(variables(wanted))
            found = sorted(one for name, one in _named(found) if name in ours or not re.fullmatch(inherited, name))
        if (found or None) != (expected or None):
            yield of_build("config", key, tag=target.tag, found=_shown(found), expected=_shown(expected))


def variables(wanted: Mapping[str, object]) -> dict[str, str]:
    """Variable to "name=value", of settings as `settings` has them."""
    env = wanted["Env"]
    return dict(_named(env)) if isinstance(env, list) else {}


def _named(env: Iterable[object]) -> list[tuple[str, str]]:
    return [(str(one).partition("=")[0], str(one)) for one in env]


def _shown(value: object) -> str:
    return json.dumps(value) if value else "nothing"


def settings(dockerfile: str) -> dict[str, object]:
    """What a Dockerfile of ours makes of a config; of a base nothing is left in it.

    The last stage makes all of it, but for the shell, which an earlier one has set and all have since.
    https://docs.docker.com/reference/dockerfile/ in the forms that recipes/ uses: ENV with name=value, commands as
    JSON, all times of HEALTHCHECK.
    """
    found: dict[str, object] = {"Env": [], "Cmd": None, "Entrypoint": None, "User": None, "WorkingDir": None}
    if shells := re.findall(r"^SHELL (.*)$", dockerfile, re.MULTILINE):
        found["Shell"] = json.loads(shells[-1])
    last = dockerfile.rpartition("\nFROM ")[2].replace("\\\n", " ")
    for word, _space, rest in (line.partition(" ") for line in last.splitlines()):
        match word:
            case "ENV":
                found["Env"] = sorted(shlex.split(rest))
            case "CMD" | "ENTRYPOINT":
                found[word.capitalize()] = json.loads(rest)
            case "USER":
                found["User"] = rest
            case "WORKDIR":
                found["WorkingDir"] = rest
            case "HEALTHCHECK":
                found["Healthcheck"] = _healthcheck(rest)
    return found


def _healthcheck(text: str) -> dict[str, object]:
    """`--interval=30s ... CMD [...]` as a config has it: times in nanoseconds."""
    options, _word, command = text.partition(" CMD ")
    said = dict(option.removeprefix("--").split("=", 1) for option in options.split())
    times = {"Interval": "interval", "Timeout": "timeout", "StartPeriod": "start-period"}
    return {
        "Test": ["CMD", *json.loads(command)],
        **{key: int(said[name][:-1]) * _NANOSECONDS[said[name][-1]] for key, name in times.items()},
        "Retries": int(said["retries"]),
    }


def _manifest(survey: Survey, target: Target | SourceTarget, expected: str) -> Iterator[Finding]:
    text = survey.texts.get(MANIFEST)
    if text != expected.encode():
        found = "no such file" if text is None else _differing(text, expected)
        yield of_build(
            "manifest", MANIFEST, tag=target.tag, found=found, expected="what this checkout would build the image from"
        )


def _runtime(survey: Survey, target: Target | SourceTarget, context: Mapping[str, str]) -> Iterator[Finding]:
    """What images do by themselves is, file by file, what this checkout has for it."""
    for path, content in context.items():
        place = path.removeprefix(f"{FOLDER}/")
        if place == path:
            continue
        # As recipes/scripts/layout.py does: what says its interpreter can be executed.
        mode = 0o755 if content.startswith("#!") else 0o644
        expected = f"{hashlib.sha256(content.encode()).hexdigest()}, mode {mode:o}"
        there = survey.seen.get(place)
        shown = "no such file" if there is None else f"no file, but a {there.entry.kind}"
        if there and there.entry.kind == "file":
            shown = f"{there.entry.sha256}, mode {there.entry.mode:o}"
        if shown != expected:
            yield of_build("runtime", place, tag=target.tag, found=shown, expected=expected)


def _differing(text: bytes, expected: str) -> str:
    """The keys in which a manifest is not as expected."""
    try:
        found, wanted = json.loads(text), json.loads(expected)
    except ValueError:
        return "no JSON"
    if not isinstance(found, dict):
        return "no JSON object"
    keys = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    return f"other values of {', '.join(keys)}" if keys else "other white space"


def judge_packages(survey: Survey, target: Target | SourceTarget, locked: Mapping[str, str]) -> Iterator[Finding]:
    """Every locked package at its version, once, and no other.

    Args:
        locked: normalised name to version.
    """
    installed: dict[str, list[str]] = {}
    for path in survey.texts:
        if (found := _INFO.fullmatch(path)) and found[4] == "RECORD":
            installed.setdefault(normalise(found[2]), []).append(found[3])
    for name in sorted({*locked, *installed}):
        versions, expected = installed.get(name, []), locked.get(name)
        if expected is None or len(versions) != 1 or not same_version(expected, versions[0]):
            shown = " and ".join(versions) or "nothing"
            yield of_build("package", name, tag=target.tag, found=shown, expected=expected or "nothing")


def _trims(survey: Survey, target: Target) -> Iterator[Finding]:
    """The image lacks just what the plan trims: of all files that its patterns match, and of no other."""
    for note, (cubins, done, of_file, otherwise) in _NOTES.items():
        patterns: dict[str, list[str]] = {}
        for one in (one for one in target.trims if one.cubins is cubins):
            patterns.setdefault(one.package, []).extend(one.paths)
        noted = _noted(survey, note)
        for name in sorted({*patterns} ^ {*noted}):
            shown, expected = (done, _WHOLE) if name in noted else (_WHOLE, done)
            yield of_build("trim", name, tag=target.tag, found=shown, expected=expected)
        for name in sorted({*patterns} & {*noted}):
            record, gone = noted[name]
            for path in sorted(_matching(survey, record, patterns[name]) ^ gone):
                found, wanted = (of_file, f"{otherwise}, as no trim names it") if path in gone else (otherwise, of_file)
                yield of_build("trim", path, tag=target.tag, found=found, expected=wanted)


def _noted(survey: Survey, note: str) -> dict[str, tuple[str, set[str]]]:
    """Package to the path of its RECORD, and the files that a note beside it names."""
    found = {}
    for path, text in survey.texts.items():
        if (match := _INFO.fullmatch(path)) and match[4] == note:
            files = {posixpath.normpath(f"{match[1]}/{one}") for one in parse_json(path, text)}
            found[normalise(match[2])] = (f"{posixpath.dirname(path)}/RECORD", files)
    return found


def _stray(survey: Survey, target: Target) -> Iterator[Finding]:
    """A note stands beside a RECORD; `judge_packages` finds two of one package."""
    for path in survey.texts:
        if (match := _INFO.fullmatch(path)) and match[4] in _NOTES:
            record = f"{posixpath.dirname(path)}/RECORD"
            if record not in survey.texts:
                yield of_build("trim", path, tag=target.tag, found=f"no {record}", expected="a RECORD beside it")


def _matching(survey: Survey, record: str, patterns: Sequence[str]) -> set[str]:
    """What patterns of paths below site-packages match of a RECORD, but for what is beside that."""
    info = posixpath.dirname(record)
    site = posixpath.dirname(info)
    whole = [posixpath.normpath(f"{site}/{one}") for one in patterns]
    listed = recorded(record, record_text(survey.texts.get(record, b""), record))
    return {
        path
        for path in listed
        if not path.startswith(f"{info}/") and any(fnmatchcase(path, pattern) for pattern in whole)
    }
