"""What every build needs before it begins: a machine that can do it, and a base."""

import os
from argparse import Namespace
from collections.abc import Sequence

from sparkbake import preflight
from sparkbake.bases import Chosen, choose
from sparkbake.buildx import buildx_version
from sparkbake.engine import EngineState
from sparkbake.mirrors import Mirrors
from sparkbake.model import Plan
from sparkbake.project import Project
from sparkbake.sourceresolve import SourcePlan
from sparkbake.tables import say


def check_machine(
    plan: Plan | SourcePlan, state: EngineState, *, disk_bytes: int, remote_builder: bool = False
) -> None:
    """See that this machine can build a plan.

    Raises:
        PreflightError: with all reasons why it cannot.
    """
    preflight.check(
        preflight.Needs(
            architecture=plan.targets[0].platform.partition("/")[2],
            disk_bytes=disk_bytes,
            remote_builder=remote_builder,
        ),
        state,
        buildx=buildx_version(),
        emulation=preflight.emulation_fault,
        free_bytes=preflight.free_bytes,
        environment=os.environ,
    )


def ready_base(project: Project, options: Namespace, mirrors: Mirrors, architectures: Sequence[str]) -> Chosen:
    """Make the base that `--base` names ready; see `bases.choose`."""
    return choose(
        options.base,
        project.matrix,
        mirrors,
        locks=project.locks,
        cache=project.cache,
        architectures=[project.matrix.chip.architecture, *architectures],
        say=say,
    )
