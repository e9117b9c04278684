"""What the bundle of a compiled row has: all that it and its foundation are built from, as values."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from sparkbake.bundle import APT, GIT, IMAGES, Bundle, locked_digest, wheel_path
from sparkbake.errors import BundleError
from sparkbake.labels import OCI
from sparkbake.lockfile import canonical, sha256_of
from sparkbake.mirrors import MANIFEST, PACKAGES
from sparkbake.model import Wheel
from sparkbake.sourcemodel import GitSource, SourceTarget
from sparkbake.sourcerender import checkouts, os_packages_of
from sparkbake.sourceresolve import DEV, RUNTIME, SourcePlan

# Address of a repository to its folder beside this file.
REPOSITORIES = "repositories.json"
# Below CRATES: the index, and the crates themselves.
INDEX, FILES = "index", "files"
# Where the part in Rust lies in vLLM's sources; as recipes/vllm-source.Dockerfile.j2 has it.
CARGO_LOCK = "rust/Cargo.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseImage:
    """An image that a foundation begins with.

    Attributes:
        context: the recipe's name for it, "cuda-devel".
        reference: "docker.io/nvidia/cuda:13.1.0-devel-ubuntu24.04".
        manifest: digest for the chip's platform, 'sha256:' + 64 hex; empty while it is an open pin.
    """

    context: str
    reference: str
    manifest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Crate:
    """A crate of the index, as Cargo.lock names it."""

    name: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}.crate"


@dataclass(frozen=True, kw_only=True, slots=True)
class CrateSource:
    """A repository that Cargo.lock names.

    Attributes:
        branch, tag: what was asked for, where that was one.
    """

    repository: str
    commit: str
    branch: str | None
    tag: str | None


# ---- what belongs in it


def row_of(plan: SourcePlan) -> SourceTarget:
    """The one image of a plan that is no foundation."""
    return next(one for one in plan.targets if not one.is_foundation)


def foundation_of(plan: SourcePlan, recipe: str) -> SourceTarget:
    return next(one for one in plan.targets if one.recipe == recipe)


def wheels_of_plan(plan: SourcePlan) -> tuple[Wheel, ...]:
    """All that builds of a plan install from the package index, each file once, sorted by name."""
    found = {
        wheel.file: wheel
        for one in plan.targets
        for wheel in (
            *(wheel for _component, some in one.build_requirements for wheel in some),
            *(one.environment.wheels if one.environment else ()),
            *one.installer,
        )
    }
    return tuple(found[name] for name in sorted(found))


def sources_of_plan(plan: SourcePlan) -> tuple[GitSource, ...]:
    """What is checked out, each once; submodules are known once their superprojects are there."""
    return tuple(dict.fromkeys(source for one in plan.targets for source in checkouts(one)))


def base_images(plan: SourcePlan) -> tuple[BaseImage, BaseImage]:
    """CUDA's images, to compile in and to run on."""
    devel, runtime = foundation_of(plan, DEV), foundation_of(plan, RUNTIME)
    return (
        _base_image("cuda-devel", devel.cuda_devel, devel),
        _base_image("cuda-runtime", runtime.cuda_runtime, runtime),
    )


def _base_image(context: str, reference: str, target: SourceTarget) -> BaseImage:
    return BaseImage(
        context=context,
        reference=reference.partition("@")[0],
        manifest=dict(target.labels).get(f"{OCI}base.digest", ""),
    )


def os_packages(plan: SourcePlan) -> dict[str, list[str]]:
    """Names of packages of the operating system that builds ask for, by what they are installed into."""
    row = row_of(plan)
    return {
        "devel": os_packages_of(foundation_of(plan, DEV)),
        "runtime": os_packages_of(foundation_of(plan, RUNTIME)),
        "rust": list(row.build_os_packages) if row.rust else [],
    }


def inputs_digest(plan: SourcePlan) -> str:
    """Digest of all that is asked for: a bundle with another one is of another lock, foundation or matrix."""
    body = {
        "wheels": {one.file: one.sha256 for one in wheels_of_plan(plan)},
        "sources": sorted([one.repository, one.commit or "", one.submodules] for one in sources_of_plan(plan)),
        "images": {one.context: one.manifest for one in base_images(plan)},
        "os_packages": os_packages(plan),
        "apt_snapshot": row_of(plan).apt_snapshot,
        "platform": row_of(plan).platform,
    }
    return sha256_of(canonical(body))


# ---- crates


def parse_cargo_lock(text: str, where: str) -> tuple[tuple[Crate, ...], tuple[CrateSource, ...]]:
    """The crates of the index and the repositories that a Cargo.lock names; what lies in vLLM's own tree has no source.

    Raises:
        BundleError: it is no Cargo.lock, or names another kind of source.
    """
    crates, sources = [], {}
    try:
        for one in tomllib.loads(text)["package"]:
            kind, _plus, place = str(one.get("source", "")).partition("+")
            if kind == "registry":
                crates.append(Crate(name=one["name"], version=one["version"], sha256=one["checksum"]))
            elif kind == "git":
                address, _hash, commit = place.partition("#")
                repository, _mark, query = address.partition("?")
                asked = {key: _decoded(value) for key, _is, value in (pair.partition("=") for pair in query.split("&"))}
                sources[repository, commit] = CrateSource(
                    repository=repository, commit=commit, branch=asked.get("branch"), tag=asked.get("tag")
                )
            elif kind:
                raise BundleError(
                    [f"{where}: {one['name']} is from '{one['source']}', expected an index or a repository"]
                )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as err:
        raise BundleError([f"{where}: is not a Cargo.lock as it is read here: {err!r}"]) from err
    return tuple(crates), tuple(sources.values())


def _decoded(text: str) -> str:
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), text)


def prefix_of(name: str) -> str:
    """The folder that a sparse index has a crate in.

    https://doc.rust-lang.org/cargo/reference/registry-index.html#index-files

    >>> prefix_of("serde"), prefix_of("log"), prefix_of("cc")
    ('se/rd', '3/l', '2')
    """
    short = {1: "1", 2: "2", 3: f"3/{name[:1]}"}
    return short.get(len(name), f"{name[:2]}/{name[2:4]}")


def index_path(name: str) -> str:
    """The file of a crate in a sparse index, which is in lower case."""
    return f"{prefix_of(name.lower())}/{name.lower()}"


# ---- its files


def repositories_json(repositories: Mapping[str, str]) -> str:
    return json.dumps(repositories, indent=1, sort_keys=True) + "\n"


def parse_repositories(text: str, where: str) -> dict[str, str]:
    """Address of a repository to the name of its folder.

    Raises:
        BundleError: it is not that.
    """
    try:
        found = {str(address): str(name) for address, name in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as err:
        raise BundleError([f"{where}: does not say which repository is whose: {err!r}; make the bundle anew"]) from err
    if outside := [name for name in found.values() if not re.fullmatch(r"\w[\w.-]*\.git", name)]:
        raise BundleError([f"{where}: names {outside[0]}, expected a folder beside it; make the bundle anew"])
    return found


def source_mirrors_yaml(tag: str, images: tuple[BaseImage, ...]) -> str:
    """The mirrors file of a bundle; all but images is in the bundle by itself."""
    lines = [f"  {one.reference}: oci-layout:{IMAGES}@{one.manifest}\n" for one in images]
    return (
        f"# GENERATED by `nox -s bundle -- {tag}`; do not edit. Paths are relative to this file.\n"
        'schema: "1"\n'
        "bundle: .\n"
        "images:\n" + "".join(lines)
    )


# ---- how it stands to what is to be built


def source_standing_faults(bundle: Bundle, plan: SourcePlan) -> list[str]:
    """Why a bundle is not that of a plan: of another row, lock or matrix, or without one of its files."""
    row = row_of(plan)
    again = f"make it anew: nox -s bundle -- {row.row}"
    others = sorted({one.row for one in plan.targets if not one.is_foundation} - {bundle.tag})
    if others:
        return [f"is of {bundle.tag}, expected {', '.join(others)}; {again}"]
    if bundle.lock_digest != locked_digest(row):
        return [
            f"is of another lock of {row.row}, {bundle.lock_digest[:19]}, expected {locked_digest(row)[:19]}; {again}, "
            "or take the checkout that made it"
        ]
    if bundle.inputs_digest != inputs_digest(plan):
        return [
            f"is of another foundation, snapshot or list of packages than {row.row} has in this checkout; {again}, or "
            "take the checkout that made it"
        ]
    known = {one.path: one.sha256 for one in bundle.files}
    faults = [
        f"{MANIFEST} lists no {wheel_path(one)} with the locked hash; {again}"
        for one in wheels_of_plan(plan)
        if known.get(wheel_path(one)) != one.sha256
    ]
    return faults + [f"{MANIFEST} lists no {one}; {again}" for one in _always(plan) if one not in known]


def _always(plan: SourcePlan) -> list[str]:
    images = [f"{IMAGES}/blobs/sha256/{one.manifest.removeprefix('sha256:')}" for one in base_images(plan)]
    return [f"{GIT}/{REPOSITORIES}", f"{APT}/{PACKAGES}", *images]
