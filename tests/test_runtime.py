"""Claims about the files that an image has by itself, and about its entrypoint, with sh and Python of this machine."""

import ast
import json
import os
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT, load_script
from tests.imagebuilder import manifest_of, target_of
from tests.runtimebuilder import LIBRARY, START, call, lay_out, stand_in

from spark import commands
from spark.commands import HELP
from spark.diagnosis import load_needs
from sparkbake.doctorneeds import load_standards, needs_of
from sparkbake.hostvalues import Needs
from sparkbake.model import Strategy
from sparkbake.project import Project, open_project
from sparkbake.runtime import FOLDER, MOE_CONFIGS

layout = load_script("layout")


@pytest.fixture(scope="module")
def root(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image's own files."""
    folder = tmp_path_factory.mktemp("image")
    lay_out(project, folder)
    return folder


@pytest.fixture(scope="module")
def start(root: Path) -> Path:
    return root / START


# ---- which files


def test_an_image_has_its_entrypoint_its_modules_its_needs_and_the_tuned_configs(project: Project) -> None:
    paths = {one.path for one in project.runtime(target_of(project))}
    ours = {one.relative_to(FOLDER).as_posix() for one in paths if not one.is_relative_to(FOLDER / MOE_CONFIGS)}
    assert {one.removeprefix(f"{LIBRARY}/") for one in ours} == {
        START, "__main__.py", "needs.json", "selftest/__main__.py", "selftest/selftest_kernel.py",
        *(f"spark/{one}.py" for one in ("__init__", "child", "commands", "diagnosis", "health", "info", "limits")),
        *(f"spark/{one}.py" for one in ("network", "rays", "say", "serve")),
        *(f"sparkbake/{one}.py" for one in ("__init__", "doctor", "errors", "hostchecks", "hostfacts", "hostread")),
        *(f"sparkbake/{one}.py" for one in ("hostengine", "hostnetwork", "hostresources", "hostvalues")),
        "sparkbake/process.py",
    }  # fmt: skip
    configs = {one.name for one in paths if one.is_relative_to(FOLDER / MOE_CONFIGS)}
    assert configs == {one.name for one in (ROOT / "moe_configs").glob("*.json")} != set()


def test_files_are_in_order_and_as_they_stand_in_the_checkout(project: Project) -> None:
    files = project.runtime(target_of(project))
    assert [one.path for one in files] == sorted(one.path for one in files)
    contents = {one.path: one.content for one in files}
    assert contents[FOLDER / START] == (ROOT / "recipes/runtime/start.sh").read_text(encoding="utf-8")
    assert contents[FOLDER / LIBRARY / "sparkbake/process.py"] == (ROOT / "src/sparkbake/process.py").read_text(
        encoding="utf-8"
    )


def test_a_new_version_of_this_project_changes_no_image(project: Project) -> None:
    contents = {one.path: one.content for one in project.runtime(target_of(project))}
    tree = ast.parse(contents[FOLDER / LIBRARY / "sparkbake/__init__.py"])
    assert [type(one) for one in tree.body] == [ast.Expr]


def test_what_says_its_interpreter_can_be_executed_and_nothing_else(project: Project, tmp_path: Path) -> None:
    lay_out(project, tmp_path / "context")
    layout.add_runtime(tmp_path / "context", tmp_path / "layer")
    modes = {
        path.relative_to(tmp_path / "layer").as_posix(): path.stat().st_mode & 0o7777
        for path in (tmp_path / "layer").rglob("*")
        if path.is_file()
    }
    assert [path for path, mode in modes.items() if mode == 0o755] == [START]
    assert {mode for path, mode in modes.items() if path != START} == {0o644}


def test_what_the_image_needs_is_read_as_the_build_wrote_it(project: Project, root: Path) -> None:
    needs = needs_of(
        load_standards(ROOT / "doctor.yaml"),
        compute_capability=project.matrix.chip.compute_capability,
        cuda=dict(target_of(project).versions)["cuda"],
        packed_bytes=0,
        ports=(),
    )
    found = load_needs(root / LIBRARY / "needs.json")
    assert found == needs
    assert found.troubles
    for one in fields(Needs):
        assert type(getattr(found, one.name)) is type(getattr(needs, one.name)), one.name


def needs_written(tag: str) -> dict[str, Any]:
    """needs.json as the image of a real row has it."""
    real = open_project(ROOT)
    (row,) = real.select([tag])
    if row.release.strategy is Strategy.SOURCE:
        files = real.runtime(real.source_plan([row]).targets[-1])
    else:
        files = real.runtime(real.plan([row], real.matrix.bases[0]).targets[0])
    (text,) = (one.content for one in files if one.path.name == "needs.json")
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize("tag", ["0.13.0-t5", "0.14.0-t5", "0.14.1-t4"])
def test_an_image_is_told_the_models_that_it_cannot_run(tag: str, tmp_path: Path) -> None:
    """How `serve` knows them, before vLLM fails on one with a message of its own."""
    (limit,) = needs_written(tag)["limits"]
    assert limit == {
        "model": "GLM-4.7-Flash",
        "architectures": ["Glm4MoeLiteForCausalLM", "Glm4MoeLiteMTPModel"],
        "model_types": ["glm4_moe_lite", "glm4_moe_lite_mtp"],
        "reason": "this release has no such model; 0.15.0 with transformers 5 has it",
    }
    path = tmp_path / "needs.json"
    path.write_text(json.dumps(needs_written(tag)), encoding="utf-8")
    assert load_needs(path).compute_capability == "12.1", "the doctor reads what is its own"


@pytest.mark.parametrize("tag", ["0.15.1-t5", "0.32.0-t5"])
def test_an_image_without_such_models_says_nothing_of_them(tag: str) -> None:
    assert set(needs_written(tag)) == {one.name for one in fields(Needs)}


def modules_of(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{one.name}" for one in node.names)}
    return names


# What the self-test tries; it runs with the image's Python.
OF_THE_ENVIRONMENT = {"torch", "triton", "flashinfer", "selftest_kernel"}


def test_modules_need_the_standard_library_and_each_other_alone(root: Path) -> None:
    library = root / LIBRARY
    there = {path.relative_to(library).with_suffix("").as_posix().replace("/", ".") for path in library.rglob("*.py")}
    for path in library.rglob("*.py"):
        for name in modules_of(ast.parse(path.read_text(encoding="utf-8"))):
            first = name.partition(".")[0]
            if first in ("spark", "sparkbake"):
                # A module, or a name of one.
                assert name in there | {"spark", "sparkbake"} or name.rpartition(".")[0] in there, f"{path}: {name}"
            elif first not in sys.stdlib_module_names:
                assert first in OF_THE_ENVIRONMENT, f"{path}: {name}"
                assert path.parent.name == "selftest", f"{path}: {name}"


# ---- caches


def test_the_guide_names_each_folder_of_caches_that_an_image_sets() -> None:
    """Beside those of what takes XDG_CACHE_HOME: vllm, and models."""
    text = (ROOT / "recipes/_macros.j2").read_text(encoding="utf-8")
    ours = set(re.findall(r"=/cache/([\w-]+)", text))
    table = (ROOT / "docs/running.md").read_text(encoding="utf-8").partition("| folder | of |")[2].partition("\n\n")[0]
    told = {one for line in table.splitlines() for one in re.findall(r"`([a-z_-]+)`", line.partition(" | ")[0])}
    assert told == ours | {"huggingface", "vllm"}
    # FlashInfer and others would put what has no folder of its own among the rest.
    assert re.findall(r"(\w+)=/cache(?![/\w])", text) == ["XDG_CACHE_HOME"]


# ---- the entrypoint


@pytest.mark.parametrize(
    "words",
    [
        ["a b", "c"],
        ["", "it's", '"', "$HOME", "*", "\\n", "--option=x y"],
        ["serve", "health"],
    ],
)
def test_any_command_runs_as_it_is(start: Path, words: list[str]) -> None:
    assert call([start, "printf", "<%s>", *words]) == (0, "".join(f"<{one}>" for one in words), "")


def test_a_command_gets_the_environment_as_it_is_and_is_the_first_process_itself(start: Path) -> None:
    """Nothing is added; sh alone sets PWD, as it does in every container."""
    code, out, _err = call([start, "env"], {"MODEL": "x y", "HF_TOKEN": "hf_z"})
    assert code == 0
    assert set(out.splitlines()) - {f"PWD={Path.cwd()}"} == {
        "PATH=/usr/bin:/bin", "HOME=/tmp", "USER=root", "MODEL=x y", "HF_TOKEN=hf_z",
    }  # fmt: skip
    code, out, _err = call(["sh", "-c", f"echo $$; exec {start} sh -c 'echo $$'"])
    assert len(set(out.split())) == 1


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_its_exit_status_is_the_container_s(start: Path, code: int) -> None:
    assert call([start, "sh", "-c", f"exit {code}"])[0] == code


def test_an_unknown_command_ends_it_with_127(start: Path) -> None:
    code, out, err = call([start, "no-such-program", "x"])
    assert (code, out) == (127, "")
    assert err.endswith("no-such-program: not found\n")


@pytest.mark.parametrize("option", ["--port", "-tp"])
def test_an_option_without_a_command_is_refused(start: Path, option: str) -> None:
    assert call([start, option, "8000"]) == (
        2,
        "",
        f"spark: {option}: expected a command before it: serve MODEL {option} ..., or vllm serve MODEL {option} ...; "
        "see: help\n",
    )


def test_without_a_command_there_is_a_shell(start: Path) -> None:
    assert call([start]) == (0, "", "")  # which finds the end of its input at once
    assert call(["sh", "-c", f"echo 'echo $0' | {start}"]) == (0, "/bin/bash\n", "")


@pytest.mark.parametrize("word", ["help", "--help", "-h"])
def test_help_names_every_word(start: Path, word: str) -> None:
    assert call([start, word]) == (0, HELP, "")


def test_every_word_of_the_entrypoint_is_a_command_and_the_other_way_round() -> None:
    text = (ROOT / "recipes/runtime/start.sh").read_text(encoding="utf-8")
    words = {one.strip() for one in text.partition(" in\n")[2].partition(")")[0].split("|")}
    tree = ast.parse((ROOT / "recipes/runtime/spark/commands.py").read_text(encoding="utf-8"))
    known = next(node for node in ast.walk(tree) if isinstance(node, ast.Dict))
    assert words == {ast.literal_eval(one) for one in known.keys if one} | {"help", "--help", "-h"}
    for word in words - {"help", "--help", "-h"}:
        assert f"\n  {word} " in HELP


# ---- our own commands, from the files of an image


def test_serve_prints_the_command_that_it_would_run(start: Path) -> None:
    environment = {"MODEL": "a/b", "PORT": "8888", "VLLM_EXTRA_ARGS": "--x '{\"a\": 1}'", "HF_TOKEN": "geheim"}
    assert call([start, "serve", "--dry-run", "--y", "a b geheim"], environment) == (
        0, "vllm serve a/b --port 8888 --x '{\"a\": 1}' --y 'a b ***'\n", "",
    )  # fmt: skip


def test_serve_refuses_before_anything_starts(start: Path) -> None:
    assert call([start, "serve"], {"MODEL": "a/b", "PORT": "x"}) == (
        2, "", "spark: error: serve: PORT is 'x', expected a port from 1 to 65535\n",
    )  # fmt: skip


def test_a_command_of_a_node_gets_its_settings(start: Path, tmp_path: Path) -> None:
    answer = '[{"ifname": "eth0", "dev": "eth0", "prefsrc": "10.0.0.5", "addr_info": [{"local": "10.0.0.5"}]}]'
    stand_in(tmp_path, "ip", f"echo '{answer}'\n")
    path = f"{tmp_path}:/usr/bin:/bin"
    code, out, err = call([start, "cluster", "sh", "-c", 'echo "$VLLM_HOST_IP $1"', "sh", "a b"], {"PATH": path})
    assert (code, out) == (0, "10.0.0.5 a b\n")
    assert "spark: VLLM_HOST_IP=10.0.0.5 (the default route)\n" in err


def test_the_head_of_a_cluster_says_how_to_join_it_and_becomes_ray(start: Path, tmp_path: Path) -> None:
    answer = '[{"ifname": "eth0", "dev": "eth0", "prefsrc": "10.0.0.5", "addr_info": [{"local": "10.0.0.5"}]}]'
    stand_in(tmp_path, "ip", f"echo '{answer}'\n")
    stand_in(tmp_path, "ray", 'echo "$HOME $USER $RAY_memory_monitor_refresh_ms $@"; exit 3\n')
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": "/nowhere", "USER": "me", "RAY_PORT": "7000"}
    code, out, err = call([start, "ray-head", "--redis-password", "geheim"], environment)
    command = "start --head --block --node-ip-address=10.0.0.5 --port=7000 --redis-password"
    assert (code, out) == (3, f"/tmp me 0 {command} geheim\n")
    assert "spark: a worker joins with: ray-worker 10.0.0.5:7000\n" in err
    assert f"spark: ray {command} '***'\n" in err
    assert "spark: HOME=/tmp (/nowhere cannot be written by user " in err


def test_without_a_folder_to_write_to_it_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with a read-only root and no --tmpfs."""
    monkeypatch.setattr(commands, "_TEMPORARY", "/nowhere/tmp")
    monkeypatch.setenv("HOME", "/nowhere/home")
    assert commands.main(["ray-head"]) == 2
    assert capsys.readouterr().err == (
        f"spark: error: neither HOME (/nowhere/home) nor /nowhere/tmp can be written by user {os.getuid()}; start the "
        "container with --tmpfs /nowhere/tmp\n"
    )


def test_info_tells_versions_and_why_there_is_no_gpu(project: Project, tmp_path: Path) -> None:
    lay_out(project, tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(manifest_of(project, target_of(project)))
    module = tmp_path / LIBRARY / "spark/info.py"
    text = module.read_text(encoding="utf-8").replace("/usr/share/sparkbake/manifest.json", str(manifest))
    module.write_text(text, encoding="utf-8")
    stand_in(tmp_path, "nvidia-smi", "echo 'no devices were found'; exit 6\n")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path / "cache"), "MAX_JOBS": "4"}
    code, out, err = call([tmp_path / START, "info", "--json"], environment)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["versions"]["torch"] == "2.11.0"
    assert found["image"] == target_of(project).reference
    assert (found["machine"]["gpus"], found["machine"]["no_gpu_because"]) == ([], "no devices were found")
    assert found["caches"] == {"folder": str(tmp_path / "cache"), "state": "not there"}
    assert found["settings"] == {"XDG_CACHE_HOME": str(tmp_path / "cache"), "MAX_JOBS": "4"}
    code, out, err = call([tmp_path / START, "info"], environment)
    assert (code, err) == (0, "")
    assert f"  {'torch':<26} 2.11.0\n" in out


def test_info_refuses_other_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["info", "--yaml"]) == 2
    assert capsys.readouterr().err == "spark: error: info: --yaml: expected nothing, or --json\n"


def test_the_doctor_of_an_image_holds_the_machine_against_the_image(start: Path) -> None:
    code, out, err = call([start, "doctor", "--json", "--port", "8123"], {"PATH": "/nowhere"})
    found = json.loads(out)
    assert (code, err) == (1, "")  # there is no driver, at least on that PATH
    assert found["needs"]["ports"] == [8123]
    assert "error" in {one["status"] for one in found["checks"]}


@pytest.mark.parametrize("port", ["0", "65536", "x", "²"])
def test_the_doctor_of_an_image_refuses_a_port_that_is_none(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.main(["doctor", "--port", port])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"argument --port: {port}: expected a port from 1 to 65535\n")
