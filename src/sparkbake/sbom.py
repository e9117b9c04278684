"""Say what an image is made of: its packages, what they were built from, and what of them it lacks, as one value.

All of it is of the image and of the lock that the image was made from, so that equal images have equal bills.
"""

import inspect
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.metadata import RawMetadata, parse_email
from packaging.utils import canonicalize_name, canonicalize_version

from sparkbake.bill import Bill, Component, Distribution, Licence, Origin, Patch, image_purl, purl
from sparkbake.dpkg import OsPackage
from sparkbake.errors import ImageError
from sparkbake.imageinfo import checked_digest, parse_json
from sparkbake.labels import NONE, OCI
from sparkbake.lockfile import lock_digest
from sparkbake.model import Environment, Lock, Wheel
from sparkbake.surveyed import Survey

Info = tuple[str, str, str]  # name, version, file

# The distribution whose commit and repository the labels name.
_BUILT = "vllm"
_INFO = re.compile(r"(?:.+/)?(?:site|dist)-packages/([^/]+)-([^-/]+)\.dist-info/(METADATA|TRIMMED\.json|PRUNED\.json)")
_LACKS = {
    "TRIMMED.json": "files of the wheel that the image lacks",
    "PRUNED.json": "files whose cubins of other chips are overwritten with zeros",
}
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_ADDRESS = re.compile(r"https?:[/]{2}[^\s#]+")
_CLASSIFIER = re.compile(r"License :: (?:OSI Approved :: )?")


def components_of(
    survey: Survey,
    lock: Lock,
    *,
    base: str,
    reference: str,
    label_prefix: str,
    os_packages: Sequence[OsPackage],
    patches: Sequence[Patch] = (),
) -> Bill:
    """Say what an image is made of.

    Args:
        lock: the one that the image was made from.
        base: name of the base whose environment the image has.
        reference: what the image is to be known as.
        label_prefix: of the image's own labels, "com.example".
        os_packages: of the dpkg status in the image, in any order.
        patches: of all components, in any order.

    Raises:
        ImageError: the image is of another lock or base, a label is missing or faulty, it does not say which
            distribution it is, or a patch is of nothing in it.
    """
    wheels = _environment(survey, lock, base=base, lock_label=f"{label_prefix}.lock_digest").wheels
    infos = infos_of(survey.texts)
    _check_patches(survey.image, patches, {one.name for one in wheels})
    python = [of_wheel(survey, wheel, infos, patches) for wheel in wheels]
    _check_trimmed(survey, {one.name for one in python if one.trimmed}, f"{label_prefix}.trimmed")
    return bill_with(survey, python, os_packages, reference=reference)


def bill_with(survey: Survey, python: Sequence[Component], os_packages: Sequence[OsPackage], *, reference: str) -> Bill:
    """The bill of an image with all that is no package of the operating system.

    Raises:
        ImageError: see `components_of`.
    """
    distribution = _distribution(survey)
    debian = [_of_os(package, distribution) for package in os_packages]
    digest = checked_digest(survey.image, survey.digest)
    return Bill(
        reference=reference,
        digest=digest,
        created=_created(survey),
        address=_address(survey),
        purl=image_purl(reference, digest, _architecture(survey)),
        labels=tuple(sorted(survey.labels)),
        licence=licence_of({"license": label_of(survey, OCI + "licenses")}),
        distribution=distribution,
        components=tuple(sorted([*python, *debian], key=lambda one: one.purl)),
    )


def of_wheel(survey: Survey, wheel: Wheel, infos: Mapping[Info, str], patches: Sequence[Patch]) -> Component:
    """A package that was installed from a wheel.

    Args:
        infos: as `infos_of` has them.
        patches: of all components.
    """
    key = (wheel.name, canonicalize_version(wheel.version))
    metadata = infos.get((*key, "METADATA"))
    notes = [(infos[*key, name], told) for name, told in _LACKS.items() if (*key, name) in infos]
    said = parse_email(survey.texts[metadata])[0] if metadata else {}
    return Component(
        purl=purl("pypi", wheel.name, wheel.version),
        name=wheel.name,
        version=wheel.version,
        wheel=wheel,
        licence=licence_of(said),
        summary=_worth(said.get("summary")),
        maintainer=None,
        origin=_origin(survey) if wheel.name == _BUILT else None,
        patches=tuple(sorted((one for one in patches if one.component == wheel.name), key=lambda one: one.file)),
        trimmed="; ".join(_lack(path, survey.texts[path], told) for path, told in notes) or None,
    )


def _of_os(package: OsPackage, distribution: Distribution) -> Component:
    folder, release = distribution.id, distribution.release
    return Component(
        purl=purl("deb", f"{folder}/{package.name}", package.version, arch=package.architecture, distro=release),
        name=package.name,
        version=package.version,
        wheel=None,
        licence=None,
        summary=None,
        maintainer=package.maintainer or None,
        origin=Origin(
            name=package.source,
            version=package.source_version,
            repository=None,
            purl=purl("deb", f"{folder}/{package.source}", package.source_version, arch="source", distro=release),
        ),
        patches=(),
        trimmed=None,
    )


def _origin(survey: Survey) -> Origin:
    """What vLLM's wheel was built from, as the labels say."""
    commit, repository = label_of(survey, OCI + "revision"), label_of(survey, OCI + "source")
    located = purl("generic", _BUILT, commit, vcs_url=f"git+{repository}@{commit}")
    return Origin(name=_BUILT, version=commit, repository=repository, purl=located)


# ---- what the image must say


def _environment(survey: Survey, lock: Lock, *, base: str, lock_label: str) -> Environment:
    said, digest = label_of(survey, lock_label), lock_digest(lock)
    if said != digest:
        raise ImageError(
            f"{survey.image}: was made from the lock {said}, but that of {lock.tag} is {digest}; expected the lock of "
            "the image: check out the commit that it was built from, or build it anew"
        )
    found = lock.environment(base)
    if found is None:
        known = ", ".join(one.base for one in lock.environments)
        raise ImageError(f"{survey.image}: the lock has no environment for the base {base!r}, expected one of: {known}")
    return found


def _check_trimmed(survey: Survey, found: Collection[str], key: str) -> None:
    label = label_of(survey, key)
    said = set() if label == NONE else set(label.split(","))
    if said != found:
        raise ImageError(
            f"{survey.image}: the label {key} says that files of {', '.join(sorted(said)) or NONE} are left out, but "
            f"notes of that are there of {', '.join(sorted(found)) or NONE}; make it anew"
        )


def _check_patches(where: str, patches: Sequence[Patch], names: Collection[str]) -> None:
    for one in patches:
        if one.component not in names:
            raise ImageError(f"{where}: {one.file} is a patch of {one.component!r}, which is none of its packages")


def label_of(survey: Survey, key: str) -> str:
    """What a label says.

    Raises:
        ImageError: the image does not have it.
    """
    value = dict(survey.labels).get(key)
    if value is None:
        raise ImageError(f"{survey.image}: has no label {key}, expected one as on all images of this project")
    return value


def _created(survey: Survey) -> str:
    """Both formats want a date of this form, SPDX even in UTC: https://spdx.github.io/spdx-spec/v2.3/, section 6.9."""
    key = OCI + "created"
    date = label_of(survey, key)
    if not _is_date(date):
        raise ImageError(f"{survey.image}: label {key}: got {date!r}, expected a date as in YYYY-MM-DDThh:mm:ssZ")
    return date


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return _DATE.fullmatch(text) is not None


def _architecture(survey: Survey) -> str:
    """GOARCH, of which those of our images are as Debian has them: "arm64", "amd64"."""
    found = parse_json(survey.image, survey.config).get("architecture")
    if not isinstance(found, str):
        raise ImageError(f"{survey.image}: its config has no architecture; make the image anew")
    return found


def _address(survey: Survey) -> str:
    key = OCI + "url"
    address = label_of(survey, key)
    if not _ADDRESS.fullmatch(address):
        raise ImageError(f"{survey.image}: label {key}: got {address!r}, expected an http address without a fragment")
    return address.rstrip("/")


def _distribution(survey: Survey) -> Distribution:
    path = next((one for one in _OS_RELEASE if one in survey.texts), None)
    if path is None:
        raise ImageError(f"{survey.image}: has no {_OS_RELEASE[0]}, expected one that names the distribution")
    try:
        words = shlex.split(survey.texts[path].decode(), comments=True)
    except ValueError as err:
        raise ImageError(f'{survey.image}: {path}: cannot be read: {err}; expected KEY="value" on each line') from err
    values = dict(one.split("=", 1) for one in words if "=" in one)
    if "ID" not in values:
        raise ImageError(f"{survey.image}: {path}: has no ID, expected one such as ID=debian")
    return Distribution(id=values["ID"], name=values.get("NAME", values["ID"]), version=values.get("VERSION_ID"))


# ---- what stands beside a RECORD


def infos_of(texts: Iterable[str]) -> dict[Info, str]:
    """Path of each METADATA, TRIMMED.json and PRUNED.json of a distribution; of two for one version, the first."""
    found: dict[Info, str] = {}
    for path in sorted(texts):
        if match := _INFO.fullmatch(path):
            name, version, file = match.groups()
            found.setdefault((canonicalize_name(name), canonicalize_version(version), file), path)
    return found


def _lack(path: str, content: bytes, told: str) -> str:
    """What a note of recipes/scripts/layout.py says, path to bytes or to an object with bytes, in few words."""
    said = parse_json(path, content).values()
    sizes: list[Any] = [one.get("bytes") if isinstance(one, dict) else one for one in said]
    if not all(isinstance(one, int) for one in sizes):
        raise ImageError(f"{path}: expected a size in bytes for each path; make the image anew")
    return f"{told}: {len(sizes)}, of {sum(sizes)} bytes in all"


def licence_of(said: RawMetadata) -> Licence | None:
    """The licence in a package's metadata, of the first field that says something; None without any.

    https://packaging.python.org/en/latest/specifications/core-metadata/: License-Expression, License, Classifier.
    """
    classes = [one for one in said.get("classifiers", []) if _CLASSIFIER.match(one)]
    words = ", ".join(sorted(_CLASSIFIER.sub("", one) for one in classes))
    text = _worth(said.get("license_expression")) or _worth(said.get("license")) or words
    if not text:
        return None
    if "\n" in text:
        return Licence(expression=None, name=words or text.partition("\n")[0], text=text)
    try:
        expression = str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return Licence(expression=None, name=text, text=None)
    return Licence(expression=expression, name=expression, text=None)


def _worth(text: str | None) -> str | None:
    """A field without indentation; None of one that says nothing, which old tools wrote as UNKNOWN."""
    clean = inspect.cleandoc(text or "").strip()
    return None if clean in ("", "UNKNOWN") else clean
