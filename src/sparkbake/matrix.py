"""Read matrix.yaml: parse it strictly, check what must hold between its parts, and derive its rows."""

from functools import lru_cache
from pathlib import Path

from sparkbake.checks import read_rules
from sparkbake.consistency import check_references, flashinfer_of
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
    Project,
    Release,
    Row,
    Trim,
    Variant,
)
from sparkbake.releases import read_foundation, read_release, read_version
from sparkbake.sourceconsistency import check_sources
from sparkbake.sourcefields import read_sources
from sparkbake.tagging import check_tagging, read_tagging, tags_of
from sparkbake.versions import (
    is_requirement,
    is_specifier,
    normalise,
    row_tag,
    variant_tag,
)

_MINOR = r"\d+\.\d+"


def load_matrix(path: Path) -> Matrix:
    """Read and check a matrix.

    Raises:
        MatrixError: with every fault of the file, each with line, column and key path.
    """
    return _parse_once(read_text(path), path.name)


@lru_cache(maxsize=4)
def _parse_once(text: str, name: str) -> Matrix:
    """As the same text is the same value."""
    return parse_matrix(text, name)


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
        uv=read_version(root, "uv"),
        components=tuple(_component(key, components.mapping(key)) for key in components.names),
        extras=tuple(_extra(one) for one in root.items_or_empty("extras")),
        groups=tuple(_group(one) for one in root.items("layers")),
        own_layer_bytes=_bytes(root, "own_layer_bytes"),
        collisions=tuple(_collision(one) for one in root.items_or_empty("collisions")),
        trims=tuple(_trim(one) for one in root.items_or_empty("trims")),
        rules=read_rules(root.mapping("checks"), bases.keys),
        tagging=read_tagging(publish),
        sources=read_sources(root.mapping_or_empty("source")),
        foundations=tuple(
            read_foundation(key, foundations.mapping(key), foundations, components.keys) for key in foundations.keys
        ),
        releases=tuple(read_release(key, releases.mapping(key), releases) for key in releases.keys),
    )
    check_references(matrix, root, foundations, releases)
    check_sources(matrix, root, foundations, releases)
    root.done()
    root.raise_faults()
    tags = {tag: (one.release.vllm, one.variant.major) for one in rows(matrix) for tag in (one.tag, *one.replaces)}
    given = {tag: tags_of(matrix.tagging, tag, release=vllm, major=major) for tag, (vllm, major) in tags.items()}
    names = [name for name, _arch in matrix.sources.variants] if matrix.sources else []
    variants = {variant_tag(tag, name) for tag in tags for name in names}
    check_tagging(matrix.tagging, given, publish, bases=[one.name for one in matrix.bases], variants=variants)
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
    versions |= {
        "flashinfer": flashinfer_of(release, variant),
        "transformers": variant.transformers,
        "vllm": release.vllm,
    }
    tag, *replaces = (row_tag(release.vllm, variant.major, revision=one) for one in range(variant.revision, 0, -1))
    return Row(
        tag=tag,
        replaces=tuple(replaces),
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
        cubins=fields.flag("cubins"),
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
