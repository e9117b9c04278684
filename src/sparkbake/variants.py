"""Other ways to compile a row: for which architecture, which rows can be, and what their images are called."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparkbake.errors import UsageError
from sparkbake.model import Matrix, Row, Strategy
from sparkbake.patches import Series, select
from sparkbake.sourcepins import sources_of
from sparkbake.versions import variant_tag

# Why an option that is about compiling is refused.
NOT_COMPILED = "is for rows that are compiled, and these are installed from wheels; leave it out"


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """A row compiled in another way than usual, as `--variant NAME` has it.

    Attributes:
        name: "12.1".
        tag: of the image, "0.14.1-t4-sm121".
        arch_list: TORCH_CUDA_ARCH_LIST of vLLM, "12.1a".
        refused: why it cannot be; None when it can.
    """

    name: str
    tag: str
    arch_list: str
    refused: str | None


def alternatives(matrix: Matrix, row: Row, series: Series) -> tuple[Alternative, ...]:
    """Every other way to compile a row, those that are refused among them; none of a row that is not compiled."""
    if row.release.strategy is not Strategy.SOURCE:
        return ()
    return tuple(
        Alternative(
            name=name,
            tag=variant_tag(row.tag, name),
            arch_list=archs,
            refused=refusal(series, row.release.vllm, name),
        )
        for name, archs in sources_of(matrix).variants
    )


def known_variants(matrix: Matrix) -> tuple[str, ...]:
    """The names of all other ways to compile rows; none of a matrix without compiled rows."""
    return tuple(name for name, _archs in matrix.sources.variants) if matrix.sources else ()


def arch_list(matrix: Matrix, variant: str | None) -> str:
    """TORCH_CUDA_ARCH_LIST of vLLM: "12.1a" of a variant, "12.0f" without one.

    Raises:
        UsageError: there is no such variant.
    """
    sources = sources_of(matrix)
    if variant is None:
        return sources.vllm_arch
    known = dict(sources.variants)
    if variant not in known:
        raise UsageError(f"--variant: got '{variant}', expected one of {', '.join(known) or 'none'}")
    return known[variant]


def check_variant(matrix: Matrix, rows: Sequence[Row], series: Series, variant: str) -> None:
    """See that some rows can be compiled in another way.

    Raises:
        UsageError: there is no such variant, or not of a release; the message says why, of each release.
    """
    arch_list(matrix, variant)
    releases = dict.fromkeys(row.release.vllm for row in rows)
    refused = [why for one in releases if (why := refusal(series, one, variant))]
    if refused:
        usual = sources_of(matrix).vllm_arch
        raise UsageError("\n".join(refused) + f"; leave --variant out, which compiles for {usual}")


def check_no_variant(matrix: Matrix, rows: Sequence[Row], tag: str) -> None:
    """See that what is asked for as a row is not a row compiled in another way.

    Raises:
        UsageError: it is; the message says how to ask for that.
    """
    names = known_variants(matrix)
    compiled = [row.tag for row in rows if row.release.strategy is Strategy.SOURCE]
    found = next(((one, name) for one in compiled for name in names if variant_tag(one, name) == tag), None)
    if found:
        raise UsageError(
            f"'{tag}': {found[0]} compiled in another way, which has no row of its own; `nox -s build -- {found[0]} "
            f"--variant {found[1]}` makes it"
        )


def refusal(series: Series, version: str, variant: str) -> str | None:
    """Why a release cannot be compiled in another way; None when it can."""
    try:
        select(series, version, variant)
    except UsageError as err:
        return str(err)
    return None
