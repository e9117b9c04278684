"""Sessions, and nothing else: each installs what it needs, by hash, and calls the command line or a tool."""

import hashlib
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "tests"]

ROOT = Path(__file__).parent
REQUIREMENTS = ROOT / "tools" / "requirements"
# A build stops its helpers before it ends; nox would otherwise give it a third of a second.
INTERRUPT_TIMEOUT_S = 60.0


def prepare(session: nox.Session, name: str) -> None:
    """Install one of the locked requirement files, unless the environment has just that already."""
    file = REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    stamp = Path(session.virtualenv.location) / "sparkbake-requirements"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return
    session.install("--require-hashes", "-r", str(file))
    stamp.write_text(digest, encoding="utf-8")


def sparkbake(session: nox.Session, command: str, *arguments: str, requirements: str = "run") -> None:
    """Call the project's command line from its sources."""
    prepare(session, requirements)
    session.run(
        "python", "-m", "sparkbake.cli", "--root", str(ROOT), command, *arguments,
        env={"PYTHONPATH": str(ROOT / "src")},
        interrupt_timeout=INTERRUPT_TIMEOUT_S,
        terminate_timeout=INTERRUPT_TIMEOUT_S,
    )  # fmt: skip


@nox.session(name="list")
def list_(session: nox.Session) -> None:
    """The rows of the matrix: nox -s list [-- --json] [TAG...]."""
    sparkbake(session, "list", *session.posargs)


@nox.session
def render(session: nox.Session) -> None:
    """Write Dockerfiles and the bake file: nox -s render -- TAG... [--variant NAME]."""
    sparkbake(session, "render", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve anew: nox -s lock -- TAG... | --base NAME."""
    sparkbake(session, "lock", *session.posargs)


@nox.session
def bump(session: nox.Session) -> None:
    """Put a vLLM release into matrix and locks: nox -s bump -- RELEASE | --newest [--dry-run] [--older-than-days N]."""
    sparkbake(session, "bump", *session.posargs)


@nox.session
def watch(session: nox.Session) -> None:
    """Releases of torch and FlashInfer that the matrix lacks: nox -s watch [-- --markdown | --json]."""
    sparkbake(session, "watch", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build and verify images: nox -s build -- TAG... [--dry-run] [--base NAME] [--variant NAME] ..."""
    sparkbake(session, "build", *session.posargs)


@nox.session
def verify(session: nox.Session) -> None:
    """Hold images against their plans: nox -s verify -- TAG... | oci:FILE... [--variant 12.1] [--no-run] [--json]."""
    sparkbake(session, "verify", *session.posargs)


@nox.session
def bundle(session: nox.Session) -> None:
    """All inputs of a row in one folder: nox -s bundle -- TAG [--output DIR] | --check DIR."""
    sparkbake(session, "bundle", *session.posargs)


@nox.session
def publish(session: nox.Session) -> None:
    """Push what was verified, then move tags: nox -s publish -- TAG... --sign-key FILE [--registry HOST/NAMESPACE]."""
    sparkbake(session, "publish", *session.posargs)


@nox.session
def ship(session: nox.Session) -> None:
    """Bring an image to other machines over ssh: nox -s ship -- TAG HOST... [--parallel N] [--dry-run] [--json]."""
    sparkbake(session, "ship", *session.posargs)


@nox.session
def clean(session: nox.Session) -> None:
    """Remove what this project made: nox -s clean [-- TAG...] [--all] [--build-cache] [--dry-run] [--yes] [--json]."""
    sparkbake(session, "clean", *session.posargs)


@nox.session
def check(session: nox.Session) -> None:
    """Look at a published image: nox -s check -- REF [--key FILE | --identity ID --issuer URL] [--json]."""
    sparkbake(session, "check", *session.posargs)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Build from nothing twice and compare: nox -s reproduce -- TAG [--against IMAGE] [--keep]."""
    sparkbake(session, "reproduce", *session.posargs)


@nox.session
def delta(session: nox.Session) -> None:
    """What an update costs: nox -s delta -- OLD NEW [--json]."""
    sparkbake(session, "delta", *session.posargs)


@nox.session
def inventory(session: nox.Session) -> None:
    """What device code an image has: nox -s inventory -- IMAGE [--json]."""
    sparkbake(session, "inventory", *session.posargs)


@nox.session
def sbom(session: nox.Session) -> None:
    """The bill of materials of an image: nox -s sbom -- IMAGE [--format spdx] [--output FILE]."""
    sparkbake(session, "sbom", *session.posargs)


@nox.session
def moe(session: nox.Session) -> None:
    """Which tuned config vLLM opens: nox -s moe -- IMAGE --model PATH [--tp N] [--ep]."""
    sparkbake(session, "moe", *session.posargs)


@nox.session
def kernels(session: nox.Session) -> None:
    """Which kernels a release compiles: nox -s kernels -- TAG [--arch LIST] [--as-released] [--variant NAME]."""
    sparkbake(session, "kernels", *session.posargs, requirements="kernels")


@nox.session
def patches(session: nox.Session) -> None:
    """Patches of vLLM: nox -s patches [-- RELEASE [--json] [--apply TREE]]."""
    sparkbake(session, "patches", *session.posargs)


@nox.session
def doctor(session: nox.Session) -> None:
    """What this host lacks: nox -s doctor [-- TAG] [--port N] [--model-dir DIR] [--json]."""
    sparkbake(session, "doctor", *session.posargs)


@nox.session
def notes(session: nox.Session) -> None:
    """Release notes of a row: nox -s notes -- TAG [--since TAG] [--from IMAGE --to IMAGE] [--json] [--output FILE]."""
    sparkbake(session, "notes", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Write what is generated into README.md and docs/: nox -s docs [-- --check]."""
    sparkbake(session, "docs", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The default suite: no daemon, no network, seconds."""
    prepare(session, "tests")
    # A file at a time in each process, since the tests of one share what they look at.
    session.run("pytest", "--numprocesses", "auto", "--dist", "loadfile", *session.posargs)


@nox.session
def engine_tests(session: nox.Session) -> None:
    """The suites that need a Docker Engine, and most of them the package index."""
    prepare(session, "tests")
    session.run("pytest", "--run-engine", "--run-network", "-m", "engine", *session.posargs)


@nox.session
def network_tests(session: nox.Session) -> None:
    """The suites that need the package index and no engine: sources and wheels of real releases."""
    prepare(session, "tests")
    session.run("pytest", "--run-network", "-m", "network and not engine", *session.posargs)


@nox.session
def e2e(session: nox.Session) -> None:
    """Build one image whole, as a user would, verify it, and hold it against its record: nox -s e2e [-- TAG...]."""
    sparkbake(session, "build", *(session.posargs or ["0.32.0-t5"]), "--base", "debian-13", "--recorded")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy, shellcheck, hadolint on every golden Dockerfile, schemas and zizmor on the workflows."""
    prepare(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    shell = ["quickstart", ".ci/run", *sorted(str(one.relative_to(ROOT)) for one in ROOT.glob("tools/*.sh"))]
    shell += sorted(str(one.relative_to(ROOT)) for one in ROOT.glob("recipes/scripts/*.sh"))
    shell += sorted(str(one.relative_to(ROOT)) for one in ROOT.glob(".github/scripts/*.sh"))
    shell += sorted(str(one.relative_to(ROOT)) for one in ROOT.glob("recipes/*/*.sh"))
    session.run("shellcheck", *shell)
    dockerfiles = sorted(str(one.relative_to(ROOT)) for one in ROOT.glob("tests/golden*/*/Dockerfile"))
    if not dockerfiles:
        session.error("found no tests/golden*/*/Dockerfile to check")
    session.run("hadolint", "--config", "tools/hadolint.yaml", *dockerfiles)
    lint_workflows(session)


def lint_workflows(session: nox.Session) -> None:
    """Hold the workflows against GitHub's format and against what is known to be unsafe; neither asks the network."""
    workflows = sorted(str(one.relative_to(ROOT)) for one in ROOT.glob(".github/workflows/*.yml"))
    if not workflows:
        session.error("found no .github/workflows/*.yml to check")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")
    session.run("zizmor", "--offline", "--no-progress", "--persona", "pedantic", ".github")


@nox.session
def update_requirements(session: nox.Session) -> None:
    """Resolve tools/requirements/*.txt anew."""
    session.install("uv")
    compile_ = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    compile_ += ["--no-annotate", "--custom-compile-command", "nox -s update_requirements", "--upgrade"]
    sources = {
        "quickstart": [],
        "run": ["pyproject.toml"],
        "kernels": ["pyproject.toml"],
        "tests": ["pyproject.toml"],
        "lint": ["pyproject.toml"],
    }
    for name, files in sources.items():
        own = REQUIREMENTS / f"{name}.in"
        inputs = [*files, *([str(own)] if own.exists() else [])]
        session.run(*compile_, *inputs, "--output-file", str(REQUIREMENTS / f"{name}.txt"))
    # Of a Triton the wheel alone, to compile tuned configs with.
    # And what benchmarks/real_sources.py has in the place of CUDA's image.
    for own in sorted((*REQUIREMENTS.glob("moe-*.in"), *REQUIREMENTS.glob("cuda-*.in"))):
        session.run(*compile_, "--no-deps", str(own), "--output-file", str(own.with_suffix(".txt")))
    # A torch for its configuration of vLLM; setuptools is the build's own.
    own = REQUIREMENTS / "torch-cu130.in"
    left_out = [word for name in ("setuptools", "triton") for word in ("--no-emit-package", name)]
    session.run(*compile_, *left_out, str(own), "--output-file", str(own.with_suffix(".txt")))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure: nox -s bench -- NAME [ARGS...] (a file in benchmarks/)."""
    if not session.posargs:
        session.error("expected the name of a file in benchmarks/, such as build_ratio")
    # Some measure on what the tests build.
    prepare(session, "tests")
    name, *arguments = session.posargs
    session.run("python", str(ROOT / "benchmarks" / f"{name}.py"), *arguments, env={"PYTHONPATH": str(ROOT / "src")})
