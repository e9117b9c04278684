"""Claims about which base a build gets; the registry, the engine and the bootstrap are played."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.builders import INDEX, make_image_lock, make_matrix, write_base_locks

from sparkbake import bases
from sparkbake.baselock import BaseLock
from sparkbake.bases import Chosen
from sparkbake.errors import BaseError, LockError, UsageError
from sparkbake.lockfile import base_lock_path
from sparkbake.mirrors import Mirrors
from sparkbake.model import LocalImage

UBUNTU, DEBIAN = make_matrix().bases
REFERENCE = f"{make_image_lock().reference}@{make_image_lock().index}"
MANIFEST = dict(make_image_lock().manifests)["arm64"]
OTHER = "sha256:" + 64 * "e"
LAYOUT = Path("/cache/bases/debian-13-x")
LOCAL = LocalImage(digest=MANIFEST, labels=(), architecture="arm64", size_bytes=1)


@dataclass(kw_only=True)
class World:
    """What is outside: a registry that answers or not, and a bootstrap that works or not."""

    locks: Path
    fault: str | None = None
    local: LocalImage | None = None
    bootstrap_fault: str | None = None
    asked: list[str] = field(default_factory=list)
    bootstrapped: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def answers(self, reference: str, *, timeout_s: float) -> str | None:
        assert 0 < timeout_s < 60
        self.asked.append(reference)
        return self.fault

    def bootstrap(self, lock: BaseLock, **options: Any) -> Path:
        if self.bootstrap_fault:
            raise BaseError(self.bootstrap_fault)
        self.bootstrapped.append({"name": lock.name, **options})
        return LAYOUT

    def choose(
        self, choice: str = "auto", mirrors: Mirrors | None = None, architectures: Sequence[str] = ("arm64",)
    ) -> Chosen:
        return bases.choose(
            choice,
            make_matrix(),
            mirrors or Mirrors(),
            locks=self.locks,
            cache=Path("/cache"),
            architectures=architectures,
            say=self.said.append,
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    write_base_locks(tmp_path, make_matrix())
    made = World(locks=tmp_path)
    monkeypatch.setattr(bases, "answers", made.answers)
    monkeypatch.setattr(bases, "local_image", lambda _reference: made.local)
    monkeypatch.setattr(bases, "bootstrap", made.bootstrap)
    monkeypatch.setattr(bases, "read_index_digest", lambda _folder: INDEX)
    monkeypatch.setattr(bases, "find_mirror", lambda configured: configured or "https://mirror.invalid/debian")
    return made


# ---- what each base gives


def test_a_registry_that_answers_gives_the_base_itself(world: World) -> None:
    assert world.choose() == Chosen(base=UBUNTU, context=None, folder=None)
    assert world.asked == [REFERENCE]
    assert world.bootstrapped == []


def test_a_base_that_the_engine_has_is_not_asked_for(world: World) -> None:
    world.local, world.fault = LOCAL, "no such host"
    assert world.choose("ubuntu-24.04") == Chosen(base=UBUNTU, context=None, folder=None)
    assert world.asked == []
    assert world.said == [f"base: {REFERENCE} is in the engine"]


def test_without_a_registry_the_next_base_is_taken_and_that_is_said(world: World) -> None:
    world.fault = "ERROR: no such host"
    assert world.choose() == Chosen(base=DEBIAN, context=f"oci-layout://{LAYOUT}@{INDEX}", folder=LAYOUT)
    assert world.said == [
        f"base: asking for {REFERENCE} (up to 8 s)",
        "base ubuntu-24.04 cannot be had: the registry does not give it: ERROR: no such host",
    ]


def test_a_bootstrapped_base_is_made_for_what_builds_and_what_is_built(world: World) -> None:
    world.choose("debian-13", Mirrors(debian="https://snapshot.example"), ("arm64", "amd64", "arm64"))
    (made,) = world.bootstrapped
    assert made["name"] == "debian-13"
    assert made["architectures"] == ["amd64", "arm64"]
    assert made["mirror"] == "https://snapshot.example"
    assert made["cache_dir"] == Path("/cache")
    assert world.asked == []


# ---- what cannot be had


def test_no_base_at_all_is_told_with_the_reason_of_each(world: World) -> None:
    world.fault, world.bootstrap_fault = "no such host", "mmdebstrap is missing"
    with pytest.raises(BaseError) as caught:
        world.choose()
    assert str(caught.value) == (
        "no base can be had:\n"
        "ubuntu-24.04: the registry does not give it: no such host\n"
        "debian-13: mmdebstrap is missing\n"
        "name another place for one under `bases` in mirrors.yaml"
    )


def test_a_base_that_was_asked_for_is_not_replaced(world: World) -> None:
    world.fault = "no such host"
    with pytest.raises(BaseError) as caught:
        world.choose("ubuntu-24.04")
    assert str(caught.value) == (
        "no base can be had:\n"
        "ubuntu-24.04: the registry does not give it: no such host\n"
        "name another place for one under `bases` in mirrors.yaml, or choose another: --base auto"
    )
    assert world.bootstrapped == []


def test_an_unknown_base_is_told_with_the_known_ones(world: World) -> None:
    with pytest.raises(UsageError, match=r"--base: got 'fedora', expected auto or one of ubuntu-24\.04, debian-13"):
        world.choose("fedora")


def test_a_missing_lock_of_a_base_is_no_reason_to_take_another(world: World) -> None:
    base_lock_path(world.locks, UBUNTU).unlink()
    with pytest.raises(LockError, match=r"no lock for the base ubuntu-24\.04; run `nox -s lock"):
        world.choose()


# ---- mirrors.yaml


def mirrored(reference: str, name: str = "ubuntu-24.04") -> Mirrors:
    return Mirrors(bases=((name, reference),))


@pytest.mark.parametrize("digest", [make_image_lock().index, MANIFEST])
def test_the_locked_base_in_another_registry_takes_its_place(world: World, digest: str) -> None:
    reference = f"mirror.example/ubuntu@{digest}"
    assert world.choose(mirrors=mirrored(reference)) == Chosen(
        base=UBUNTU, context=f"docker-image://{reference}", folder=None
    )
    assert world.asked == []
    assert world.said == [f"base ubuntu-24.04: from {reference}, as mirrors.yaml says"]


@pytest.mark.parametrize("prefix", ["oci-layout:", "oci-layout://"])
def test_the_locked_base_as_a_folder_takes_its_place(world: World, tmp_path: Path, prefix: str) -> None:
    folder = tmp_path / "ubuntu"
    folder.mkdir()
    (folder / "index.json").touch()
    chosen = world.choose(mirrors=mirrored(f"{prefix}{folder}@{MANIFEST}"))
    assert chosen == Chosen(base=UBUNTU, context=f"oci-layout://{folder}@{MANIFEST}", folder=folder)


@pytest.mark.parametrize("digest", [INDEX, "sha256:" + 64 * "5"])
def test_a_bootstrapped_base_may_come_from_elsewhere(world: World, digest: str) -> None:
    chosen = world.choose("debian-13", mirrored(f"mirror.example/debian@{digest}", "debian-13"))
    assert chosen.context == f"docker-image://mirror.example/debian@{digest}"
    assert world.bootstrapped == []


def test_a_folder_without_an_image_is_told(world: World, tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=f"{tmp_path}: mirrors.yaml names an OCI layout there, but it has no index"):
        world.choose("ubuntu-24.04", mirrored(f"oci-layout:{tmp_path}@{MANIFEST}"))


def test_another_image_than_the_locked_one_is_refused_with_both_digests(world: World) -> None:
    with pytest.raises(BaseError) as caught:
        world.choose("ubuntu-24.04", mirrored(f"mirror.example/ubuntu@{OTHER}"))
    assert (
        f"ubuntu-24.04: mirrors.yaml names {OTHER} for it, which is not the locked base: "
        f"expected {make_image_lock().index}"
    ) in str(caught.value)


def test_with_a_bundle_its_own_base_is_the_first_that_can_be_had(world: World, tmp_path: Path) -> None:
    """Even where a registry answers: the bundle has the wheels of no other base."""
    mirrors = Mirrors(bases=(("debian-13", f"mirror.example/debian@{INDEX}"),), bundle=tmp_path)
    assert world.choose(mirrors=mirrors).base == DEBIAN
    assert world.asked == []
    assert world.choose("ubuntu-24.04", mirrors).base == UBUNTU


def test_a_mirror_of_one_base_leaves_the_others_alone(world: World) -> None:
    world.fault = "no such host"
    assert world.choose(mirrors=mirrored(f"mirror.example/ubuntu@{OTHER}")).base == DEBIAN
    assert world.choose(mirrors=mirrored(f"mirror.example/debian@{INDEX}", "debian-13")).base == DEBIAN
    assert world.asked == [REFERENCE]
