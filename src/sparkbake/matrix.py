"""Read matrix.yaml: parse it strictly, check what must hold between its parts, and derive its rows."""

import re
from pathlib import Path

from sparkbake.checks import read_rules
from sparkbake.consistency import RELEASE_COMPONENTS, check_references, check_variants
from sparkbake.fields import NAME, Fields, read_fields, read_text
from sparkbake.model import (
    Base,
    Chip,
    Collision,
    Component,
    Extra,
    Foundation,
    Group,
    ImageKind,
    Matrix,
    Newer,
    Override,
    Project,
    Release,
    Row,
    Strategy,
    Trim,
    Variant,
)
from sparkbake.tagging import check_tagging, read_tagging, tags_of
from sparkbake.versions import (
    cuda_short,
    is_foundation_name,
    is_requirement,
    is_specifier,
    is_tag,
    is_version,
    major,
    normalise,
    row_tag,
)

_MINOR = r"\d+\.\d+"


def load_matrix(path: Path) -> Matrix:
    """Read and check a matrix.

    Raises:
        MatrixError: with every fault of the file, each with line, column and key path.
    """
    return parse_matrix(read_text(path), path.name)


def parse_matrix(text: str, name: str) -> Matrix:
    """Parse the text of a matrix; see `load_matrix`."""
    root = read_fields(text, name)
    root.text("schema", pattern="1", expected="'1', the version of this format")
    project = root.mapping("project")
    chip = root.mapping("chip")
    images, bases = root.mapping("images"), root.mapping("bases")
    components, foundations = root.mapping("components"), root.mapping("foundations")
    releases, publish = root.mapping("releases"), root.mapping_or_empty("publish")
    matrix = Matrix(
        project=_project(project),
        chip=_chip(chip),
        images=tuple(_image(key, images.mapping(key)) for key in images.names),
        bases=tuple(_base(key, bases.mapping(key)) for key in bases.names),
        os_packages=root.texts("os_packages", pattern=r"[a-z0-9][a-z0-9+.-]+", expected="a Debian package name"),
        uv=_version(root, "uv"),
        components=tuple(_component(key, components.mapping(key)) for key in components.names),
        extras=tuple(_extra(one) for one in root.items_or_empty("extras")),
        groups=tuple(_group(one) for one in root.items("layers")),
        own_layer_bytes=_bytes(root, "own_layer_bytes"),
        collisions=tuple(_collision(one) for one in root.items_or_empty("collisions")),
        trims=tuple(_trim(one) for one in root.items_or_empty("trims")),
        rules=read_rules(root.mapping("checks"), bases.keys),
        tagging=read_tagging(publish),
        foundations=tuple(
            _foundation(key, foundations.mapping(key), foundations, components.keys) for key in foundations.keys
        ),
        releases=tuple(_release(key, releases.mapping(key), releases) for key in releases.keys),
    )
    check_references(matrix, root, foundations, releases)
    root.done()
    root.raise_faults()
    tags = {one.tag: (one.release.vllm, one.variant.major) for one in rows(matrix)}
    given = {tag: tags_of(matrix.tagging, tag, release=vllm, major=major) for tag, (vllm, major) in tags.items()}
    check_tagging(matrix.tagging, given, publish)
    root.raise_faults()
    return matrix


def rows(matrix: Matrix) -> tuple[Row, ...]:
    """Every image tag of the matrix, in its order."""
    foundations = {one.name: one for one in matrix.foundations}
    return tuple(
        _row(matrix, release, variant, foundations[release.foundation])
        for release in matrix.releases
        for variant in release.variants
    )


def _row(matrix: Matrix, release: Release, variant: Variant, foundation: Foundation) -> Row:
    versions = dict(foundation.versions)
    versions |= {"flashinfer": release.flashinfer, "transformers": variant.transformers, "vllm": release.vllm}
    return Row(
        tag=row_tag(release.vllm, variant.major),
        release=release,
        variant=variant,
        foundation=foundation,
        versions=tuple((one.name, versions[one.name]) for one in matrix.components),
    )


# ---- one function a section


def _project(fields: Fields) -> Project:
    host = r"[a-z0-9]+(?:[.-][a-z0-9]+)*(?::\d+)?"
    project = Project(
        registry=fields.text("registry", pattern=host, expected="a registry host such as docker.io"),
        namespace=fields.text("namespace", pattern=NAME, expected="a namespace in lower case"),
        label_prefix=fields.text("label_prefix", pattern=NAME, expected="a reversed domain such as dev.example"),
        vendor=fields.text("vendor"),
        url=fields.text("url", pattern=r"https://\S+", expected="an https address"),
    )
    fields.done()
    return project


def _chip(fields: Fields) -> Chip:
    chip = Chip(
        platform=fields.text("platform", pattern=r"linux/(arm64|amd64)", expected="linux/arm64 or linux/amd64"),
        compute_capability=fields.text("compute_capability", pattern=_MINOR, expected="major.minor"),
        jit_arch=fields.text("jit_arch", pattern=rf"{_MINOR}[af]?", expected="an architecture such as 12.1a"),
    )
    fields.done()
    return chip


def _image(key: str, fields: Fields) -> ImageKind:
    image = ImageKind(
        key=key,
        name=fields.text("name", pattern=NAME, expected="an image name in lower case"),
        title=fields.text("title"),
        description=fields.text("description"),
        source=fields.text("source", pattern=r"https://\S+", expected="an https address"),
        licenses=fields.text("licenses"),
    )
    fields.done()
    return image


def _base(key: str, fields: Fields) -> Base:
    base = Base(
        name=key,
        python=fields.text("python", pattern=_MINOR, expected="major.minor"),
        manylinux=fields.text("manylinux", pattern=r"manylinux_\d+_\d+", expected="a tag such as manylinux_2_39"),
        image=fields.text_or_none(
            "image", pattern=r"[^\s@]+/[^\s@]+:[^\s@/]+", expected="host/name:tag, without a digest"
        ),
        suites=fields.texts_or_empty("suites", pattern=NAME, expected="a Debian suite"),
    )
    if (base.image is None) == (not base.suites):
        found = "neither" if base.image is None else "both"
        fields.fault("image", f"got {found}, expected either image (from a registry) or suites (bootstrapped)")
    fields.done()
    return base


def _component(key: str, fields: Fields) -> Component:
    component = Component(
        name=key,
        distribution=normalise(fields.text("distribution", pattern=NAME, expected="a PyPI distribution name")),
        extras=fields.texts_or_empty("extras", pattern=NAME, expected="an extra of that distribution"),
        library=fields.text_or_none(
            "library", pattern=r"[^\s/]+(/[^\s/]+)*", expected="the path of a file in its wheel"
        ),
    )
    fields.done()
    return component


def _extra(fields: Fields) -> Extra:
    extra = Extra(requirement=fields.text("requirement"), reason=fields.text("reason"))
    if extra.requirement and not is_requirement(extra.requirement):
        fields.fault("requirement", f"got '{extra.requirement}', expected a PEP 508 requirement")
    fields.done()
    return extra


def _group(fields: Fields) -> Group:
    group = Group(
        name=fields.text("name", pattern=r"[a-z0-9]+", expected="a layer name of small letters and digits"),
        packages=fields.texts("packages", pattern=r"[a-z0-9*?-]+", expected="a package name or pattern"),
    )
    fields.done()
    return group


def _collision(fields: Fields) -> Collision:
    collision = Collision(
        path=fields.text("path", pattern=r"[^/\s]\S*", expected="a path below site-packages"),
        keep=fields.text_or_none("keep", pattern=r"[a-z0-9]+(-[a-z0-9]+)*", expected="a normalised package name"),
        reason=fields.text("reason"),
    )
    fields.done()
    return collision


def _trim(fields: Fields) -> Trim:
    module = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
    trim = Trim(
        package=fields.text("package", pattern=r"[a-z0-9]+(-[a-z0-9]+)*", expected="a normalised package name"),
        versions=fields.text_or_none("versions", pattern=".+", expected="a PEP 440 specifier such as >=4.56,<5"),
        paths=fields.texts("paths", pattern=r"[^/\s]\S*", expected="a path below site-packages"),
        saves_bytes=_bytes(fields, "saves_bytes"),
        imports=fields.texts("imports", pattern=module, expected="a Python module"),
        reason=fields.text("reason"),
    )
    if trim.versions and not is_specifier(trim.versions):
        fields.fault("versions", f"got '{trim.versions}', expected a PEP 440 specifier such as >=4.56,<5")
    fields.done()
    return trim


def _bytes(fields: Fields, key: str) -> int:
    text = fields.text(key, pattern=r"[1-9][0-9]*", expected="a number of bytes")
    return int(text) if text.isdigit() else 0


def _foundation(key: str, fields: Fields, parent: Fields, components: tuple[str, ...]) -> Foundation:
    wanted = [name for name in components or fields.keys if name not in RELEASE_COMPONENTS]
    versions = tuple((name, _version(fields, name)) for name in wanted)
    fields.done()
    named = dict(versions)
    if named.get("torch") and named.get("cuda") and not is_foundation_name(key, named["torch"], named["cuda"]):
        torch, cuda = named["torch"], cuda_short(named["cuda"])
        parent.fault(key, f"expected {torch}-cu{cuda} or {torch}-v<n>-cu{cuda}, after its torch and cuda; rename it")
    return Foundation(name=key, versions=versions)


def _release(key: str, fields: Fields, parent: Fields) -> Release:
    if not is_version(key):
        parent.fault(key, f"got '{key}', expected a PEP 440 version of vLLM")
    elif not is_tag(key):
        parent.fault(
            key, f"got '{key}', which makes no valid image tag; expected a version without local part or epoch"
        )
    declares = fields.mapping_or_empty("declares")
    git = fields.mapping("git")
    variants = fields.mapping("transformers")
    release = Release(
        vllm=key,
        strategy=Strategy(fields.choice("strategy", [one.value for one in Strategy])),
        foundation=fields.text("foundation"),
        flashinfer=_version(fields, "flashinfer"),
        as_of=_date(fields),
        declares=tuple((normalise(name), _specifier(declares, name)) for name in declares.keys),
        newer=_newer(fields),
        overrides=_overrides(fields),
        variants=tuple(_variant(name, variants) for name in variants.keys),
        tag=git.text("tag"),
        commit=git.text_or_none("commit", pattern=r"[0-9a-f]{40}", expected="40 hex digits, or null while not known"),
        published=fields.flag("published"),
    )
    git.done()
    fields.done()
    check_variants(release, variants)
    return release


def _variant(key: str, variants: Fields) -> Variant:
    fields = variants.mapping(key)
    version = _version(fields, "version")
    overrides = _overrides(fields)
    fields.done()
    if not re.fullmatch(r"t[1-9][0-9]*", key):
        variants.fault(key, f"got the key '{key}', expected t and a major version, such as t5")
        return Variant(major=0, transformers="", overrides=())
    if version and major(version) != int(key[1:]):
        fields.fault("version", f"got {version}, expected a version of the major {key[1:]}")
    return Variant(major=int(key[1:]), transformers=version, overrides=overrides)


def _newer(fields: Fields) -> tuple[Newer, ...]:
    packages = fields.mapping_or_empty("newer")
    found = []
    for name in packages.keys:
        one = packages.mapping(name)
        found.append(Newer(package=normalise(name), as_of=_date(one), reason=one.text("reason")))
        one.done()
    return tuple(found)


def _date(fields: Fields) -> str:
    return fields.text("as_of", pattern=r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", expected="a date, YYYY-MM-DD")


def _overrides(fields: Fields) -> tuple[Override, ...]:
    overrides = fields.mapping_or_empty("overrides")
    return tuple(Override(package=normalise(name), reason=overrides.text(name)) for name in overrides.keys)


def _version(fields: Fields, key: str) -> str:
    version = fields.text(key)
    if version and not is_version(version):
        fields.fault(key, f"got '{version}', expected a PEP 440 version")
        return ""
    return version


def _specifier(fields: Fields, key: str) -> str:
    specifier = fields.text(key)
    if specifier and not is_specifier(specifier):
        fields.fault(key, f"got '{specifier}', expected a PEP 440 specifier such as >=4.56,<5")
        return ""
    return specifier
