"""Claims about the workflows in .github, and the scripts of their steps, run here as GitHub would run them."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.builders import real_files, real_matrix

from sparkbake import cli
from sparkbake.arguments import make_parser

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
SCRIPTS = GITHUB / "scripts"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted((GITHUB / "workflows").glob("*.yml"))}
# BaseLoader gives strings for all scalars: to YAML, the key `on` is the truth value.
WORKFLOWS: dict[str, dict[str, Any]] = {
    name: yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
    for name, text in TEXTS.items()
}
PINS = yaml.safe_load((GITHUB / "actions.yaml").read_text(encoding="utf-8"))

# Whoever adds one says here what may write, and where.
WRITING = {
    ("publish.yml", "publish"): {"id-token"},
    ("publish.yml", "release"): {"contents"},
    ("watch.yml", "propose"): {"actions", "contents", "pull-requests"},
    ("watch.yml", "tell"): {"issues"},
}


def all_jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for workflow, body in WORKFLOWS.items():
        for name, job in body["jobs"].items():
            yield workflow, name, job


def all_steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for workflow, name, job in all_jobs():
        for step in job["steps"]:
            yield f"{workflow}: {name}: {step.get('name') or step.get('uses')}", step


def run_steps() -> list[tuple[str, str]]:
    return [(place, step["run"]) for place, step in all_steps() if "run" in step]


def step_named(workflow: str, job: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in WORKFLOWS[workflow]["jobs"][job]["steps"] if one.get("name") == name)
    return dict(found)


# ---- what is used


@pytest.mark.parametrize("workflow", TEXTS)
def test_an_action_is_named_by_the_recorded_commit_and_its_tag(workflow: str) -> None:
    for line in (one for one in TEXTS[workflow].splitlines() if "uses:" in one):
        found = re.fullmatch(r"\s*(?:- )?uses: ([\w.-]+/[\w.-]+)@([0-9a-f]{40}) # (v[\d.]+)", line)
        assert found, f"{workflow}: {line.strip()}: expected OWNER/NAME@<40 hex digits> # <tag>"
        name, commit, tag = found.groups()
        assert (commit, tag) == (PINS[name]["commit"], PINS[name]["tag"]), (
            f"{workflow}: {name}: see .github/actions.yaml"
        )


def test_every_recorded_action_is_used_and_says_where_its_tag_was_seen() -> None:
    used = {step["uses"].partition("@")[0] for _place, step in all_steps() if "uses" in step}
    assert used == set(PINS)
    for name, pin in PINS.items():
        assert set(pin) == {"tag", "commit", "seen_in"}, name
        assert len(pin["seen_in"]) > 1, name


# ---- what they may do


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_may_nothing_and_runs_its_steps_with_pipefail(workflow: str) -> None:
    assert WORKFLOWS[workflow]["permissions"] == {}
    assert WORKFLOWS[workflow]["defaults"] == {"run": {"shell": "bash"}}
    assert WORKFLOWS[workflow]["concurrency"]["group"]


def test_a_job_has_a_limit_and_only_the_permissions_that_stand_here() -> None:
    for workflow, name, job in all_jobs():
        assert "timeout-minutes" in job, f"{workflow}: {name}"
        assert set(job["permissions"].values()) <= {"read", "write"}, f"{workflow}: {name}"
        writing = {what for what, how in job["permissions"].items() if how == "write"}
        assert writing == WRITING.get((workflow, name), set()), f"{workflow}: {name}"


def test_a_pull_request_starts_ci_alone_which_has_no_secret_and_no_machine_of_ours() -> None:
    assert [name for name, body in WORKFLOWS.items() if "pull_request" in body["on"]] == ["ci.yml"]
    for name, text in TEXTS.items():
        assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(WORKFLOWS[name]["on"]), name
        assert "pull_request_target" not in text
    assert not re.search(r"secrets\.|github\.token|self-hosted|environment:", TEXTS["ci.yml"])


def test_secrets_are_where_a_person_has_approved() -> None:
    for workflow, name, job in all_jobs():
        if "secrets." in json.dumps(job):
            assert (workflow, name, job["environment"]) == ("publish.yml", "publish", "publish")
    assert set(re.findall(r"secrets\.(\w+)", "".join(TEXTS.values()))) == {"DOCKERHUB_USERNAME", "DOCKERHUB_TOKEN"}


def test_the_login_comes_after_all_that_was_handed_over_is_verified() -> None:
    steps = WORKFLOWS["publish.yml"]["jobs"]["publish"]["steps"]
    words = [f"{step.get('uses', '')} {step.get('run', '')}" for step in steps]
    order = [
        next(number for number, said in enumerate(words) if part in said)
        for part in ("unpack.sh", "quickstart verify", "login-action", "quickstart publish", "quickstart check")
    ]
    assert order == sorted(order)


def test_a_checkout_leaves_no_token_behind() -> None:
    for place, step in all_steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": "false"}, place


# ---- what steps run


@pytest.mark.parametrize(("place", "script"), run_steps(), ids=[place for place, _script in run_steps()])
def test_a_step_takes_values_from_its_environment_and_is_bash(place: str, script: str) -> None:
    """An expression in a script is put there as text, and may be a command."""
    assert "${{" not in script, place
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert checked.stderr == "", place


@pytest.mark.parametrize(("place", "script"), run_steps(), ids=[place for place, _script in run_steps()])
def test_a_step_that_builds_or_publishes_does_it_with_our_commands(place: str, script: str) -> None:
    """So that it can be done on a laptop, too."""
    assert not re.search(r"\b(buildx|docker (build|push|tag)|cosign|pip|uv|pytest)\b", script), place
    for name in re.findall(r"\.github/scripts/([\w.]+)", script):
        assert (SCRIPTS / name).is_file(), f"{place}: {name}"
    ours = re.search(r"\./quickstart \w|\.github/scripts/", script)
    assert ours or script.startswith(("echo ", "docker builder prune")), place


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_executable_strict_and_used(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert "\nset -euo pipefail\n" in script.read_text(encoding="utf-8")
    assert any(f".github/scripts/{script.name}" in text for text in TEXTS.values())


def quickstart_calls() -> list[tuple[str, str]]:
    """Every call of ./quickstart in a step or a script: where it stands, and its arguments as the shell has them."""
    scripts = [(path.name, path.read_text(encoding="utf-8")) for path in sorted(SCRIPTS.glob("*.sh"))]
    found = re.compile(r"\./quickstart ((?:\"[^\"]*\"|[^\n|>&)\"])+)")
    return [(place, words.strip()) for place, text in (*run_steps(), *scripts) for words in found.findall(text)]


@pytest.mark.parametrize(("place", "words"), quickstart_calls())
def test_a_call_of_ours_names_a_session_and_options_that_there_are(place: str, words: str) -> None:
    session, *arguments = shlex.split(words)
    sessions = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    assert re.search(rf'^def {session}\(|name="{session}"', sessions, re.MULTILINE), f"{place}: {session}"
    if session in cli._COMMANDS:
        make_parser("").parse_args([session, *arguments])


# ---- the steps, run


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a `quickstart` that calls the command line as nox does, without making an environment first."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / ".github").symlink_to(GITHUB)
    program(folder / "quickstart", f'exec {sys.executable} -m sparkbake.cli --root {ROOT} "$@"')
    return folder


def program(path: Path, body: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\nset -euo pipefail\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def run(folder: Path, script: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a step's script as GitHub does; programs in `folder`/../bin come before those of this machine."""
    path = f"{folder.parent / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        "PATH": path, "HOME": str(folder.parent), "PYTHONPATH": str(ROOT / "src"),
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
    }  # fmt: skip
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=folder, env={**environment, **variables}, capture_output=True, text=True, check=False, timeout=60
    )


def outputs(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_step_that_lists_jobs_gives_one_to_each_row_that_can_be_built(checkout: Path) -> None:
    """A pattern is the matrix's to match, and not the shell's."""
    (checkout / "0.20.2-notes").touch()
    step = step_named("build.yml", "rows", "Jobs of the rows")
    target = checkout / "output"
    done = run(checkout, step["run"], TAGS="0.20.2-* 0.32.0-t5", GITHUB_OUTPUT=str(target))
    assert done.returncode == 0, done.stderr
    wheels = {"runner": ["ubuntu-24.04-arm"], "minutes": 350, "options": "--base debian-13", "compiled": False}
    assert json.loads(outputs(target.read_text(encoding="utf-8"))["jobs"]) == [
        {"name": tag, "tags": tag, **wheels} for tag in ("0.20.2-t4", "0.20.2-t5", "0.32.0-t5")
    ]


def test_a_row_that_cannot_be_listed_ends_the_step(checkout: Path) -> None:
    step = step_named("publish.yml", "rows", "Jobs of the rows")
    program(checkout / "quickstart", "echo []; exit 2")
    done = run(checkout, step["run"], TAGS="9.9.9-t9", GITHUB_OUTPUT=str(checkout / "output"))
    assert done.returncode != 0


def test_several_rows_are_published_in_one_run_as_they_are_recorded(checkout: Path) -> None:
    """A third run that is started cancels the second, which waits."""
    step = step_named("publish.yml", "rows", "Jobs of the rows")
    target = checkout / "output"
    done = run(checkout, step["run"], TAGS="0.31.0-t5 0.20.2-*", GITHUB_OUTPUT=str(target))
    assert done.returncode == 0, done.stderr
    found = json.loads(outputs(target.read_text())["jobs"])
    assert [one["tags"] for one in found] == ["0.20.2-t4", "0.20.2-t5", "0.31.0-t5"]
    assert found[0] == {
        "name": "0.20.2-t4",
        "tags": "0.20.2-t4",
        "runner": ["ubuntu-24.04-arm"],
        "minutes": 350,
        "options": "--base debian-13 --recorded",
        "compiled": False,
        "publisher": ["ubuntu-24.04-arm"],
    }
    for name in ("image", "publish", "release"):
        job = WORKFLOWS["publish.yml"]["jobs"][name]
        assert job["strategy"]["matrix"] == {"include": "${{ fromJSON(needs.rows.outputs.jobs) }}"}
        assert job["env"]["TAGS"] == "${{ matrix.tags }}"
    # Two releases at once would each take the other for one that is not there yet, and both for GitHub's latest.
    for job in ("publish", "release"):
        assert WORKFLOWS["publish.yml"]["jobs"][job]["strategy"]["max-parallel"] == "1"


@pytest.mark.parametrize(
    ("workflow", "job", "variables"),
    [
        ("build.yml", "build", {"WORDS": "0.20.2-t4 0.20.2-t5 --base debian-13"}),
        ("publish.yml", "image", {"TAGS": "0.20.2-t4", "OPTIONS": "--base debian-13"}),
    ],
)
def test_a_build_is_on_the_base_that_is_published(
    checkout: Path, workflow: str, job: str, variables: dict[str, str]
) -> None:
    program(checkout / "quickstart", 'printf "%s\\n" "$*" >called')
    done = run(checkout, step_named(workflow, job, "Build and verify")["run"], **variables)
    assert done.returncode == 0, done.stderr
    called = (checkout / "called").read_text(encoding="utf-8")
    assert called.startswith("build 0.20.2-t4 ")
    assert "--base debian-13 --progress plain" in called


def test_all_records_are_of_the_base_that_is_published() -> None:
    """Otherwise workflows would publish what no page has the digest of."""
    records = [json.loads(one.read_text(encoding="utf-8")) for one in (ROOT / "locks" / "digests").glob("*.json")]
    assert records
    assert {base for one in records for base in one["bases"]} == {real_matrix().tagging.base}


def test_publishing_from_elsewhere_than_main_ends_with_what_to_do(checkout: Path) -> None:
    step = step_named("publish.yml", "rows", "Only what main has is published")
    assert step["if"] == "github.ref != 'refs/heads/main'"
    done = run(checkout, step["run"], GITHUB_REF="refs/heads/other")
    assert done.returncode == 1
    assert "started on refs/heads/other, expected refs/heads/main" in done.stdout


def test_the_references_of_rows_come_from_their_plan(checkout: Path) -> None:
    script = "./quickstart build $TAGS --dry-run --json | python3 .github/scripts/reference.py $TAGS"
    done = run(checkout, script, TAGS="0.32.0-t5")
    assert done.stdout == "row docker.io/scitrera/dgx-spark-vllm:0.32.0-t5\n", done.stderr
    done = run(checkout, script, TAGS="0.14.1-t4 0.14.1-t5")
    assert done.stdout.splitlines() == [
        "foundation docker.io/scitrera/dgx-spark-pytorch-dev:2.10.0-cu131",
        "foundation docker.io/scitrera/dgx-spark-pytorch:2.10.0-cu131",
        "row docker.io/scitrera/dgx-spark-vllm:0.14.1-t4",
        "row docker.io/scitrera/dgx-spark-vllm:0.14.1-t5",
    ], done.stderr
    done = run(checkout, "echo [] | python3 .github/scripts/reference.py 0.32.0-t5")
    assert done.returncode == 1
    assert "the plan has 0 images of 0.32.0-t5, expected one" in done.stderr


# ---- jobs.py


def row(tag: str, **changes: str) -> dict[str, str | None]:
    known = {"tag": tag, "strategy": "wheels", "foundation": "2.13.0-cu130", "base": "trixie", "locked": "yes"}
    return {**known, **changes}


def jobs(
    folder: Path, rows: list[dict[str, str | None]], *words: str, runner: str = "", cache: str = ""
) -> "subprocess.CompletedProcess[str]":
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return run(folder, f"python3 {SCRIPTS}/jobs.py {' '.join(words)} <rows.json", RUNNER=runner, CACHE=cache)


def test_rows_that_are_compiled_are_a_job_for_each_foundation_on_a_spark(tmp_path: Path) -> None:
    source = {"strategy": "source", "foundation": "2.10.0-cu131"}
    done = jobs(tmp_path, [row("0.14.1-t4", **source), row("0.32.0-t5"), row("0.14.1-t5", **source)])
    assert done.returncode == 0, done.stderr
    options = "--wheels build/wheels"
    spark = {"runner": ["self-hosted", "dgx-spark"], "minutes": 2880, "options": options, "compiled": True}
    assert json.loads(outputs(done.stdout)["jobs"]) == [
        {"name": "2.10.0-cu131", "tags": "0.14.1-t4 0.14.1-t5", **spark},
        {
            "name": "0.32.0-t5",
            "tags": "0.32.0-t5",
            "runner": ["ubuntu-24.04-arm"],
            "minutes": 350,
            "options": "--base trixie",
            "compiled": False,
        },
    ]


@pytest.mark.parametrize(
    ("runner", "builds", "minutes", "publishes"),
    [
        ("", ["ubuntu-24.04-arm"], 350, ["ubuntu-24.04-arm"]),
        ("arm64-16-cores", ["arm64-16-cores"], 350, ["arm64-16-cores"]),
        ("dgx-spark", ["self-hosted", "dgx-spark"], 2880, ["ubuntu-24.04-arm"]),
    ],
)
def test_another_runner_may_be_named_for_rows_from_wheels_and_secrets_never_go_to_a_spark(
    tmp_path: Path, runner: str, builds: list[str], minutes: int, publishes: list[str]
) -> None:
    done = jobs(tmp_path, [row("0.32.0-t5")], "--publish", runner=runner)
    assert done.returncode == 0, done.stderr
    (job,) = json.loads(outputs(done.stdout)["jobs"])
    assert (job["runner"], job["minutes"], job["publisher"]) == (builds, minutes, publishes)


def test_compiled_rows_stay_on_a_spark_whatever_runner_is_named(tmp_path: Path) -> None:
    done = jobs(tmp_path, [row("0.14.1-t4", strategy="source")], runner="arm64-16-cores")
    assert json.loads(outputs(done.stdout)["jobs"])[0]["runner"] == ["self-hosted", "dgx-spark"]
    assert "::warning::jobs.py: the runner arm64-16-cores is for rows of wheels" in done.stderr


@pytest.mark.parametrize("runner", ["", "dgx-spark", "arm64-16-cores"])
def test_compiled_rows_are_published_from_a_hosted_runner_those_of_a_foundation_together(
    tmp_path: Path, runner: str
) -> None:
    """One build makes what they stand on: two would make two, of which the registry takes one."""
    source = {"strategy": "source", "foundation": "2.10.0-cu131"}
    done = jobs(tmp_path, [row("0.14.1-t4", **source), row("0.14.1-t5", **source)], "--publish", runner=runner)
    assert done.returncode == 0, done.stderr
    (job,) = json.loads(outputs(done.stdout)["jobs"])
    assert job == {
        "name": "2.10.0-cu131",
        "tags": "0.14.1-t4 0.14.1-t5",
        "runner": ["self-hosted", "dgx-spark"],
        "minutes": 2880,
        "options": "--wheels build/wheels",
        "compiled": True,
        "publisher": ["arm64-16-cores" if runner.startswith("arm64") else "ubuntu-24.04-arm"],
    }


CACHE = "registry.example:5000/sparks/build-cache"


def test_a_cache_in_a_registry_is_read_for_what_is_compiled_and_not_published(tmp_path: Path) -> None:
    rows = [row("0.14.1-t4", strategy="source"), row("0.32.0-t5")]
    found = json.loads(outputs(jobs(tmp_path, rows, cache=CACHE).stdout)["jobs"])
    assert [one["options"] for one in found] == [f"--wheels build/wheels --cache-from {CACHE}", "--base trixie"]
    make_parser("").parse_args(["build", "0.14.1-t4", *found[0]["options"].split(), "--progress", "plain"])
    found = json.loads(outputs(jobs(tmp_path, rows, "--publish", cache=CACHE).stdout)["jobs"])
    assert [one["options"] for one in found] == ["--wheels build/wheels", "--base trixie --recorded"]


@pytest.mark.parametrize(
    "cache", ["build-cache", "registry.example/x --no-verify", "$(x)", "https://registry.example/x"]
)
def test_a_variable_that_names_no_cache_is_refused(tmp_path: Path, cache: str) -> None:
    done = jobs(tmp_path, [row("0.14.1-t4", strategy="source")], cache=cache)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"::error::jobs.py: got the cache '{cache}', expected a repository as HOST/NAME" in done.stderr
    assert "correct the variable BUILD_CACHE, or remove it" in done.stderr


def test_a_change_of_what_runs_in_builds_starts_one() -> None:
    files = [path for path in real_files() if path.startswith("0.32.0-t5/sparkbake/")]
    watched = WORKFLOWS["build.yml"]["on"]["push"]["paths"]
    assert len(files) > 1
    assert {f"src/{path.removeprefix('0.32.0-t5/')}" for path in files} <= set(watched)


@pytest.mark.parametrize(("workflow", "job"), [("build.yml", "build"), ("publish.yml", "image")])
def test_what_was_compiled_is_kept_as_wheels_from_where_the_build_wrote_them(workflow: str, job: str) -> None:
    step = step_named(workflow, job, "Keep the wheels that were compiled")
    assert step["if"] == "matrix.compiled"
    assert step["with"]["path"] == "build/wheels/"


def test_no_workflow_writes_a_cache() -> None:
    """Where something is built there is no login, and what a branch compiles would be everybody's."""
    scripts = [path.read_text(encoding="utf-8") for path in SCRIPTS.iterdir() if path.is_file()]
    assert not [one for one in (*TEXTS.values(), *scripts) if "--cache-to" in one]
    assert [name for name, text in TEXTS.items() if "vars." in text] == ["build.yml"]


def test_a_row_without_a_lock_is_left_out_and_named(tmp_path: Path) -> None:
    done = jobs(tmp_path, [row("0.14.0rc2-t4", locked="missing"), row("0.32.0-t5")])
    assert done.returncode == 0
    assert [one["name"] for one in json.loads(outputs(done.stdout)["jobs"])] == ["0.32.0-t5"]
    assert "::warning::jobs.py: 0.14.0rc2-t4 is left out: its lock is missing" in done.stderr


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        ([row("0.32.0-t5", locked="stale")], (), "none of 1 rows can be built; `nox -s list` says why"),
        ([row("0.32.0-t5", strategy="guess")], (), "no runner for the strategy guess; expected one of wheels, source"),
        ([row("0.32.0-t4"), row("0.32.0-t5", locked="open")], ("--publish",), "cannot be built: 0.32.0-t5 (open);"),
        ([row("0.14.1-t4", strategy="source", locked="open")], ("--publish",), "none of 1 rows can be built;"),
        ([{**row("0.32.0-t5"), "base": None}], (), "matrix.yaml: publish.base: missing, expected the base"),
    ],
)
def test_what_cannot_become_jobs_says_why(
    rows: list[dict[str, str | None]], words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = jobs(tmp_path, rows, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"::error::jobs.py: {said}" in done.stderr


def test_a_runner_that_is_no_label_is_refused(tmp_path: Path) -> None:
    done = jobs(tmp_path, [row("0.32.0-t5")], runner="a label")
    assert done.returncode == 1
    assert "::error::jobs.py: got the runner 'a label', expected the label of one" in done.stderr


@pytest.mark.parametrize("runner", ["self-hosted", "ARM64", "DGX-Spark"])
def test_a_label_that_a_spark_answers_to_by_another_name_is_refused(tmp_path: Path, runner: str) -> None:
    """It would be given the secrets of who publishes."""
    done = jobs(tmp_path, [row("0.32.0-t5")], "--publish", runner=runner)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"::error::jobs.py: got the runner '{runner}', which may be a Spark; expected dgx-spark" in done.stderr


# ---- the scripts, with stand-ins for what only GitHub has


def logging(path: Path, names: Mapping[str, str]) -> None:
    """Programs in `path`/bin that write down how they were called, then do what stands here."""
    for name, body in names.items():
        program(path / "bin" / name, f'printf "%s\\n" "{name} $*" >>{path}/calls\n{body}')


def calls(path: Path) -> list[str]:
    return (path / "calls").read_text(encoding="utf-8").splitlines() if (path / "calls").exists() else []


def test_a_machine_of_somebody_s_own_is_not_cleared(checkout: Path) -> None:
    logging(checkout.parent, {"sudo": "", "docker": ""})
    for variables in ({}, {"RUNNER_ENVIRONMENT": "self-hosted"}):
        done = run(checkout, ".github/scripts/hosted.sh", **variables)
        assert done.returncode == 1
        assert "expected github-hosted; on a machine of your own nothing of this is needed" in done.stderr
    assert calls(checkout.parent) == []


def test_a_hosted_runner_gets_room_and_the_image_store(checkout: Path) -> None:
    logging(checkout.parent, {"sudo": "", "docker": ""})
    done = run(checkout, ".github/scripts/hosted.sh", RUNNER_ENVIRONMENT="github-hosted", RUNNER_TEMP=str(checkout))
    assert done.returncode == 0, done.stderr
    removed, pruned, updated, tools, installed, restarted = calls(checkout.parent)
    assert removed.startswith("sudo rm -rf -- /usr/local/lib/android ")
    assert all(one.startswith("/") and one.count("/") > 1 for one in removed.split()[4:])
    assert pruned == "docker system prune --all --force"
    assert updated == "sudo apt-get update --quiet"
    assert tools.endswith(" arch-test debian-archive-keyring mmdebstrap")
    assert installed == f"sudo install -m 0644 {checkout}/daemon.json /etc/docker/daemon.json"
    assert restarted == "sudo systemctl restart docker"
    assert json.loads((checkout / "daemon.json").read_text())["features"]["containerd-snapshotter"] is True


def test_a_release_is_made_once_and_its_notes_are_renewed_after_that(checkout: Path) -> None:
    notes = checkout / "notes.md"
    notes.write_text("# 0.32.0-t5\n", encoding="utf-8")
    script = f".github/scripts/release.sh 0.32.0-t5 {notes}"
    logging(checkout.parent, {"gh": "if [[ $2 == list ]]; then echo 0.32.0-t50; fi"})
    assert run(checkout, script, GITHUB_SHA="c0ffee").returncode == 0
    made = f"gh release create 0.32.0-t5 --title 0.32.0-t5 --notes-file {notes} --target c0ffee --latest=false"
    assert calls(checkout.parent)[-1] == made
    logging(checkout.parent, {"gh": "if [[ $2 == list ]]; then echo 0.32.0-t5; fi"})
    assert run(checkout, script, GITHUB_SHA="c0ffee").returncode == 0
    assert calls(checkout.parent)[-1] == f"gh release edit 0.32.0-t5 --notes-file {notes}"
    logging(checkout.parent, {"gh": "exit 4"})
    assert run(checkout, script, GITHUB_SHA="c0ffee").returncode == 4


@pytest.mark.parametrize(
    ("there", "tag", "latest"),
    [
        ((), "0.32.0-t5", "true"),
        (("0.9.0-t5", "0.32.0-t4"), "0.32.0-t5", "true"),
        (("0.32.0-t5",), "0.9.0-t5", "false"),
        (("0.32.0-t5",), "0.32.0-t4", "false"),
        (("0.32.0-t5",), "0.32.0-t5-v2", "true"),
        (("0.32.0-t5-v2",), "0.32.0-t5-v10", "true"),
        (("0.32.0-t5",), "0.32.0.post1-t4", "true"),
        (("0.32.0-t5",), "0.33.0rc1-t5", "false"),
        (("0.33.0rc1-t5", "nightly"), "0.32.0-t5", "true"),
    ],
)
def test_an_older_row_does_not_become_the_latest_release(
    checkout: Path, there: Sequence[str], tag: str, latest: str
) -> None:
    """As with moving tags, a pre-release never is."""
    notes = checkout / "notes.md"
    notes.write_text("x\n", encoding="utf-8")
    logging(checkout.parent, {"gh": f"if [[ $2 == list ]]; then printf '%s\\n' {' '.join(there)}; fi"})
    assert run(checkout, f".github/scripts/release.sh {tag} {notes}", GITHUB_SHA="c0ffee").returncode == 0
    assert calls(checkout.parent)[-1].endswith(f" --target c0ffee --latest={latest}")


def test_a_release_without_notes_is_refused(checkout: Path) -> None:
    logging(checkout.parent, {"gh": ""})
    (checkout / "notes.md").touch()
    done = run(checkout, ".github/scripts/release.sh 0.32.0-t5 notes.md", GITHUB_SHA="c0ffee")
    assert done.returncode == 1
    assert "notes.md is missing or empty, expected the notes of 0.32.0-t5" in done.stderr
    assert calls(checkout.parent) == []


# ---- watching, with a repository that the test makes


QUICKSTART = """
case "$1" in
    list) python3 -c 'import json; print(json.dumps([{"tag": one.strip()} for one in open("matrix.yaml")]))' ;;
    bump) echo "$*" >>../calls; [[ -z ${NEW:-} ]] || printf '%s\\n' $NEW >>matrix.yaml ;;
    notes) printf 'notes of %s\\n\\n## What an update from 0.32.0-t5 downloads\\n' "$2" >"$4" ;;
    kernels) echo "kernels of $2"; exit "${KERNELS:-0}" ;;
    *) echo "$*" >>../calls ;;
esac
"""


def git(folder: Path, *words: str) -> str:
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    named = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    done = subprocess.run(
        ["git", *named, *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a repository with a matrix of one row, a line a row, and a `quickstart` that knows no better."""
    folder = tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    git(tmp_path, "clone", "--quiet", "origin.git", "clone")
    git(folder, "switch", "--quiet", "--create", "main")
    (folder / "matrix.yaml").write_text("0.32.0-t5\n", encoding="utf-8")
    (folder / ".gitignore").write_text(".github\n", encoding="utf-8")
    program(folder / "quickstart", QUICKSTART)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Begin")
    git(folder, "push", "--quiet", "origin", "HEAD")
    (folder / ".github").symlink_to(GITHUB)
    return folder


BUMP = ".github/scripts/bump.sh ../proposal"
PROPOSE = ".github/scripts/propose.sh 0.33.0 ../proposal"


def test_a_new_release_becomes_a_branch_and_a_pull_request(clone: Path) -> None:
    output = clone.parent / "output"
    done = run(clone, BUMP, NEW="0.33.0-t5 0.33.0-t4", KERNELS="1", GITHUB_OUTPUT=str(output))
    assert done.returncode == 0, done.stderr
    assert outputs(output.read_text()) == {"release": "0.33.0"}
    assert calls(clone.parent) == [
        "bump --newest --older-than-days 7", "tests --update-golden tests/test_render.py", "docs",
    ]  # fmt: skip
    body = (clone.parent / "proposal" / "body.md").read_text(encoding="utf-8")
    for part in ("vLLM 0.33.0 is a week old", "notes of 0.33.0-t4", "notes of 0.33.0-t5", "kernels of 0.33.0-t4"):
        assert part in body
    assert "Once both are built, `nox -s delta -- 0.32.0-t5 0.33.0-t5` says which layers an update moves." in body
    assert 'gh workflow run build.yml --ref watch/0.33.0 -f tags="0.33.0-t4 0.33.0-t5"' in body
    git(clone, "reset", "--quiet", "--hard")
    logging(clone.parent, {"gh": ""})
    done = run(clone, PROPOSE)
    assert done.returncode == 0, done.stderr
    assert git(clone, "show", "origin/watch/0.33.0:matrix.yaml") == "0.32.0-t5\n0.33.0-t5\n0.33.0-t4"
    assert git(clone, "log", "-1", "--format=%s", "origin/watch/0.33.0") == "Add the rows of vLLM 0.33.0"
    assert calls(clone.parent)[-2:] == [
        "gh pr create --base main --head watch/0.33.0 --title Add the rows of vLLM 0.33.0 "
        "--body-file ../proposal/body.md",
        "gh workflow run ci.yml --ref watch/0.33.0",
    ]
    git(clone, "switch", "--quiet", "main")
    done = run(clone, PROPOSE)
    assert done.returncode == 0
    assert "watch/0.33.0 is there already; delete it to have it proposed anew" in done.stdout
    assert len([one for one in calls(clone.parent) if one.startswith("gh pr create")]) == 1


def test_a_week_without_a_release_ends_quietly(clone: Path) -> None:
    done = run(clone, BUMP, GITHUB_OUTPUT=str(clone.parent / "output"))
    assert done.returncode == 0, done.stderr
    assert "the matrix has every release that is old enough" in done.stdout
    assert not (clone.parent / "output").exists()
    assert not (clone.parent / "proposal/change.patch").exists()


def test_a_fault_of_the_kernels_command_is_not_taken_for_a_finding(clone: Path) -> None:
    done = run(clone, BUMP, NEW="0.33.0-t5", KERNELS="6", GITHUB_OUTPUT=str(clone.parent / "output"))
    assert done.returncode == 6
    assert not (clone.parent / "output").exists()


def test_a_checkout_with_changes_is_not_bumped(clone: Path) -> None:
    (clone / "matrix.yaml").write_text("0.31.0-t5\n", encoding="utf-8")
    done = run(clone, BUMP, NEW="0.33.0-t5")
    assert done.returncode == 1
    assert "this checkout has changes of its own; run it in a clean clone" in done.stderr
    assert calls(clone.parent) == []


def test_files_that_change_without_a_new_row_are_an_error(clone: Path) -> None:
    with (clone / "quickstart").open("a", encoding="utf-8") as file:
        file.write("[[ $1 != bump ]] || echo stray >stray\n")
    git(clone, "commit", "--quiet", "--all", "--message", "Stray")
    done = run(clone, BUMP)
    assert done.returncode == 1
    assert "bump changed files, and no row is new" in done.stderr


def test_a_proposal_brings_data_and_no_code(clone: Path) -> None:
    for name in ("matrix.yaml", "noxfile.py", "tests/golden/x/Dockerfile"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("other\n", encoding="utf-8")
    git(clone, "add", "--all")
    (clone.parent / "proposal").mkdir()
    (clone.parent / "proposal/change.patch").write_text(git(clone, "diff", "--cached") + "\n", encoding="utf-8")
    git(clone, "reset", "--quiet", "--hard")
    logging(clone.parent, {"gh": ""})
    done = run(clone, PROPOSE)
    assert done.returncode == 1
    assert "the proposal changes noxfile.py, expected only the matrix" in done.stderr
    assert git(clone, "ls-remote", "origin", "refs/heads/watch/*") == ""
    assert calls(clone.parent) == []


def test_a_release_that_is_none_is_not_made_a_branch(clone: Path) -> None:
    done = run(clone, ".github/scripts/propose.sh '0.33.0;x' ../proposal")
    assert done.returncode == 1
    assert "got '0.33.0;x', expected a release such as 0.33.0" in done.stderr


# ---- torch and FlashInfer

TITLE = "Releases of torch and FlashInfer that no row has"


def test_what_no_row_has_is_told_in_one_issue(checkout: Path) -> None:
    news = checkout / "news.md"
    news.write_text("torch 2.15.0\n", encoding="utf-8")
    script = f".github/scripts/tell.sh {news}"
    logging(checkout.parent, {"gh": ""})
    assert run(checkout, script).returncode == 0
    assert calls(checkout.parent)[-1] == f"gh issue create --title {TITLE} --body-file {news}"
    logging(checkout.parent, {"gh": "if [[ $2 == list ]]; then printf '7\\n9\\n'; fi"})
    assert run(checkout, script).returncode == 0
    asked, edited = calls(checkout.parent)[-2:]
    assert "--app github-actions --state open" in asked
    assert f'select(.title == "{TITLE}")' in asked
    assert edited == f"gh issue edit 7 --body-file {news}"


def test_an_issue_is_closed_when_the_matrix_has_all_and_none_is_opened_for_nothing(checkout: Path) -> None:
    (checkout / "news.md").touch()
    logging(checkout.parent, {"gh": "if [[ $2 == list ]]; then echo 7; fi"})
    assert run(checkout, ".github/scripts/tell.sh news.md").returncode == 0
    assert calls(checkout.parent)[-1].startswith("gh issue close 7 --comment ")
    (checkout.parent / "calls").unlink()
    logging(checkout.parent, {"gh": ""})
    done = run(checkout, ".github/scripts/tell.sh news.md")
    assert "nothing is new, and no issue is open" in done.stdout
    assert len(calls(checkout.parent)) == 1


def test_an_issue_is_not_written_when_nobody_looked_or_github_does_not_answer(checkout: Path) -> None:
    logging(checkout.parent, {"gh": "exit 4"})
    assert run(checkout, ".github/scripts/tell.sh news.md").returncode == 1
    assert calls(checkout.parent) == []
    (checkout / "news.md").write_text("torch\n", encoding="utf-8")
    assert run(checkout, ".github/scripts/tell.sh news.md").returncode == 4
    assert len(calls(checkout.parent)) == 1


# ---- what is handed over

ROW, DEV, RUNTIME = (
    f"docker.io/scitrera/dgx-spark-{name}"
    for name in ("vllm:0.14.1-t4", "pytorch-dev:2.10.0-cu131", "pytorch:2.10.0-cu131")
)
# An engine whose images are the lines of ../images: their digests are those lines.
ENGINE = """
case "$2" in
    inspect) grep -x -- "$3" ../images ;;
    save) touch "${@: -1}" ;;
    rm) { grep -vx -- "$4" ../images || :; } >../left; mv ../left ../images ;;
esac
"""


@pytest.fixture
def engine(checkout: Path) -> Path:
    """A checkout with reports, whose engine has a compiled row and its foundations."""
    logging(checkout.parent, {"docker": ENGINE})
    (checkout / "build" / "reports").mkdir(parents=True)
    (checkout / "build" / "reports" / "one.json").touch()
    (checkout.parent / "images").write_text(f"{DEV}\n{RUNTIME}\n{ROW}\n", encoding="utf-8")
    return checkout


def test_a_compiled_row_is_handed_over_with_its_foundations_in_one_archive(engine: Path) -> None:
    summary = engine / "summary"
    done = run(engine, ".github/scripts/pack.sh packed 0.14.1-t4", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 0, done.stderr
    assert calls(engine.parent)[-1] == f"docker image save {DEV} {RUNTIME} {ROW} --output packed/images.tar"
    assert f"Built and verified: {ROW}@{ROW}\n" in summary.read_text(encoding="utf-8")
    (engine / "build" / "reports" / "one.json").unlink()
    done = run(engine, ".github/scripts/unpack.sh packed 0.14.1-t4")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["unpacked", one] for one in (DEV, RUNTIME, ROW)]
    assert (engine / "build" / "reports" / "one.json").exists()
    # Verify and publish save images again, on the same disk.
    assert not (engine / "packed" / "images.tar").exists()


def test_a_foundation_that_the_registry_has_is_not_handed_over_and_a_row_must_be(engine: Path) -> None:
    (engine.parent / "images").write_text(f"{ROW}\n", encoding="utf-8")
    done = run(engine, ".github/scripts/pack.sh packed 0.14.1-t4")
    assert done.returncode == 0, done.stderr
    assert calls(engine.parent)[-1] == f"docker image save {ROW} --output packed/images.tar"
    assert (
        f"::notice::pack.sh: {DEV} is not in the engine: what was built stands on that of the registry" in done.stderr
    )
    assert run(engine, ".github/scripts/unpack.sh packed 0.14.1-t4").returncode == 0
    (engine.parent / "images").write_text(f"{DEV}\n", encoding="utf-8")
    done = run(engine, ".github/scripts/pack.sh again 0.14.1-t4")
    assert done.returncode == 1
    assert f"::error::pack.sh: the engine does not have {ROW}, expected all that was asked for; build it" in done.stderr


def test_what_arrives_otherwise_or_not_at_all_is_refused(engine: Path) -> None:
    packed = engine / "packed"
    assert run(engine, ".github/scripts/pack.sh packed 0.14.1-t4").returncode == 0
    digests = (packed / "digests").read_text(encoding="utf-8")
    (packed / "digests").write_text(digests.replace(f"{DEV} {DEV}", f"{DEV} other"), encoding="utf-8")
    done = run(engine, ".github/scripts/unpack.sh packed 0.14.1-t4")
    assert done.returncode == 1
    assert f"{DEV} is {DEV} here, expected other, which was verified; build it again" in done.stderr
    (packed / "images.tar").touch()
    (packed / "digests").write_text(digests.replace(ROW, "somewhere/else:0.14.1-t4"), encoding="utf-8")
    done = run(engine, ".github/scripts/unpack.sh packed 0.14.1-t4")
    assert done.returncode == 1
    assert f"packed/digests has no {ROW}, expected all that is to be published; build it again" in done.stderr


def test_what_is_published_of_compiled_rows_is_made_in_the_run_that_publishes_it(engine: Path) -> None:
    """A checkout of the runner's has neither report nor provenance of what a run before has left in the engine."""
    step = step_named("publish.yml", "image", "Have all images of compiled rows made in this run")
    assert step["if"] == "matrix.compiled"
    (engine.parent / "images").write_text(f"{DEV}\nanother:1\n", encoding="utf-8")
    done = run(engine, step["run"], TAGS="0.14.1-t4 0.14.1-t5")
    assert done.returncode == 0, done.stderr
    assert (engine.parent / "images").read_text(encoding="utf-8") == "another:1\n"
    assert [one for one in calls(engine.parent) if " rm " in one] == [f"docker image rm --force {DEV}"]


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ("image", "Pack the images and their reports"),
        ("publish", "Unpack the images and their reports"),
    ],
)
def test_both_sides_of_a_handover_name_all_rows(checkout: Path, job: str, name: str) -> None:
    scripts = checkout.parent / "scripts" / ".github" / "scripts"
    scripts.mkdir(parents=True)
    for script in ("pack.sh", "unpack.sh"):
        program(scripts / script, 'printf "%s\\n" "$*" >called')
    done = run(scripts.parents[1], step_named("publish.yml", job, name)["run"], TAGS="a b", RUNNER_TEMP="/t")
    assert done.returncode == 0, done.stderr
    assert (scripts.parents[1] / "called").read_text(encoding="utf-8") == "/t/handover a b\n"


def test_every_image_is_checked_and_every_row_gets_its_notes_and_its_release(checkout: Path) -> None:
    plan = {"targets": [{"reference": "r/f:1", "reusable": True}, *({"reference": f"r/v:{tag}"} for tag in "ab")]}
    body = f"""
if [[ $1 == build ]]; then echo '{json.dumps(plan)}'; else echo "$*" >>../calls; cat; fi
if [[ $1 == notes ]]; then touch "$4"; fi
"""
    program(checkout / "quickstart", body)
    step = step_named("publish.yml", "publish", "Check them as a consumer would")
    done = run(checkout, step["run"], TAGS="a b", IDENTITY="me")
    assert done.returncode == 0, done.stderr
    assert [one.split()[:4] for one in calls(checkout.parent)] == [
        ["check", one, "--identity", "me"] for one in ("r/f:1", "r/v:a", "r/v:b")
    ]
    step = step_named("publish.yml", "publish", "Write the release notes")
    assert run(checkout, step["run"], TAGS="a b", RUNNER_TEMP=str(checkout)).returncode == 0
    assert sorted(one.name for one in (checkout / "notes").iterdir()) == ["a.md", "b.md"]
    step = step_named("publish.yml", "release", "Make the releases, or renew their notes")
    for one in (checkout / "notes").iterdir():
        one.write_text("x\n", encoding="utf-8")
    logging(checkout.parent, {"gh": ""})
    assert run(checkout, step["run"], TAGS="a b", RUNNER_TEMP=str(checkout), GITHUB_SHA="c0ffee").returncode == 0
    made = [one.split()[3] for one in calls(checkout.parent) if one.startswith("gh release create")]
    assert made == ["a", "b"]
