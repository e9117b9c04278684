"""Claims about the command `watch`; uv and the package index are played."""

import json
from pathlib import Path

import pytest
from tests.imagebuilder import make_checkout
from tests.test_bumpask import NEWER_THAN_ALL, UNREACHABLE, FakeIndex, package, uv_says

from sparkbake import bumpask, process
from sparkbake.cli import main
from sparkbake.project import Project

NOTHING = uv_says(NEWER_THAN_ALL)
TORCH = package("torch", "2.12.0", ("cp312-cp312-manylinux_2_28_aarch64", "2026-04-01T00:00:00Z"))
# Of 0.33.0, whose wheel asks for flashinfer-python 0.6.8.post1; the matrix has a later one.
VLLM = package("vllm", "0.33.0")


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    fake = FakeIndex(answers=[])
    monkeypatch.setattr(process, "run", fake.run)
    monkeypatch.setattr(bumpask, "RemoteFile", fake.open)
    return fake


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_checkout(tmp_path_factory.mktemp("watching") / "checkout")


def watch(project: Project, *arguments: str | Path) -> int:
    return main(["--root", str(project.root), "watch", *map(str, arguments)])


def test_what_no_row_has_is_listed_with_the_vllm_that_declares_it(
    project: Project, play: FakeIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    flashinfer = package("flashinfer-python", "0.6.8.post1", ("py3-none-any", "2026-05-01T00:00:00Z"))
    play.answers = [TORCH, NOTHING, flashinfer, NOTHING, VLLM, NOTHING, VLLM]
    assert watch(project, "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "package": "torch", "version": "2.12.0", "published": "2026-04-01", "highest": "2.11.0",
            "declared_by": [], "bump": None,
        },
        {
            "package": "flashinfer-python", "version": "0.6.8.post1", "published": "2026-05-01",
            "highest": "0.7.0.post1", "declared_by": ["0.20.2", "0.33.0"], "bump": "0.33.0",
        },
    ]  # fmt: skip
    asked = [requirements[0] for _words, requirements, _env in play.calls]
    assert asked == [
        "torch>=2.11.0,!=2.11.0",
        "torch>=2.11.0,!=2.11.0,<2.12.0",
        "flashinfer-python>=0.7.0.post1,!=0.7.0.post1",
        "flashinfer-python>=0.7.0.post1,!=0.7.0.post1,<0.6.8.post1",
        "vllm>=0.32.0,!=0.32.0",
        "vllm>=0.32.0,!=0.32.0,<0.33.0",
        "vllm==0.33.0",
    ]
    for words, _requirements, _env in play.calls[:-1]:
        assert words[words.index("--prerelease") + 1] == "disallow"
        assert "--exclude-newer" in words


def test_nothing_new_is_said_and_is_no_text_for_an_issue(
    project: Project, play: FakeIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    play.answers = [NOTHING] * 4
    assert watch(project) == 0
    said = capsys.readouterr().out
    assert said == "nothing new: the index has no torch or FlashInfer above the matrix's of 7 or more days of age\n"
    assert watch(project, "--markdown") == 0
    assert capsys.readouterr().out == ""


def test_the_text_and_the_table_have_each_release(
    project: Project, play: FakeIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    play.answers = [TORCH, NOTHING, NOTHING, NOTHING] * 2
    assert watch(project, "--markdown") == 0
    assert "| torch | 2.12.0 | 2026-04-01 | 2.11.0 | no released vLLM |" in capsys.readouterr().out
    assert watch(project) == 0
    assert "torch    2.12.0   2026-04-01" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--older-than-days", "-1"), "--older-than-days: got -1, expected 0 or more"),
        (("--json", "--markdown"), "--json and --markdown exclude each other"),
    ],
)
def test_what_makes_no_sense_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert watch(project, *arguments) == 2
    assert said in capsys.readouterr().err


def test_an_index_that_does_not_answer_is_an_error_and_not_nothing_new(
    project: Project, play: FakeIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    play.answers = [uv_says(UNREACHABLE, 2)]
    assert watch(project, "--markdown") == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "torch: the package index cannot be asked:" in said.err
