"""Write a target down as a build context: its Dockerfile and only the files that it uses."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined

from sparkbake.manifest import manifest_json
from sparkbake.model import ContextFile, ImageLock, Target, Wheel

_TEMPLATE = "vllm-wheels.Dockerfile.j2"
_SCRIPTS = ("layout.py", "os-packages.sh")
# What layout.py takes from this project; see pruning.
_MODULES = ("devicecode", "elf", "errors", "fatbin", "pruning")


def render_target(
    target: Target, registry_base: ImageLock, recipes: Path, runtime: Sequence[ContextFile]
) -> tuple[ContextFile, ...]:
    """The files of a target's build context, sorted by path; the same bytes for the same input, everywhere.

    Args:
        registry_base: what the Dockerfile builds FROM; another base takes its place as a named context, so that the
            Dockerfile does not depend on the base.
        recipes: the folder of templates and scripts.
        runtime: files that become files of the image; see runtime.
    """
    dockerfile = (
        _templates(recipes)
        .get_template(_TEMPLATE)
        .render(target=target, registry_base=f"{registry_base.reference}@{registry_base.index}")
    )
    files = {
        "Dockerfile": dockerfile,
        "requirements.txt": requirements(target.environment.wheels),
        "installer.txt": requirements(target.installer),
        "layers.json": layers_json(target),
        **{name: (recipes / "scripts" / name).read_text(encoding="utf-8") for name in _SCRIPTS},
        **{f"sparkbake/{name}.py": _source(name) for name in _MODULES},
        **{str(one.path): one.content for one in runtime},
    }
    files["manifest.json"] = manifest_json(target, files)
    return tuple(ContextFile(path=PurePosixPath(path), content=text) for path, text in sorted(files.items()))


def _source(module: str) -> str:
    return (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")


def _templates(recipes: Path) -> Templates:
    # autoescape is for HTML; a Dockerfile is none.
    return Templates(
        loader=FileSystemLoader(recipes),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )


def requirements(wheels: Sequence[Wheel]) -> str:
    """Requirements in pip's format, `name==version --hash=sha256:...`; files of one version share a line."""
    hashes: dict[tuple[str, str], list[str]] = {}
    for one in wheels:
        hashes.setdefault((one.name, one.version), []).append(f"--hash=sha256:{one.sha256}")
    return "".join(f"{name}=={version} {' '.join(some)}\n" for (name, version), some in sorted(hashes.items()))


def layers_json(target: Target) -> str:
    """What the script that lays the environment out must know: packages of each layer, what collides, what to trim."""
    layers = {one.name: [wheel.name for wheel in one.wheels] for one in target.layers}
    collisions = [{"path": one.path, "keep": one.keep} for one in target.collisions]
    # Without the reason: wording is not what an image is built from.
    trims = [
        {"package": one.package, "paths": one.paths, "cubins": one.cubins, "saves_bytes": one.saves_bytes}
        for one in target.trims
    ]
    asked = {
        "compute_capability": target.compute_capability,
        "layers": layers,
        "collisions": collisions,
        "trims": trims,
    }
    return json.dumps(asked, indent=2) + "\n"
