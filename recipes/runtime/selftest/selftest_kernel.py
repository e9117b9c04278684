"""The Triton kernel of the self-test; Triton reads its source, so that it has a file of its own."""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def add(left, right, found, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, N803
    """Add two vectors of `count` elements, BLOCK of them in each program."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    tl.store(found + place, tl.load(left + place, mask=inside) + tl.load(right + place, mask=inside), mask=inside)
