"""Check what must hold between the parts of a matrix: names, pins against what upstream declares, layers."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from sparkbake.fields import Fields
from sparkbake.model import Matrix, Override, Release, Variant
from sparkbake.versions import admits

# Components a release brings itself; the others come with its foundation.
RELEASE_COMPONENTS = ("flashinfer", "transformers", "vllm")
# The distribution of the component that a variant may have in another version than its release.
FLASHINFER = "flashinfer-python"
# Layers that every image has beside those of the matrix.
RESERVED_LAYERS = ("difference", "manifest", "runtime", "skeleton")


def flashinfer_of(release: Release, variant: Variant) -> str:
    """The version of FlashInfer in a row: its own, or that of its release."""
    return variant.exceptions.flashinfer or release.flashinfer


def check_variants(release: Release, variants: Fields) -> None:
    """Check that a variant overrides what it brings itself and nothing else: transformers, maybe FlashInfer."""
    for variant in release.variants:
        fault = partial(variants.fault, f"t{variant.major}")
        _check_pin(release, "transformers", variant.transformers, variant.overrides, fault)
        own = ["transformers", *([FLASHINFER] if variant.exceptions.flashinfer else [])]
        if variant.exceptions.flashinfer:
            _check_pin(release, FLASHINFER, variant.exceptions.flashinfer, variant.overrides, fault)
        for one in variant.overrides:
            if one.package not in own:
                wanted = " and ".join(own) if len(own) > 1 else "transformers alone"
                fault(f"overrides '{one.package}', expected {wanted}; move it to the release's overrides")


def _check_pin(
    release: Release, package: str, version: str, overrides: Sequence[Override], fault: Callable[[str], None]
) -> None:
    """A version that upstream does not admit is listed under `overrides`, and no other is."""
    overridden = any(one.package == package for one in overrides)
    specifier = dict(release.declares).get(package)
    if specifier is None and overridden:
        fault(f"overrides '{package}', which is not under declares; declare it, or remove the override")
    if not specifier or not version or admits(specifier, version) != overridden:
        return
    declares = f"but vLLM {release.vllm} declares '{specifier}'"
    if overridden:
        fault(f"overrides {package}, {declares}, which admits {version}; remove the override")
    else:
        fault(
            f"uses {package} {version}, {declares}; take a version that it admits, "
            f"or add `overrides: {{{package}: <reason>}}`"
        )


def check_references(matrix: Matrix, root: Fields, foundations: Fields, releases: Fields) -> None:
    """Check that all parts of a matrix name each other rightly."""
    names = {one.name for one in matrix.foundations}
    used = {one.foundation for one in matrix.releases}
    for release in matrix.releases:
        if names and release.foundation and release.foundation not in names:
            fields = releases.mapping(release.vllm)
            known = ", ".join(sorted(names))
            fields.fault("foundation", f"got '{release.foundation}', expected one of the foundations: {known}")
    for name in sorted(names - used):
        foundations.fault(name, "no release uses this foundation; remove it")
    for name in RELEASE_COMPONENTS if matrix.components else ():
        if all(one.name != name for one in matrix.components):
            root.fault("components", f"has no '{name}', which every release brings; add it")
    _check_pins(matrix, releases)
    _check_groups(matrix, root)


def _check_pins(matrix: Matrix, releases: Fields) -> None:
    """A foundation or FlashInfer version that upstream's metadata does not admit needs an override."""
    foundations = {one.name: one for one in matrix.foundations}
    distributions = {one.name: one.distribution for one in matrix.components}
    for release in matrix.releases:
        foundation = foundations.get(release.foundation)
        if foundation is None or not distributions:
            continue
        versions = {**dict(foundation.versions), "flashinfer": release.flashinfer}
        pinned = {distributions[name]: version for name, version in versions.items() if name in distributions}
        fault = partial(releases.fault, release.vllm)
        for package, version in pinned.items():
            _check_pin(release, package, version, release.overrides, fault)
        for one in release.overrides:
            if one.package not in pinned:
                fault(f"overrides '{one.package}', expected one of {', '.join(sorted(pinned))}; remove it")


def _check_groups(matrix: Matrix, root: Fields) -> None:
    for name, count in Counter(one.name for one in matrix.groups).items():
        if count > 1:
            root.fault("layers", f"the layer '{name}' stands {count} times, expected once; rename one")
        if name in RESERVED_LAYERS:
            root.fault("layers", f"the layer '{name}' is one that every image has; rename it")
    for pattern, count in Counter(one for group in matrix.groups for one in group.packages).items():
        if count > 1:
            root.fault("layers", f"the pattern '{pattern}' stands {count} times, expected once; remove one")
    if matrix.groups and all("*" not in group.packages for group in matrix.groups):
        root.fault("layers", "no layer has the pattern '*'; add it to the one that takes what no other names")
