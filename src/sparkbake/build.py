"""Build images: write the build contexts, call bake, and keep what it says about the result."""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sparkbake.bake import bake_file
from sparkbake.bases import Chosen
from sparkbake.buildx import BakeOptions, BakeResult, bake
from sparkbake.bundle import wheels_of
from sparkbake.bundlefiles import require_inputs
from sparkbake.errors import BuildError
from sparkbake.mirrors import Mirrors
from sparkbake.model import ContextFile, Plan, Target
from sparkbake.wheelserver import serve

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """Where images go: into the engine, into OCI files, or to their registry.

    Attributes:
        load: whether what was built must be brought into the engine, since another builder builds it.
        oci: the file of a single image; with several targets, a folder for `<tag>.oci.tar` files.
    """

    load: bool = False
    oci: Path | None = None

    def file_of(self, target: Target, plan: Plan) -> Path | None:
        """The OCI file of one target; None when images do not go into files."""
        if self.oci is None or len(plan.targets) == 1:
            return self.oci
        return self.oci / f"{target.tag}.oci.tar"


def write_contexts(plan: Plan, files: Mapping[str, Iterable[ContextFile]], folder: Path) -> None:
    """Write each target's build context to `folder/<target>/`, replacing what is there.

    A context that is already the same is left alone, so that its file times do not change.
    """
    write_folders({one.name: files[one.name] for one in plan.targets}, folder)


def write_folders(files: Mapping[str, Iterable[ContextFile]], folder: Path) -> None:
    """Write build contexts by the names of their targets; see `write_contexts`."""
    for name, some in files.items():
        place = folder / name
        wanted = {str(one.path): one.content for one in some}
        if _content_of(place) == {path: (_mode(content), content.encode()) for path, content in wanted.items()}:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
        for path, content in wanted.items():
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            (fresh / path).write_bytes(content.encode())
            (fresh / path).chmod(_mode(content))
        fresh.chmod(0o755)
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)


def _mode(content: str) -> int:
    return 0o755 if content.startswith("#!") else 0o644


def _content_of(place: Path) -> dict[str, tuple[int, bytes]]:
    if not place.is_dir():
        return {}
    files = [one for one in place.rglob("*") if one.is_file()]
    return {str(one.relative_to(place)): (one.stat().st_mode & 0o777, one.read_bytes()) for one in files}


def outputs(plan: Plan, output: Output) -> dict[str, str]:
    """Target name to its output, as bake takes it."""
    found = {}
    for target in plan.targets:
        if place := output.file_of(target, plan):
            found[target.name] = f"type=oci,dest={place}"
        else:
            found[target.name] = "type=docker" if output.load else "type=image"
    return found


def build(
    plan: Plan,
    chosen: Chosen,
    mirrors: Mirrors,
    options: BakeOptions,
    output: Output,
    *,
    root: Path,
    ca: Path | None,
    say: Say,
    compression: str = "zstd",
) -> BakeResult:
    """Build the images of a plan whose contexts are written.

    Args:
        compression: of all layers, as `bake_file` has it.
        root: the project's folder; the bake file, metadata and logs go to `root/build`.
        ca: certificates that this machine trusts; they enter the build as a secret.

    Raises:
        BuildError: see `buildx.bake`; also when bake does not say what it built.
        BundleError: the bundle of mirrors.yaml is not whole, or not of this plan.
    """
    folder = root / "build"
    bases = {chosen.base.name: chosen.context} if chosen.context else {}
    network = "host" if mirrors.on_loopback else None
    text = bake_file(plan, outputs(plan, output), bases, compression=compression, network=network)
    (folder / "docker-bake.json").write_text(text, encoding="utf-8")
    with _index(mirrors, plan, say) as index, build_secrets(mirrors, ca, index) as secrets:
        try:
            result = bake(
                folder / "docker-bake.json",
                folder / "metadata.json",
                replace(_placed(options, plan, chosen, output), secrets=secrets, on_host=network is not None),
                targets=[one.name for one in plan.targets],
                root=root,
                log=folder / "logs" / f"{plan.targets[0].name}.log",
                show=say,
            )
        except KeyboardInterrupt:
            say("interrupted: what was not finished has no tag; the next run goes on from the build cache")
            raise
    if missing := [one.name for one in plan.targets if one.name not in result.digests]:
        raise BuildError(f"bake ended well but names no digest for {', '.join(missing)}; see {folder}/metadata.json")
    return result


def _placed(options: BakeOptions, plan: Plan, chosen: Chosen, output: Output) -> BakeOptions:
    """Options with the folders outside of the project that the build reads and writes."""
    readable = (chosen.folder,) if chosen.folder else ()
    return replace(options, readable=readable, writable=_writable(plan, output))


def _writable(plan: Plan, output: Output) -> tuple[Path, ...]:
    """The folder that OCI files go to, if they do; made if it is for several."""
    if output.oci is None:
        return ()
    if len(plan.targets) == 1:
        return (output.oci.parent,)
    output.oci.mkdir(exist_ok=True)
    return (output.oci,)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep a second build out of a checkout's build contexts, bake file and logs.

    Raises:
        BuildError: one is running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise BuildError(
                f"{folder}: another build runs in this checkout; wait for it, or use another clone"
            ) from err
        yield


@contextmanager
def _index(mirrors: Mirrors, plan: Plan, say: Say) -> Iterator[str | None]:
    """The address of the package index: of a bundle, served for as long as the build lasts; None for the default."""
    if mirrors.bundle is None:
        yield mirrors.package_index
        return
    bundle = require_inputs(mirrors.bundle, plan, say)
    with serve(mirrors.bundle, bundle, [wheel for one in plan.targets for wheel in wheels_of(one)]) as address:
        yield address


@contextmanager
def build_secrets(mirrors: Mirrors, ca: Path | None, index: str | None) -> Iterator[dict[str, Path]]:
    """Secret id to file; an address of a package index may hold a password, so its file is for this user alone."""
    certificates = mirrors.ca_bundle or ca
    secrets = {"ca": certificates.resolve()} if certificates else {}
    with text_secrets({"index": index} if index else {}) as own:
        yield {**secrets, **own}


@contextmanager
def text_secrets(texts: Mapping[str, str]) -> Iterator[dict[str, Path]]:
    """Secret id to a file with its text, for this user alone, and gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sparkbake-") as folder:
        for name, text in texts.items():
            Path(folder, name).write_text(text, encoding="utf-8")
            Path(folder, name).chmod(0o600)
        yield {name: Path(folder, name) for name in texts}


def plan_json(plan: Plan) -> str:
    """A plan for machines: targets in build order with what they are made of."""
    return json.dumps([_target_json(one) for one in plan.targets], indent=2, sort_keys=True) + "\n"


def _target_json(target: Target) -> dict[str, object]:
    return {
        "name": target.name,
        "tag": target.tag,
        "reference": target.reference,
        "platform": target.platform,
        "base": {"name": target.base.name, "reference": target.base_reference, "digest": target.base_digest},
        "source_date_epoch": target.source_date_epoch,
        "versions": dict(target.versions),
        "overrides": {one.package: one.reason for one in target.overrides},
        "labels": dict(target.labels),
        "layers": [
            {"name": one.name, "packages": len(one.wheels), "download_bytes": one.size_bytes} for one in target.layers
        ],
    }
