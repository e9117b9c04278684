"""Claims about `verify` of images of the engine, as a user calls it and as `build` does."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
from tests.imagebuilder import TAG, target_of
from tests.ocibuilder import pack
from tests.verified import BACKDOOR, findings_of, report_of

from sparkbake import process, saving, verifying
from sparkbake.attest import digest_in_bill
from sparkbake.cli import main
from sparkbake.engine import EngineState
from sparkbake.errors import VerifyError
from sparkbake.images import open_image
from sparkbake.model import LocalImage
from sparkbake.project import Project
from sparkbake.verify import modules_of
from sparkbake.verifying import bill_path, verify_built

# What every torch of ours has compiled in.
WHOLE = {"cudnn": 91900, "lapack": True}


def verify(project: Project, *words: str) -> int:
    return main(["--root", str(project.root), "verify", *words])


# ---- images of the engine


class Engine:
    """An engine that has one image.

    Attributes:
        saved: how often it was saved.
        programs: what the probe prints; an error is raised.
    """

    def __init__(self, project: Project, image: Path) -> None:
        self.project = project
        self.state = EngineState(
            version="29.0.0", architecture="arm64", has_containerd_store=True, data_folder="/x", cached_bytes=0
        )
        self.image: LocalImage | None = None
        self.hold(image)
        self.saved = 0
        self.programs: str | VerifyError = json.dumps(probe_of(project))

    def hold(self, folder: Path) -> None:
        self.folder = folder
        info = open_image(folder, platform="linux/arm64").info
        self.image = LocalImage(digest=info.digest, labels=info.labels, architecture="arm64", size_bytes=1_500_000_000)

    def local_image(self, reference: str) -> LocalImage | None:
        assert reference == target_of(self.project).reference
        return self.image

    def run(self, argv: Sequence[str | Path], **_rest: Any) -> str:
        assert argv[:3] == ["docker", "image", "save"]
        self.saved += 1
        pack(self.folder, Path(argv[-1]))
        return ""

    def run_python(self, _reference: str, _script: str, modules: Sequence[str], **_rest: Any) -> str:
        assert list(modules) == ["torch.linalg"]
        if isinstance(self.programs, VerifyError):
            raise self.programs
        return self.programs


def probe_of(project: Project, **changes: Any) -> dict[str, Any]:
    """What recipes/scripts/probe.py prints in a clean image."""
    target = target_of(project)
    said: dict[str, Any] = {
        "machine": "aarch64",
        "python": "3.12.3",
        "distributions": {one.name: one.version for one in target.environment.wheels},
        "torch": {"version": "2.11.0+cu130", "cuda": "13.0", "nccl": "2.28.9", "arches": ["sm_120"], **WHOLE},
        "import_vllm": "0.20.2",
        "vllm_command": "0.20.2",
        "ptxas": "13.0.88",
        **dict.fromkeys(("ptxas_for_chip", "nvcc", "gcc", "g++", "python_headers", "ray_command"), "it"),
        "libraries": ["libibverbs.so.1"],
        "linkable": ["libcudart.so"],
        "trimmed": {one.package: {"files": 1, "bytes": 8} for one in target.trims},
        "imports": dict.fromkeys(modules_of(target), "imports"),
        **changes,
    }
    return {name: {"value": value, "seconds": 0.1} for name, value in said.items()}


@pytest.fixture
def engine(project: Project, clean: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    shutil.rmtree(project.build, ignore_errors=True)
    project.build.mkdir()
    found = Engine(project, clean)
    monkeypatch.setattr(verifying, "engine_state", lambda: found.state)
    monkeypatch.setattr(verifying, "local_image", found.local_image)
    monkeypatch.setattr(verifying, "run_python", found.run_python)
    monkeypatch.setattr(saving, "local_image", found.local_image)
    monkeypatch.setattr(saving, "free_bytes", lambda _folder: 10**12)
    monkeypatch.setattr(process, "run", found.run)
    return found


def built(engine: Engine, digest: str | None = None) -> int:
    """Look into the image as a build does that gave this digest."""
    target = target_of(engine.project)
    assert engine.image
    digests = {target.name: digest or engine.image.digest}
    return verify_built(engine.project, [target], engine.state, digests, as_json=False)


def test_a_clean_image_of_the_engine_is_run_too(engine: Engine) -> None:
    assert verify(engine.project, TAG) == 0
    report = report_of(engine.project, ran=True)
    assert (report["clean"], report["programs"]) == (True, "natively")
    assert report["reference"] == target_of(engine.project).reference
    assert report["facts"]["size"] == "1.50 GB"
    assert report["facts"]["import_vllm"] == "0.20.2 (0.1 s)"
    assert "files accounted for" in report["facts"]
    assert engine.saved == 1
    assert [one.name for one in engine.project.build.iterdir()] == ["reports"]


def test_a_checkout_that_has_built_nothing_can_verify(engine: Engine) -> None:
    engine.project.build.rmdir()
    assert verify(engine.project, TAG) == 0


def test_programs_for_another_machine_are_emulated(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.state = replace(engine.state, architecture="amd64")
    assert verify(engine.project, TAG) == 0
    assert report_of(engine.project, ran=True)["programs"] == "under emulation"
    assert "running its programs under emulation, which takes some minutes" in capsys.readouterr().err


def test_programs_are_not_run_when_nobody_wants_it(engine: Engine) -> None:
    engine.programs = VerifyError("must not run")
    assert verify(engine.project, TAG, "--no-run") == 0
    assert report_of(engine.project, ran=False)["programs"] == "not run"


def test_a_report_without_programs_does_not_replace_one_with_them(engine: Engine) -> None:
    assert verify(engine.project, TAG) == 0
    assert verify(engine.project, TAG, "--no-run") == 0
    assert verify(engine.project, f"oci:{engine.folder}") == 0
    assert report_of(engine.project, ran=True)["programs"] == "natively"
    unrun = report_of(engine.project, ran=False)
    assert (unrun["programs"], unrun["reference"]) == ("not run", str(engine.folder))
    assert engine.saved == 2


def test_what_programs_say_is_held_against_the_plan(engine: Engine) -> None:
    engine.programs = json.dumps(probe_of(engine.project, import_vllm="0.20.3"))
    assert verify(engine.project, TAG) == 1
    assert findings_of(report_of(engine.project, ran=True)) == [("program", "import_vllm")]


def test_a_probe_that_fails_is_a_finding_with_the_reason(engine: Engine) -> None:
    engine.programs = VerifyError("a probe ended with 139 in the image")
    assert verify(engine.project, TAG) == 1
    report = report_of(engine.project, ran=True)
    machine = next(one for one in report["findings"] if one["subject"] == "machine")
    assert (machine["id"], machine["found"]) == ("program", "a probe ended with 139 in the image")


def test_files_of_an_image_of_the_engine_are_looked_at(engine: Engine, tampered: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(tampered, tmp_path / "image")
    engine.hold(tmp_path / "image")
    assert verify(engine.project, TAG) == 1
    assert ("file-unowned", BACKDOOR) in findings_of(report_of(engine.project, ran=True))


def test_another_image_than_the_engine_has_under_the_tag_ends_with_1(
    engine: Engine, tampered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Something else built it meanwhile."""
    shutil.unpack_archive(tampered, tmp_path / "image")
    engine.folder = tmp_path / "image"
    saved = open_image(engine.folder, platform="linux/arm64").info.digest
    assert engine.image
    assert verify(engine.project, TAG) == 1
    reference = target_of(engine.project).reference
    message = f"{reference}: the engine has {engine.image.digest} under this tag and saved {saved}; verify it again"
    assert message in capsys.readouterr().err
    assert list(engine.project.build.iterdir()) == []


def test_an_image_that_the_engine_has_not_ends_with_1(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    reference = target_of(engine.project).reference
    engine.image = None
    assert verify(engine.project, TAG) == 1
    message = f"{reference}: the engine has no such image; run `nox -s build -- {TAG}`"
    assert message in capsys.readouterr().err


def test_files_and_tags_go_together(engine: Engine, tampered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(engine.project, TAG, f"oci:{tampered}") == 1
    said = capsys.readouterr().err
    assert "1 errors, 1 waived" in said
    assert "clean, 1 waived" in said


def test_reports_for_machines_are_one_a_line_of_files_and_tags(
    engine: Engine, tampered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(engine.project, TAG, f"oci:{tampered}", "--json") == 1
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    references = [str(tampered), target_of(engine.project).reference]
    assert [(one["reference"], one["clean"]) for one in reports] == list(zip(references, [False, True], strict=True))


def test_a_tag_goes_before_a_file_of_its_name(
    engine: Engine, tampered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(tampered, tmp_path / TAG)
    monkeypatch.chdir(tmp_path)
    assert verify(engine.project, TAG) == 0
    assert engine.saved == 1


def test_what_programs_say_does_not_hide_what_was_read(engine: Engine) -> None:
    assert verify(engine.project, TAG) == 0
    facts = report_of(engine.project, ran=True)["facts"]
    assert facts["ptxas"] == "13.0.88 (0.1 s)"
    assert facts["copies of ptxas"].startswith("of nvidia-nccl 2.28.9, ")


# ---- images that were just built


def test_another_image_than_the_built_one_is_found(engine: Engine) -> None:
    other = "sha256:" + 64 * "0"
    assert built(engine, other) == 1
    assert findings_of(report_of(engine.project, ran=True)) == [("digest", target_of(engine.project).reference)]


def test_an_image_that_was_found_clean_is_not_looked_at_again(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (built(engine), engine.saved) == (0, 1)
    capsys.readouterr()
    assert (built(engine), engine.saved) == (0, 1)
    assert f"verify {TAG}: this very image was found clean before: " in capsys.readouterr().err


def test_an_image_whose_programs_were_not_run_is_looked_at_again(engine: Engine) -> None:
    assert verify(engine.project, TAG, "--no-run") == 0
    assert (built(engine), engine.saved) == (0, 2)


def test_an_image_that_was_not_clean_is_looked_at_again(engine: Engine) -> None:
    engine.programs = VerifyError("no container can be made of it")
    assert (built(engine), engine.saved) == (1, 1)
    engine.programs = json.dumps(probe_of(engine.project))
    assert (built(engine), engine.saved) == (0, 2)


def test_an_image_is_looked_at_again_when_a_rule_is_another(engine: Engine) -> None:
    assert built(engine) == 0
    rules = engine.project.matrix.rules
    rules = replace(rules, waivers=tuple(replace(one, reason="for an older FFmpeg") for one in rules.waivers))
    engine.project = replace(engine.project, matrix=replace(engine.project.matrix, rules=rules))
    assert (built(engine), engine.saved) == (0, 2)


def test_an_image_is_looked_at_again_when_a_waiver_has_expired(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert built(engine) == 0

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Later":
            return cls(2100, 1, 1, tzinfo=tz)

    monkeypatch.setattr(verifying, "datetime", Later)
    assert (built(engine), engine.saved) == (1, 2)
    assert ("waiver-expired", "missing-library of */libtorchcodec_core4.so") in findings_of(
        report_of(engine.project, ran=True)
    )


# ---- the bill of materials


def test_a_clean_image_has_its_bill_of_materials_beside_the_report(engine: Engine) -> None:
    assert verify(engine.project, TAG) == 0
    bill = bill_path(engine.project, target_of(engine.project))
    assert engine.image is not None
    assert digest_in_bill(bill.read_text(encoding="utf-8")) == engine.image.digest
    names = {one["name"] for one in json.loads(bill.read_text(encoding="utf-8"))["packages"]}
    assert {"torch", "vllm", "libc6"} <= names


def test_an_image_with_errors_has_none(engine: Engine) -> None:
    bill_path(engine.project, target_of(engine.project)).unlink(missing_ok=True)
    assert built(engine, "sha256:" + 64 * "0") == 1
    assert not bill_path(engine.project, target_of(engine.project)).exists()


@pytest.mark.parametrize("text", [None, "{}", "no JSON"])
def test_an_image_without_its_bill_is_looked_at_again(engine: Engine, text: str | None) -> None:
    assert (built(engine), engine.saved) == (0, 1)
    bill = bill_path(engine.project, target_of(engine.project))
    bill.unlink()
    if text is not None:
        bill.write_text(text, encoding="utf-8")
    assert (built(engine), engine.saved) == (0, 2)
    assert digest_in_bill(bill.read_text(encoding="utf-8"))
