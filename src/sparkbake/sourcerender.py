"""Write a target of the source strategy down as a build context; `render` does so for the wheels strategy."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined

from sparkbake.errors import UsageError
from sparkbake.lockfile import canonical, sha256_of
from sparkbake.manifest import SCHEMA
from sparkbake.model import ContextFile
from sparkbake.render import requirements
from sparkbake.runtime import FOLDER, MOE_CONFIGS
from sparkbake.sourcemodel import GitSource, SourceTarget

# Scripts that run inside the builds of each recipe, and which build requirements its steps install.
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "pytorch-dev": (
        "apt-packages.sh",
        "build-nccl.sh",
        "build-torch.sh",
        "build-torchvision.sh",
        "build-wheel.sh",
        "checkout.py",
        "drop-nvidia.sh",
        "guard.py",
        "install-torch.sh",
        "jobs.py",
        "packages.py",
        "settled.sh",
    ),
    "pytorch": (
        "apt-packages.sh",
        "drop-nvidia.sh",
        "guard.py",
        "install-torch.sh",
        "packages.py",
        "settled.sh",
        "toolkit.sh",
    ),
    "vllm-source": (
        "apt-packages.sh",
        "build-llvm.sh",
        "build-triton.sh",
        "build-vllm.sh",
        "build-wheel.sh",
        "checkout.py",
        "describe.sh",
        "fetch-crates.sh",
        "fetched.py",
        "guard.py",
        "install-environment.sh",
        "jobs.py",
        "packages.py",
        "patch.py",
        "prepare-vllm.sh",
        "settled.sh",
    ),
}
# Where the tuned configs lie in a context.
_MOE_CONFIGS = f"{FOLDER / MOE_CONFIGS}/"
_REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "pytorch-dev": ("runtime", "tools", "torch"),
    "pytorch": ("runtime",),
    "vllm-source": ("triton", "vllm"),
}

# In the place of a commit that is not known: checkout.py takes it for none, and ends the build.
OPEN = "open"
# Sources of the recipe for vLLM that have a stage of their own; others are Python packages, such as transformers.
_WITH_STAGES = ("llvm", "triton", "vllm")


def render_source(target: SourceTarget, recipes: Path, runtime: Sequence[ContextFile] = ()) -> tuple[ContextFile, ...]:
    """The files of a target's build context, sorted by path; the same bytes for the same input, everywhere.

    Args:
        recipes: the folder of templates and scripts.
        runtime: of an image of vLLM, the files that become files of it; see runtime.

    Raises:
        UsageError: two sources of one name are not the same.
    """
    files = {
        "Dockerfile": _dockerfile(target, recipes),
        **{name: (recipes / "scripts" / name).read_text(encoding="utf-8") for name in _SCRIPTS[target.recipe]},
        **dict(_requirement_files(target)),
        **dict(_changes(target)),
        **{str(one.path): one.content for one in runtime},
    }
    files["manifest.json"] = _manifest(target, files)
    return tuple(ContextFile(path=PurePosixPath(path), content=text) for path, text in sorted(files.items()))


def checkouts(target: SourceTarget) -> tuple[GitSource, ...]:
    """What is checked out, in order, each once: what is compiled, then what vLLM's CMake is handed.

    Raises:
        UsageError: see `render_source`.
    """
    found: dict[str, GitSource] = {}
    for one in (*target.sources, *(fetch.source for fetch in target.fetches)):
        if found.setdefault(one.name, one) != one:
            raise UsageError(
                f"{target.name}: two sources are called {one.name}: {found[one.name].commit} and {one.commit}; "
                "give one another name"
            )
    return tuple(found.values())


def os_packages_of(target: SourceTarget) -> list[str]:
    """Packages of the operating system that a foundation's image has; what Rust needs comes in a stage of its own."""
    more = target.build_os_packages if target.recipe == "pytorch-dev" else ()
    return sorted({*target.os_packages, *more})


def check_commits(target: SourceTarget) -> None:
    """See that every commit is known: what is rendered without one is to be read, not to be built.

    Raises:
        UsageError: the commit of a source is not.
    """
    for one in checkouts(target):
        if one.commit is None:
            raise UsageError(
                f"{target.name}: the commit of {one.name} ({one.repository}, asked for as {one.tag}) is not known; "
                f"run `nox -s build -- {target.row}`, which says what to do"
            )


def render_kept_packages(
    tag: str, *, devel: str, runtime: str, packages: Mapping[str, Sequence[str]], recipes: Path
) -> tuple[ContextFile, ...]:
    """The build context that fetches packages of the operating system for a bundle, and keeps them.

    Args:
        tag: of the row.
        devel, runtime: the images that its foundation begins with.
        packages: names by what they are installed into: "devel", "runtime", "rust".
    """
    dockerfile = _templates(recipes).get_template("kept-packages.Dockerfile.j2")
    scripts = ("apt-packages.sh", "drop-nvidia.sh", "settled.sh")
    files = {
        "Dockerfile": dockerfile.render(tag=tag, devel=devel, runtime=runtime, packages=packages),
        **{name: (recipes / "scripts" / name).read_text(encoding="utf-8") for name in scripts},
    }
    return tuple(ContextFile(path=PurePosixPath(path), content=text) for path, text in sorted(files.items()))


def _templates(recipes: Path) -> Templates:
    # autoescape is for HTML; a Dockerfile is none.
    return Templates(
        loader=FileSystemLoader(recipes),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )


def _dockerfile(target: SourceTarget, recipes: Path) -> str:
    names = {one.name for one in target.sources}
    sources = checkouts(target)
    return (
        _templates(recipes)
        .get_template(f"{target.recipe}.Dockerfile.j2")
        .render(
            target=target,
            checkouts=sources,
            fetched=[one for one in sources if one.name not in names],
            has_llvm="llvm" in names,
            others=[one.name for one in target.sources if one.name not in _WITH_STAGES],
            open=OPEN,
            packages=os_packages_of(target),
            versions=dict(target.versions),
            gib_per_job=dict(target.gib_per_job),
        )
    )


def _requirement_files(target: SourceTarget) -> Iterator[tuple[str, str]]:
    asked = dict(target.build_requirements)
    for name in _REQUIREMENTS[target.recipe]:
        yield f"requirements/{name}.txt", requirements(asked.get(name, ()))
    if target.recipe == "pytorch-dev":
        yield "installer.txt", requirements(target.installer)
    if target.recipe == "vllm-source":
        wheels = target.environment.wheels if target.environment else ()
        yield "environment.txt", requirements([one for one in wheels if one.name not in target.differing])
        if target.differing:
            yield "differing.txt", requirements([one for one in wheels if one.name in target.differing])


def _changes(target: SourceTarget) -> Iterator[tuple[str, str]]:
    """What is done to vLLM's sources, and what they are held against."""
    if target.recipe == "vllm-source":
        effects = [
            {
                "name": one.name,
                "checks": [{"file": check.file, "text": check.text, "count": check.count} for check in one.checks],
            }
            for one in target.patches
        ]
        yield "effects.json", json.dumps(effects, indent=1) + "\n"
        handed = [
            {
                "variable": one.variable,
                "repository": one.source.repository,
                "tag": one.source.tag,
                "commit": one.source.commit,
            }
            for one in target.fetches
        ]
        yield "fetches.json", json.dumps(handed, indent=1) + "\n"
    for patch in target.patches:
        yield f"patches/{patch.name}", patch.text


def _manifest(target: SourceTarget, files: Mapping[str, str]) -> str:
    """What the image says of itself; `plan_digest` is of all that it is built from and that this project decides."""
    digests = {path: sha256_of(content.encode()) for path, content in files.items()}
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "reference": target.reference,
        "platform": target.platform,
        "labels": dict(target.labels),
        "sources": [
            {"name": one.name, "repository": one.repository, "tag": one.tag, "commit": one.commit}
            for one in checkouts(target)
        ],
        "patches": [{"name": one.name, "digest": digests[f"patches/{one.name}"]} for one in target.patches],
        "moe_configs": sorted(PurePosixPath(path).name for path in files if path.startswith(_MOE_CONFIGS)),
        "parents": dict(target.parents),
    }
    digest = sha256_of(canonical({"context": digests, "manifest": body}))
    return json.dumps({**body, "plan_digest": digest}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
