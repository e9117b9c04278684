"""Claims about proposing a row; what upstream declares here is what the wheels on the index do declare."""

from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import pytest
from packaging.specifiers import SpecifierSet
from tests.builders import make_matrix, real_matrix

from sparkbake.bump import (
    Candidate,
    Upstream,
    as_of,
    check_version,
    highest,
    lower_majors,
    newest_published,
    propose,
    specifier_text,
    waiting,
    would_override,
)
from sparkbake.errors import LockError, UsageError
from sparkbake.model import Matrix

# Of the wheels of vLLM 0.26.0 and 0.33.0 for aarch64, and of the torch that each declares.
TORCH_2_11 = (("cuda-toolkit", "==13.0.2"), ("nvidia-nccl-cu13", "==2.28.9"), ("triton", "==3.6.0"))
TORCH_2_14 = (("cuda-toolkit", "==13.0.3"), ("nvidia-nccl-cu13", "==2.30.7"), ("triton", "~=3.8.0"))
COMMON = (("cuda-toolkit", "13.0.2"), ("nvidia-nccl-cu13", "2.28.9"), ("triton", "3.6.0"), ("vllm", "0.26.0"))
V_0_26 = Upstream(
    version="0.26.0",
    as_of="2026-08-01",
    commit="ffd46bfab",
    requires=(
        ("certifi", ""),
        ("flashinfer-python", "==0.6.14"),
        ("torch", "==2.11.0"),
        ("torchaudio", "==2.11.0"),
        ("torchvision", "==0.26.0"),
        ("transformers", ">=5.5.3"),
    ),
    torch_requires=TORCH_2_11,
    resolved=(
        *COMMON,
        ("flashinfer-python", "0.6.14"),
        ("torch", "2.11.0"),
        ("torchaudio", "2.11.0"),
        ("torchvision", "0.26.0"),
        ("transformers", "5.14.1"),
    ),
    transformers=("5.14.1",),
)
V_0_33 = Upstream(
    version="0.33.0",
    as_of="2026-11-09",
    commit="4ba787ec9",
    requires=(
        ("flashinfer-python", "==0.7.2.post1"),
        ("torch", "==2.14.0"),
        ("torchaudio", "==2.11.0"),
        ("torchvision", "==0.29.0"),
        ("transformers", ">=5.16.1,<5.21.0"),
    ),
    torch_requires=TORCH_2_14,
    resolved=(
        ("cuda-toolkit", "13.0.3.0"),
        ("flashinfer-python", "0.7.2.post1"),
        ("nvidia-nccl-cu13", "2.30.7"),
        ("torch", "2.14.0"),
        ("torchaudio", "2.11.0"),
        ("torchvision", "0.29.0"),
        ("transformers", "5.20.0"),
        ("triton", "3.8.1"),
        ("vllm", "0.33.0"),
    ),
    transformers=("5.20.0",),
)


@cache
def small_of_real() -> Matrix:
    """The real matrix with two of its releases, so that a new real row changes nothing here."""
    matrix = real_matrix()
    kept = [one for one in matrix.releases if one.vllm in ("0.20.2", "0.32.0")]
    names = {one.foundation for one in kept}
    return replace(
        matrix,
        releases=tuple(kept),
        foundations=tuple(one for one in matrix.foundations if one.name in names),
    )


# ---- which release


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("newest", "'newest': expected a version of vLLM, as the package index has it: a PEP 440 version"),
        ("v0.33.0", "'v0.33.0': expected a version as the package index has it; write 0.33.0"),
        ("0.33.0rc1", "vLLM 0.33.0rc1: is a pre-release or a local build, expected a release"),
        ("0.33.0.dev2", "vLLM 0.33.0.dev2: is a pre-release or a local build, expected a release"),
        ("0.33.0+cu130", r"vLLM 0.33.0\+cu130: is a pre-release or a local build, expected a release"),
        ("0.32.0", r"vLLM 0.32.0: is in matrix.yaml already; `nox -s lock -- '0.32.0-\*'` resolves its rows anew"),
        ("0.32", "vLLM 0.32: is in matrix.yaml already"),
    ],
)
def test_what_can_be_no_new_row_is_refused(version: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_version(make_matrix(), version)


@pytest.mark.parametrize("version", ["0.33.0", "0.33.0.post1", "0.20.1", "1.0"])
def test_any_other_release_may_be_asked_for(version: str) -> None:
    check_version(make_matrix(), version)


def test_the_highest_release_is_not_just_the_last() -> None:
    matrix = make_matrix()
    assert highest(replace(matrix, releases=matrix.releases[::-1])) == "0.32.0"


# ---- as of when


def day(published: str, today: str, older_than_days: int = 7) -> str:
    candidate = Candidate(version="0.33.0", published=date.fromisoformat(published))
    return as_of(candidate, today=date.fromisoformat(today), older_than_days=older_than_days)


@pytest.mark.parametrize(
    ("published", "today", "days", "found"),
    [
        ("2026-11-02", "2026-11-10", 7, "2026-11-03"),
        ("2026-11-02", "2026-11-12", 7, "2026-11-05"),
        ("2026-11-02", "2026-11-16", 7, "2026-11-09"),
        ("2026-11-02", "2027-01-01", 7, "2026-11-09"),
        ("2026-11-02", "2027-01-01", 30, "2026-11-09"),
        ("2026-11-02", "2026-11-04", 0, "2026-11-04"),
        ("2026-11-02", "2026-11-04", 1, "2026-11-03"),
    ],
)
def test_packages_are_as_of_a_week_after_the_release_but_no_younger_than_it_must_be(
    published: str, today: str, days: int, found: str
) -> None:
    assert day(published, today, days) == found


@pytest.mark.parametrize("older_than_days", [0, 1, 7, 30])
def test_nothing_that_enters_is_younger_than_asked_and_the_release_itself_enters(older_than_days: int) -> None:
    """What was uploaded at or after the beginning of that day is left out by uv."""
    published = date(2026, 11, 2)
    first = published + timedelta(days=older_than_days + 1)
    for today in (first + timedelta(days=number) for number in range(60)):
        until = date.fromisoformat(day(f"{published}", f"{today}", older_than_days))
        youngest = until - timedelta(days=1)
        assert (today - youngest).days > older_than_days
        assert published <= youngest
        assert newest_published(today=today, older_than_days=older_than_days) >= published
    assert newest_published(today=first - timedelta(days=1), older_than_days=older_than_days) < published


def test_a_package_that_is_too_young_enters_when_somebody_waits() -> None:
    candidate = Candidate(version="0.33.0", published=date(2026, 11, 2))
    assert waiting(candidate, "2026-11-03", older_than_days=7) == (
        "nothing is taken that is younger than 7 days: run it again later, at the latest from 2026-11-16 on, when "
        "packages are as of 2026-11-09"
    )
    assert waiting(candidate, "2026-11-09", older_than_days=7) is None
    assert day("2026-11-02", "2026-11-16") == "2026-11-09"


@pytest.mark.parametrize(
    ("today", "days", "message"),
    [
        (
            "2026-11-09",
            7,
            "vLLM 0.33.0: was published on 2026-11-02, and may be taken from 2026-11-10 on, expected 7 or more "
            "whole days of age; --older-than-days 0 takes it sooner",
        ),
        (
            "2026-11-02",
            0,
            "vLLM 0.33.0: was published on 2026-11-02, and may be taken from 2026-11-03 on, expected 0 or more "
            "whole days of age",
        ),
    ],
)
def test_a_release_that_is_too_young_is_refused_with_the_day_it_may_be_taken(
    today: str, days: int, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        day("2026-11-02", today, days)
    assert str(caught.value) == message


# ---- the proposal


def test_a_release_goes_on_the_foundation_that_it_admits() -> None:
    found = propose(small_of_real(), V_0_26)
    assert (found.foundation.name, found.is_new) == ("2.11.0-cu130", False)
    assert (found.flashinfer, found.as_of, found.commit) == ("0.6.14", "2026-08-01", None)
    assert found.transformers == ("5.14.1",)


def test_it_declares_what_the_wheel_requires_of_the_components_in_their_order() -> None:
    assert propose(small_of_real(), V_0_26).declares == (
        ("torch", "==2.11.0"),
        ("torchvision", "==0.26.0"),
        ("torchaudio", "==2.11.0"),
        ("flashinfer-python", "==0.6.14"),
        ("transformers", ">=5.5.3"),
    )


def test_a_release_with_another_torch_gets_a_foundation_of_its_own() -> None:
    found = propose(small_of_real(), V_0_33)
    assert (found.foundation.name, found.is_new) == ("2.14.0-cu130", True)
    # CUDA as torch writes it, though its distribution has four numbers; Triton as it resolves, for it is not pinned.
    assert found.foundation.versions == (
        ("cuda", "13.0.3"),
        ("nccl", "2.30.7"),
        ("torch", "2.14.0"),
        ("torchvision", "0.29.0"),
        ("torchaudio", "2.11.0"),
        ("triton", "3.8.1"),
    )


def test_a_second_foundation_of_one_torch_and_cuda_is_numbered() -> None:
    other = tuple((name, "==2.28.8" if name == "nvidia-nccl-cu13" else said) for name, said in V_0_26.torch_requires)
    resolved = tuple((name, "2.28.8" if name == "nvidia-nccl-cu13" else said) for name, said in V_0_26.resolved)
    upstream = replace(V_0_26, torch_requires=other, resolved=resolved)
    found = propose(small_of_real(), upstream)
    assert (found.foundation.name, found.is_new) == ("2.11.0-v2-cu130", True)
    taken = replace(small_of_real(), foundations=(*small_of_real().foundations, found.foundation))
    assert propose(taken, upstream).is_new is False
    assert propose(replace(taken, foundations=taken.foundations[1:]), V_0_26).foundation.name == "2.11.0-cu130"


def test_what_nobody_declares_may_be_as_the_foundation_has_it() -> None:
    """All of vLLM 0.20 to 0.33 declare torchaudio; one that did not would have it from its foundation."""
    requires = tuple(one for one in V_0_26.requires if one[0] != "torchaudio")
    resolved = tuple((name, "2.12.0" if name == "torchaudio" else said) for name, said in V_0_26.resolved)
    found = propose(small_of_real(), replace(V_0_26, requires=requires, resolved=resolved))
    assert (found.foundation.name, found.is_new) == ("2.11.0-cu130", False)
    assert "torchaudio" not in dict(found.declares)


def test_a_torch_without_cuda_is_refused() -> None:
    """As that of 2.10.0, which requires CUDA on x86_64 alone."""
    resolved = tuple((name, "2.10.0" if name == "torch" else said) for name, said in V_0_26.resolved)
    with pytest.raises(LockError) as caught:
        propose(small_of_real(), replace(V_0_26, version="0.17.0", torch_requires=(), resolved=resolved))
    assert str(caught.value) == (
        "vLLM 0.17.0: torch 2.10.0 of the package index requires no cuda-toolkit on this platform, so it has no CUDA; "
        "expected one that does; this release needs a row that compiles"
    )


def test_a_whole_commit_is_taken_a_short_one_is_an_open_pin() -> None:
    assert propose(small_of_real(), replace(V_0_26, commit=40 * "a")).commit == 40 * "a"
    assert propose(small_of_real(), V_0_26).commit is None


def test_what_is_not_taken_is_told_with_what_it_would_override() -> None:
    matrix = small_of_real()
    assert would_override(matrix, V_0_26, propose(matrix, V_0_26)) == (
        (
            "2.13.0-cu130",
            "cuda-toolkit (==13.0.2), nvidia-nccl-cu13 (==2.28.9), torch (==2.11.0), torchvision (==0.26.0), "
            "triton (==3.6.0)",
        ),
        ("t4", "transformers (>=5.5.3)"),
    )
    both = replace(V_0_26, transformers=("4.57.6", "5.14.1"))
    assert [name for name, _why in would_override(matrix, both, propose(matrix, both))] == ["2.13.0-cu130"]


# ---- transformers


@pytest.mark.parametrize(
    ("specifier", "newest", "found"),
    [
        (">=4.56.0,!=5.0.*,!=5.1.*,!=5.5.0", "5.8.1", (4,)),
        (">=5.5.3", "5.14.1", ()),
        (">=5.16.1,<5.21.0", "5.20.0", ()),
        (">=4.56.0,<5", "4.57.6", ()),
        ("~=5.1", "6.0.0", (5,)),
        ("==5.*", "5.2.0", ()),
        ("", "6.1.0", (5, 4)),
        ("<7", "6.1.0", (5, 4)),
    ],
)
def test_lower_majors_are_those_that_the_specifier_may_admit(
    specifier: str, newest: str, found: tuple[int, ...]
) -> None:
    assert lower_majors(small_of_real(), specifier, newest) == found


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "!=5.0.*,!=5.1.*,!=5.2.*,!=5.3.*,!=5.4.*,!=5.5.0,>=4.56.0",
            ">=4.56.0,!=5.0.*,!=5.1.*,!=5.2.*,!=5.3.*,!=5.4.*,!=5.5.0",
        ),
        ("<5.21.0,>=5.16.1", ">=5.16.1,<5.21.0"),
        ("!=1.10,!=1.9", "!=1.9,!=1.10"),
        ("===odd", "===odd"),
        ("", ""),
    ],
)
def test_a_specifier_is_written_as_people_read_it(said: str, shown: str) -> None:
    assert specifier_text(SpecifierSet(said)) == shown
