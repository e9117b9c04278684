"""Claims about the command `bump`: what it writes and shows; uv and the package index are played."""

import argparse
import errno
import io
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.builders import SMALL_MATRIX
from tests.imagebuilder import make_checkout
from tests.test_bumpask import CERTIFI, NEWER_THAN_ALL, package, uv_says
from tests.test_lock import FakeIndex

from sparkbake import bumpask, lock, process
from sparkbake.bumping import bump
from sparkbake.errors import LockError, ProcessError, UsageError
from sparkbake.project import open_project

DECLARED = ("torch==2.11.0", "flashinfer-python==0.7.2", "transformers<5.21,>=5.16")
SERIES = """\
schema: "1"
topics:
  marlin-lists: {title: Marlin kernels}
releases:
  "0.13.0": {source: sdist}
not_needed:
  - {topic: marlin-lists, releases: "==0.13.0", because: there is no patch here, evidence: test_bumpnotes has those}
"""
ENTRY = """\
  "0.33.0":
    strategy: wheels
    foundation: 2.11.0-cu130
    flashinfer: "0.7.2"
    as_of: "2026-05-08"
    # The full commit of the tag is not known yet; the lock has what the wheel names.
    git: {tag: v0.33.0, commit: null}
    declares:
      torch: "==2.11.0"
      flashinfer-python: "==0.7.2"
      transformers: ">=5.16,<5.21"
    transformers:
      t5: {version: "5.20.0"}
"""


@dataclass(kw_only=True)
class Upstream(FakeIndex):
    """Plays what the locks ask, and what bump asks: a release, then its environment.

    Attributes:
        published: of the release.
        environment: distribution to version, beside vLLM.
        refusal: how uv refuses the release; and how it refuses its environment.
        torch: what torch requires.
    """

    published: str = "2026-05-01T12:00:00Z"
    environment: Mapping[str, str]
    refusal: tuple[ProcessError | None, ProcessError | None] = (None, None)
    torch: str = "cuda-toolkit==13.0.2"

    def run(self, words: Sequence[str | Path], *, timeout_s: float, stdin: str, env: Mapping[str, str] | None) -> str:
        if "--output-file" in words:
            return super().run(words, timeout_s=timeout_s, stdin=stdin, env=env)
        whole = "--no-deps" not in words
        refused = self.refusal[whole]
        if refused:
            raise refused
        release = package("vllm", "0.33.0", ("cp38-abi3-manylinux_2_28_aarch64", self.published))
        return release + ("".join(package(*one) for one in self.environment.items()) if whole else "")

    def open(self, url: str) -> io.BytesIO:
        if "/torch-" not in url:
            return super().open(url)
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w") as packed:
            packed.writestr("x.dist-info/METADATA", f"Requires-Dist: {self.torch}\n")
        return wheel


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Upstream:
    versions = {"cuda-toolkit": "13.0.2.0", "nvidia-nccl": "2.28.9", "torch": "2.11.0", "flashinfer-python": "0.7.2"}
    versions |= {"transformers": "5.20.0"}
    fake = Upstream(declared=DECLARED, environment=versions, platform="py3-none-any")
    monkeypatch.setattr(process, "run", fake.run)
    monkeypatch.setattr(bumpask, "RemoteFile", fake.open)
    monkeypatch.setattr(lock, "RemoteFile", fake.open)
    monkeypatch.setattr(lock, "content_length", fake.content_length)
    monkeypatch.setattr(lock, "read_build_id", fake.read_build_id)
    return fake


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a series of one patch, which is made once."""
    root = tmp_path_factory.mktemp("template") / "checkout"
    make_checkout(root)
    patches = root / "patches" / "vllm"
    patches.mkdir(parents=True)
    (patches / "series.yaml").write_text(SERIES, encoding="utf-8")
    return root


@pytest.fixture
def checkout(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "checkout", symlinks=True))


def run(root: Path, release: str | None = "0.33.0", **named: Any) -> int:
    given = {"newest": False, "older_than_days": 7, "dry_run": False, "json": False, "mirrors": None}
    return bump(argparse.Namespace(root=root, release=release, **(given | named)))


def files(root: Path) -> dict[str, bytes]:
    """All files that may be written, with their content."""
    found = [root / "matrix.yaml", *(one for one in (root / "locks").rglob("*") if one.is_file())]
    return {str(one.relative_to(root)): one.read_bytes() for one in found}


# ---- what is written


def test_a_release_is_written_with_its_lock_and_nothing_else_changes(checkout: Path, index: Upstream) -> None:
    before = files(checkout)
    assert run(checkout) == 0
    after = files(checkout)
    assert after.pop("matrix.yaml") == before.pop("matrix.yaml") + ENTRY.encode()
    assert set(after) - set(before) == {"locks/0.33.0-t5.json"}
    assert {name: after[name] for name in before} == before
    project = open_project(checkout)
    (row,) = project.select(["0.33.0-t5"])
    assert project.lock_state(row) == "yes"
    assert project.lock(row).wheel_commit == "0123456"


def test_the_diff_and_what_it_means_are_shown(
    checkout: Path, index: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    run(checkout)
    said = capsys.readouterr()
    assert '+  "0.33.0":\n+    strategy: wheels\n' in said.out
    words = " ".join(said.out.split())
    for text in (
        "published 2026-05-01; packages as of 2026-05-08",
        "commit 0123456, as its wheel says; the full one is open",
        "foundation 2.11.0-cu130, as it is: nccl 2.28.9, cuda 13.0.2, torch 2.11.0",
        "declares transformers >=5.16,<5.21",
        "transformers t5: 5.20.0",
        "overrides none: the release admits all of this",
        "lock 0.33.0-t5 debian-13: 7 packages, 0.00 GB",
        "t4 transformers (>=5.16,<5.21)",
        "locks/0.33.0-t5.json against 0.32.0-t5, on ubuntu-24.04: 3 changed, 4 repacked, 0 unchanged; 0.0 MB of ",
        "transformers 5.19.0 5.20.0 0.0 vllm 0.32.0 0.33.0 0.0",
        "read the diff; then `nox -s build -- 0.33.0-t5 --record`",
    ):
        assert text in words
    assert f"sparkbake: {checkout}/locks/0.33.0-t5.json: written\n" in said.err
    assert f"sparkbake: {checkout}/matrix.yaml: written\n" in said.err


def test_a_dry_run_resolves_and_shows_all_and_writes_nothing(
    checkout: Path, index: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(checkout)
    assert run(checkout, dry_run=True) == 0
    said = capsys.readouterr().out
    assert files(checkout) == before
    assert '+  "0.33.0":\n' in said
    assert "lock 0.33.0-t5" in said
    assert said.endswith("nothing was written, as --dry-run asks\n")


def test_machines_get_the_same(checkout: Path, index: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(checkout, json=True, dry_run=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("diff").startswith("--- a/matrix.yaml\n+++ b/matrix.yaml\n@@ ")
    assert found.pop("notes") == []
    locks = found.pop("locks")
    assert list(locks) == ["0.33.0-t5"]
    assert (locks["0.33.0-t5"]["tag"], locks["0.33.0-t5"]["base"]) == ("0.32.0-t5", "ubuntu-24.04")
    assert found == {
        "release": "0.33.0",
        "published": "2026-05-01",
        "as_of": "2026-05-08",
        "wheel_commit": "0123456",
        "foundation": {
            "name": "2.11.0-cu130",
            "new": False,
            "versions": {"nccl": "2.28.9", "cuda": "13.0.2", "torch": "2.11.0"},
        },
        "declares": {"torch": "==2.11.0", "flashinfer-python": "==0.7.2", "transformers": ">=5.16,<5.21"},
        "flashinfer": "0.7.2",
        "tags": ["0.33.0-t5"],
        "transformers": {"t5": "5.20.0"},
        "would_override": {"t4": "transformers (>=5.16,<5.21)"},
        "written": False,
    }


def test_a_new_foundation_is_written_too(checkout: Path, index: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    index.declared = ("torch==2.14.0", *DECLARED[1:])
    index.environment = {**index.environment, "torch": "2.14.0"}
    assert run(checkout) == 0
    text = (checkout / "matrix.yaml").read_text(encoding="utf-8")
    assert '  2.14.0-cu130:\n    nccl: "2.28.9"\n    cuda: "13.0.2"\n    torch: "2.14.0"\nreleases:\n' in text
    assert "2.11.0-cu130  torch (==2.14.0)" in capsys.readouterr().out


def test_a_triton_that_configs_cannot_be_compiled_with_is_told(
    checkout: Path, index: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL_MATRIX.replace("  flashinfer: {dis", "  triton: {distribution: triton}\n  flashinfer: {dis")
    text = text.replace('    torch: "2.11.0"\n', '    torch: "2.11.0"\n    triton: "3.6.0"\n')
    (checkout / "matrix.yaml").write_text(text, encoding="utf-8")
    index.environment = {**index.environment, "triton": "3.8.0"}
    index.torch = "cuda-toolkit==13.0.2\nRequires-Dist: triton==3.8.0"
    assert run(checkout, dry_run=True, json=True) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    notes = {one["kind"]: one for one in found["notes"]}
    assert notes["tools"]["subject"] == "tools/requirements/moe-3.8.0.in"
    assert notes["tools"]["text"] == "is missing; `nox -s moe -- --compile` needs it for this Triton"
    assert found["locks"] == {}
    # The locks of this checkout are those of another matrix.
    assert "nothing is compared with 0.32.0-t5: " in said.err


# ---- the newest


def test_the_newest_release_is_taken(checkout: Path, index: Upstream) -> None:
    assert run(checkout, None, newest=True) == 0
    assert (checkout / "matrix.yaml").read_text(encoding="utf-8").endswith(ENTRY)


def test_nothing_new_is_no_error(checkout: Path, index: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(checkout)
    index.refusal = (uv_says(NEWER_THAN_ALL), None)
    assert run(checkout, None, newest=True) == 0
    assert capsys.readouterr().out == (
        "nothing to do: the package index has no release of vLLM above 0.32.0 of 7 or more days of age\n"
    )
    assert run(checkout, None, newest=True, json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"release": None, "above": "0.32.0", "written": False}
    assert files(checkout) == before


# ---- what is refused


@pytest.mark.parametrize(
    ("release", "named", "message"),
    [
        (None, {}, "bump: expected either a release of vLLM or --newest"),
        ("0.33.0", {"newest": True}, "bump: expected either a release of vLLM or --newest"),
        ("0.33.0", {"older_than_days": -1}, "--older-than-days: got -1, expected 0 or more"),
        ("0.32.0", {}, "vLLM 0.32.0: is in matrix.yaml already"),
        ("0.33", {}, "'0.33': the package index calls it 0.33.0; write that"),
    ],
)
def test_what_makes_no_sense_is_refused(
    checkout: Path, index: Upstream, release: str | None, named: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        run(checkout, release, **named)
    assert message in str(caught.value)


def test_a_release_of_today_is_refused(checkout: Path, index: Upstream) -> None:
    index.published = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    before = files(checkout)
    for days in (7, 0):
        with pytest.raises(UsageError, match="may be taken from"):
            run(checkout, older_than_days=days)
    assert files(checkout) == before


def test_a_release_that_does_not_resolve_leaves_everything(checkout: Path, index: Upstream) -> None:
    before = files(checkout)
    index.refusal = (None, uv_says(CERTIFI))
    with pytest.raises(LockError, match=r"depends on certifi>=2026\.10\.19"):
        run(checkout)
    assert files(checkout) == before


def test_a_lock_that_fails_leaves_everything(checkout: Path, index: Upstream) -> None:
    before = files(checkout)
    index.failing = uv_says("no wheel of x for Python 3.13")
    with pytest.raises(LockError, match=r"0\.33\.0-t5 on ubuntu-24\.04: cannot be resolved:\nno wheel of x"):
        run(checkout)
    assert files(checkout) == before


def test_what_somebody_else_writes_meanwhile_is_kept(
    checkout: Path, index: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = checkout / "matrix.yaml"
    ask = index.read_build_id

    def read_build_id(url: str, member: str) -> str:
        matrix.write_text(matrix.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
        return ask(url, member)

    monkeypatch.setattr(lock, "read_build_id", read_build_id)
    with pytest.raises(LockError) as caught:
        run(checkout)
    assert str(caught.value) == f"{matrix}: was changed while this resolved; nothing is written, run it again"
    assert matrix.read_text(encoding="utf-8").endswith('t5: {version: "5.19.0"}\n# mine\n')
    assert not (checkout / "locks/0.33.0-t5.json").exists()


@pytest.mark.parametrize("left", [None, b"a lock that was left behind"])
def test_a_full_disk_leaves_everything(
    checkout: Path, index: Upstream, monkeypatch: pytest.MonkeyPatch, left: bytes | None
) -> None:
    if left is not None:
        (checkout / "locks/0.33.0-t5.json").write_bytes(left)
    before = files(checkout)
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if target.name == "matrix.yaml":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(LockError) as caught:
        run(checkout)
    assert str(caught.value) == (
        f"{checkout}/matrix.yaml: cannot be written: [Errno 28] No space left on device; "
        "matrix and locks are as they were"
    )
    assert files(checkout) == before
