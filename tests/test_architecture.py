"""Claims about the sources themselves: rules that a reader of any module may rely on."""

import ast
import re
from collections.abc import Iterator

import pytest
from tests.builders import ROOT, real_matrix

SOURCES = ROOT / "src" / "sparkbake"
TREES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCES.glob("*.py"))}

# Up to here all is a pure function of files: no clock, network, environment or process.
PURE = (
    "errors",
    "elf",
    "fatbin",
    "devicecode",
    "pruning",
    "rules",
    "fields",
    "tagging",
    "sourcedata",
    "model",
    "versions",
    "addresses",
    "metadata",
    "checks",
    "consistency",
    "sourcefields",
    "releases",
    "sourceconsistency",
    "matrix",
    "lockfile",
    "sourcepins",
    "sourcelock",
    "sourcemetadata",
    "mirrors",
    "layers",
    "labels",
    "resolve",
    "bundle",
    "bake",
    "manifest",
    "render",
    "imageinfo",
    "compare",
    "ownership",
    "delta",
    "dynamic",
    "surveyed",
    "paths",
    "findings",
    "dpkg",
    "claims",
    "pythonfiles",
    "accounting",
    "inventory",
    "libraries",
    "linkage",
    "bill",
    "sbom",
    "cyclonedx",
    "spdx",
    "slsa",
    "moe",
    "moecheck",
    "moeresources",
    "moerules",
    "modelconfig",
    "cmaketrace",
    "kernels",
    "patchfiles",
    "patches",
    "variants",
    "sourcemodel",
    "sourcelabels",
    "openpins",
    "sourceresolve",
    "estimate",
    "buildcache",
    "sourcebake",
    "bump",
    "bumptext",
    "bumpnotes",
    "hostvalues",
    "hostread",
    "hostchecks",
    "hostengine",
    "hostresources",
    "hostnetwork",
    "doctor",
    "doctorneeds",
    "runtime",
    "sourcerender",
    "sourcebundle",
    "words",
    "pruned",
    "examine",
    "sourceimage",
    "sourceslsa",
    "sourceexamine",
    "sourcebill",
    "expected",
    "attest",
    "publishable",
    "publish",
    "statements",
    "check",
    "knownissues",
    "noteschanges",
    "notes",
    "markdown",
    "news",
    "changespage",
    "notespage",
)
# Each module may import only from those before it.
ORDER = (
    *PURE,
    "process",
    "pipes",
    "loopback",
    "bundlefiles",
    "wheelserver",
    "gitserver",
    "sourceserver",
    "hostfacts",
    "series",
    "patching",
    "oci",
    "blobs",
    "images",
    "deltaread",
    "moeread",
    "moeanswer",
    "survey",
    "baselock",
    "frozen",
    "project",
    "debianmirror",
    "debianpool",
    "rootfs",
    "bootstrap",
    "progress",
    "buildx",
    "engine",
    "preflight",
    "bases",
    "remote",
    "bundlefetch",
    "sources",
    "moecompile",
    "lock",
    "sourcelocking",
    "bumpask",
    "build",
    "verify",
    "tables",
    "ready",
    "sourcereuse",
    "looks",
    "releasepages",
    "exchange",
    "watched",
    "registry",
    "places",
    "saving",
    "provenance",
    "recording",
    "recordedimages",
    "comparing",
    "releasing",
    "materials",
    "verifying",
    "cacheasking",
    "sourceplan",
    "sourcesecrets",
    "sourcebuild",
    "signing",
    "candidates",
    "checking",
    "judging",
    "pushing",
    "publishing",
    "shipserver",
    "shipssh",
    "shipfar",
    "ship",
    "cleaning",
    "cleanimages",
    "clean",
    "commands",
    "bundlemake",
    "pulling",
    "bundleimages",
    "bundlegit",
    "bundlecrates",
    "bundlepackages",
    "sourcebundling",
    "bundling",
    "stocktaking",
    "tuning",
    "forgetting",
    "reproduce",
    "listing",
    "cmakerun",
    "kernelrun",
    "patchlist",
    "relock",
    "bumplocks",
    "bumping",
    "watching",
    "doctoring",
    "arguments",
    "cli",
)
IMPURE = {"docker", "http", "os", "random", "requests", "secrets", "shutil", "socket", "subprocess", "tempfile", "time"}
IMPURE |= {"urllib", "uuid"}
MAY_START_PROCESSES = ("preflight", "process", "pipes")

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 50
# Longer, and why: values without logic, half of it docstrings; one short function for each section of a file.
LONGER = {"model": 420}

# What looks like a version or an address and is neither.
ALLOWED = {
    "oci": {"1.0.0"},  # of the OCI image layout format
    "bundleimages": {"1.0.0"},
    "slsa": {"https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"},  # a type in SLSA
    # Types, as the formats name them.
    "attest": {"https://spdx.dev/Document", "https://slsa.dev/provenance/v1", "https://in-toto.io/Statement/v1"},
    "preflight": {"https://docs.docker.com/engine/install/", "http://proxy:3128"},  # for people; nothing reads them
    "loopback": {"127.0.0.1"},  # engines speak to it without TLS
}


def imports(tree: ast.Module) -> Iterator[str]:
    """Every imported module, also those imported inside functions; `from a import b` may be both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{one.name}" for one in node.names)


def docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first


def texts(module: str) -> Iterator[tuple[str, str]]:
    """Every string constant that is no docstring, with its place."""
    explaining = {id(one.value) for one in docstrings(TREES[module])}
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in explaining:
            yield f"{module}.py:{node.lineno}", node.value


# ---- who imports whom


def test_every_module_has_its_place_in_the_order() -> None:
    assert set(TREES) - {"__init__"} <= set(ORDER), "a new module: give it its place in ORDER"


@pytest.mark.parametrize("module", sorted(TREES))
def test_a_module_imports_only_from_those_before_it(module: str) -> None:
    before = ORDER[: ORDER.index(module)] if module in ORDER else ()
    ours = {one.split(".")[1] for one in imports(TREES[module]) if one.startswith("sparkbake.")}
    assert ours & set(TREES) <= set(before)


@pytest.mark.parametrize("module", PURE)
def test_the_pure_core_knows_no_clock_network_environment_or_process(module: str) -> None:
    assert {one for one in imports(TREES[module]) if one.split(".")[0] in IMPURE} == set()
    attributes = {node.attr for node in ast.walk(TREES[module]) if isinstance(node, ast.Attribute)}
    assert attributes & {"now", "utcnow", "today", "environ", "getenv", "cwd", "home", "monotonic"} == set()


@pytest.mark.parametrize("module", sorted(TREES))
def test_processes_are_started_in_one_place(module: str) -> None:
    found = set(imports(TREES[module]))
    if module not in MAY_START_PROCESSES:
        assert not found & {"subprocess", "pty", "multiprocessing"}
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.keyword):
            assert node.arg != "shell", f"{module}.py:{node.value.lineno}: shell="
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert not re.match(r"(system|popen|exec|spawn|fork)", node.attr), f"{module}.py:{node.lineno}"


# ---- sizes


@pytest.mark.parametrize("module", sorted(TREES))
def test_a_module_has_one_subject_and_few_lines(module: str) -> None:
    lines = len((SOURCES / f"{module}.py").read_text(encoding="utf-8").splitlines())
    assert lines <= LONGER.get(module, MAX_MODULE_LINES)
    assert module not in LONGER or lines > MAX_MODULE_LINES, "no exception is needed any more: remove it from LONGER"


@pytest.mark.parametrize("module", sorted(TREES))
def test_a_function_does_one_thing_and_is_short(module: str) -> None:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{module}.py:{node.lineno}: {node.name} has {lines} lines"


# ---- errors and data


@pytest.mark.parametrize("module", sorted(TREES))
def test_nothing_is_silenced(module: str) -> None:
    for node in ast.walk(TREES[module]):
        place = f"{module}.py:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{place}: bare except"
            assert ast.unparse(node.type) not in ("Exception", "BaseException"), f"{place}: broad except"
            assert not isinstance(node.body[0], ast.Pass), f"{place}: except and pass"
        assert not isinstance(node, ast.Assert), f"{place}: assert at run time"
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.exit":
            assert module == "cli", f"{place}: sys.exit"


@pytest.mark.parametrize("module", sorted(set(TREES) - {"__init__"}))
def test_no_version_and_no_address_stands_in_code(module: str) -> None:
    """They are data: they belong in matrix.yaml, in a lock, or in mirrors.yaml."""
    for place, text in texts(module):
        found = set(re.findall(r"\d+\.\d+\.\d+[\w.]*|https?://\w[^\s`'\");]*", text))
        assert found <= ALLOWED.get(module, set()), f"{place}: {text!r}"


@pytest.mark.parametrize("module", sorted(TREES))
def test_no_name_of_an_image_stands_in_code(module: str) -> None:
    matrix = real_matrix()
    names = {matrix.project.namespace, matrix.project.label_prefix, *(one.name for one in matrix.images)}
    names |= {one.image.partition(":")[0] for one in matrix.bases if one.image}
    for place, text in texts(module):
        assert not [name for name in names if name in text], f"{place}: {text!r}"
