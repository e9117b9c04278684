"""What is to be in each compiled image, as its plan has it: settings, packages, patched files, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sparkbake.findings import Finding, anew
from sparkbake.model import ContextFile, Wheel
from sparkbake.patches import Effect
from sparkbake.sourcemodel import GitSource, SourceTarget
from sparkbake.sourcerender import check_commits, checkouts
from sparkbake.sourceresolve import SourcePlan
from sparkbake.words import settings, variables

# What every image has that is compiled here; each is a distribution, too.
_TORCH = ("torch", "torchaudio", "torchvision")
# Compiled, and in no image.
_NOT_INSTALLED = ("llvm",)
# In whose image a recipe begins; that of the other named contexts it takes files from alone.
_BEGINS_IN = "runtime"
# The recipe of the image that everything is compiled in.
_COMPILES = "pytorch-dev"
# Which build requirements an image keeps.
_KEPT: Mapping[str, tuple[str, ...]] = {_COMPILES: ("tools", "runtime"), "pytorch": ("runtime",)}


@dataclass(frozen=True, kw_only=True, slots=True)
class CompiledImage:
    """What a compiled image is held against.

    Attributes:
        target: of a sealed plan.
        row: what `build` is given to get it; of a foundation, a row that stands on it.
        context: path to content of its build context.
        settings: as words.settings has them, with those of the image that it begins with.
        wheels: installed from the package index.
        sources: all that is compiled into it, and what compiling these was handed.
        packages: normalised name to version, of every distribution that is installed.
        compiled: those of them that are compiled here.
    """

    target: SourceTarget
    row: str
    context: Mapping[str, str]
    settings: Mapping[str, object]
    wheels: tuple[Wheel, ...]
    sources: tuple[GitSource, ...]
    packages: Mapping[str, str]
    compiled: tuple[str, ...]

    @property
    def is_foundation(self) -> bool:
        return self.target.is_foundation

    @property
    def release(self) -> str | None:
        """Of vLLM; None of a foundation, which has none."""
        return None if self.is_foundation else self.versions["vllm"]

    @property
    def versions(self) -> dict[str, str]:
        """Component to version, as programs say it: a tag of NCCL's, 2.29.2-1, ends with a number of its packages."""
        found = dict(self.target.versions)
        return {**found, "nccl": found["nccl"].partition("-")[0]}

    @property
    def os_packages(self) -> tuple[str, ...]:
        """Names; what is compiled with is in the image that all are compiled in alone."""
        more = self.target.build_os_packages if self.target.recipe == _COMPILES else ()
        return (*self.target.os_packages, *more)

    @property
    def effects(self) -> tuple[tuple[str, Effect], ...]:
        """Name of a patch, and an effect of it on a Python file that is installed: what is compiled says nothing."""
        return tuple(
            (patch.name, check)
            for patch in self.target.patches
            for check in patch.checks
            if check.file.startswith("vllm/") and check.file.endswith(".py")
        )

    def remedied(self, finding: Finding) -> Finding:
        """A finding with the remedy for this image: no build of a row makes a foundation anew that is there."""
        if finding.remedy != anew(self.target.tag):
            return finding
        if not self.is_foundation:
            return replace(finding, remedy=anew(self.row))
        again = f"remove the image and build it anew: `docker image rm {self.target.reference}`, then"
        return replace(finding, remedy=f"{again} `nox -s build -- {self.row}`")


def images_of(plan: SourcePlan, contexts: Mapping[str, Sequence[ContextFile]]) -> tuple[CompiledImage, ...]:
    """What is to be in each image of a plan, in its order.

    Args:
        plan: a sealed one.
        contexts: target name to its build context.

    Raises:
        UsageError: the commit of a source is not known, so that there can be no such image.
    """
    found: dict[str, CompiledImage] = {}
    for target in plan.targets:
        check_commits(target)
        begun = next((found[name] for context, name in target.parents if context == _BEGINS_IN), None)
        context = {str(one.path): one.content for one in contexts[target.name]}
        compiled = (*begun.compiled, *_installed(target)) if begun else _TORCH
        wheels = _wheels(target, begun)
        found[target.name] = CompiledImage(
            target=target,
            row=_row(plan, target),
            context=context,
            settings=_settings(context["Dockerfile"], begun),
            wheels=wheels,
            sources=(*(begun.sources if begun else ()), *checkouts(target)),
            packages={one.name: one.version for one in wheels} | {one: dict(target.versions)[one] for one in compiled},
            compiled=compiled,
        )
    return tuple(found.values())


def _row(plan: SourcePlan, target: SourceTarget) -> str:
    made = (one for one in plan.targets if target.name in (one.name, *dict(one.parents).values()))
    return next(one.asked_as for one in made if one.name not in plan.reusable)


def _installed(target: SourceTarget) -> tuple[str, ...]:
    return tuple(one.name for one in target.sources if one.name not in _NOT_INSTALLED)


def _settings(dockerfile: str, begun: CompiledImage | None) -> dict[str, object]:
    own = settings(dockerfile)
    inherited = variables(begun.settings) if begun else {}
    return {**own, "Env": sorted({**inherited, **variables(own)}.values())}


def _wheels(target: SourceTarget, begun: CompiledImage | None) -> tuple[Wheel, ...]:
    """Where several steps install a package, the last one counts."""
    asked = dict(target.build_requirements)
    kept = (one for name in _KEPT.get(target.recipe, ()) for one in asked.get(name, ()))
    locked = target.environment.wheels if target.environment else ()
    return tuple({one.name: one for one in (*(begun.wheels if begun else ()), *kept, *locked)}.values())
