"""Claims about making locks; uv and the package index are played."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from packaging.tags import Tag
from tests.builders import make_matrix, make_row, real_matrix

from sparkbake import lock, process
from sparkbake.errors import LockError, ProcessError
from sparkbake.lock import Index, Locker, best_wheel, declared_faults, row_overrides, row_requirements, tag_order
from sparkbake.lockfile import entry_digest
from sparkbake.matrix import rows
from sparkbake.model import Lock, Row, Wheel

T4, T5 = make_row("0.20.2-t4"), make_row("0.20.2-t5")
HASH = 64 * "a"
PUBLISHED = "2026-05-01T12:00:00Z"

# ---- the best wheel

TAGS = (
    Tag("cp312", "cp312", "manylinux_2_28_aarch64"),
    Tag("cp312", "cp312", "manylinux_2_17_aarch64"),
    Tag("py3", "none", "any"),
)


def files(*names: str) -> list[dict[str, str]]:
    return [{"url": f"https://index.example/files/{name}"} for name in names]


def best(*names: str) -> str | None:
    wheel = best_wheel(files(*names), TAGS)
    return wheel["url"].rpartition("/")[2] if wheel else None


def test_the_best_tag_wins_whatever_the_order() -> None:
    native, older, pure = (
        "x-1-cp312-cp312-manylinux_2_28_aarch64.whl",
        "x-1-cp312-cp312-manylinux_2_17_aarch64.whl",
        "x-1-py3-none-any.whl",
    )
    assert best(pure, older, native) == native
    assert best(older, pure) == older
    assert best(pure) == pure


def test_a_file_of_several_tags_counts_by_its_best() -> None:
    both = "x-1-cp312-cp312-manylinux_2_17_aarch64.manylinux_2_28_aarch64.whl"
    assert best("x-1-cp312-cp312-manylinux_2_17_aarch64.whl", both) == both


def test_of_equal_tags_the_highest_build_number_wins() -> None:
    assert (
        best("x-1-9-py3-none-any.whl", "x-1-10-py3-none-any.whl", "x-1-py3-none-any.whl") == "x-1-10-py3-none-any.whl"
    )


def test_a_build_number_does_not_make_up_for_a_tag() -> None:
    better = "x-1-cp312-cp312-manylinux_2_17_aarch64.whl"
    assert best("x-1-10-py3-none-any.whl", better) == better


def test_none_fits_another_machine() -> None:
    assert best("x-1-cp312-cp312-manylinux_2_28_x86_64.whl", "x-1-cp313-cp313-manylinux_2_28_aarch64.whl") is None
    assert best() is None


@pytest.mark.parametrize(
    "platform", ["manylinux_2_28", "manylinux2014", "manylinux2010", "manylinux_2_12", "manylinux1"]
)
def test_wheels_of_every_manylinux_fit_a_newer_system(platform: str) -> None:
    """On x86-64 some of NVIDIA's are of 2010; on aarch64 none is older than 2014."""
    files_of = files(f"x-1-py3-none-{platform}_x86_64.whl")
    assert best_wheel(files_of, tag_order(real_matrix().bases[0], "x86_64")) == files_of[0]
    assert best_wheel(files_of, tag_order(real_matrix().bases[0], "aarch64")) is None


def test_a_name_may_be_encoded_or_stand_beside_the_url() -> None:
    encoded = {"url": "https://index.example/x-1%2Bcu130-py3-none-any.whl#sha256=abc"}
    named = {"url": "https://index.example/1234", "name": "x-1+cu130-py3-none-any.whl"}
    assert best_wheel([encoded], TAGS) == encoded
    assert best_wheel([named], TAGS) == named


# ---- what is asked for


def test_every_real_row_asks_for_each_component_at_its_version_and_for_the_extras() -> None:
    matrix = real_matrix()
    for row in rows(matrix):
        asked = row_requirements(matrix, row)
        assert list(asked) == sorted(asked)
        assert len(asked) == len(matrix.components) + len(matrix.extras)
        assert {one.requirement for one in matrix.extras} <= set(asked)
        versions = dict(row.versions)
        for one in matrix.components:
            extras = f"[{','.join(one.extras)}]" if one.extras else ""
            assert f"{one.distribution}{extras}=={versions[one.name]}" in asked, row.tag


def test_every_real_override_pins_what_the_row_says() -> None:
    matrix = real_matrix()
    for row in rows(matrix):
        pins = row_overrides(matrix, row)
        assert {pin.partition("==")[0] for pin in pins} == {one.package for one in row.overrides}, row.tag
        assert {pin.replace("cuda-toolkit", "cuda-toolkit[cccl,crt,nvcc,nvvm]") for pin in pins} <= set(
            row_requirements(matrix, row)
        )


def test_requirements_and_overrides_of_a_row() -> None:
    assert row_requirements(make_matrix(), T5) == (
        "cuda-toolkit[nvcc]==13.0.2", "flashinfer-python==0.6.8.post1", "ray", "torch==2.11.0",
        "transformers==5.8.0", "vllm==0.20.2",
    )  # fmt: skip
    assert row_overrides(make_matrix(), T4) == ("torch==2.11.0",)
    assert row_overrides(make_matrix(), T5) == ("torch==2.11.0", "transformers==5.8.0")


# ---- what upstream declares


def metadata(*requirements: str) -> str:
    return "Metadata-Version: 2.4\nName: vllm\n" + "".join(f"Requires-Dist: {one}\n" for one in requirements) + "\ntext"


DECLARED = (
    "torch==2.10.0",
    "flashinfer_python==0.6.8.post1",
    "transformers<5,>=4.56.0",
    "numpy",
    "audio>=1; extra == 'audio'",
)


def test_what_the_wheel_says_too_is_right() -> None:
    assert declared_faults(T4, metadata(*DECLARED)) == []


def test_a_wrong_specifier_is_told_with_its_place_and_the_right_one() -> None:
    assert declared_faults(T4, metadata("torch==2.11.0", *DECLARED[1:])) == [
        "matrix.yaml: releases.0.20.2.declares.torch: got '==2.10.0', but the wheel says '==2.11.0'; correct it"
    ]


@pytest.mark.parametrize("instead", ["numpy", "torch==2.10.0; extra == 'all'"])
def test_a_package_that_the_wheel_does_not_require_is_told(instead: str) -> None:
    assert declared_faults(T4, metadata(instead, *DECLARED[1:])) == [
        "matrix.yaml: releases.0.20.2.declares.torch: got '==2.10.0', but the wheel requires no torch; remove it"
    ]


# ---- locking


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call of uv."""

    argv: tuple[str, ...]
    requirements: tuple[str, ...]
    overrides: tuple[str, ...]
    preferred: str | None
    env: Mapping[str, str] | None

    def option(self, name: str) -> str:
        return self.argv[self.argv.index(name) + 1]


@dataclass(kw_only=True)
class FakeIndex:
    """Plays uv, which resolves each requirement to what is asked for, and the index that has one wheel of each.

    Attributes:
        platform: of the wheels' names.
        uploaded: when they were published, as TOML; empty where the index does not say.
        sized: packages whose size the index says.
    """

    platform: str = "py3-none-any"
    uploaded: str = PUBLISHED
    sized: frozenset[str] = frozenset({"torch"})
    newest: str = "torch"
    failing: ProcessError | None = None
    declared: Sequence[str] = DECLARED
    commit: str = "commit_id = 'g0123456'"
    calls: list[Call] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    asked_ids: list[tuple[str, str]] = field(default_factory=list)

    def run(self, words: Sequence[str | Path], *, timeout_s: float, stdin: str, env: Mapping[str, str] | None) -> str:
        argv = tuple(str(word) for word in words)
        output = Path(argv[argv.index("--output-file") + 1])
        overriding = Path(argv[argv.index("--overrides") + 1]).read_text().splitlines() if "--overrides" in argv else ()
        self.calls.append(
            Call(
                argv=argv,
                requirements=tuple(stdin.splitlines()),
                overrides=tuple(overriding),
                preferred=output.read_text() if output.exists() else None,
                env=env,
            )
        )
        if self.failing:
            raise self.failing
        output.write_text("".join(self.package(one) for one in stdin.splitlines()), encoding="utf-8")
        return ""

    def package(self, requirement: str) -> str:
        name, _equals, version = requirement.partition("==")
        name, version = name.partition("[")[0], version or "1.0"
        file = f"{name.replace('-', '_')}-{version}-{self.platform}.whl"
        uploaded = "2026-05-02T00:00:00Z" if self.uploaded and name == self.newest else self.uploaded
        return (
            f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
            f'wheels = [{{ url = "https://files.example/{file}", '
            + (f"upload-time = {uploaded}, " if uploaded else "")
            + ("size = 7, " if name in self.sized else "")
            + f'hashes = {{ sha256 = "{HASH}" }} }}]\n'
        )

    def content_length(self, url: str) -> int:
        self.heads.append(url.rpartition("/")[2])
        return 11

    def read_build_id(self, url: str, member: str) -> str:
        self.asked_ids.append((url.rpartition("/")[2], member))
        return 20 * "ab"

    def open(self, url: str) -> io.BytesIO:
        self.opened.append(url)
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w") as packed:
            packed.writestr("vllm/_version.py", f"{self.commit}\n")
            packed.writestr("vllm-0.20.2.dist-info/METADATA", metadata(*self.declared))
        return wheel


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    fake = FakeIndex()
    monkeypatch.setattr(process, "run", fake.run)
    monkeypatch.setattr(lock, "content_length", fake.content_length)
    monkeypatch.setattr(lock, "RemoteFile", fake.open)
    monkeypatch.setattr(lock, "read_build_id", fake.read_build_id)
    return fake


def lock_rows(*chosen: Row, url: str | None = None) -> tuple[tuple[Lock, ...], list[str]]:
    said: list[str] = []
    return Locker(matrix=make_matrix(), index=Index(url=url), say=said.append).lock_release(chosen), said


def test_a_row_is_locked_file_by_file_on_every_base(index: FakeIndex) -> None:
    ((made,), said) = lock_rows(T4)
    assert (made.tag, made.entry_digest) == ("0.20.2-t4", entry_digest(make_matrix(), T4))
    assert made.wheel_commit == "0123456"
    assert made.build_ids == (("torch", 20 * "ab"),)
    assert [(one.base, one.python) for one in made.environments] == [("ubuntu-24.04", "3.12"), ("debian-13", "3.13")]
    names = ["cuda-toolkit", "flashinfer-python", "ray", "torch", "transformers", "vllm"]
    assert [[wheel.name for wheel in one.wheels] for one in made.environments] == [names, names]
    assert made.environments[0].wheels[3] == Wheel(
        name="torch", version="2.11.0", file="torch-2.11.0-py3-none-any.whl", sha256=HASH, size_bytes=7
    )
    assert [one.file for one in made.installer] == 2 * ["uv-0.13.8-py3-none-any.whl"]
    assert said == [
        "0.20.2-t4: resolving for ubuntu-24.04 (Python 3.12)",
        "0.20.2-t4: reading the metadata of vLLM's own wheel",
        "0.20.2-t4: reading torch/lib/libtorch.so of the wheel of torch",
        "0.20.2-t4: resolving for debian-13 (Python 3.13)",
    ]


def test_a_row_dates_from_its_newest_package(index: FakeIndex) -> None:
    ((made,), _said) = lock_rows(T4)
    assert made.source_date_epoch == datetime(2026, 5, 2, tzinfo=UTC).timestamp()


def test_only_sizes_that_the_index_does_not_say_are_asked_for_and_only_once(index: FakeIndex) -> None:
    lock_rows(T4, T5)
    assert "torch-2.11.0-py3-none-any.whl" not in index.heads
    assert "vllm-0.20.2-py3-none-any.whl" in index.heads
    assert len(index.heads) == len(set(index.heads))


def test_the_build_id_of_one_wheel_is_read_once_for_all_rows(index: FakeIndex) -> None:
    made, _said = lock_rows(T4, T5)
    assert [one.build_ids for one in made] == 2 * [(("torch", 20 * "ab"),)]
    assert index.asked_ids == [("torch-2.11.0-py3-none-any.whl", "torch/lib/libtorch.so")]


def test_uv_is_asked_for_the_platform_the_dates_and_the_overrides_of_the_row(index: FakeIndex) -> None:
    lock_rows(T4)
    ubuntu, debian, amd64, arm64 = index.calls
    assert ubuntu.requirements == row_requirements(make_matrix(), T4)
    assert ubuntu.overrides == ("torch==2.11.0",)
    assert (ubuntu.option("--python-platform"), ubuntu.option("--python-version")) == ("aarch64-manylinux_2_39", "3.12")
    assert (debian.option("--python-platform"), debian.option("--python-version")) == ("aarch64-manylinux_2_40", "3.13")
    assert ubuntu.option("--exclude-newer") == "2026-05-17T00:00:00Z"
    assert ubuntu.option("--exclude-newer-package") == "fastsafetensors=2026-08-01T00:00:00Z"
    assert ubuntu.option("--only-binary") == ":all:"
    for call, machine in ((amd64, "x86_64"), (arm64, "aarch64")):
        assert call.requirements == ("uv==0.13.8",)
        assert call.option("--python-platform") == f"{machine}-manylinux_2_39"
        assert "--no-deps" in call.argv
        assert "--exclude-newer" not in call.argv
        assert call.overrides == ()


def test_a_sibling_prefers_the_pins_of_the_lowest_major_on_the_same_base(index: FakeIndex) -> None:
    made, _said = lock_rows(T5, T4)
    assert [one.tag for one in made] == ["0.20.2-t4", "0.20.2-t5"]
    first, second = index.calls[:2], index.calls[4:6]
    assert [one.preferred for one in first] == [None, None]
    for call, before in zip(second, first, strict=True):
        assert call.option("--python-version") == before.option("--python-version")
        assert call.preferred == "".join(index.package(one) for one in before.requirements)
        assert 'name = "transformers"\nversion = "4.57.6"' in call.preferred
    assert [one.preferred for one in (*index.calls[2:4], *index.calls[6:])] == 4 * [None]


def test_the_address_of_an_index_stands_on_no_command_line(index: FakeIndex) -> None:
    url = "https://user:password@index.example/simple"
    lock_rows(T4, url=url)
    for call in index.calls:
        assert call.env == {"UV_DEFAULT_INDEX": url}
        assert "password" not in json.dumps(call.argv)
    lock_rows(T4)
    assert index.calls[-1].env is None


def test_what_cannot_be_resolved_is_told_with_the_words_of_uv(index: FakeIndex) -> None:
    words = "  x No solution found when resolving dependencies:\n  torch==2.11.0 is unusable"
    index.failing = ProcessError("uv pip compile ...: exit status 1", returncode=1, output=words)
    with pytest.raises(LockError) as caught:
        lock_rows(T4)
    assert str(caught.value) == f"0.20.2-t4 on ubuntu-24.04: cannot be resolved:\n{words}"


def test_a_uv_that_does_not_end_is_told(index: FakeIndex) -> None:
    index.failing = ProcessError("uv pip compile: no end after 900 s")
    with pytest.raises(LockError, match=r"0\.20\.2-t4 on ubuntu-24\.04: cannot be resolved:\nuv pip compile: no end"):
        lock_rows(T4)


def test_a_package_without_a_wheel_for_the_machine_is_named(index: FakeIndex) -> None:
    index.platform = "cp312-cp312-manylinux_2_28_x86_64"
    with pytest.raises(LockError) as caught:
        lock_rows(T4)
    assert str(caught.value) == "0.20.2-t4 on ubuntu-24.04: cuda-toolkit 13.0.2 has no wheel for aarch64"


def test_an_index_that_says_no_dates_is_told(index: FakeIndex) -> None:
    index.uploaded = ""
    with pytest.raises(LockError) as caught:
        lock_rows(T4)
    assert str(caught.value) == (
        "0.20.2-t4 on ubuntu-24.04: the package index does not say when files were published; "
        "use one that does (PEP 700)"
    )


def test_a_matrix_that_declares_something_else_than_the_wheel_is_refused(index: FakeIndex) -> None:
    index.declared = ("torch==2.12.0", *DECLARED[1:])
    with pytest.raises(LockError, match=r"releases\.0\.20\.2\.declares\.torch: .* says '==2\.12\.0'; correct it"):
        lock_rows(T4)
    assert index.opened == ["https://files.example/vllm-0.20.2-py3-none-any.whl"]


def test_a_wheel_of_another_commit_than_the_tag_is_noted(index: FakeIndex) -> None:
    index.commit = "__commit_id__ = commit_id = 'gfedcba9'"
    ((made,), said) = lock_rows(T4)
    assert made.wheel_commit == "fedcba9"
    assert f"0.20.2-t4: note: the wheel was built from fedcba9, the tag points to {T4.release.commit}" in said


def test_a_tag_whose_commit_is_not_known_is_not_compared(index: FakeIndex) -> None:
    index.commit = "commit_id = 'gfedcba9'"
    row = replace(T4, release=replace(T4.release, commit=None))
    (_locks, said) = lock_rows(row)
    assert not [line for line in said if "note" in line]


def test_a_wheel_that_names_no_commit_is_told(index: FakeIndex) -> None:
    index.commit = "version = '0.20.2'"
    with pytest.raises(LockError, match=r"0\.20\.2-t4: vllm/_version\.py of the wheel names no commit"):
        lock_rows(T4)
