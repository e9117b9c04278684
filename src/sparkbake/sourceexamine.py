"""Hold all that was read of a compiled image against its plan, without running any of its programs.

What holds of images whichever way they are made is in `examine` and `words`. Whose the files of CUDA's images are is
not asked: those have no lock of packages, and their digest says what they are.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace

from sparkbake.examine import (
    Examined,
    facts_of,
    judge_code,
    judge_linkage,
    judge_os_packages,
    judge_torch,
    judge_tuning,
    judge_unread,
)
from sparkbake.findings import Finding, of_build
from sparkbake.inventory import inventory_of
from sparkbake.libraries import duplicates, missing_ptxas, runtime_libraries, which_ptxas
from sparkbake.linkage import Linkage, unresolved
from sparkbake.paths import below_site
from sparkbake.pruned import judge_pruned
from sparkbake.rules import Rules
from sparkbake.sourceimage import CompiledImage
from sparkbake.surveyed import Survey
from sparkbake.versions import admits
from sparkbake.words import judge_packages, judge_said, judge_settings

# Where our recipes put what they compile and install; in /opt CUDA's devel image has tools of its own (Nsight).
_OURS = ("opt/nccl/", "opt/venv/")
# Variables that CUDA's images set: https://gitlab.com/nvidia/container-images/cuda, dist/*/ubuntu2404/*/Dockerfile.
_OF_CUDA = r"NV[A-Z0-9_]*|CUDA_VERSION|LIBRARY_PATH"
# As in recipes/scripts/guard.py: plug-ins of NCCL have names of their own, libnccl-net.so; auditwheel puts eight hex
# digits behind the name of what it copies into a wheel.
_NCCL = re.compile(r"libnccl(_static)?(-[0-9a-f]{8})?\.(so|a)\b.*")


def examine_compiled(
    survey: Survey, image: CompiledImage, *, rules: Rules, label_prefix: str, compute_capability: str
) -> Examined:
    """Look for everything that is wrong with a compiled image.

    Args:
        label_prefix: of the labels with versions, "org.example".
        compute_capability: of the chip, "12.1".

    Raises:
        ImageError: what the image says of its own files is damaged.
    """
    target = image.target
    inventory = inventory_of(survey, compute_capability=compute_capability)
    libraries = runtime_libraries(survey)
    assemblers = which_ptxas(survey)
    linkage = unresolved(survey)
    ours = [one for one in inventory.files if one.path.startswith(_OURS)]
    release = image.release
    about = [
        one for one in rules.code if one.versions is None or (release is not None and admits(one.versions, release))
    ]
    findings = [
        *judge_said(survey, target, image.context, label_prefix),
        *judge_settings(survey, target, image.settings, inherited=_OF_CUDA),
        *judge_packages(survey, target, image.packages),
        *judge_os_packages(survey, target.tag, image.os_packages, None),
        *judge_torch(survey, target),
        *judge_pruned(survey, inventory, target.tag, ()),
        *_nccl(survey, image),
        *duplicates([one for one in libraries if not one.stem.startswith("libnccl.so")]),
        *missing_ptxas(assemblers),
        *_patched(survey, image),
        *judge_code(ours, about, rules.least),
        *judge_unread(replace(inventory, unread=tuple(one for one in inventory.unread if one.path.startswith(_OURS)))),
        *judge_linkage(_of_ours(linkage), target),
        *judge_tuning(survey),
    ]
    return Examined(findings=tuple(findings), facts=facts_of(inventory, linkage, libraries, assemblers))


def _of_ours(linkage: Linkage) -> Linkage:
    """What is wrong with what our recipes install; CUDA's images are as NVIDIA links them."""
    return replace(linkage, unresolved=tuple(one for one in linkage.unresolved if one.path.startswith(_OURS)))


def _nccl(survey: Survey, image: CompiledImage) -> Iterator[Finding]:
    """There is one NCCL, the one that is compiled here, whatever its content; links to it do not count."""
    home = f"opt/nccl/lib/libnccl.so.{image.versions['nccl']}"
    kinds = {path: one.entry.kind for path, one in survey.seen.items() if _NCCL.fullmatch(posixpath.basename(path))}
    if kinds.get(home) != "file":
        yield of_build(
            "nccl", home, tag=image.target.tag, found="no such file", expected="the one that is compiled here"
        )
    for path, kind in kinds.items():
        if kind in ("file", "hardlink") and path != home:
            yield of_build("nccl", path, tag=image.target.tag, found="another NCCL", expected=f"{home} alone")


def _patched(survey: Survey, image: CompiledImage) -> Iterator[Finding]:
    """Python files are as patches make them."""
    installed = {below_site(path): text for path, text in survey.texts.items()}
    for name, check in image.effects:
        text = installed.get(check.file)
        count = 0 if text is None else text.decode(errors="replace").count(check.text)
        if text is None or count != check.count:
            yield of_build(
                "patch",
                check.file,
                tag=image.target.tag,
                found="no such file" if text is None else f"{count} times: {check.text.strip().splitlines()[0]}",
                expected=f"{check.count} times, by {name}",
            )
