"""Claims about the script that deals an installed environment into layers, on environments made by hand."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.builders import load_script
from tests.cudabuilder import PAYLOAD, make_container, make_entry, make_program

layout = load_script("layout")
LAYERS = {"torch": ["torch"], "rest": ["ray"]}
EPOCH = 1_700_000_000


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The site-packages of a virtual environment without packages."""
    monkeypatch.setattr(layout, "VENV", tmp_path / "venv")
    found: Path = layout.site_packages()
    assert found == tmp_path / f"venv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    found.mkdir(parents=True)
    return found


def install(site: Path, package: str, files: Mapping[str, str], version: str = "1.0") -> Path:
    """Install a package as uv does: its files, and a RECORD with the digest of each."""
    info = site / f"{package}-{version}.dist-info"
    info.mkdir()
    rows = [f"{info.name}/RECORD,,"]
    for path, content in files.items():
        place = Path(os.path.normpath(site / path))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")
        rows.append(f'"{path}",sha256={content},{len(content)}')
    (info / "RECORD").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return info


def deal(layers: Mapping[str, Sequence[str]] | None = None, *collisions: str) -> dict[Path, str]:
    rules = [{"path": path, "keep": keep or None} for path, _is, keep in (one.partition("=") for one in collisions)]
    owners: dict[Path, str] = layout.deal(layers or LAYERS, rules)
    return owners


def error_of(capsys: pytest.CaptureFixture[str], layers: Mapping[str, Sequence[str]] | None = None) -> str:
    with pytest.raises(SystemExit) as ended:
        deal(layers)
    assert ended.value.code == 1
    return capsys.readouterr().err


# ---- deal


def test_every_file_is_in_one_layer_and_that_is_its_package_s(site: Path) -> None:
    torch = install(site, "torch", {"torch/__init__.py": "a", "../../../bin/torchrun": "b", "a,b.txt": "c"})
    ray = install(site, "ray", {"ray/__init__.py": "d"})
    owners = deal()
    assert owners == {
        torch / "RECORD": "torch",
        site / "torch/__init__.py": "torch",
        layout.VENV / "bin/torchrun": "torch",
        site / "a,b.txt": "torch",
        ray / "RECORD": "rest",
        site / "ray/__init__.py": "rest",
    }
    assert set(owners) == set(layout.files_below(layout.VENV))


def test_names_of_packages_are_compared_in_their_normal_form(site: Path) -> None:
    info = install(site, "NVIDIA_nccl.cu13", {}, "2.28.9")
    assert deal({"cuda": ["nvidia-nccl-cu13"]}) == {info / "RECORD": "cuda"}


def test_an_unknown_collision_ends_it_with_what_to_do(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "torch", {"build_backend.py": "one"})
    install(site, "ray", {"build_backend.py": "two"})
    assert error_of(capsys) == (
        "layout: error: carried with different content by several packages, add to `collisions` in matrix.yaml: "
        f"{site}/build_backend.py (ray and torch)\n"
    )
    assert (site / "build_backend.py").exists()


def test_a_known_collision_is_left_out_and_that_is_said(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "torch", {"build_backend.py": "one", "torch.py": "x"})
    install(site, "ray", {"build_backend.py": "two"})
    owners = deal(LAYERS, "build_backend.py")
    assert site / "build_backend.py" not in owners
    assert not (site / "build_backend.py").exists()
    assert owners[site / "torch.py"] == "torch"
    assert f"leaving out {site}/build_backend.py, which ray and torch carry" in capsys.readouterr().out


def test_a_known_collision_that_does_not_happen_costs_nothing(site: Path) -> None:
    install(site, "torch", {"build_backend.py": "one"})
    install(site, "ray", {})
    assert deal(LAYERS, "build_backend.py")[site / "build_backend.py"] == "torch"


def install_hashed(site: Path, name: str, path: str, content: str) -> None:
    """A package with one file, whose RECORD has its real digest."""
    info = install(site, name, {path: content})
    digest = layout.record_digest(site / path)
    (info / "RECORD").write_text(f"{info.name}/RECORD,,\n{path},{digest},{len(content)}\n", encoding="utf-8")


def test_a_collision_with_a_package_to_keep_leaves_that_package_s_file(site: Path) -> None:
    install_hashed(site, "torch", "shared/a.py", "of torch")
    install_hashed(site, "ray", "shared/a.py", "of ray")
    assert deal(LAYERS, "shared/*=ray")[site / "shared/a.py"] == "rest"
    assert (site / "shared/a.py").read_text() == "of ray"


def test_what_is_there_must_be_of_the_package_to_keep(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_hashed(site, "ray", "shared/a.py", "of ray")
    install_hashed(site, "torch", "shared/a.py", "of torch")
    with pytest.raises(SystemExit):
        deal(LAYERS, "shared/*=ray")
    assert f"{site}/shared/a.py, which ray and torch carry, is not that of ray" in capsys.readouterr().err


def test_a_rule_whose_package_does_not_carry_the_path_is_none(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_hashed(site, "ray", "shared/a.py", "of ray")
    install_hashed(site, "torch", "shared/a.py", "of torch")
    with pytest.raises(SystemExit):
        deal(LAYERS, "shared/*=vllm")
    assert "add to `collisions` in matrix.yaml" in capsys.readouterr().err


def test_equal_content_carried_twice_is_in_the_first_layer_of_those_packages(site: Path) -> None:
    install(site, "torch", {"shared/__init__.py": "same"})
    install(site, "ray", {"shared/__init__.py": "same"})
    assert deal()[site / "shared/__init__.py"] == "torch"
    assert deal({"rest": ["ray"], "torch": ["torch"]})[site / "shared/__init__.py"] == "rest"


def test_a_package_that_no_layer_names_ends_it(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "torch", {})
    install(site, "ray", {})
    install(site, "stray", {})
    assert "stray-1.0.dist-info was installed, but layers.json does not name it" in error_of(capsys)


def test_a_package_that_is_missing_ends_it(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "torch", {})
    assert error_of(capsys, {**LAYERS, "vllm": ["vllm"]}) == "layout: error: not installed: ray, vllm\n"


# ---- trim


def rule(package: str, *paths: str, saves: int = 1) -> dict[str, Any]:
    return {"package": package, "paths": list(paths), "cubins": False, "saves_bytes": saves}


def trim(*rules: dict[str, Any]) -> dict[Path, str]:
    owners = deal()
    layout.trim(list(rules), owners)
    return owners


def test_what_is_trimmed_is_gone_and_noted_in_the_layer_of_its_package(site: Path) -> None:
    info = install(site, "torch", {"torch/a.so": "12345", "torch/sub/b.a": "123", "torch/keep.py": "x"})
    install(site, "ray", {"ray/b.a": "other"})
    owners = trim(rule("torch", "torch/a.so", "torch/*.a", saves=8))
    assert set(owners) == set(layout.files_below(layout.VENV))
    assert not (site / "torch/a.so").exists()
    assert (site / "ray/b.a").exists()
    assert owners[info / "TRIMMED.json"] == "torch"
    assert json.loads((info / "TRIMMED.json").read_text()) == {
        "torch/a.so": 5,
        "torch/sub/b.a": 3,
    }


def test_a_whole_package_may_go_but_what_says_that_it_is_installed(site: Path) -> None:
    info = install(site, "torch", {"torch/a.so": "12345", "../../../bin/torchrun": "x"})
    install(site, "ray", {})
    trim(rule("torch", "*"))
    assert sorted(one.name for one in info.iterdir()) == ["RECORD", "TRIMMED.json"]
    assert not (site / "torch/a.so").exists()
    assert (layout.VENV / "bin/torchrun").exists()


def test_files_outside_of_site_packages_are_trimmed_too(site: Path) -> None:
    install(site, "torch", {"../../../external/source.tar": "12345"})
    install(site, "ray", {})
    trim(rule("torch", "../../../external/*"))
    assert not (layout.VENV / "external/source.tar").exists()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (rule("torch", "torch/gone.so"), "torch/gone.so matches no file of torch; mend or remove it"),
        (rule("torch", "torch/a.so", "ray/*"), "ray/* matches no file of torch; mend or remove it"),
        (rule("torch", "torch/a.so", saves=6), "of torch saves 5 bytes, expected 6 or more"),
        (rule("numpy", "numpy/*"), "to be trimmed, but not installed: numpy"),
    ],
)
def test_a_trim_that_does_not_do_what_it_says_ends_the_build(
    site: Path, capsys: pytest.CaptureFixture[str], asked: dict[str, Any], told: str
) -> None:
    install(site, "torch", {"torch/a.so": "12345"})
    install(site, "ray", {"ray/b.py": "x"})
    with pytest.raises(SystemExit):
        trim(asked)
    assert told in capsys.readouterr().err


def test_what_another_package_carries_too_is_not_trimmed(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "torch", {"common/x.so": "12345"})
    install(site, "ray", {"common/x.so": "12345"})
    with pytest.raises(SystemExit):
        trim(rule("torch", "common/*"))
    assert f"trimming torch would remove {site}/common/x.so, which ray carries, too" in capsys.readouterr().err


def test_what_another_trimmed_package_carries_too_is_not_trimmed(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, "torch", {"common/x.so": "12345", "torch/a.so": "1"})
    install(site, "ray", {"common/x.so": "12345", "ray/a.so": "1"})
    with pytest.raises(SystemExit):
        trim(rule("ray", "ray/a.so"), rule("torch", "common/*"))
    assert f"trimming torch would remove {site}/common/x.so, which ray carries, too" in capsys.readouterr().err


def test_two_trims_of_one_package_may_not_claim_the_same_file(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "torch", {"torch/a.so": "12345"})
    install(site, "ray", {})
    with pytest.raises(SystemExit):
        trim(rule("torch", "torch/a.so"), rule("torch", "torch/*"))
    assert "torch/* matches no file of torch" in capsys.readouterr().err


# ---- cubins


def program(*architectures: int) -> bytes:
    return make_program(make_container(*(make_entry("sass", one) for one in architectures)))


def install_whole(site: Path, package: str, files: Mapping[str, bytes]) -> Path:
    """Install a package whose RECORD is true."""
    info = install(site, package, {})
    rows = [f"{info.name}/RECORD,,"]
    for path, content in files.items():
        (site / path).parent.mkdir(exist_ok=True)
        (site / path).write_bytes(content)
        rows.append(f"{path},{layout.record_digest(site / path)},{len(content)}")
    (info / "RECORD").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return info


def prune(*rules: dict[str, Any]) -> dict[Path, str]:
    owners = deal()
    layout.prune_code([{**one, "cubins": True} for one in rules], owners, 121)
    return owners


def test_cubins_of_other_chips_are_overwritten_and_noted_in_the_layer_of_their_package(site: Path) -> None:
    mixed = program(80, 90, 120)
    info = install_whole(site, "torch", {"torch/a.so": mixed, "torch/b.so": program(100), "torch/keep.so": mixed})
    install_whole(site, "ray", {"ray/a.so": mixed})
    owners = prune(rule("torch", "torch/a.so", saves=16), rule("torch", "torch/b.so", saves=8))
    assert (site / "torch/keep.so").read_bytes() == (site / "ray/a.so").read_bytes() == program(80, 90, 120)
    left = (site / "torch/a.so").read_bytes()
    assert (len(left), left.count(PAYLOAD)) == (len(program(80, 90, 120)), 1)
    assert owners[info / "PRUNED.json"] == "torch"
    assert json.loads((info / "PRUNED.json").read_text()) == {
        name: {"sha256": hashlib.sha256((site / name).read_bytes()).hexdigest(), "bytes": size}
        for name, size in (("torch/a.so", 16), ("torch/b.so", 8))
    }
    assert set(owners) == set(layout.files_below(layout.VENV))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (rule("torch", "torch/gone.so"), "torch/gone.so matches no file of torch; mend or remove it"),
        (rule("torch", "torch/a.so", saves=9), "of torch saves 8 bytes, expected 9 or more"),
        (rule("torch", "torch/native.so"), "torch/native.so has no cubin of another chip; mend or remove it"),
        (rule("torch", "torch/t.py"), "error: torch/t.py: "),
        (rule("torch", "torch/both.so"), "torch/both.so, which ray carries, too"),
        (rule("numpy", "numpy/*"), "to be trimmed, but not installed: numpy"),
    ],
)
def test_pruning_that_does_not_do_what_it_says_ends_the_build(
    site: Path, capsys: pytest.CaptureFixture[str], asked: dict[str, Any], told: str
) -> None:
    files = {"torch/a.so": program(90, 120), "torch/native.so": program(120, 121), "torch/t.py": b"x = 1\n"}
    install_whole(site, "torch", {**files, "torch/both.so": b"x"})
    install_whole(site, "ray", {"torch/both.so": b"x"})
    with pytest.raises(SystemExit):
        prune(asked)
    assert told in capsys.readouterr().err


def test_what_another_pruned_package_carries_too_is_not_pruned(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("torch", "ray"):
        install_whole(site, package, {f"{package}/a.so": program(90), "both.so": program(90)})
    with pytest.raises(SystemExit):
        prune(rule("torch", "torch/a.so"), rule("ray", "ray/a.so"), rule("torch", "both.so"))
    assert f"pruning torch would change {site}/both.so, which ray carries, too" in capsys.readouterr().err


def test_a_file_that_is_not_as_its_wheel_has_it_is_not_pruned(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Afterwards nothing would tell."""
    install_whole(site, "torch", {"torch/a.so": program(90, 120)})
    install(site, "ray", {})
    (site / "torch/a.so").write_bytes(program(90, 121))
    with pytest.raises(SystemExit):
        prune(rule("torch", "torch/a.so"))
    assert "torch/a.so is not as the RECORD of torch has it, before anything is pruned" in capsys.readouterr().err
    assert (site / "torch/a.so").read_bytes() == program(90, 121)


def test_two_trims_may_not_prune_the_same_file(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_whole(site, "torch", {"torch/a.so": program(90, 120)})
    install(site, "ray", {})
    with pytest.raises(SystemExit):
        prune(rule("torch", "torch/a.so"), rule("torch", "torch/*.so"))
    assert "torch/*.so matches no file of torch" in capsys.readouterr().err


# ---- copies


def test_copies_in_a_package_become_links_and_say_the_same(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LEAST_LINKED_BYTES", 4)
    install(site, "torch", {"torch/liba.so": "12345", "torch/liba.so.1": "12345", "torch/b": "123", "torch/c": "123"})
    install(site, "ray", {"ray/liba.so": "12345"})
    (site / "torch/liba.so.2").write_text("12345")
    owners = deal()
    layout.link_copies(owners)
    assert (site / "torch/liba.so").samefile(site / "torch/liba.so.1")
    assert (site / "torch/liba.so.1").read_text() == "12345"
    assert not (site / "torch/b").samefile(site / "torch/c")
    assert not (site / "torch/liba.so").samefile(site / "ray/liba.so")


def test_a_file_that_a_record_lists_twice_is_no_copy_of_itself(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LEAST_LINKED_BYTES", 1)
    install(site, "torch", {"torch/a": "12345", "torch/../torch/a": "12345"})
    install(site, "ray", {})
    layout.link_copies(deal())
    assert (site / "torch/a").read_text() == "12345"


def test_what_only_claims_to_be_a_copy_stays_as_it_is(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LEAST_LINKED_BYTES", 1)
    install(site, "torch", {"torch/a": "12345", "torch/b": "12345"})
    install(site, "ray", {})
    owners = deal()
    (site / "torch/b").write_text("other")
    layout.link_copies(owners)
    assert (site / "torch/b").read_text() == "other"


# ---- move and settle


def test_files_move_to_their_layer_with_modes_that_do_not_depend_on_the_machine(site: Path, tmp_path: Path) -> None:
    install(site, "torch", {"torch/lib.so": "a", "../../../bin/torchrun": "b"})
    install(site, "ray", {"ray.py": "c"})
    (site / "torch/lib.so").chmod(0o600)
    (layout.VENV / "bin/torchrun").chmod(0o700)
    (site / "ray.py").chmod(0o666)
    layout.move(deal(), tmp_path / "layers")
    assert list(layout.files_below(layout.VENV)) == []
    below = site.relative_to("/")
    modes = {
        path: (tmp_path / "layers" / path).stat().st_mode & 0o777
        for path in (
            Path("torch") / below / "torch/lib.so",
            Path("torch") / layout.VENV.relative_to("/") / "bin/torchrun",
            Path("rest") / below / "ray.py",
        )
    }
    assert list(modes.values()) == [0o644, 0o755, 0o644]


def test_links_are_files_too_and_move_as_links(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib64").symlink_to("lib")
    (folder / "python3").symlink_to("/nowhere/python3")
    found = set(layout.files_below(folder))
    assert found == {folder / "lib64", folder / "python3"}
    layout.move(dict.fromkeys(found, "skeleton"), tmp_path / "out")
    moved = tmp_path / "out/skeleton" / folder.relative_to("/")
    assert (str((moved / "lib64").readlink()), str((moved / "python3").readlink())) == ("lib", "/nowhere/python3")


def test_every_file_folder_and_link_gets_the_same_time(tmp_path: Path) -> None:
    output = tmp_path / "layers"
    (output / "torch/opt/venv").mkdir(parents=True)
    (output / "torch/opt/venv/file").touch()
    (output / "skeleton").mkdir()
    (output / "skeleton/link").symlink_to("/nowhere")
    (output / "skeleton/folder").symlink_to("/usr")
    layout.settle(output, EPOCH)
    times = {one: one.lstat().st_mtime for one in output.rglob("*")}
    assert len(times) == 7
    assert set(times.values()) == {EPOCH}


# ---- CUDA


def toolkit(output: Path, site: Path, layer: str = "cuda", name: str = "cu13") -> Path:
    """The folder in which NVIDIA's packages meet."""
    folder = output / layer / site.relative_to("/") / "nvidia" / name
    for path in ("bin/nvcc", "lib/libcudart.so.13", "lib/libnvrtc.so.13", "lib/libnvrtc.so.13.0.88", "lib/libfoo.so"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    (folder / "lib/libfoo.so.2").touch()
    (folder / "lib/libstatic.a").touch()
    return folder


def test_cuda_has_lib64_a_place_and_names_for_the_linker(site: Path, tmp_path: Path) -> None:
    output = tmp_path / "layers"
    toolkit(output, site)
    (output / "rest" / site.relative_to("/") / "nvidia/cudnn").mkdir(parents=True)
    layout.link_cuda(output)
    made = output / "skeleton" / site.relative_to("/") / "nvidia/cu13"
    links = {str(one.relative_to(made)): str(one.readlink()) for one in made.rglob("*") if one.is_symlink()}
    assert links.pop("lib/libnvrtc.so").startswith("libnvrtc.so.13")
    assert links == {"lib64": "lib", "lib/libcudart.so": "libcudart.so.13"}
    assert str((output / "skeleton/usr/local/cuda").readlink()) == f"{site}/nvidia/cu13"


def test_libraries_in_the_layers_of_other_packages_have_names_for_the_linker_too(site: Path, tmp_path: Path) -> None:
    output = tmp_path / "layers"
    toolkit(output, site, "cuda.nvidia-cuda-nvcc")
    for layer, name in (("cuda.nvidia-cublas", "libcublas.so.13"), ("cuda", "libfoo.so.3")):
        place = output / layer / site.relative_to("/") / "nvidia/cu13/lib" / name
        place.parent.mkdir(parents=True)
        place.touch()
    layout.link_cuda(output)
    made = output / "skeleton" / site.relative_to("/") / "nvidia/cu13/lib"
    assert str((made / "libcublas.so").readlink()) == "libcublas.so.13"
    assert not (made / "libfoo.so").is_symlink()


@pytest.mark.parametrize("count", [0, 2])
def test_not_exactly_one_compiler_ends_it(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    output = tmp_path / "layers"
    for number in range(count):
        toolkit(output, site, name=f"cu1{number}")
    with pytest.raises(SystemExit):
        layout.link_cuda(output)
    below = site.relative_to("/")
    assert f"expected one folder with bin/nvcc below {below}/nvidia, found {count}" in capsys.readouterr().err


# ---- what images have and do by themselves


def test_any_user_may_write_to_the_folder_of_caches_which_root_s_cache_leads_to(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        layout.make_folders(tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "cache").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "root").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "root/.cache").readlink() == Path("/cache")
    assert (tmp_path / "workspace").is_dir()


def test_own_files_are_copied_and_those_with_an_interpreter_can_be_executed(tmp_path: Path) -> None:
    source, target = tmp_path / "runtime", tmp_path / "layer"
    for path, content in (("usr/bin/start", b"#!/bin/sh\n"), ("usr/lib/a/b.py", b"x = 1\n"), ("usr/empty", b"")):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
        (source / path).chmod(0o600)
    layout.add_runtime(source, target)
    found = {
        one.relative_to(target).as_posix(): (one.read_bytes(), one.stat().st_mode & 0o7777)
        for one in target.rglob("*")
        if one.is_file()
    }
    assert found == {
        "usr/bin/start": (b"#!/bin/sh\n", 0o755),
        "usr/lib/a/b.py": (b"x = 1\n", 0o644),
        "usr/empty": (b"", 0o644),
    }


# ---- what the image says of itself


def test_what_no_package_carries_is_listed_beside_the_manifest(tmp_path: Path) -> None:
    output = tmp_path / "layers"
    skeleton = output / "skeleton/opt/venv"
    notes = output / "vllm/opt/venv/site-packages/vllm-1.0.dist-info"
    for folder in (skeleton, notes, output / "skeleton/workspace"):
        folder.mkdir(parents=True)
    (skeleton / "pyvenv.cfg").write_text("home = /usr/bin\n", encoding="utf-8")
    (skeleton / "lib64").symlink_to("lib")
    for name in ("TRIMMED.json", "PRUNED.json"):
        (notes / name).write_text("{}\n", encoding="utf-8")
    (notes / "RECORD").touch()
    (tmp_path / "manifest.json").write_text('{"schema": 1}\n', encoding="utf-8")
    layout.describe(tmp_path / "manifest.json", output)
    place = output / "manifest/usr/share/sparkbake"
    assert (place / "manifest.json").read_text(encoding="utf-8") == '{"schema": 1}\n'
    assert json.loads((place / "files.json").read_text(encoding="utf-8")) == {
        "opt/venv/lib64": "link:lib",
        "opt/venv/pyvenv.cfg": "sha256:" + hashlib.sha256(b"home = /usr/bin\n").hexdigest(),
        **{
            f"opt/venv/site-packages/vllm-1.0.dist-info/{name}": "sha256:" + hashlib.sha256(b"{}\n").hexdigest()
            for name in ("TRIMMED.json", "PRUNED.json")
        },
    }
