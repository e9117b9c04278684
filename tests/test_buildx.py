"""Claims about calling `docker buildx`: its arguments, and what is made of its answers."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.builders import make_log, make_vertex

from sparkbake import buildx, process
from sparkbake.buildx import BakeOptions, BakeResult, PastBuild, bake_argv, past_builds
from sparkbake.errors import BuildError, ProcessError

RUN = "[spark-vllm-0_20_2-t4 layout 2/3] RUN python3 layout.py"
FAILED = "process did not complete successfully: exit code: 1"
DIGEST = "sha256:" + 64 * "a"


# ---- arguments


def made_options(**options: Any) -> BakeOptions:
    return BakeOptions(**{"builder": "default", "secrets": {}, **options})


def argv(environment: Mapping[str, str] | None = None, **options: Any) -> list[str]:
    return bake_argv(Path("b.json"), Path("m.json"), made_options(**options), environment or {})


def test_the_plain_call_names_the_file_the_metadata_the_builder_and_raw_progress() -> None:
    assert argv() == [
        "docker", "buildx", "bake", "--file", "b.json", "--metadata-file", "m.json",
        "--builder", "default", "--progress", "rawjson",
    ]  # fmt: skip


def test_the_builder_is_always_the_one_that_was_chosen() -> None:
    """Whichever one is current on this machine, it is not asked."""
    words = argv(builder="remote")
    assert words[words.index("--builder") + 1] == "remote"
    with pytest.raises(TypeError, match="builder"):
        BakeOptions(secrets={})  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({"no_cache": True}, ["--no-cache"]),
        ({"readable": (Path("/bases"),)}, ["--allow=fs.read=/bases"]),
        ({"writable": (Path("/images"),)}, ["--allow=fs.write=/images"]),
    ],
)
def test_an_option_adds_its_words(options: dict[str, Any], added: list[str]) -> None:
    words = argv(**options)
    start = words.index(added[0])
    assert words[start : start + len(added)] == added
    assert [word for word in words if word not in added] == argv()


@pytest.mark.parametrize(
    ("progress", "expected"), [("auto", "rawjson"), ("plain", "rawjson"), ("quiet", "rawjson"), ("tty", "tty")]
)
def test_the_display_of_buildkit_itself_is_used_only_when_asked_for(progress: str, expected: str) -> None:
    words = argv(progress=progress)
    assert words[words.index("--progress") + 1] == expected


def test_on_the_hosts_network_loopback_is_asked_of_no_proxy() -> None:
    words = argv({"HTTP_PROXY": "http://proxy.example:3128", "no_proxy": "example.org"}, on_host=True)
    assert words[len(argv()) :] == [
        "--allow=network.host",
        "--set", "*.args.HTTP_PROXY",
        "--set", "*.args.no_proxy=example.org,127.0.0.1", "--set", "*.args.NO_PROXY=127.0.0.1",
    ]  # fmt: skip


def test_secrets_reach_every_target_as_files_that_may_be_read() -> None:
    words = argv(secrets={"index": Path("/run/index"), "ca": Path("/etc/ca.pem")})
    assert words[len(argv()) :] == [
        "--allow=fs.read=/etc/ca.pem", "--set", "*.secrets+=id=ca,src=/etc/ca.pem",
        "--allow=fs.read=/run/index", "--set", "*.secrets+=id=index,src=/run/index",
    ]  # fmt: skip


def test_build_arguments_reach_every_target() -> None:
    words = argv(arguments={"BUILDKIT_CACHE_MOUNT_NS": "x"})
    assert words[-2:] == ["--set", "*.args.BUILDKIT_CACHE_MOUNT_NS=x"]


def test_records_of_the_build_cache_are_removed_by_name_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(words: list[str], **_named: Any) -> str:
        asked.append(words)
        return ""

    monkeypatch.setattr("sparkbake.process.run", run)
    buildx.forget("default", frozenset({"b", "a"}))
    assert asked == [
        ["docker", "buildx", "prune", "--builder", "default", "--force", "--all", "--filter", "id~=^(a|b)$"]
    ]
    buildx.forget("default", frozenset())
    assert len(asked) == 1


def test_the_builds_that_a_builder_remembers_are_read_from_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str | Path]] = []

    def run(argv: Sequence[str | Path], **_rest: Any) -> str:
        asked.append(argv)
        return (
            '{"created_at":"2026-11-30T03:31:13Z","name":"a","ref":"default/default/y85l","status":"Running"}\n'
            '{"completed_at":"2026-11-30T03:33:45Z","name":"b","ref":"default/default/netu","status":"Completed"}\n'
        )

    monkeypatch.setattr(process, "run", run)
    assert past_builds("the-engine") == (
        PastBuild(ref="default/default/y85l", is_running=True),
        PastBuild(ref="default/default/netu", is_running=False),
    )
    assert asked == [["docker", "buildx", "history", "ls", "--builder", "the-engine", "--no-trunc", "--format", "json"]]


def test_proxies_of_this_machine_reach_the_steps_and_nothing_else_does() -> None:
    """Bake reads the value from the environment: on a command line everybody would see the password."""
    environment = {"https_proxy": "http://me:secret@proxy:3128", "NO_PROXY": "", "HOME": "/root", "TOKEN": "secret"}
    assert argv(environment)[len(argv()) :] == ["--set", "*.args.https_proxy"]


# ---- a build


class FakeBuild:
    """Plays process.stream: prints lines, leaves metadata, and ends with a status."""

    def __init__(self, *lines: str, status: int = 0, metadata: object = None) -> None:
        self.lines = lines
        self.status = status
        self.metadata = metadata
        self.env: Mapping[str, str] = {}

    def stream(
        self,
        words: Sequence[str],
        on_line: Callable[[str], None],
        *,
        cwd: Path,
        env: Mapping[str, str],
        inherit: bool = False,
    ) -> int:
        self.env = env
        for line in () if inherit else self.lines:
            on_line(line)
        if self.metadata is not None:
            Path(words[words.index("--metadata-file") + 1]).write_text(json.dumps(self.metadata), encoding="utf-8")
        return self.status


class Folder:
    """A folder to build in, with what the user was shown."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.log = path / "logs" / "bake.log"
        self.shown: list[str] = []
        self._monkeypatch = monkeypatch

    def bake(self, fake: FakeBuild, **options: Any) -> BakeResult:
        self._monkeypatch.setattr(process, "stream", fake.stream)
        return buildx.bake(
            self.path / "b.json",
            self.path / "m.json",
            made_options(**options),
            targets=["small-4", "small-5"],
            root=self.path,
            log=self.log,
            show=self.shown.append,
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    return Folder(tmp_path, monkeypatch)


def test_a_build_gives_the_digest_of_each_target_and_what_ran(folder: Folder) -> None:
    metadata = {
        "buildx.build.warnings": [],
        "one": {"containerimage.digest": DIGEST, "image.name": "x"},
        "two": {"containerimage.digest": DIGEST},
        "three": {"buildx.build.ref": "no image"},
    }
    result = folder.bake(FakeBuild(make_vertex(RUN), make_vertex(RUN, "completed"), metadata=metadata))
    assert result.digests == {"one": DIGEST, "two": DIGEST}
    assert result.provenance == {}
    assert result.executed == (RUN,)


def test_a_build_asks_for_all_of_its_provenance(folder: Folder) -> None:
    fake = FakeBuild(metadata={"one": {"buildx.build.provenance": {"buildType": "x"}}})
    assert folder.bake(fake).provenance == {"one": {"buildType": "x"}}
    assert fake.env == {"BUILDX_METADATA_PROVENANCE": "max"}


def test_what_is_kept_of_a_build_has_no_password_of_a_proxy(folder: Folder) -> None:
    step = {"op": {"exec": {"meta": {"args": ["true"], "proxy_env": {"https_proxy": "http://me:secret@proxy"}}}}}
    arguments = {"build-arg:HTTPS_PROXY": "http://me:secret@proxy", "build-arg:KEPT": "1"}
    provenance = {"invocation": {"parameters": {"args": arguments}}, "buildConfig": {"llbDefinition": [step]}}
    places: list[Path] = []

    class Watched(FakeBuild):
        def stream(self, words: Sequence[str], on_line: Callable[[str], None], **named: Any) -> int:
            places.append(Path(words[words.index("--metadata-file") + 1]).parent)
            assert places[0].stat().st_mode & 0o077 == 0
            return super().stream(words, on_line, **named)

    result = folder.bake(Watched(metadata={"one": {"buildx.build.provenance": provenance}}))
    text = (folder.path / "m.json").read_text(encoding="utf-8")
    assert json.loads(text)["one"]["buildx.build.provenance"] == result.provenance["one"]
    assert "secret" not in text
    assert result.provenance["one"]["invocation"]["parameters"]["args"] == {"build-arg:KEPT": "1"}
    assert not places[0].exists()


def test_metadata_of_a_former_build_is_not_taken_for_this_one(folder: Folder) -> None:
    (folder.path / "m.json").write_text(json.dumps({"one": {"containerimage.digest": DIGEST}}), encoding="utf-8")
    with pytest.raises(BuildError):
        folder.bake(FakeBuild(status=1))
    assert not (folder.path / "m.json").exists()


def test_a_failed_build_is_told_with_target_step_last_lines_and_the_full_log(folder: Folder) -> None:
    fake = FakeBuild(
        make_vertex(RUN),
        make_log(RUN, "Traceback\nOSError: no space\n"),
        make_vertex(RUN, "completed", error=FAILED),
        "ERROR: failed to solve",
        status=1,
    )
    with pytest.raises(BuildError) as caught:
        folder.bake(fake)
    assert str(caught.value) == (
        f"small-4, small-5: failed: {RUN}\n    Traceback\n    OSError: no space\n{FAILED}\nfull log: {folder.log}"
    )


def test_a_build_that_fails_before_any_step_is_told_with_what_buildx_said(folder: Folder) -> None:
    with pytest.raises(BuildError) as caught:
        folder.bake(FakeBuild("WARNING: old", "ERROR: no builder 'remote' found", status=1))
    assert str(caught.value) == (
        "small-4, small-5: docker buildx bake ended with 1:\n    WARNING: old\n    ERROR: no builder 'remote' found\n"
        f"full log: {folder.log}"
    )


@pytest.mark.parametrize("sign", ["write /x: no space left on device", "OSError: [Errno 28]", "failed (os error 28)"])
def test_a_full_disk_is_told_as_such_with_what_frees_it(folder: Folder, sign: str) -> None:
    fake = FakeBuild(
        make_vertex(RUN), make_log(RUN, f"{sign}\n"), make_vertex(RUN, "completed", error=FAILED), status=1
    )
    with pytest.raises(BuildError) as caught:
        folder.bake(fake)
    assert str(caught.value).endswith(
        f"full log: {folder.log}\n"
        "the disk is full: free some (docker image prune, docker builder prune), then run it again"
    )


def test_the_display_of_buildkit_itself_says_nothing_of_what_ran(folder: Folder) -> None:
    metadata = {"one": {"containerimage.digest": DIGEST}}
    result = folder.bake(FakeBuild(make_vertex(RUN), metadata=metadata), progress="tty")
    assert result == BakeResult(digests={"one": DIGEST}, executed=None)
    assert folder.shown == []


def test_a_failure_under_the_display_of_buildkit_itself_points_to_what_was_shown(folder: Folder) -> None:
    with pytest.raises(BuildError) as caught:
        folder.bake(FakeBuild(make_vertex(RUN), status=1), progress="tty")
    assert str(caught.value) == "small-4, small-5: failed: see above; --progress plain keeps a log"


def test_the_full_log_has_every_line_of_every_step(folder: Folder) -> None:
    lines = [make_log(RUN, f"line {number}\n") for number in range(100)]
    with pytest.raises(BuildError):
        folder.bake(FakeBuild(make_vertex(RUN), *lines, "ERROR: é", status=1))
    logged = folder.log.read_text(encoding="utf-8").splitlines()
    assert logged == [RUN, *(f"    line {number}" for number in range(100)), "ERROR: é"]


@pytest.mark.parametrize(("progress", "shown"), [("auto", [RUN]), ("plain", [RUN, "    hello"]), ("quiet", [])])
def test_the_user_sees_as_much_as_was_asked_for(folder: Folder, progress: str, shown: list[str]) -> None:
    folder.bake(FakeBuild(make_vertex(RUN), make_log(RUN, "hello\n"), metadata={}), progress=progress)
    assert folder.shown == shown


def test_an_interrupt_is_passed_on(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeBuild()

    def interrupt(*_arguments: object, **_named: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "stream", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.bake(fake)


# ---- questions


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | ProcessError], None]:
    """Let process.run give an answer, or fail."""

    def set_answer(said: str | ProcessError) -> None:
        def run(words: Sequence[str], *, timeout_s: float | None) -> str:
            assert words[:2] == ["docker", "buildx"]
            assert timeout_s is not None
            if isinstance(said, ProcessError):
                raise said
            return said

        monkeypatch.setattr(process, "run", run)

    return set_answer


Answer = Callable[[str | ProcessError], None]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("github.com/docker/buildx v0.29.1 a32761aeb3debd39be1eca514af3693af0db334b\n", "v0.29.1"),
        ("github.com/docker/buildx 0.29.1+ds1 0.29.1+ds1-4\n", "0.29.1+ds1"),
        ("", None),
        (ProcessError("docker: not found on PATH"), None),
    ],
)
def test_the_version_of_buildx_is_read_from_its_answer(
    answer: Answer, said: str | ProcessError, expected: str | None
) -> None:
    answer(said)
    assert buildx.buildx_version() == expected


def test_a_registry_that_answers_gives_no_reason(answer: Answer) -> None:
    answer("{}")
    assert buildx.answers("registry.example/ubuntu:24.04", timeout_s=5) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProcessError("long", returncode=1, output="dialing\nERROR: no such host"), "ERROR: no such host"),
        (ProcessError("docker buildx: no end after 5 s"), "docker buildx: no end after 5 s"),
    ],
)
def test_a_registry_that_does_not_answer_gives_the_reason_on_one_line(
    answer: Answer, error: ProcessError, reason: str
) -> None:
    answer(error)
    assert buildx.answers("registry.example/ubuntu:24.04", timeout_s=5) == reason


def test_an_index_has_its_digest_and_the_linux_manifests(answer: Answer) -> None:
    manifests = [
        {"digest": "sha256:a", "platform": {"architecture": "amd64", "os": "linux"}},
        {"digest": "sha256:b", "platform": {"architecture": "arm64", "os": "linux"}},
        {"digest": "sha256:c", "platform": {"architecture": "amd64", "os": "windows"}},
        {"digest": "sha256:d", "platform": {"architecture": "unknown", "os": "unknown"}},
    ]
    answer(json.dumps({"digest": "sha256:i", "manifests": manifests}))
    assert buildx.image_index("registry.example/ubuntu:24.04", timeout_s=5) == (
        "sha256:i",
        {"amd64": "sha256:a", "arm64": "sha256:b"},
    )


def test_an_image_of_one_platform_has_no_manifests(answer: Answer) -> None:
    answer(json.dumps({"digest": "sha256:i"}))
    assert buildx.image_index("registry.example/ubuntu:24.04", timeout_s=5) == ("sha256:i", {})
