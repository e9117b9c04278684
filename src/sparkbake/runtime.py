"""The files that an image has by itself: its entrypoint, the doctor with what this image needs, tuned configs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from sparkbake.doctorneeds import Standards, needs_of
from sparkbake.model import ContextFile, Target
from sparkbake.sourcedata import Limit
from sparkbake.sourcemodel import SourceTarget

# In a build context; below it are the paths of the image.
FOLDER = PurePosixPath("runtime")
RUNTIME_LAYER = "runtime"
MOE_CONFIGS = PurePosixPath("usr/share/sparkbake/moe_configs")

_START = PurePosixPath("usr/local/bin/spark")
_LIBRARY = PurePosixPath("usr/lib/sparkbake")
# What the doctor is made of; see hostvalues.
_DOCTOR = (
    "doctor",
    "errors",
    "hostchecks",
    "hostengine",
    "hostfacts",
    "hostnetwork",
    "hostread",
    "hostresources",
    "hostvalues",
    "process",
)


def runtime_files(
    target: Target | SourceTarget,
    *,
    recipes: Path,
    configs: Path,
    standards: Standards,
    compute_capability: str,
    limits: Sequence[Limit] = (),
) -> tuple[ContextFile, ...]:
    """The files of a build context that become files of the image as they are.

    Args:
        configs: the folder of tuned configs.
        compute_capability: of the chip, "12.1".
        limits: models that the image cannot run; without any its files say nothing of them.
    """
    source = recipes / "runtime"
    files = {_START: (source / "start.sh").read_text(encoding="utf-8")}
    for path in sorted(source.rglob("*.py")):
        files[_LIBRARY / path.relative_to(source).as_posix()] = path.read_text(encoding="utf-8")
    here = Path(__file__).parent
    # Not the package's own: a new version of this project is no reason to build an image anew.
    files[_LIBRARY / "sparkbake/__init__.py"] = '"""The doctor of Sparkbake."""\n'
    for name in _DOCTOR:
        files[_LIBRARY / f"sparkbake/{name}.py"] = (here / f"{name}.py").read_text(encoding="utf-8")
    needs = needs_of(
        standards,
        compute_capability=compute_capability,
        cuda=dict(target.versions)["cuda"],
        # The image is there when its doctor runs.
        packed_bytes=0,
        # Those that PORT and RAY_PORT of the container name.
        ports=(),
    )
    refused = {"limits": [asdict(one) for one in limits]} if limits else {}
    files[_LIBRARY / "needs.json"] = json.dumps({**asdict(needs), **refused}, indent=1, sort_keys=True) + "\n"
    for path in sorted(configs.glob("*.json")):
        files[MOE_CONFIGS / path.name] = path.read_text(encoding="utf-8")
    return tuple(ContextFile(path=FOLDER / path, content=text) for path, text in sorted(files.items()))
