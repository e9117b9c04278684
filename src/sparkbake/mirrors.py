"""Read mirrors.yaml: where this machine finds what the locks name. It never changes what is built."""

import re
from dataclasses import dataclass
from pathlib import Path

from sparkbake.addresses import SPARSE, SPARSE_EXPECTED, is_loopback
from sparkbake.errors import UsageError
from sparkbake.fields import Fields, read_fields, read_text
from sparkbake.model import Pairs

# What says that a folder is a bundle, and all that is in it.
MANIFEST = "bundle.json"
_LAYOUT = "oci-layout:"
# Lists what lies in a folder of packages, as `dpkg-scanpackages` and bundles write it.
PACKAGES = "Packages"
# What goes into apt's settings by way of sed.
_SNAPSHOTS = r"https?://[^\s\"'|&\\]+[^\s\"'|&\\/]"
_REFERENCE = "a reference that ends in @sha256: and 64 hex digits"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirrors:
    """Other places for the same bytes.

    Attributes:
        bases: base name to another reference, "registry.example/ubuntu@sha256:..." or "oci-layout:/path@sha256:...".
        package_index: URL of a simple index; may hold a user and a password, since it enters builds as a secret.
        debian: mirror or snapshot archive for bootstrapped bases.
        images: other images that builds begin with, "host/name:tag" as locks have it to a reference by digest.
        git: beginning of the address of a repository to what takes its place; the longest that fits counts.
        crates: sparse index in the place of crates.io, "sparse+https://crates.example/index/".
        apt: where packages of the operating system of compiled rows come from: a snapshot service, whose archives are
            "<address>/<snapshot>"; or a folder of packages with their list. While such a folder is served it is the
            address, a space and "./".
        ca_bundle: PEM file; enters builds as a secret, never a layer.
        bundle: folder that `nox -s bundle` made, which then is the package index.
    """

    bases: Pairs = ()
    package_index: str | None = None
    debian: str | None = None
    images: Pairs = ()
    git: Pairs = ()
    crates: str | None = None
    apt: str | Path | None = None
    ca_bundle: Path | None = None
    bundle: Path | None = None

    def git_url(self, url: str) -> str:
        """Where a repository is found."""
        for old, new in sorted(self.git, key=lambda one: -len(one[0])):
            if url.startswith(old):
                return new + url[len(old) :]
        return url

    @property
    def addresses(self) -> Pairs:
        """Key to address of all that the steps of a build ask."""
        asked = [
            ("package_index", self.package_index),
            ("crates", self.crates),
            ("apt", self.apt if isinstance(self.apt, str) else None),
            *(("git", new) for _old, new in self.git),
        ]
        return tuple((key, one.removeprefix("sparse+")) for key, one in asked if one)

    @property
    def on_loopback(self) -> bool:
        """Whether the steps of a build must have this machine's own network: something is, or will be, on loopback."""
        folders = isinstance(self.apt, Path) or self.bundle is not None
        return folders or any(is_loopback(one) for _key, one in self.addresses)

    def check_for_builds(self) -> None:
        """See that the steps of a build can ask all of them.

        Raises:
            UsageError: one is a folder of this machine, or takes a key of its user.
        """
        reasons = {"file": "is a folder of this machine, and no step of a build sees that", "ssh": "takes a key of ssh"}
        faults = [
            f"--mirrors: {key}: got '{one}', which {reasons[scheme]}; serve it over https, http"
            + (" or git" if key == "git" else "")
            + ", on loopback if need be"
            for key, one in self.addresses
            if (scheme := one.partition("://")[0]) in reasons
        ]
        if faults:
            raise UsageError("\n".join(faults))


def load_mirrors(path: Path, base_names: tuple[str, ...]) -> Mirrors:
    """Read and check a mirrors file; paths in it are relative to its folder, so that both may be moved together.

    Args:
        base_names: the bases that the matrix has; others under `bases` are faults.

    Raises:
        MatrixError: with every fault of the file.
    """
    root = read_fields(read_text(path), path.name)
    root.text("schema", pattern="1", expected="'1', the version of this format")
    bases = root.mapping_or_empty("bases")
    for name in bases.keys:
        if name not in base_names:
            bases.fault(name, f"no such base; expected one of {', '.join(base_names)}")
    reference = r"(oci-layout:\S+|\S+)@sha256:[0-9a-f]{64}"
    web = r"(https?|file)://\S+"
    git, images = root.mapping_or_empty("git"), root.mapping_or_empty("images")
    certificates, bundle = root.text_or_none("ca_bundle"), root.text_or_none("bundle")
    mirrors = Mirrors(
        bases=tuple(
            (name, _placed(bases.text(name, pattern=reference, expected=_REFERENCE), path.parent))
            for name in bases.keys
        ),
        package_index=root.text_or_none("package_index", pattern=web, expected="a URL"),
        debian=root.text_or_none("debian", pattern=web, expected="a URL"),
        images=tuple(
            (name, _placed(images.text(name, pattern=reference, expected=_REFERENCE), path.parent))
            for name in images.keys
        ),
        git=tuple(
            (old, git.text(old, pattern=r"(https?|ssh|git|file)://\S+", expected="the beginning of an address"))
            for old in git.keys
        ),
        crates=root.text_or_none("crates", pattern=SPARSE, expected=SPARSE_EXPECTED),
        apt=_packages(root, path.parent),
        ca_bundle=path.parent / Path(certificates).expanduser() if certificates else None,
        bundle=path.parent / Path(bundle).expanduser() if bundle else None,
    )
    if mirrors.ca_bundle and not mirrors.ca_bundle.is_file():
        root.fault("ca_bundle", f"got '{certificates}', which is no file; expected a PEM file with certificates")
    _check_bundle(root, mirrors, str(bundle))
    root.done()
    root.raise_faults()
    return mirrors


def _check_bundle(root: Fields, mirrors: Mirrors, given: str) -> None:
    if mirrors.bundle is None:
        return
    if not (mirrors.bundle / MANIFEST).is_file():
        expected = "a folder that `nox -s bundle` finished"
        root.fault("bundle", f"got '{given}', which has no {MANIFEST}; expected {expected}")
    for key in ("package_index", "git", "crates", "apt"):
        if getattr(mirrors, key):
            root.fault("bundle", f"and {key} exclude each other, since a bundle has that itself; remove one")


def _packages(root: Fields, folder: Path) -> str | Path | None:
    """Where packages of the operating system come from: an address, or a folder with their list."""
    given = root.text_or_none("apt")
    if given is None or re.fullmatch(_SNAPSHOTS, given):
        return given
    place = folder / Path(given).expanduser()
    if re.match(r"\w+:", given):
        expected = "the http or https address of a snapshot service, without a slash at its end, or a folder"
        root.fault("apt", f"got '{given}', expected {expected}")
    elif not (place / PACKAGES).is_file():
        expected = f"a folder with packages and their list, as `dpkg-scanpackages . >{PACKAGES}` writes it there"
        root.fault("apt", f"got '{given}', which has no file {PACKAGES}; expected {expected}")
    return place


def _placed(reference: str, folder: Path) -> str:
    """A reference to a base; that of a layout with its path made one from where this process runs."""
    if not reference.startswith(_LAYOUT):
        return reference
    path, _at, digest = reference.removeprefix(_LAYOUT).removeprefix("//").rpartition("@")
    return f"{_LAYOUT}{folder / Path(path).expanduser()}@{digest}"
