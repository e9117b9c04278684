"""Claims about how locks of what is compiled are made: what is asked of whom, and what stays open."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.builders import make_wheel
from tests.compiledbuilder import COMMIT, FOUNDATION, OTHER, T4, T5, make_compiled

from sparkbake import sourcelocking
from sparkbake.errors import LockError, ProcessError
from sparkbake.lock import Index, Locker, Resolved
from sparkbake.mirrors import Mirrors
from sparkbake.model import Foundation, Matrix
from sparkbake.sourcelocking import SourceLocker, tag_commit
from sparkbake.sourcepins import Pin, foundation_pins

# What wheels on the index ask for.
METADATA = {
    "vllm": (
        "Requires-Dist: torch==2.9.1\nRequires-Dist: flashinfer-python==0.6.1\nRequires-Dist: flashinfer-cubin==0.6.1\n"
        "Requires-Dist: transformers<5,>=4.56.0\nRequires-Dist: numba==1.0\n"
    ),
    "torch": "Requires-Dist: sympy\nRequires-Dist: nvidia-cudnn-cu13==9\n",
    "torchvision": "Requires-Dist: torch\nRequires-Dist: numpy\n",
    "torchaudio": "Requires-Dist: torch\n",
    "transformers": "Requires-Dist: tokenizers\n",
}


class Resolver(Locker):
    """Stands in for uv and the index: notes what it is asked, and answers with a wheel for each requirement."""

    def __init__(self) -> None:
        super().__init__(matrix=make_compiled(), index=Index(), say=lambda _text: None)
        self.asked: dict[str, tuple[list[str], list[str], str | None]] = {}

    def compile(self, requirements: Sequence[str], *, overrides: Sequence[str], what: str, **more: Any) -> Resolved:
        self.asked[what] = (sorted(requirements), list(overrides), more["preferred"])
        wheels = tuple(make_wheel(name) for name in sorted(requirements))
        return Resolved(wheels=wheels, urls={}, newest_epoch=len(self.asked), pylock=f"pins of {what}")

    def installer(self) -> tuple[Any, ...]:
        return (make_wheel("uv"),)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    def read(_self: object, name: str, _version: str) -> tuple[str, str]:
        return METADATA[name], OTHER[:9] if name == "vllm" else ""

    def inspect(_reference: str, *, timeout_s: int) -> tuple[str, Mapping[str, str]]:
        raise ProcessError("docker buildx: the registry does not answer")

    def no_tag(url: str, tag: str) -> str:
        raise LockError(f"{url}: has no tag {tag}")

    monkeypatch.setattr(SourceLocker, "_read", read)
    monkeypatch.setattr(sourcelocking, "image_index", inspect)
    monkeypatch.setattr(sourcelocking, "tag_commit", no_tag)
    return Resolver()


def make_locker(resolver: Resolver, said: list[str] | None = None) -> SourceLocker:
    told = said if said is not None else []
    return SourceLocker(locker=resolver, mirrors=Mirrors(), say=told.append)


NEVER = [
    "nvidia-nccl-cu13 ; sys_platform == 'never'",
    "torch ; sys_platform == 'never'",
    "vllm ; sys_platform == 'never'",
]


def test_the_environment_is_resolved_without_what_is_compiled(resolver: Resolver) -> None:
    make_locker(resolver).lock_release([T5, T4])
    requirements, overrides, preferred = resolver.asked["0.14.0-t4"]
    assert requirements == [
        "flashinfer-cubin==0.6.1",
        "flashinfer-python==0.6.1",
        "numba==1.0",
        "numpy",
        "ray",
        "sympy",
        "transformers<5,>=4.56.0",
        "transformers==4.57.6",
    ]
    pinned = ["flashinfer-python==0.6.1", "flashinfer-cubin==0.6.1", "transformers==4.57.6"]
    assert overrides == [*pinned, *NEVER]
    assert preferred is None


def test_t5_takes_the_pins_of_t4_and_transformers_from_git_leaves_the_environment(resolver: Resolver) -> None:
    make_locker(resolver).lock_release([T5, T4])
    requirements, overrides, preferred = resolver.asked["0.14.0-t5"]
    assert preferred == "pins of 0.14.0-t4"
    assert "tokenizers" in requirements
    assert not [one for one in requirements if one.startswith("transformers")]
    assert "flashinfer-cubin==0.6.2" in overrides
    assert overrides[-1] == "transformers ; sys_platform == 'never'"


def test_a_lock_tells_which_commit_the_wheel_was_built_from(resolver: Resolver) -> None:
    said: list[str] = []
    four, five = make_locker(resolver, said).lock_release([T4, T5])
    pins = {one.name: one for one in five.pins}
    assert pins["vllm"].built_from == OTHER[:9]
    assert pins["vllm"].differs
    assert not next(one for one in four.pins if one.name == "vllm").differs
    assert f"0.14.0-t5: note: the wheel of vllm was built from {OTHER[:9]}, here {COMMIT}" in said


def test_a_wheel_that_asks_for_something_else_is_told(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METADATA, "vllm", METADATA["vllm"].replace("torch==2.9.1", "torch==2.9.0"))
    with pytest.raises(LockError, match=r"declares\.torch: got '==2\.9\.1', but the wheel says '==2\.9\.0'"):
        make_locker(resolver).lock_release([T4])


def test_a_foundation_is_locked_with_what_no_one_says_left_open(resolver: Resolver) -> None:
    said: list[str] = []
    lock = make_locker(resolver, said).lock_foundation(FOUNDATION)
    assert resolver.asked["2.10.0-cu131: tools"][0] == ["ninja"]
    assert resolver.asked["2.10.0-cu131: runtime"][0] == ["numpy", "nvidia-cudnn-cu13", "sympy"]
    assert lock.open_pins == (
        "registry.example/cuda:13.1.0-runtime: manifest digest",
        "nccl-tests: commit of v2.19.6",
    )
    assert lock.source_date_epoch == 3
    assert "note: nccl-tests v2.19.6 stays open: https://example.com/nccl-tests: has no tag v2.19.6" in said


def test_what_no_tag_leads_to_stays_open_and_is_said(resolver: Resolver) -> None:
    said: list[str] = []
    resolver.matrix = make_compiled('{"==3.5.*": ' + OTHER + "}", '{"==3.5.*": unknown}')
    (lock,) = make_locker(resolver, said).lock_release([T4])
    assert lock.open_pins == ("llvm: commit of what this release fetches",)
    assert "note: llvm stays open: upstream names a commit, which no tag leads to; write it into matrix.yaml" in said


def test_the_wheel_of_a_foundation_s_part_that_was_built_from_another_commit_is_told(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pins(matrix: Matrix, foundation: Foundation) -> tuple[Pin, ...]:
        return tuple(
            replace(one, built_from=OTHER) if one.name == "torch" else one
            for one in foundation_pins(matrix, foundation)
        )

    monkeypatch.setattr(sourcelocking, "foundation_pins", pins)
    said: list[str] = []
    lock = make_locker(resolver, said).lock_foundation(FOUNDATION)
    torch = next(one for one in lock.pins if one.name == "torch")
    assert f"2.10.0-cu131: note: the wheel of torch was built from {OTHER}, here {torch.commit}" in said


def test_what_the_registry_and_the_repository_say_closes_pins(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def inspect(reference: str, *, timeout_s: int) -> tuple[str, Mapping[str, str]]:
        asked.append(reference)
        return "sha256:" + 64 * "1", {"arm64": "sha256:" + 64 * "9"}

    monkeypatch.setattr(sourcelocking, "image_index", inspect)
    monkeypatch.setattr(sourcelocking, "tag_commit", lambda _url, _tag: COMMIT)
    lock = make_locker(resolver).lock_foundation(FOUNDATION)
    assert lock.open_pins == ()
    assert lock.images[1].manifest == "sha256:" + 64 * "9"
    # By digest where one is known, so that a tag that moved is not taken.
    assert asked == ["registry.example/cuda:13.1.0-runtime@sha256:" + 64 * "1"]


def test_an_image_that_is_not_for_the_chip_is_told(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sourcelocking, "image_index", lambda _reference, timeout_s: ("sha256:1", {"amd64": "sha256:2"}))
    with pytest.raises(LockError, match=r"cuda:13\.1\.0-runtime@.*: there is none for arm64, only amd64"):
        make_locker(resolver).lock_foundation(FOUNDATION)


# ---- git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With a plain tag, an annotated one, and a commit after them."""

    def git(*arguments: str) -> None:
        settings = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *settings, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "one")
    git("tag", "v1")
    git("tag", "-a", "v1-annotated", "-m", "x")
    git("commit", "--allow-empty", "-m", "two")
    return tmp_path


def head(repository: Path, name: str) -> str:
    done = subprocess.run(["git", "rev-parse", name], cwd=repository, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.usefixtures("real_processes")
def test_a_tag_gives_its_commit_and_not_the_tag_object(repository: Path) -> None:
    commit = head(repository, "v1")
    assert tag_commit(f"file://{repository}", "v1") == commit
    assert tag_commit(f"file://{repository}", "v1-annotated") == commit
    assert head(repository, "v1-annotated") != commit


@pytest.mark.usefixtures("real_processes")
def test_a_tag_that_is_not_there_is_told(repository: Path) -> None:
    with pytest.raises(LockError, match="has no tag v2"):
        tag_commit(f"file://{repository}", "v2")
    with pytest.raises(ProcessError, match="git ls-remote"):
        tag_commit(f"file://{repository}/nothing", "v1")
