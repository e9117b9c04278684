"""Claims about what is found wrong with an image: a clean one, tampered with in every way that matters."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cudabuilder import make_program
from tests.elfbuilder import make_library
from tests.imagebuilder import (
    CODEC,
    CUDA,
    FILES,
    INFO,
    PTXAS,
    SASS_90A,
    SASS_120,
    STATUS,
    TUNED,
    Layers,
    Package,
    changed,
    content_of,
    make_checkout,
    make_layers,
    make_packages,
    target_of,
    torch_version,
    with_content,
    with_member,
)
from tests.moebuilder import make_config
from tests.ocibuilder import SITE, make_file
from tests.verified import Verify

from sparkbake.errors import ImageError
from sparkbake.project import Project

C_LIBRARY = f"{SITE}/vllm/_C.abi3.so"
LIBTORCH = "torch/lib/libtorch.so"
STATIC = "torch/lib/libstatic.a"


# ---- nothing wrong


def test_an_image_as_its_recipe_makes_it_is_clean(verify: Verify, layers: Layers) -> None:
    found = verify(layers)
    assert (found.status, found.report["clean"], found.report["findings"]) == (0, True, [])
    assert [one["finding"]["subject"] for one in found.report["waived"]] == [f"{SITE}/{CODEC}"]


def test_an_image_of_a_build_without_trims_is_clean(verify: Verify, project: Project) -> None:
    whole = {name: Package(version=one.version, files=one.files) for name, one in make_packages().items()}
    found = verify(make_layers(project, whole, trim=False), labels=dict(target_of(project, trim=False).labels))
    assert (found.status, found.report["findings"]) == (0, [])


# ---- torch


def test_torch_for_cpus_is_found(verify: Verify, project: Project) -> None:
    cpu = changed("torch", {"torch/version.py": torch_version("2.11.0+cpu", None)})
    found = verify(make_layers(project, cpu))
    assert (found.status, found.errors) == (1, [("torch", "build")])
    assert found.said("torch") == ("CPU-only, 2.11.0+cpu", "a CUDA build")


def test_torch_that_was_swapped_for_the_cpu_build_is_found(verify: Verify, layers: Layers) -> None:
    path = f"{SITE}/torch/version.py"
    found = verify(with_content(layers, path, torch_version("2.11.0+cpu", None)))
    assert found.errors == [("file-changed", path), ("torch", "build")]


def test_torch_for_another_cuda_is_found(verify: Verify, project: Project) -> None:
    other = changed("torch", {"torch/version.py": torch_version("2.11.0+cu126", "12.6")})
    found = verify(make_layers(project, other))
    assert (found.status, found.errors) == (1, [("torch", "CUDA")])
    assert found.said("torch") == ("12.6", "13.0.2")


def test_torch_for_a_cuda_that_is_no_version_is_found(verify: Verify, project: Project) -> None:
    other = changed("torch", {"torch/version.py": torch_version("2.11.0+cu130", "latest")})
    found = verify(make_layers(project, other))
    assert (found.status, found.errors) == (1, [("torch", "CUDA")])
    assert found.said("torch") == ("latest", "13.0.2")


def test_another_torch_is_found(verify: Verify, project: Project) -> None:
    packages = changed("torch", {"torch/version.py": torch_version("2.10.0+cu130")})
    torch = Package(version="2.10.0", files=packages["torch"].files, trimmed=packages["torch"].trimmed)
    found = verify(make_layers(project, {**packages, "torch": torch}))
    assert (found.status, found.errors) == (1, [("package", "torch"), ("torch", "version")])
    assert found.said("torch") == ("2.10.0+cu130", "2.11.0")


def test_torch_that_does_not_say_what_it_is_is_found(verify: Verify, project: Project) -> None:
    found = verify(make_layers(project, changed("torch", {"torch/version.py": None})))
    assert (found.status, found.errors) == (1, [("torch", "version.py")])
    assert found.said("torch") == ("0 such files", "one file that says its version")


@pytest.mark.parametrize("text", [b"", b"version = '2.11.0'\n", b"\xff"])
def test_torch_whose_version_py_says_something_else_is_found(verify: Verify, project: Project, text: bytes) -> None:
    found = verify(make_layers(project, changed("torch", {"torch/version.py": text})))
    assert (found.status, found.errors) == (1, [("torch", "version.py")])
    assert found.said("torch")[0] == "nothing"


def test_a_second_torch_is_found(verify: Verify, project: Project) -> None:
    copy = {"vllm/site-packages/torch/version.py": torch_version()}
    found = verify(make_layers(project, changed("vllm", copy)))
    assert (found.status, found.errors) == (1, [("torch", "version.py")])
    assert found.said("torch")[0] == "2 such files"


# ---- device code


def test_code_for_another_chip_alone_is_found(verify: Verify, project: Project) -> None:
    path = "vllm/_hopper_C.abi3.so"
    found = verify(make_layers(project, changed("vllm", {path: make_program(SASS_90A)})))
    assert (found.status, found.errors) == (1, [("device-code", f"{SITE}/{path}")])
    assert found.said("device-code") == ("none (vllm)", "same-major or better")


def test_code_that_a_rule_allows_is_not(tmp_path: Path, verify: Verify) -> None:
    rule = "      - {paths: [vllm/_hopper_*.so], verdict: none, reason: upstream has it so}\n  generated:"
    project = make_checkout(tmp_path / "other", ("  generated:", rule))
    found = verify(make_layers(project, changed("vllm", {"vllm/_hopper_C.so": make_program(SASS_90A)})), of=project)
    assert (found.status, found.report["findings"]) == (0, [])


def test_code_worse_than_a_rule_allows_is_found(verify: Verify, project: Project) -> None:
    found = verify(make_layers(project, changed("torch", {"torch/lib/libold.so": make_program(SASS_90A)})))
    assert (found.status, found.errors) == (1, [("device-code", f"{SITE}/torch/lib/libold.so")])
    assert found.said("device-code") == ("none (torch)", "ptx or better")


def test_a_rule_about_no_file_is_found(verify: Verify, project: Project) -> None:
    found = verify(make_layers(project, changed("torch", {"torch/lib/libold.so": None})))
    assert (found.status, found.errors) == (1, [("rule-unused", "device_code: torch/lib/libold.so")])


def test_a_rule_about_a_file_that_needs_none_is_found(verify: Verify, project: Project) -> None:
    found = verify(make_layers(project, changed("torch", {"torch/lib/libold.so": make_program(SASS_120)})))
    assert (found.status, found.errors) == (1, [("rule-unused", "device_code: torch/lib/libold.so")])


def test_each_pattern_of_a_rule_has_to_be_of_use(tmp_path: Path, verify: Verify) -> None:
    project = make_checkout(tmp_path / "other", ("[torch/lib/libold.so]", "[torch/lib/libold.so, torch/lib/libnew.so]"))
    found = verify(make_layers(project), of=project)
    assert (found.status, found.errors) == (1, [("rule-unused", "device_code: torch/lib/libnew.so")])


@pytest.mark.parametrize("trim", [True, False])
def test_code_of_what_images_do_without_needs_no_rule(tmp_path: Path, verify: Verify, *, trim: bool) -> None:
    """Nor is a rule that it would need of use."""
    code = "torch/lib/libhopper.so"
    project = make_checkout(tmp_path / "other", ("[torch/lib/*.a]", f"[torch/lib/*.a, {code}]"))
    torch = changed("torch", {code: make_program(SASS_90A)})["torch"]
    torch = replace(torch, trimmed=(STATIC, code) if trim else None)
    made = make_layers(project, {**make_packages(), "torch": torch}, trim=trim)
    found = verify(made, of=project, labels=dict(target_of(project, trim=trim).labels))
    assert (found.status, found.report["findings"]) == (0, [])


def test_code_that_a_trim_names_in_other_releases_alone_needs_a_rule(tmp_path: Path, verify: Verify) -> None:
    """Such a trim leaves nothing out of this image."""
    code = "torch/lib/libhopper.so"
    trim = ('versions: ">=2.11"\n    paths: [torch/lib/*.a]', f'versions: ">=2.12"\n    paths: [torch/lib/*.a, {code}]')
    project = make_checkout(tmp_path / "other", trim)
    torch = replace(changed("torch", {code: make_program(SASS_90A)})["torch"], trimmed=None)
    found = verify(make_layers(project, {**make_packages(), "torch": torch}), of=project)
    assert (found.status, found.errors) == (1, [("device-code", f"{SITE}/{code}")])


def test_code_of_another_package_needs_a_rule_where_a_trim_names_its_path(tmp_path: Path, verify: Verify) -> None:
    code = "vllm/libhopper.so"
    project = make_checkout(tmp_path / "other", ("[torch/lib/*.a]", f"[torch/lib/*.a, {code}]"))
    found = verify(make_layers(project, changed("vllm", {code: make_program(SASS_90A)})), of=project)
    assert (found.status, found.errors) == (1, [("device-code", f"{SITE}/{code}")])


def test_a_rule_about_other_releases_counts_for_nothing(tmp_path: Path, verify: Verify) -> None:
    later = ('        verdict: ptx\n        versions: ">=0.20"', '        verdict: ptx\n        versions: ">=0.21"')
    project = make_checkout(tmp_path / "other", later)
    found = verify(make_layers(project), of=project)
    assert found.errors == [("device-code", f"{SITE}/torch/lib/libold.so")]
    assert verify(make_layers(project, changed("torch", {"torch/lib/libold.so": None})), of=project).errors == []


def test_a_damaged_elf_file_is_found(verify: Verify, project: Project) -> None:
    content = make_packages()["vllm"].files["vllm/_C.abi3.so"]
    found = verify(make_layers(project, changed("vllm", {"vllm/_C.abi3.so": content[:-70]})))
    assert (found.status, found.errors) == (1, [("elf-unread", C_LIBRARY)])
    assert "cut off or damaged" in found.said("elf-unread")[0]


# ---- libraries


def test_a_second_nccl_is_found(verify: Verify, project: Project) -> None:
    copy = "vllm.libs/libnccl-1a2b3c4d.so.2"
    other = make_library("libnccl-1a2b3c4d.so.2", needed=["libc.so.6"], note=b"\x02")
    found = verify(make_layers(project, changed("vllm", {copy: other})))
    paths = f"{SITE}/nvidia/nccl/lib/libnccl.so.2, {SITE}/{copy}"
    assert (found.status, found.errors) == (1, [("two-nccl", paths)])
    assert found.said("two-nccl") == ("nvidia-nccl 2.28.9 (Build-ID 01), vllm 0.20.2 (Build-ID 02)", "one libnccl.so")


@pytest.mark.parametrize(("note", "shown"), [(b"\xcd" * 20, 20 * "cd"), (b"", "None")])
def test_another_build_id_is_found(verify: Verify, project: Project, note: bytes, shown: str) -> None:
    other = make_library("libtorch.so", needed=["libc.so.6"], defined=["at_add"], note=note)
    found = verify(make_layers(project, changed("torch", {LIBTORCH: other})))
    assert (found.status, found.errors) == (1, [("build-id", LIBTORCH)])
    assert found.said("build-id") == (shown, 20 * "ab")


def test_a_library_of_a_build_id_that_is_not_there_is_found(verify: Verify, project: Project) -> None:
    packages = changed("torch", {LIBTORCH: None})
    packages["vllm"] = packages["vllm"].having({"vllm/_C.abi3.so": None})
    found = verify(make_layers(project, packages))
    assert found.errors == [("build-id", LIBTORCH)]
    assert found.said("build-id")[0] == "no ELF file of that name"


def test_a_library_that_is_nowhere_is_found(verify: Verify, project: Project) -> None:
    lonely = make_library(needed=["libnowhere.so.1"])
    found = verify(make_layers(project, changed("vllm", {"vllm/_x.so": lonely})))
    assert (found.status, found.errors) == (1, [("missing-library", f"{SITE}/vllm/_x.so")])
    assert found.said("missing-library")[0] == "libnowhere.so.1"


def test_undefined_symbols_are_found_and_the_first_named(verify: Verify, project: Project) -> None:
    wanting = make_library(needed=["libc.so.6"], undefined=[f"gone_{number}" for number in range(7)])
    found = verify(make_layers(project, changed("vllm", {"vllm/_x.so": wanting})))
    assert (found.status, found.errors) == (1, [("undefined-symbol", f"{SITE}/vllm/_x.so")])
    assert found.said("undefined-symbol")[0] == "gone_0, gone_1, gone_2, gone_3, gone_4 and 2 more"


def test_a_symbol_that_only_another_file_has_is_a_warning(verify: Verify, project: Project) -> None:
    wanting = make_library(needed=["libc.so.6"], undefined=["at_add"])
    found = verify(make_layers(project, changed("vllm", {"vllm/_x.so": wanting})))
    assert (found.status, found.errors, found.warnings) == (0, [], [("elsewhere", f"{SITE}/vllm/_x.so")])
    assert found.said("elsewhere")[0] == f"at_add, which {SITE}/{LIBTORCH} has"


# ---- the assembler


def test_a_ptxas_that_is_not_there_is_found(verify: Verify, project: Project) -> None:
    found = verify(make_layers(project, changed("nvidia-nccl", {PTXAS: None})))
    variables = ["TRITON_PTXAS_BLACKWELL_PATH", "TRITON_PTXAS_PATH"]
    assert (found.status, found.errors) == (1, [("ptxas-missing", one) for one in variables])
    assert found.report["findings"][0]["found"] == "/usr/local/cuda/bin/ptxas, which is not there"


def test_a_ptxas_that_cannot_run_is_found(verify: Verify, layers: Layers, project: Project) -> None:
    mode = make_file(f"{SITE}/{PTXAS}", content_of(layers, f"{SITE}/{PTXAS}"))
    assert [kind for kind, _ in verify(with_member(layers, mode)).errors] == ["ptxas-missing"] * 2
    other = make_layers(project, changed("nvidia-nccl", {PTXAS: make_library(machine=62)}))
    found = verify(other)
    assert [kind for kind, _ in found.errors] == ["ptxas-missing"] * 2
    assert found.report["findings"][0]["found"].endswith(f"{CUDA}/bin/ptxas, no program for this machine")


# ---- tuning


def test_a_tuned_config_with_a_broken_ladder_is_found(verify: Verify, project: Project) -> None:
    found = verify(make_layers(project, changed("vllm", {TUNED: make_config([1, 2, 4])})))
    assert (found.status, found.errors) == (1, [("moe-ladder", f"{SITE}/{TUNED}")])
    assert found.said("moe-ladder")[0].startswith("no entry for 8, 16, ")


# ---- what cannot be looked at


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (FILES, b"{", f"{FILES}: is no JSON"),
        (FILES, b'{"a": 1}', f"{FILES}: a: got 1, expected 'sha256:...' or 'link:...'; build it anew"),
        (f"{SITE}/ray-1.0.dist-info/RECORD", b'"', "ray-1.0.dist-info/RECORD: is no CSV"),
        (f"{SITE}/torch-2.11.0.dist-info/TRIMMED.json", b"[]", "TRIMMED.json: got a JSON list, expected an object"),
        (f"{INFO}/curl.md5sums", b"x", f"{INFO}/curl.md5sums: got 'x', expected 32 hex digits and a path"),
        (STATUS, b"x", f"{STATUS}: paragraph 1: got 'x', expected a new field"),
    ],
)
def test_records_that_are_damaged_end_it(verify: Verify, layers: Layers, path: str, text: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=re.escape(message)):
        verify(with_content(layers, path, text))


def test_an_architecture_that_nobody_knows_ends_it(verify: Verify, layers: Layers) -> None:
    with pytest.raises(ImageError, match="is for 'riscv64', expected one of arm64, amd64"):
        verify(layers, architecture="riscv64")


# ---- what is shown


def test_the_facts_say_how_much_was_looked_at(verify: Verify, layers: Layers) -> None:
    facts = verify(layers).report["facts"]
    assert facts["files with device code"] == "1 same-major, 1 ptx, of 10 ELF files"
    assert "unowned" not in facts["files accounted for"]
    assert facts["torch's kernels"] == "sm_120"
    assert facts["files linked"].startswith("8 files")
    assert f"{SITE}/nvidia/nccl/lib/libnccl.so.2" in facts["copies of libnccl.so.2"]
    assert facts["TRITON_PTXAS_PATH"] == f"{SITE}/{PTXAS}"
