"""Claims about version arithmetic, for any version that PEP 440 knows."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from sparkbake import versions

_NUMBER = st.integers(0, 10**6)
_RELEASE = st.lists(_NUMBER, min_size=1, max_size=4).map(lambda some: ".".join(map(str, some)))
_END = st.one_of(
    st.just(""),
    st.builds("{}{}".format, st.sampled_from(["a", "b", "rc", ".post", ".dev"]), _NUMBER),
    st.builds("rc{}.post{}.dev{}".format, _NUMBER, _NUMBER, _NUMBER),
)
_EPOCH = st.one_of(st.just(""), st.just("1!"))
_LOCAL = st.one_of(st.just(""), st.just("+cu130"), st.just("+g0123abc.d20260101"))
PEP_440 = st.builds("{}{}{}{}".format, _EPOCH, _RELEASE, _END, _LOCAL)
PUBLIC = st.builds("{}{}".format, _RELEASE, _END)

# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
_OCI_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


@given(PEP_440, st.integers(1, 99))
def test_the_tag_of_any_version_is_a_valid_image_tag_or_an_error(version: str, transformers: int) -> None:
    try:
        tag = versions.row_tag(version, transformers)
    except ValueError as err:
        assert str(err) == f"'{version}-t{transformers}' is no valid image tag"  # noqa: PT017  (most do not raise)
    else:
        assert _OCI_TAG.fullmatch(tag)
        assert tag.rpartition("-t")[::2] == (version, str(transformers))


@given(PUBLIC, st.integers(1, 99), st.integers(2, 999))
def test_the_release_of_a_row_can_be_read_of_its_tag_whatever_its_revision(
    version: str, transformers: int, revision: int
) -> None:
    first, later = (versions.row_tag(version, transformers, revision=one) for one in (1, revision))
    assert later == f"{first}-v{revision}"
    assert later.rpartition("-t")[0] == first.rpartition("-t")[0] == version


@given(PUBLIC)
def test_a_public_version_always_makes_a_tag(version: str) -> None:
    assert versions.is_tag(versions.row_tag(version, 5))


@given(PEP_440)
def test_every_version_of_pep_440_is_one(version: str) -> None:
    assert versions.is_version(version)
    assert versions.same_version(version, version)


@given(st.text())
def test_any_other_text_is_refused_without_an_error_of_its_own(text: str) -> None:
    assert versions.is_version(text) in (True, False)
    assert versions.is_specifier(text) in (True, False)
    assert versions.is_requirement(text) in (True, False)


@pytest.mark.parametrize("text", ["", "main", "1.0 ", " 1.0", "1.0\n", "v0.12.0-nightly-abc", "9" * 5000])
def test_what_is_no_version_is_refused(text: str) -> None:
    assert not versions.is_version(text)


@pytest.mark.parametrize("text", ["", ",", "4.56", "=4.56", ">=4.56 or so"])
def test_what_is_no_specifier_is_refused(text: str) -> None:
    assert not versions.is_specifier(text)


@pytest.mark.parametrize(
    ("specifier", "version", "expected"),
    [
        (">=4.56.0,<5", "4.57.6", True),
        (">=4.56.0,<5", "5.0.0", False),
        (">=4.56.0,<5", "5.0.0rc1", False),
        (">=5.0.0rc1", "5.0.0rc3", True),
        ("==2.11.0", "2.11.0.0", True),
        ("==0.6.8.post1", "0.6.8", False),
    ],
)
def test_a_specifier_admits_what_pep_440_says(specifier: str, version: str, expected: bool) -> None:  # noqa: FBT001
    assert versions.admits(specifier, version) is expected


@given(PUBLIC)
def test_a_specifier_admits_the_version_it_names(version: str) -> None:
    assert versions.admits(f"=={version}", version)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("13.0.3", "13.0.3.0", True),
        ("2.13.0+cu130", "2.13.0", True),
        ("2.13.0+cu130", "2.13.0+cu129", False),
        ("2.13.0", "2.13.1", False),
        ("5.0.0rc1", "5.0.0", False),
    ],
)
def test_two_spellings_of_one_version_are_the_same(left: str, right: str, expected: bool) -> None:  # noqa: FBT001
    assert versions.same_version(left, right) is expected
    assert versions.same_version(right, left) is expected


@given(PUBLIC)
def test_the_major_is_the_first_number(version: str) -> None:
    assert versions.major(version) == Version(version).major


@pytest.mark.parametrize(("version", "short"), [("13.0.2", "130"), ("13.1", "131"), ("13", "130"), ("12.10.1", "1210")])
def test_the_short_name_of_a_cuda_version_is_major_and_minor(version: str, short: str) -> None:
    assert versions.cuda_short(version) == short


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("13.0", "13.0.3", True),
        ("13", "13.0.3", True),
        ("13.0.2", "13.0.3", True),
        ("13.1", "13.0.3", False),
        ("12.9", "13.0.3", False),
        ("1.30", "13.0", False),
        ("latest", "13.0.3", False),
        ("latest", "latest", False),
        ("", "13.0.3", False),
        ("None", "13.0.3", False),
    ],
)
def test_cuda_versions_of_one_release_are_the_same(left: str, right: str, expected: bool) -> None:  # noqa: FBT001
    assert versions.is_same_cuda(left, right) is expected
    assert versions.is_same_cuda(right, left) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2.10.0-cu131", True),
        ("2.10.0-v2-cu131", True),
        ("2.10.0-v0-cu131", False),
        ("2.10.0-cu130", False),
        ("2x10.0-cu131", False),
        ("2.10.0-cu131-extra", False),
    ],
)
def test_a_foundation_is_named_after_its_torch_and_cuda(name: str, expected: bool) -> None:  # noqa: FBT001
    assert versions.is_foundation_name(name, "2.10.0", "13.1.1") is expected


def test_a_distribution_name_has_one_form() -> None:
    assert versions.normalise("NVIDIA_nccl.cu13") == versions.normalise("nvidia--nccl-cu13") == "nvidia-nccl-cu13"
