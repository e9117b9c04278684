"""Call `docker buildx`: the argument vectors, and what its answers mean."""

import json
import os
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sparkbake import process
from sparkbake.errors import BuildError, ProcessError
from sparkbake.loopback import LOOPBACK
from sparkbake.progress import Progress
from sparkbake.project import write_file
from sparkbake.slsa import without_proxies

_DISK_FULL = ("no space left on device", "os error 28", "Errno 28")
# Into the metadata file alone: an attestation on the image would change its digest with every build.
_WHOLE_PROVENANCE = {"BUILDX_METADATA_PROVENANCE": "max"}
_NO_PROXIES = ("NO_PROXY", "no_proxy")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", *_NO_PROXIES)


@dataclass(frozen=True, kw_only=True, slots=True)
class BakeOptions:
    """How bake is called.

    Attributes:
        secrets: secret id to the file that holds it.
        arguments: build arguments beside those of the bake file.
        readable: folders outside of the project that the build may read (bases as OCI layouts).
        writable: folders that the build may write (OCI files).
        on_host: whether the steps have this machine's own network, loopback included, which is asked of no proxy.
        progress: "auto" (steps), "plain" (steps and what they print), "quiet", or "tty" (BuildKit's own display).
    """

    builder: str
    no_cache: bool = False
    secrets: Mapping[str, Path]
    arguments: Mapping[str, str] = field(default_factory=dict)
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    on_host: bool = False
    progress: str = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class BakeResult:
    """What was built.

    Attributes:
        digests: target name to the digest of its image, 'sha256:' + 64 hex.
        configs: target name to the digest of its image's config, which does not depend on how layers are compressed.
        executed: instructions that ran and did not come from the cache; None when BuildKit showed its own display.
        provenance: target name to what BuildKit says of the build, as SLSA provenance v0.2.
        unwritten: why caches were not written, where that does not end the build.
    """

    digests: Mapping[str, str]
    executed: tuple[str, ...] | None
    configs: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unwritten: tuple[str, ...] = ()


def bake_argv(bake_file: Path, metadata: Path, options: BakeOptions, environment: Mapping[str, str]) -> list[str]:
    """The command that builds all targets of a bake file.

    Args:
        environment: of this process; only the proxy variables are looked at. BuildKit knows them: they reach the
            steps and stay out of the image and of the cache key. Only their names are said here: an address may hold
            a password, and a command line is for all to see.
    """
    argv = ["docker", "buildx", "bake", "--file", str(bake_file), "--metadata-file", str(metadata)]
    argv += ["--builder", options.builder]
    argv += ["--no-cache"] if options.no_cache else []
    argv += ["--progress", "tty" if options.progress == "tty" else "rawjson"]
    argv += [f"--allow=fs.read={one}" for one in options.readable]
    argv += [f"--allow=fs.write={one}" for one in options.writable]
    for name, path in sorted(options.secrets.items()):
        argv += [f"--allow=fs.read={path}", "--set", f"*.secrets+=id={name},src={path}"]
    argv += ["--allow=network.host"] if options.on_host else []
    # Without a value bake takes that of the environment.
    words = {name: name for name in _PROXIES if environment.get(name)}
    if options.on_host:
        words |= {name: f"{name}={','.join(filter(None, (environment.get(name), LOOPBACK)))}" for name in _NO_PROXIES}
    words |= {name: f"{name}={value}" for name, value in options.arguments.items()}
    for word in words.values():
        argv += ["--set", f"*.args.{word}"]
    return argv


def bake(
    bake_file: Path,
    metadata: Path,
    options: BakeOptions,
    *,
    targets: Sequence[str],
    root: Path,
    log: Path,
    show: Callable[[str], None],
) -> BakeResult:
    """Build all targets of a bake file.

    Args:
        targets: names of what is built, for messages.
        root: the folder that the paths in the bake file are relative to.
        metadata: where what bake says goes, without what it says of proxies.
        log: where the full log goes.

    Raises:
        BuildError: names the failing target and step, shows its last lines, and says where the full log lies.
        KeyboardInterrupt: after BuildKit has stopped; nothing was tagged.
    """
    own_display = options.progress == "tty"
    metadata.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    # Only this user may read it: it has addresses of proxies, which may hold a password.
    with log.open("w", encoding="utf-8") as file, tempfile.TemporaryDirectory(prefix="sparkbake-") as private:
        answer = Path(private, "metadata.json")
        argv = bake_argv(bake_file, answer, options, os.environ)
        progress = Progress(
            show if options.progress != "quiet" else lambda _line: None,
            lambda line: print(line, file=file, flush=True),
            verbose=options.progress == "plain",
        )
        status = process.stream(argv, progress.feed, cwd=root, env=_WHOLE_PROVENANCE, inherit=own_display)
        text = "" if status else answer.read_text(encoding="utf-8")
    if status and own_display:
        raise BuildError(f"{', '.join(targets)}: failed: see above; --progress plain keeps a log")
    if status:
        raise BuildError(f"{', '.join(targets)}: {_story(progress, status, log)}")
    said = cast("dict[str, Any]", without_proxies(json.loads(text)))
    write_file(metadata, json.dumps(said, indent=2, sort_keys=True) + "\n")
    return BakeResult(
        digests=_said(said, "containerimage.digest"),
        executed=None if own_display else progress.executed,
        configs=_said(said, "containerimage.config.digest"),
        provenance=_said(said, "buildx.build.provenance"),
        unwritten=progress.unwritten,
    )


def _story(progress: Progress, status: int, log: Path) -> str:
    failure = progress.failure
    if failure is None:
        lines = "\n".join(f"    {line}" for line in progress.remarks[-10:])
        told = f"docker buildx bake ended with {status}:\n{lines}\nfull log: {log}"
    else:
        lines = "\n".join(f"    {line}" for line in failure.lines)
        told = f"failed: {failure.step}\n{lines}\n{failure.error}\nfull log: {log}"
    if any(sign in told for sign in _DISK_FULL):
        told += "\nthe disk is full: free some (docker image prune, docker builder prune), then run it again"
    return told


def _said(metadata: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What bake's metadata has under a key, for each target that has it."""
    return {target: one[key] for target, one in metadata.items() if isinstance(one, dict) and key in one}


def forget(builder: str, records: Collection[str]) -> None:
    """Remove records of the build cache, by ID; those that are in use stay.

    Raises:
        ProcessError: the builder does not answer.
    """
    if records:
        chosen = f"id~=^({'|'.join(sorted(records))})$"
        process.run(
            ["docker", "buildx", "prune", "--builder", builder, "--force", "--all", "--filter", chosen], timeout_s=600
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PastBuild:
    """A build that a builder remembers, whoever asked for it."""

    ref: str
    is_running: bool


def past_builds(builder: str) -> tuple[PastBuild, ...]:
    """What a builder remembers: those that run, and the last ones that ended.

    Raises:
        ProcessError: the builder does not answer.
    """
    listed = process.run(
        ["docker", "buildx", "history", "ls", "--builder", builder, "--no-trunc", "--format", "json"], timeout_s=60
    )
    some = [json.loads(line) for line in listed.splitlines()]
    return tuple(PastBuild(ref=str(one["ref"]), is_running=one["status"] == "Running") for one in some)


def buildx_version() -> str | None:
    """Version of buildx; None when it is not there."""
    try:
        return process.run(["docker", "buildx", "version"], timeout_s=20).split()[1]
    except (ProcessError, IndexError):
        return None


def answers(reference: str, *, timeout_s: float) -> str | None:
    """Why a registry does not give an image; None when it does."""
    try:
        process.run(["docker", "buildx", "imagetools", "inspect", "--raw", reference], timeout_s=timeout_s)
    except ProcessError as err:
        return err.output.splitlines()[-1] if err.output else str(err)
    return None


def image_index(reference: str, *, timeout_s: float) -> tuple[str, Mapping[str, str]]:
    """Digest of the index behind a tag, and of the Linux manifest of each architecture in it.

    Raises:
        ProcessError: the registry does not answer, or has no such tag.
    """
    template = "{{json .Manifest}}"
    said = json.loads(
        process.run(["docker", "buildx", "imagetools", "inspect", "--format", template, reference], timeout_s=timeout_s)
    )
    manifests: Sequence[Mapping[str, dict[str, str]]] = said.get("manifests") or []
    found = {
        one["platform"]["architecture"]: str(one["digest"]) for one in manifests if one["platform"]["os"] == "linux"
    }
    return str(said["digest"]), found
