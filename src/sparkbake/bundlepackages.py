"""Packages of the operating system of a bundle: fetched by a build that installs just what builds of the row install.

Which packages those are follows from the images that a foundation begins with and from the archive: apt itself is
asked, in those images.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from sparkbake.bake import FILE_EPOCH, escape
from sparkbake.build import write_folders
from sparkbake.buildx import BakeOptions, bake
from sparkbake.bundle import APT, IMAGES
from sparkbake.bundlefiles import Meter, hash_of
from sparkbake.engine import default_builder
from sparkbake.errors import BundleError
from sparkbake.mirrors import PACKAGES, Mirrors
from sparkbake.project import Project, write_file
from sparkbake.remote import write_whole
from sparkbake.sourcebuild import as_context
from sparkbake.sourcebundle import base_images, foundation_of, os_packages, row_of
from sparkbake.sourcerender import render_kept_packages
from sparkbake.sourceresolve import DEV, RUNTIME, SourcePlan
from sparkbake.sourcesecrets import compile_secrets

_NAME = "kept-packages"
Say = Callable[[str], None]


def keep_packages(project: Project, plan: SourcePlan, folder: Path, mirrors: Mirrors, say: Say) -> list[Path]:
    """Have packages and their list in a bundle; steps that the engine has done already are not done again.

    Args:
        folder: of the bundle; its images are what is installed into.
        mirrors: where packages come from.

    Returns:
        All files of it.

    Raises:
        BuildError: they cannot be had.
    """
    say("packages of the operating system: installing what the images lack, to keep what that fetches")
    place = project.build / _NAME
    kept = place / "kept"
    devel, runtime = base_images(plan)
    context = render_kept_packages(
        row_of(plan).row,
        devel=foundation_of(plan, DEV).cuda_devel,
        runtime=foundation_of(plan, RUNTIME).cuda_runtime,
        packages=os_packages(plan),
        recipes=project.recipes,
    )
    shutil.rmtree(place, ignore_errors=True)
    write_folders({"context": context}, place)
    # Of the bundle, where they lie by now.
    images = as_context(f"oci-layout:{folder / IMAGES}")
    contexts = {one.context: f"{images}@{one.manifest}" for one in (devel, runtime)}
    file = place / "docker-bake.json"
    write_file(file, _bake_file(plan, place, kept, contexts, on_host=mirrors.on_loopback))
    with compile_secrets(mirrors, None) as secrets:
        bake(
            file,
            place / "metadata.json",
            BakeOptions(
                builder=default_builder(),
                secrets=secrets,
                readable=(folder / IMAGES, place),
                writable=(kept,),
                on_host=mirrors.on_loopback,
            ),
            targets=[_NAME],
            root=project.root,
            log=project.build / "logs" / f"{_NAME}.log",
            show=say,
        )
    files = gather(kept, folder / APT)
    shutil.rmtree(place)
    return files


def _bake_file(plan: SourcePlan, place: Path, kept: Path, contexts: Mapping[str, str], *, on_host: bool) -> str:
    row = row_of(plan)
    body = {
        "context": str(place / "context"),
        "target": "kept",
        "platforms": [row.platform],
        "args": {"FILE_EPOCH": str(FILE_EPOCH), "APT_SNAPSHOT": row.apt_snapshot or ""},
        "contexts": dict(contexts),
        "output": [f"type=local,dest={kept}"],
        "attest": ["type=provenance,disabled=true", "type=sbom,disabled=true"],
        **({"network": "host"} if on_host else {}),
    }
    whole = {"group": {"default": {"targets": [_NAME]}}, "target": {_NAME: body}}
    return escape(json.dumps(whole, indent=2, sort_keys=True)) + "\n"


def gather(kept: Path, target: Path) -> list[Path]:
    """Put packages of all stages beside each other, and list them."""
    target.mkdir(exist_ok=True)
    stanzas: dict[str, str] = {}
    for package in sorted(kept.glob("*/*.deb")):
        fields = package.with_suffix(".control").read_text(encoding="utf-8").strip()
        # apt writes the colon of an epoch as %3a, which would be taken for a colon when it is asked for.
        name = package.name.replace("%3a", ".").replace("%3A", ".")
        sha256, size = hash_of(package, Meter("", 0, lambda _text: None)), package.stat().st_size
        stanza = f"{fields}\nFilename: {name}\nSize: {size}\nSHA256: {sha256}\n"
        if stanzas.setdefault(name, stanza) != stanza:
            raise BundleError([f"{name}: the images install different files of this name; take one archive for both"])
        if not (target / name).is_file() or hash_of(target / name, Meter("", 0, lambda _text: None)) != sha256:
            with package.open("rb") as file:
                write_whole(file, target / name, sha256=sha256, count=lambda _size: None)
    write_file(target / PACKAGES, "\n".join(stanzas[name] for name in sorted(stanzas)))
    return [target / PACKAGES, *(target / name for name in sorted(stanzas))]
