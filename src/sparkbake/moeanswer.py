"""What vLLM does for a model on a GB10: it opens a tuned config, falls to its defaults, or looks for none."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sparkbake.modelconfig import Model, split
from sparkbake.moe import Shape, file_name
from sparkbake.moeread import ConfigFile, Configs
from sparkbake.moerules import Kernel, Rules, fits, kernel_for, parse_version

_INVARIANT = "VLLM_BATCH_INVARIANT"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What vLLM does for a model.

    Attributes:
        state: "found", "defaults" (it looks for a file and there is none), or "unread" (it looks for none).
        name: of the file that Triton's kernel looks for.
        looked_in: paths in the order in which vLLM tries them.
        found: the first of them that is there.
        kernel: that runs if nothing is said of it; None when the rules have none for the release.
        why: it looks for no file; "" of the other states.
    """

    state: Literal["found", "defaults", "unread"]
    shape: Shape
    name: str
    looked_in: tuple[str, ...]
    found: ConfigFile | None
    kernel: Kernel | None
    why: str

    @property
    def opens(self) -> bool | None:
        """Whether vLLM opens the file if nothing more is said; None when that is not known for the release."""
        if self.found is None:
            return False
        return self.kernel.reads if self.kernel else None


def answer_for(model: Model, configs: Configs, rules: Rules, *, tp: int, expert_parallel: bool) -> Answer:
    """What vLLM does on a GB10 for a model.

    Args:
        tp: over how many GPUs it is split.
        expert_parallel: whether whole experts are shared out.

    Raises:
        UsageError: it cannot be split so, or not by this release.
    """
    version = parse_version(configs.image, configs.version)
    environment = dict(configs.environment)
    refines = fits(rules.refined_blocks, version)
    shape = split(model, tp=tp, expert_parallel=expert_parallel, refines=refines)
    kernel = kernel_for(
        rules.kernels,
        scheme=model.scheme.name,
        block_shape=shape.block_shape,
        version=version,
        environment=environment,
    )
    name = file_name(shape)
    looked_in = tuple(posixpath.join(one, name) for one in (configs.folder, configs.shipped) if one)
    found = next((file for path in looked_in for file in configs.files if file.path == path), None)
    why = _why_unread(kernel, environment)
    if why:
        found, looked_in = None, ()
    return Answer(
        state="unread" if why else "found" if found else "defaults",
        shape=shape,
        name=name,
        looked_in=looked_in,
        found=found,
        kernel=kernel,
        why=why,
    )


def _why_unread(kernel: Kernel | None, environment: Mapping[str, str]) -> str:
    """Why vLLM looks for no config, whatever it is asked for; "" when it may."""
    if environment.get(_INVARIANT, "0") not in ("", "0"):
        return f"the image has {_INVARIANT}={environment[_INVARIANT]}, with which vLLM looks for no config"
    if kernel and not kernel.reads and not kernel.asked:
        return f"vLLM runs {kernel.name}: {kernel.reason}"
    return ""
