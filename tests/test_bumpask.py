"""Claims about asking the package index; uv and the index are played, with what they really say."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest
from tests.builders import make_matrix

from sparkbake import bumpask, process
from sparkbake.bump import Candidate
from sparkbake.bumpask import Asker
from sparkbake.errors import LockError, ProcessError
from sparkbake.lock import Index

# As uv 0.13.9 says it.
UNKNOWN = (
    "error: No solution found when resolving dependencies\n  cause: Because there is no version of vllm==9.9.9 and you "
    "require vllm==9.9.9, we can conclude that your requirements are unsatisfiable."
)
NO_WHEEL = (
    "error: No solution found when resolving dependencies\n  cause: Because vllm==0.1.0 has no usable wheels and you "
    "require vllm==0.1.0, we can conclude that your requirements are unsatisfiable."
)
CERTIFI = (
    "error: No solution found when resolving dependencies\n  cause: Because only certifi<=2026.10.18 is available and "
    "vllm>=0.33.0 depends on certifi>=2026.10.19, we can conclude that vllm>=0.33.0 cannot be used."
)
NEWER_THAN_ALL = (
    "error: No solution found when resolving dependencies\n  cause: Because only vllm<=0.32.0 is available and you "
    "require vllm>0.32.0, we can conclude that your requirements are unsatisfiable."
)
UNREACHABLE = "error: Request failed after 3 retries\n  cause: Connection refused (os error 111)"
VLLM = """\
Requires-Dist: transformers!=5.0.*,>=4.56.0
Requires-Dist: torch==2.11.0
Requires-Dist: flashinfer-python==0.6.8.post1
Requires-Dist: zentorch==2.13.0.0; extra == "zen"
"""
TORCH = 'Requires-Dist: cuda-toolkit[cublas]==13.0.2; platform_system == "Linux"\n'


def uv_says(output: str, status: int = 1) -> ProcessError:
    return ProcessError(f"uv: exit status {status}\n{output}", returncode=status, output=output)


def package(name: str, version: str, *files: tuple[str, str]) -> str:
    """A package of pylock.toml, with the tags and times of its wheels."""
    wheels = ", ".join(
        f'{{ url = "https://files.example/{name.replace("-", "_")}-{version}-{tags}.whl"'
        + (f", upload-time = {time}" if time else "")
        + ', hashes = { sha256 = "00" } }'
        for tags, time in files or (("py3-none-any", "2026-05-01T00:00:00Z"),)
    )
    return f'[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [{wheels}]\n'


@dataclass(kw_only=True)
class FakeIndex:
    """Plays uv, which answers one after the other, and the wheels of vLLM and torch.

    Attributes:
        answers: what it prints, or how it fails.
    """

    answers: list[str | ProcessError]
    version_file: str = "commit_id = 'g0123456'"
    calls: list[tuple[Sequence[str], Sequence[str], Mapping[str, str] | None]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def run(self, words: Sequence[str | Path], *, timeout_s: float, stdin: str, env: Mapping[str, str] | None) -> str:
        self.calls.append(([str(one) for one in words], stdin.splitlines(), env))
        answer = self.answers[len(self.calls) - 1]
        if isinstance(answer, ProcessError):
            raise answer
        return answer

    def open(self, url: str) -> io.BytesIO:
        name = url.rpartition("/")[2]
        self.opened.append(name)
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w") as packed:
            packed.writestr("x.dist-info/METADATA", TORCH if name.startswith("torch") else VLLM)
            packed.writestr("vllm/_version.py", self.version_file)
        return wheel


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    fake = FakeIndex(answers=[])
    monkeypatch.setattr(process, "run", fake.run)
    monkeypatch.setattr(bumpask, "RemoteFile", fake.open)
    return fake


def asker(said: list[str] | None = None, url: str | None = None) -> Asker:
    lines: list[str] = [] if said is None else said
    return Asker(matrix=make_matrix(), index=Index(url=url), say=lines.append)


# ---- which releases there are

WHEELS = (
    ("2-cp38-abi3-manylinux_2_28_aarch64", "2026-06-15T05:11:49Z"),
    ("cp38-abi3-manylinux_2_28_aarch64", "2026-06-13T09:27:50Z"),
    ("cp38-abi3-manylinux_2_28_x86_64", "2026-06-12T23:59:59Z"),
)


def test_a_release_dates_from_its_first_wheel_for_the_platform(play: FakeIndex) -> None:
    play.answers = [package("vllm", "0.23.0", *WHEELS)]
    assert asker().find_release("0.23.0") == Candidate(version="0.23.0", published=date(2026, 6, 13))


def test_a_release_is_asked_for_by_a_range_so_that_a_withdrawn_one_does_not_count(play: FakeIndex) -> None:
    play.answers = [package("vllm", "0.23.0")]
    asker(url="https://user:secret@index.example/simple").find_release("0.23.0")
    ((words, requirements, env),) = play.calls
    assert requirements == ["vllm>=0.23.0,<=0.23.0"]
    assert words[words.index("--python-platform") + 1] == "aarch64-manylinux_2_39"
    assert "--no-deps" in words
    assert env == {"UV_DEFAULT_INDEX": "https://user:secret@index.example/simple"}
    assert "secret" not in " ".join(words)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (uv_says(UNKNOWN), f"the package index does not know this release; expected one that it has:\n{UNKNOWN}"),
        (
            uv_says(NO_WHEEL),
            "the package index has no wheel of it for aarch64, or it was withdrawn (yanked); take another release:\n"
            + NO_WHEEL,
        ),
        (uv_says(UNREACHABLE, 2), f"the package index cannot be asked:\n{UNREACHABLE}"),
        (ProcessError("uv: no end after 900 s"), "the package index cannot be asked:\nuv: no end after 900 s"),
        (
            package("vllm", "9.9.9", ("py3-none-any", "")),
            "the package index does not say when it was published; use one that does (PEP 700)",
        ),
    ],
)
def test_a_release_that_cannot_be_had_is_told_with_the_reason(
    play: FakeIndex, answer: str | ProcessError, message: str
) -> None:
    play.answers = [answer]
    with pytest.raises(LockError) as caught:
        asker().find_release("9.9.9")
    assert str(caught.value) == f"vLLM 9.9.9: {message}"


def test_the_newest_release_is_above_another_and_old_enough(play: FakeIndex) -> None:
    play.answers = [package("vllm", "0.33.0")]
    said: list[str] = []
    found = asker(said).find_newest("0.32.0", date(2026, 11, 14))
    assert found == Candidate(version="0.33.0", published=date(2026, 5, 1))
    ((words, requirements, _env),) = play.calls
    assert requirements == ["vllm>=0.32.0,!=0.32.0"]
    assert words[words.index("--exclude-newer") + 1] == "2026-11-15T00:00:00Z"
    assert said == ["asking the package index for releases of vLLM above 0.32.0, published up to 2026-11-14"]


def test_no_newer_release_is_no_error_but_no_answer_is_one(play: FakeIndex) -> None:
    play.answers = [uv_says(NEWER_THAN_ALL), uv_says(UNREACHABLE, 2)]
    assert asker().find_newest("0.32.0", date(2026, 11, 14)) is None
    with pytest.raises(LockError, match=r"^vLLM: the package index cannot be asked:\nerror: Request failed"):
        asker().find_newest("0.32.0", date(2026, 11, 14))


# ---- what one needs


def environment(transformers: str = "5.8.0") -> str:
    versions = {"cuda-toolkit": "13.0.2", "flashinfer-python": "0.6.8.post1", "transformers": transformers, "ray": "1"}
    texts = [package(name, version) for name, version in versions.items()]
    torch = [(f"cp{one}-cp{one}-manylinux_2_28_aarch64", "2026-04-01T00:00:00Z") for one in (310, 312, 313)]
    return "".join([*texts, package("torch", "2.11.0", *torch), package("vllm", "0.21.0", *WHEELS)])


def test_all_that_a_proposal_needs_is_read(play: FakeIndex) -> None:
    play.answers = [environment(), environment("4.57.6")]
    said: list[str] = []
    found = asker(said).read_upstream("0.21.0", "2026-05-22")
    assert found.requires == (
        ("flashinfer-python", "==0.6.8.post1"),
        ("torch", "==2.11.0"),
        ("transformers", ">=4.56.0,!=5.0.*"),
    )
    assert found.torch_requires == (("cuda-toolkit", "==13.0.2"),)
    assert dict(found.resolved)["cuda-toolkit"] == "13.0.2"
    assert (found.version, found.as_of, found.commit) == ("0.21.0", "2026-05-22", "0123456")
    assert found.transformers == ("4.57.6", "5.8.0")
    assert play.opened == [
        "vllm-0.21.0-2-cp38-abi3-manylinux_2_28_aarch64.whl",
        "torch-2.11.0-cp312-cp312-manylinux_2_28_aarch64.whl",
    ]
    assert said == [
        "vLLM 0.21.0: resolving what it asks for, as of 2026-05-22",
        "vLLM 0.21.0: reading the metadata of its wheel and of torch's",
        "vLLM 0.21.0: resolving it with transformers 4",
    ]


def test_the_release_alone_is_pinned_and_packages_are_as_of_its_day(play: FakeIndex) -> None:
    play.answers = [environment(), environment("4.57.6")]
    asker().read_upstream("0.21.0", "2026-05-22")
    first, second = play.calls
    free = ["ray", "cuda-toolkit[nvcc]", "torch", "flashinfer-python", "transformers", "vllm==0.21.0"]
    assert list(first[1]) == free
    assert list(second[1]) == [*free, "transformers==4.*"]
    for words, _requirements, _env in play.calls:
        assert words[words.index("--exclude-newer") + 1] == "2026-05-22T00:00:00Z"
        assert "--no-deps" not in words


def test_a_major_that_does_not_resolve_is_told_and_left_out(play: FakeIndex) -> None:
    play.answers = [environment(), uv_says("because of x")]
    said: list[str] = []
    assert asker(said).read_upstream("0.21.0", "2026-05-22").transformers == ("5.8.0",)
    assert said[-1] == "vLLM 0.21.0: no t4, it does not resolve with transformers 4:\nbecause of x"


def test_a_release_that_can_never_be_resolved_names_the_requirement(play: FakeIndex) -> None:
    play.answers = [uv_says(CERTIFI), uv_says(CERTIFI)]
    with pytest.raises(LockError) as caught:
        asker().read_upstream("0.33.0", "2026-11-09")
    assert str(caught.value) == (
        "vLLM 0.33.0: cannot be resolved, neither as of 2026-11-09 nor with all that the package index has now:\n"
        f"{CERTIFI}\nWait until the index has that, or take another release"
    )
    assert "--exclude-newer" not in play.calls[1][0]


def test_a_release_that_lacks_what_was_published_later_names_the_remedy(play: FakeIndex) -> None:
    play.answers = [uv_says("no wheels of fastsafetensors"), environment()]
    with pytest.raises(LockError) as caught:
        asker().read_upstream("0.20.2", "2026-05-17")
    assert str(caught.value) == (
        "vLLM 0.20.2: cannot be resolved as of 2026-05-17, but can with all that the index has now:\n"
        "no wheels of fastsafetensors\n"
        "What it lacks was published later: put the release in by hand, with that package under `newer`"
    )


def test_a_release_whose_own_dependency_is_too_young_is_to_wait_for(play: FakeIndex) -> None:
    play.answers = [uv_says("no flashinfer-python==0.7.2"), environment()]
    with pytest.raises(LockError) as caught:
        asker().read_upstream("0.33.0", "2026-11-03", "run it again later")
    assert str(caught.value).endswith(
        "no flashinfer-python==0.7.2\nWhat it lacks was published on 2026-11-03 or later, and run it again later"
    )


@pytest.mark.parametrize("answers", [[], [environment()], [uv_says(CERTIFI)]])
def test_an_index_that_stops_to_answer_is_told_as_that(play: FakeIndex, answers: list[str | ProcessError]) -> None:
    play.answers = [*answers, uv_says(UNREACHABLE, 2)]
    with pytest.raises(LockError, match=r"^vLLM 0\.21\.0: the package index cannot be asked:\nerror: Request failed"):
        asker().read_upstream("0.21.0", "2026-05-22")


def test_a_wheel_that_names_no_commit_is_refused(play: FakeIndex) -> None:
    play.answers = [environment()]
    play.version_file = "commit_id = None"
    with pytest.raises(LockError, match=r"_version\.py of the wheel names no commit; expected one in commit_id"):
        asker().read_upstream("0.21.0", "2026-05-22")


def test_a_wheel_of_another_platform_alone_is_refused(play: FakeIndex) -> None:
    play.answers = [package("transformers", "5.8.0") + package("vllm", "0.21.0", WHEELS[2])]
    with pytest.raises(LockError, match=r"^vllm 0\.21\.0: has no wheel for aarch64$"):
        asker().read_upstream("0.21.0", "2026-05-22")
