"""The commands that need no engine, as a user calls them."""

import json
import shutil
from pathlib import Path

import pytest

from sparkbake.cli import main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the commands read, so that a test may spoil it."""
    for name in ("doctor.yaml", "known-issues.yaml", "matrix.yaml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("docs", "locks", "moe_configs", "patches", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_list_shows_every_row_and_that_it_is_locked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"0.20.2-t4", "0.20.2-t5", "0.32.0-t5"} <= {row["tag"] for row in rows}
    assert {row["locked"] for row in rows if row["strategy"] == "wheels"} == {"yes"}
    assert {row["locked"] for row in rows if row["strategy"] == "source"} <= {"yes", "open"}


def test_list_as_a_table_has_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "list", "0.20.*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["tag", "0.20.2-t4", "0.20.2-t5"]


def test_an_unknown_tag_ends_with_2_and_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "build", "0.33.0-t5", "--dry-run"]) == 2
    assert "'0.33.0-t5': no such tag; the nearest are 0.32.0-t5" in capsys.readouterr().err


def test_a_dry_run_says_what_a_build_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "build", "0.20.2-t5", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for part in ("dgx-spark-vllm:0.20.2-t5", "ubuntu-24.04 else debian-13", "by hash", "to download", "disk"):
        assert part in shown


def test_a_dry_run_for_machines_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "build", "0.32.0-t5", "--dry-run", "--json", "--base", "debian-13"]) == 0
    (target,) = json.loads(capsys.readouterr().out)
    assert target["versions"]["vllm"] == "0.32.0"
    assert target["base"]["name"] == "debian-13"


def test_a_stale_lock_ends_with_3_and_says_how_to_renew_it(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = checkout / "matrix.yaml"
    matrix.write_text(matrix.read_text().replace('as_of: "2026-10-25"', 'as_of: "2026-10-26"'))
    assert main(["--root", str(checkout), "build", "0.32.0-t5", "--dry-run"]) == 3
    said = capsys.readouterr().err
    assert "stale" in said
    assert "nox -s lock -- 0.32.0-t5" in said


def test_list_names_locks_that_cannot_be_built_from(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "locks/0.20.2-t4.json").unlink()
    damaged = checkout / "locks/0.25.1-t5.json"
    damaged.write_text(damaged.read_text().replace("2", "3", 1))
    assert main(["--root", str(checkout), "list", "--json"]) == 0
    states = {row["tag"]: row["locked"] for row in json.loads(capsys.readouterr().out)}
    assert states["0.20.2-t4"] == "missing"
    assert states["0.25.1-t5"] == "damaged"
    assert states["0.32.0-t5"] == "yes"


def test_a_faulty_matrix_ends_with_2_and_names_the_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = checkout / "matrix.yaml"
    matrix.write_text(matrix.read_text().replace('torch: "2.11.0"', "torch: 2.11", 1))
    assert main(["--root", str(checkout), "list"]) == 2
    assert 'got 2.11 unquoted, which YAML reads as a float; write "2.11"' in capsys.readouterr().err


def test_a_missing_matrix_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path), "list"]) == 2
    assert "matrix.yaml: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "0.32.0-t5", "--base", "fedora", "--dry-run"], "--base: got 'fedora', expected auto or one of"),
        (["lock"], "expected either tags or --base NAME"),
        (["list", ""], "got an empty tag or pattern"),
        (["build", "0.32.0-t5", "--record", "--recorded"], "--record and --recorded exclude each other"),
        (["build", "0.32.0-t5", "--record", "--builder", "x"], "--record and --builder exclude each other"),
        (["build", "0.32.0-t5", "--record", "--no-trim"], "--record and --no-trim exclude each other"),
        (["build", "0.32.0-t5", "--recorded", "--compression", "gzip"], "--recorded and --compression exclude"),
        (["build", "0.32.0-t5", "--record", "--no-verify"], "--record and --no-verify exclude each other"),
        (["build", "0.32.0-t5", "--jobs", "4"], "--jobs: is for rows that are compiled"),
        (
            ["build", "0.13.0-t4", "0.32.0-t5"],
            "installed from wheels, the other rows are compiled; name rows",
        ),
        (
            ["build", "0.13.0-t4", "--base", "debian-13"],
            "got 'debian-13', but compiled rows are built on CUDA's",
        ),
        (["build", "0.13.0-t4", "--no-trim"], "--no-trim: is for rows that are installed from wheels; leave it out"),
        (["build", "0.13.0-t4", "--output", "oci:x"], "--output: compiled images go into the engine; leave it out"),
        (
            ["reproduce", "0.13.0-t4"],
            "0.13.0-t4: compiled from source, which `list`, `lock`, `render`, `build`, `verify`",
        ),
        (["reproduce", "*-t5", "--against", "x"], "--against: got 16 tags, expected one"),
        (["reproduce", "0.32.0-t5", "--against", "x"], "got 'x', expected an OCI archive or layout folder"),
        (["build", "0.32.0-t5", "--output", "x.tar"], "--output: got 'x.tar', expected oci:FILE"),
        (["build", "0.32.0-t5", "--output", "oci:/no/such/folder/x"], "the folder /no/such/folder does not exist"),
    ],
)
def test_wrong_arguments_end_with_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), *words]) == 2
    assert message in capsys.readouterr().err


def test_render_writes_a_context_for_each_row(checkout: Path) -> None:
    assert main(["--root", str(checkout), "render", "0.20.*", "--base", "debian-13"]) == 0
    folder = checkout / "build" / "dgx-spark-vllm-0_20_2-t5"
    assert sorted(one.name for one in folder.iterdir()) == [
        "Dockerfile", "installer.txt", "layers.json", "layout.py", "manifest.json", "os-packages.sh",
        "requirements.txt", "runtime", "sparkbake",
    ]  # fmt: skip
    assert (folder / "os-packages.sh").stat().st_mode & 0o111
    assert json.loads((checkout / "build/docker-bake.json").read_text())["group"]["default"]["targets"]


def test_rendering_again_leaves_the_files_as_they_are(checkout: Path) -> None:
    words = ["--root", str(checkout), "render", "0.32.0-t5"]
    assert main(words) == 0
    dockerfile = checkout / "build/dgx-spark-vllm-0_32_0-t5/Dockerfile"
    before = dockerfile.stat().st_mtime_ns
    (dockerfile.parent / "stray").write_text("left behind by hand")
    assert main(words) == 0
    assert not (dockerfile.parent / "stray").exists()
    assert main(words) == 0
    assert dockerfile.stat().st_mtime_ns >= before


def test_the_tables_of_the_readme_are_true() -> None:
    assert main(["--root", str(ROOT), "docs", "--check"]) == 0


@pytest.mark.parametrize(
    ("document", "old", "new"),
    [("README.md", "`0.32.0-t5` |", "`0.99.0-t5` |"), ("docs/layers.md", "| sympy |", "| simply |")],
)
def test_a_table_that_is_not_true_is_found_and_mended(
    checkout: Path, capsys: pytest.CaptureFixture[str], document: str, old: str, new: str
) -> None:
    path = checkout / document
    right = path.read_text()
    path.write_text(right.replace(old, new, 1))
    assert main(["--root", str(checkout), "docs", "--check"]) == 2
    assert f"{path}: a generated table is not what matrix.yaml and locks say; run `nox -s docs`" in (
        capsys.readouterr().err
    )
    assert main(["--root", str(checkout), "docs"]) == 0
    assert path.read_text() == right


def test_a_document_without_a_place_for_its_table_says_so(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "docs/layers.md").write_text("# Layers\n")
    assert main(["--root", str(checkout), "docs"]) == 2
    assert "has no '<!-- trims -->' and '<!-- end of trims -->' to put the table between; add them" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "command", [[], ["list"], ["render"], ["lock"], ["build"], ["verify"], ["reproduce"], ["delta"], ["docs"]]
)
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert "usage: sparkbake" in capsys.readouterr().out
