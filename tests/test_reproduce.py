"""Claims about the command `reproduce`: what its builds do and do not share, what it says of them, what it leaves."""

import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.builders import SMALL_MATRIX, link_inputs, make_lock, make_matrix, write_base_locks
from tests.ocibuilder import EPOCH, MadeLayer, Member, copied, make_file, pack, write_layout

from sparkbake import comparing, forgetting, process, reproduce, saving
from sparkbake.bases import Chosen
from sparkbake.build import Output
from sparkbake.buildx import BakeOptions, BakeResult, PastBuild
from sparkbake.cli import main
from sparkbake.engine import CacheRecord, EngineState
from sparkbake.errors import BuildError, PreflightError
from sparkbake.estimate import estimate
from sparkbake.expected import Expected, RecordedLayer, record_json, record_path
from sparkbake.imageinfo import ImageInfo
from sparkbake.images import open_image
from sparkbake.lockfile import lock_to_json
from sparkbake.matrix import rows
from sparkbake.mirrors import Mirrors
from sparkbake.model import LocalImage, Plan
from sparkbake.project import open_project

TAG = "0.20.2-t4"
NAME = "spark-vllm-0_20_2-t4"
ARM = "linux/arm64"
STATE = EngineState(version="28.5.2", architecture="amd64", has_containerd_store=True, data_folder="/x", cached_bytes=0)
OTHER = "sha256:" + 64 * "f"
PATH = "opt/venv/t.py"


def image(*members: Member) -> list[MadeLayer]:
    """An image of two layers, whose second has these members, or the usual one."""
    return [copied("rest", [make_file("opt/r", b"ray")]), copied("torch", members or [make_file(PATH, b"torch")])]


SAME = image()
CHANGED = image(make_file(PATH, b"TORCH"))


@dataclass(frozen=True, kw_only=True)
class Call:
    """How one build was made: what it was given, and what it ran under."""

    options: BakeOptions
    output: Output
    root: Path
    umask: int
    zone: str | None
    context: dict[str, tuple[int, bytes]]


@dataclass
class Machine:
    """Plays the engine and the build: makes one image after the other, or fails; each leaves records in its cache."""

    folder: Path
    images: list[Sequence[MadeLayer] | BaseException] = field(default_factory=lambda: [SAME, SAME])
    calls: list[Call] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    cache: set[str] = field(default_factory=lambda: {"of before"})
    builds: dict[str, bool] = field(default_factory=lambda: {"of before": False})
    meanwhile: dict[str, bool] = field(default_factory=dict)
    forgotten: list[tuple[str, set[str]]] = field(default_factory=list)
    checked: list[int] = field(default_factory=list)
    fault: PreflightError | None = None

    def check(self, _plan: Plan, state: EngineState, *, disk_bytes: int) -> None:
        assert state == STATE
        self.checked.append(disk_bytes)
        if self.fault:
            raise self.fault

    def build(
        self,
        plan: Plan,
        chosen: Chosen,
        mirrors: Mirrors,
        options: BakeOptions,
        output: Output,
        *,
        root: Path,
        ca: Path | None,
        say: Callable[[str], None],
    ) -> BakeResult:
        (target,) = plan.targets
        made = self.images[len(self.calls)]
        context = {
            one.name: (one.stat().st_mode & 0o777, one.read_bytes())
            for one in (root / "build" / target.name).rglob("*")
            if one.is_file()
        }
        call = Call(
            options=options, output=output, root=root, umask=umask(), zone=os.environ.get("TZ"), context=context
        )
        self.calls.append(call)
        number = len(self.calls)
        self.cache |= {f"step of {number}", f"mount of {number}"}
        if namespace := options.arguments.get("BUILDKIT_CACHE_MOUNT_NS"):
            self.cache.add(f'cached mount /x from exec y with id "{namespace}/sparkbake-uv"')
        self.builds |= {f"build {number}": False, **self.meanwhile}
        if isinstance(made, BaseException):
            raise made
        assert output.oci
        assert not output.load
        layout = write_layout(self.folder / f"layout{number}", made)
        pack(layout, output.oci)
        self.digests.append(digest(layout))
        return BakeResult(digests={target.name: self.digests[-1]}, executed=())

    def records(self) -> tuple[CacheRecord, ...]:
        return tuple(CacheRecord(record_id=one, description=one, size_bytes=10**9) for one in sorted(self.cache))

    def past_builds(self, builder: str) -> tuple[PastBuild, ...]:
        assert builder == "the-engine"
        return tuple(PastBuild(ref=ref, is_running=is_running) for ref, is_running in self.builds.items())

    def forget(self, builder: str, records: Collection[str]) -> None:
        self.forgotten.append((builder, set(records)))
        self.cache -= set(records)


def umask() -> int:
    found = os.umask(0o022)
    os.umask(found)
    return found


def digest(layout: Path) -> str:
    return str(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of the small matrix, with all its locks."""
    root = tmp_path / "checkout"
    matrix = make_matrix()
    write_base_locks(root / "locks", matrix)
    for row in rows(matrix):
        (root / "locks" / f"{row.tag}.json").write_text(lock_to_json(make_lock(row)), encoding="utf-8")
    (root / "matrix.yaml").write_text(SMALL_MATRIX, encoding="utf-8")
    link_inputs(root)
    return root


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    base = make_matrix().bases[1]
    monkeypatch.setattr(reproduce, "engine_state", lambda: STATE)
    monkeypatch.setattr(reproduce, "check_machine", made.check)
    monkeypatch.setattr(reproduce, "ready_base", lambda *_rest: Chosen(base=base, context=None, folder=None))
    monkeypatch.setattr(reproduce, "build", made.build)
    monkeypatch.setattr(forgetting, "cache_records", made.records)
    monkeypatch.setattr(forgetting, "past_builds", made.past_builds)
    monkeypatch.setattr(forgetting, "forget", made.forget)
    monkeypatch.setattr(reproduce, "default_builder", lambda: "the-engine")
    return made


@pytest.fixture
def run(checkout: Path, machine: Machine) -> Callable[..., int]:
    """Calls the command in the checkout."""
    return lambda *words: main(["--root", str(checkout), "reproduce", *map(str, words)])


def left(checkout: Path) -> list[Path]:
    """What is in the build folder, but for the file that keeps a second build out."""
    return [path for path in (checkout / "build").iterdir() if path.name != ".lock"]


# ---- the verdict


def test_two_builds_that_are_the_same_are_said_to_be_and_leave_nothing(
    checkout: Path, machine: Machine, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(TAG) == 0
    shown = capsys.readouterr()
    assert f"{TAG} on debian-13: identical: {machine.digests[0]}\n" in shown.err
    assert "different" not in shown.err
    assert shown.out == ""
    assert len(machine.calls) == 2
    assert left(checkout) == []


def test_a_verdict_for_machines_is_json(
    machine: Machine, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(TAG, "--json") == 0
    (said,) = json.loads(capsys.readouterr().out)
    same = machine.digests[0]
    assert said == {
        "tag": TAG,
        "base": "debian-13",
        "identical": True,
        "standing": "unknown",
        "digests": {"first": same, "second": same},
        "recorded": None,
        "differences": [],
    }


CHANGES = [
    (make_file(PATH, b"TORCH"), "content", ("(5 bytes)", "(5 bytes)")),
    (make_file(PATH, b"torch", mtime=EPOCH + 1), "mtime", (str(EPOCH), str(EPOCH + 1))),
    (make_file(PATH, b"torch", mode=0o600), "mode", ("0644", "0600")),
]


@pytest.mark.parametrize(("member", "what", "values"), CHANGES, ids=[one[1] for one in CHANGES])
def test_a_difference_is_named_by_layer_and_path_and_the_images_stay(
    *,
    checkout: Path,
    machine: Machine,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    member: Member,
    what: str,
    values: tuple[str, str],
) -> None:
    machine.images = [SAME, image(member)]
    assert run(TAG) == 1
    shown = capsys.readouterr()
    (line,) = [one for one in shown.out.splitlines() if PATH in one]
    assert line.split()[:4] == ["2", "(torch)", PATH, what]
    assert all(value in line for value in values)
    one, other = machine.digests
    assert f"{TAG} on debian-13: different: first {one}, second {other}\n" in shown.err
    assert "identical" not in shown.err
    (folder,) = left(checkout)
    assert f"the images lie in {folder}; " in shown.err
    archives = [folder / "first.oci.tar", folder / "second.oci.tar"]
    assert [open_image(path, platform=ARM).info.digest for path in archives] == [one, other]


@pytest.mark.parametrize(("member", "what", "values"), CHANGES, ids=[one[1] for one in CHANGES])
def test_a_difference_for_machines_is_json(
    *,
    machine: Machine,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    member: Member,
    what: str,
    values: tuple[str, str],
) -> None:
    machine.images = [SAME, image(member)]
    assert run(TAG, "--json") == 1
    (said,) = json.loads(capsys.readouterr().out)
    assert said["identical"] is False
    assert list(said["digests"].values()) == machine.digests
    (found,) = [one for one in said["differences"] if one["layer"] != "config"]
    assert (found["layer"], found["path"], found["what"]) == ("2 (torch)", PATH, what)
    assert found["first"].endswith(values[0])
    assert found["second"].endswith(values[1])


def test_a_difference_of_the_manifests_alone_is_named_too_and_the_images_stay(
    checkout: Path, machine: Machine, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rest, torch = SAME
    machine.images = [SAME, [rest, copied("torch", torch.members, media_type="application/vnd.example.tar+zstd")]]
    assert run(TAG, "--json") == 1
    (said,) = json.loads(capsys.readouterr().out)
    assert said["identical"] is False
    assert said["differences"] != []
    assert len(left(checkout)) == 1


def test_of_several_rows_each_is_reproduced_and_one_that_differs_decides(
    checkout: Path, machine: Machine, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.images = [SAME, CHANGED, SAME, SAME]
    assert run("0.20.2-*", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert [(one["tag"], one["identical"]) for one in said] == [(TAG, False), ("0.20.2-t5", True)]
    assert [path.name for call in machine.calls for path in (call.root / "build").glob("*")] == [NAME, NAME]
    (folder,) = left(checkout)
    assert {call.root.relative_to(folder).parts[0] for call in machine.calls[:2]} == {"one", "two"}
    assert not any(call.root.is_relative_to(folder) for call in machine.calls[2:])


def test_several_rows_that_are_the_same_end_with_0(machine: Machine, run: Callable[..., int]) -> None:
    machine.images = [SAME, SAME, CHANGED, CHANGED]
    assert run(TAG, "0.32.0-t5") == 0
    assert len(machine.calls) == 4


# ---- what stays


def test_images_are_kept_when_asked(
    checkout: Path, machine: Machine, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(TAG, "--keep") == 0
    (folder,) = left(checkout)
    assert f"the images lie in {folder}; " in capsys.readouterr().err
    assert {call.output.oci for call in machine.calls} == set(folder.glob("*.tar"))


FAILURES = [(BuildError("step 3 failed"), 7, "step 3 failed"), (KeyboardInterrupt(), 130, "interrupted")]


@pytest.mark.parametrize("words", [(), ("--keep",)], ids=["", "keep"])
@pytest.mark.parametrize("before", [[], [SAME]], ids=["first", "second"])
@pytest.mark.parametrize(("failure", "status", "told"), FAILURES, ids=["error", "interrupted"])
def test_a_build_that_fails_ends_the_command_and_leaves_nothing(
    *,
    checkout: Path,
    machine: Machine,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    before: list[Sequence[MadeLayer] | BaseException],
    failure: BaseException,
    status: int,
    told: str,
    words: tuple[str, ...],
) -> None:
    machine.images = [*before, failure]
    assert run(TAG, *words) == status
    shown = capsys.readouterr()
    assert told in shown.err
    assert "images lie" not in shown.err
    assert shown.out == ""
    assert len(machine.calls) == len(before) + 1
    assert left(checkout) == []


def test_a_machine_that_cannot_build_is_told_before_anything_is_made(
    checkout: Path, machine: Machine, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.fault = PreflightError(["too little disk"])
    assert run(TAG) == 4
    assert "too little disk" in capsys.readouterr().err
    assert machine.calls == []
    assert not (checkout / "build").exists()
    project = open_project(checkout)
    plan = project.plan(project.select([TAG]), project.matrix.bases[0])
    assert machine.checked == [estimate(plan).disk_bytes]


# ---- what builds do not share


@pytest.fixture
def own_umask() -> Iterator[int]:
    """A mask of this test, that neither build has."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


@pytest.mark.parametrize("images", [[SAME, SAME], [BuildError("x")], [SAME, BuildError("x")]], ids=["", "1st", "2nd"])
@pytest.mark.parametrize("zone", [None, "Europe/Vienna"])
def test_each_build_has_its_own_umask_and_time_zone_and_those_of_before_return(
    *,
    machine: Machine,
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    own_umask: int,
    images: list[Sequence[MadeLayer] | BaseException],
    zone: str | None,
) -> None:
    monkeypatch.setenv("TZ", zone or "")
    if zone is None:
        monkeypatch.delenv("TZ")
    machine.images = images
    run(TAG)
    found = [(call.umask, call.zone) for call in machine.calls]
    assert found == [(0o022, "UTC"), (0o077, "Pacific/Kiritimati")][: len(images)]
    assert umask() == own_umask
    assert os.environ.get("TZ") == zone


def test_each_build_has_a_folder_of_its_own_with_the_same_context(
    checkout: Path, machine: Machine, run: Callable[..., int], own_umask: int
) -> None:
    assert run(TAG) == 0
    first, second = machine.calls
    assert first.context == second.context
    modes = {name: mode for name, (mode, _content) in first.context.items()}
    assert (modes["Dockerfile"], modes["os-packages.sh"]) == (0o644, 0o755)
    assert not first.root.is_relative_to(second.root)
    assert not second.root.is_relative_to(first.root)
    assert len(str(first.root)) != len(str(second.root))
    assert all(call.root.is_relative_to(checkout / "build") for call in machine.calls)
    assert first.output.oci != second.output.oci


def test_no_build_takes_from_the_build_cache_and_the_first_has_empty_package_caches(
    machine: Machine, run: Callable[..., int]
) -> None:
    machine.images = [SAME] * 4
    assert run(TAG) == 0
    assert run(TAG) == 0
    assert all(call.options.no_cache for call in machine.calls)
    assert {call.options.builder for call in machine.calls} == {"the-engine"}
    cold, warm, again, _warm = (call.options.arguments for call in machine.calls)
    assert list(cold) == ["BUILDKIT_CACHE_MOUNT_NS"]
    assert warm == {}
    # One that was used before would not be empty.
    assert cold.keys() == again.keys()
    assert cold != again


@pytest.mark.parametrize(
    "images",
    [[SAME, SAME], [BuildError("x")], [SAME, BuildError("x")], [KeyboardInterrupt()]],
    ids=["", "1st fails", "2nd fails", "interrupted"],
)
def test_what_a_build_added_to_the_build_cache_is_forgotten_and_only_that(
    machine: Machine, run: Callable[..., int], images: list[Sequence[MadeLayer] | BaseException]
) -> None:
    machine.images = images
    run(TAG)
    added = [{f"step of {number}", f"mount of {number}"} for number in range(1, len(images) + 1)]
    assert [builder for builder, _records in machine.forgotten] == ["the-engine"] * len(images)
    assert all(some <= records for some, (_builder, records) in zip(added, machine.forgotten, strict=True))
    assert machine.cache == {"of before"}


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [({}, {"other": False}), ({}, {"other": True}), ({"other": True}, {}), ({"other": True}, {"other": False})],
    ids=["came and went", "came", "was there", "was there and ended"],
)
def test_what_may_be_another_builds_stays_in_the_build_cache_and_that_is_said(
    machine: Machine,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    before: dict[str, bool],
    meanwhile: dict[str, bool],
) -> None:
    machine.builds |= before
    machine.meanwhile = meanwhile
    machine.images = [BuildError("x")]
    run(TAG)
    assert machine.cache == {"of before", "step of 1", "mount of 1"}
    ((_builder, gone),) = machine.forgotten
    assert [one.endswith('/sparkbake-uv"') for one in gone] == [True]
    told = "2 records (2.0 GB) stay in the build cache: another build of this engine ran at the same time, "
    assert told in capsys.readouterr().err


# ---- against another image


@pytest.fixture
def published(tmp_path: Path) -> Callable[[Sequence[MadeLayer]], Path]:
    """Writes an image to an OCI archive."""
    return lambda layers: pack(write_layout(tmp_path / "published", layers), tmp_path / "published.tar")


def test_against_a_file_one_build_is_made(
    checkout: Path,
    machine: Machine,
    run: Callable[..., int],
    published: Callable[[Sequence[MadeLayer]], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = f"oci:{published(SAME)}"
    assert run(TAG, "--against", asked, "--json") == 0
    shown = capsys.readouterr()
    (said,) = json.loads(shown.out)
    assert said["digests"] == {"first": machine.digests[0], "second": machine.digests[0]}
    assert f"{TAG} on debian-13: identical: " in shown.err
    assert len(machine.calls) == 1
    assert left(checkout) == []


def test_against_a_file_that_differs_the_path_is_named_and_what_was_built_stays(
    checkout: Path,
    machine: Machine,
    run: Callable[..., int],
    published: Callable[[Sequence[MadeLayer]], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = published(CHANGED)
    assert run(TAG, "--against", path) == 1
    shown = capsys.readouterr()
    (line,) = [one for one in shown.out.splitlines() if PATH in one]
    assert line.split()[:4] == ["2", "(torch)", PATH, "content"]
    other = open_image(path, platform=ARM).info.digest
    assert f"different: first {machine.digests[0]}, {path} {other}\n" in shown.err
    assert len(machine.calls) == 1
    (folder,) = left(checkout)
    assert [one.name for one in folder.glob("*.tar")] == ["first.oci.tar"]


def test_against_an_image_of_a_registry_only_layers_as_a_whole_are_named(
    machine: Machine,
    run: Callable[..., int],
    published: Callable[[Sequence[MadeLayer]], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    info = open_image(published(CHANGED), platform=ARM).info

    def remote_image(reference: str, *, platform: str) -> ImageInfo:
        assert (reference, platform) == ("registry.example/a:1", ARM)
        return info

    monkeypatch.setattr(comparing, "remote_image", remote_image)
    assert run(TAG, "--against", "docker://registry.example/a:1", "--json") == 1
    (said,) = json.loads(capsys.readouterr().out)
    (found,) = [one for one in said["differences"] if one["layer"] != "config"]
    assert (found["layer"], found["path"]) == ("2 (torch)", "")
    assert found["second"] == info.layers[1].diff_id
    assert len(machine.calls) == 1


def test_against_an_image_of_the_engine_it_is_saved_for_the_while(
    checkout: Path,
    machine: Machine,
    run: Callable[..., int],
    published: Callable[[Sequence[MadeLayer]], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = published(SAME)

    def save(argv: Sequence[str | Path], **_rest: Any) -> str:
        assert argv[:4] == ["docker", "image", "save", f"registry.example:5000/sparks/spark-vllm:{TAG}"]
        Path(argv[-1]).write_bytes(path.read_bytes())
        return ""

    here = LocalImage(digest=OTHER, labels=(), architecture="arm64", size_bytes=0)
    monkeypatch.setattr(saving, "local_image", lambda _reference: here)
    monkeypatch.setattr(saving, "check_disk", lambda *_rest: None)
    monkeypatch.setattr(process, "run", save)
    assert run(TAG, "--against", TAG) == 0
    assert len(machine.calls) == 1
    assert left(checkout) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("0.20.2-*", "--against", TAG), "--against: got 2 tags, expected one"),
        ((TAG, "--against", "none.tar"), "got 'none.tar', expected an OCI archive"),
    ],
)
def test_what_cannot_be_compared_with_is_told_before_anything_is_built(
    machine: Machine,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    told: str,
) -> None:
    assert run(*words) == 2
    assert told in capsys.readouterr().err
    assert machine.calls == []


def test_a_file_that_is_not_there_is_told_before_anything_is_built(machine: Machine, run: Callable[..., int]) -> None:
    assert run(TAG, "--against", "oci:none.tar") == 8
    assert machine.calls == []


# ---- the record


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a record has in common with the image that is built, and what is said of the two."""

    same_inputs: bool
    same_digest: bool
    same_config: bool
    told: str
    standing: str
    status: int = 0


@pytest.mark.parametrize(
    "recorded",
    [
        Recorded(same_inputs=True, same_digest=True, same_config=True, told="as recorded", standing="as-recorded"),
        Recorded(
            same_inputs=True,
            same_digest=False,
            same_config=True,
            told=f"the recorded contents, compressed to other bytes ({OTHER})",
            standing="repacked",
        ),
        Recorded(
            same_inputs=True,
            same_digest=False,
            same_config=False,
            told=f"not as recorded ({OTHER}), though the inputs are the same: recorded with engine 28.0.0, this is "
            f"28.5.2; hold it against what was published: `nox -s reproduce -- {TAG} --base debian-13 --against IMAGE`",
            standing="different",
            status=1,
        ),
        Recorded(
            same_inputs=False,
            same_digest=False,
            same_config=False,
            told=f"recorded of other inputs ({OTHER})",
            standing="outdated",
        ),
    ],
    ids=lambda one: one.standing,
)
def test_how_the_image_stands_to_its_record_is_said_and_decides(
    *,
    checkout: Path,
    machine: Machine,
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recorded: Recorded,
) -> None:
    project = open_project(checkout)
    (target,) = project.plan(project.select([TAG]), project.matrix.bases[1]).targets
    info = open_image(write_layout(tmp_path / "same", SAME), platform=ARM).info
    record(
        checkout,
        Expected(
            digest=info.digest if recorded.same_digest else OTHER,
            config=info.config_digest if recorded.same_config else OTHER,
            plan_digest=project.plan_digest(target) if recorded.same_inputs else OTHER,
            engine="28.0.0",
            layers=(RecordedLayer(name="rest", digest=OTHER, compressed_bytes=1),),
        ),
    )
    assert run(TAG, "--json") == recorded.status
    shown = capsys.readouterr()
    assert f"sparkbake: {TAG} on debian-13: {recorded.told}\n" in shown.err
    (said,) = json.loads(shown.out)
    assert (said["identical"], said["standing"]) == (True, recorded.standing)
    assert said["recorded"] == (said["digests"]["first"] if recorded.same_digest else OTHER)
    # What nobody published yet must be there to be looked at.
    assert bool(left(checkout)) is bool(recorded.status)


def record(checkout: Path, expected: Expected) -> None:
    path = record_path(checkout / "locks", TAG)
    path.parent.mkdir()
    path.write_text(record_json(TAG, {"debian-13": expected}), encoding="utf-8")


def test_an_image_that_is_not_recorded_is_said_to_be(
    machine: Machine, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.images = [SAME, CHANGED]
    assert run(TAG, "--json") == 1
    assert f"sparkbake: {TAG} on debian-13: not recorded\n" in capsys.readouterr().err


def test_a_damaged_record_is_told_before_anything_is_built(
    checkout: Path, machine: Machine, run: Callable[..., int]
) -> None:
    path = record_path(checkout / "locks", TAG)
    path.parent.mkdir()
    path.write_text("{}", encoding="utf-8")
    assert run(TAG, "--json") == 3
    assert machine.calls == []
