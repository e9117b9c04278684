"""Claims about what `bump` proposes, held against the rows that the matrix has, on the real package index.

Each test takes a release out of the matrix and asks for it again.
"""

from dataclasses import replace

import pytest
from tests.builders import real_matrix

from sparkbake.bump import as_of, propose
from sparkbake.bumpask import Asker
from sparkbake.errors import LockError
from sparkbake.lock import Index
from sparkbake.model import Release

pytestmark = pytest.mark.network


def without(version: str) -> tuple[Asker, Release]:
    """Somebody who asks for a matrix that does not have a release, and that release."""
    matrix = real_matrix()
    release = next(one for one in matrix.releases if one.vllm == version)
    rest = replace(matrix, releases=tuple(one for one in matrix.releases if one is not release))
    return Asker(matrix=rest, index=Index(), say=print), release


@pytest.mark.parametrize("version", ["0.25.1", "0.32.0"])
def test_a_row_of_the_matrix_is_proposed_again_as_it_is(version: str) -> None:
    asker, release = without(version)
    candidate = asker.find_release(version)
    day = as_of(candidate, today=candidate.published.replace(year=candidate.published.year + 1), older_than_days=7)
    upstream = asker.read_upstream(version, day)
    found = propose(asker.matrix, upstream)
    assert (found.version, found.as_of, found.flashinfer) == (version, release.as_of, release.flashinfer)
    assert (found.foundation.name, found.is_new) == (release.foundation, False)
    assert found.transformers == tuple(one.transformers for one in release.variants)
    assert set(release.declares) <= set(found.declares)
    assert release.commit is None or release.commit.startswith(upstream.commit)


def test_a_release_that_needed_a_later_package_says_which() -> None:
    """No aarch64 wheel of fastsafetensors was published before August 2026; the row has it under `newer`."""
    asker, release = without("0.20.2")
    with pytest.raises(LockError, match=r"(?s)cannot be resolved as of 2026-05-17, but can .* fastsafetensors"):
        asker.read_upstream("0.20.2", release.as_of)


def test_a_release_that_the_index_does_not_have_is_refused() -> None:
    asker, _release = without("0.32.0")
    with pytest.raises(LockError, match=r"vLLM 999\.0\.0: the package index does not know this release"):
        asker.find_release("999.0.0")


def test_a_release_without_a_wheel_for_the_chip_is_refused() -> None:
    asker, _release = without("0.32.0")
    with pytest.raises(LockError, match=r"vLLM 0\.1\.0: the package index has no wheel of it for aarch64"):
        asker.find_release("0.1.0")
