"""What is not known of compiled rows, with what fills it: `lock` most of it, a person the rest."""

from collections.abc import Iterator, Mapping, Sequence

from sparkbake.model import Matrix, Row
from sparkbake.patches import Series
from sparkbake.sourcelock import SourceLock
from sparkbake.sourcepins import VLLM, sources_of

CLAIM = "try the patches on its sources and move it from `pending` to `releases` in patches/vllm/series.yaml"


def unlockable(matrix: Matrix, row: Row, lock: SourceLock) -> Iterator[tuple[str, str]]:
    """Open pins that no tag leads to, since upstream names a commit: with where it belongs, and where it stands."""
    (vllm,) = (one for one in lock.pins if one.name == VLLM)
    for pin in lock.pins:
        if pin.commit or pin.tag:
            continue
        variable = sources_of(matrix).repository(pin.name).variable
        named = f"the GIT_TAG beside {variable} in the CMake files" if variable else "a file"
        yield (
            pin.told,
            f"no tag leads to it, so that `lock` cannot fill it: it is {named} of vLLM at {vllm.commit or vllm.tag}; "
            f"write it into matrix.yaml, source.repositories.{pin.name}.at, for {row.release.vllm}",
        )


def open_patches(series: Series, version: str) -> tuple[str, ...]:
    """That nothing is claimed of a release yet, as a user is told: a build of it would be one without patches."""
    why = dict(series.pending).get(version)
    return () if why is None else (f"patches: nothing is claimed of this release yet: {why}",)


def refusal(tags: str, open_pins: Sequence[str], by_hand: Mapping[str, str]) -> str:
    """Why no build of some rows begins, and what to do.

    Args:
        by_hand: those that `lock` cannot fill, to what fills them.
    """
    named = "\n".join(f"  {one}" + (f"; {by_hand[one]}" if one in by_hand else "") for one in open_pins)
    text = f"{tags}: what follows is not known, and nothing is built from what may change:\n{named}"
    if not set(open_pins) - set(by_hand):
        return text
    others = "for the others " if by_hand else ""
    return (
        f"{text}\n{others}run `nox -s lock -- {tags}` where the repositories and the registry can be reached, or write "
        "it into matrix.yaml"
    )
