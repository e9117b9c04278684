"""Claims about a build around bake: contexts, outputs, secrets, and that it is alone in its checkout."""

import json
import stat
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from tests.builders import INDEX, make_matrix, make_plan

from sparkbake import build as building
from sparkbake.bases import Chosen
from sparkbake.build import Output, build, exclusive, outputs, plan_json, write_contexts
from sparkbake.buildx import BakeOptions, BakeResult
from sparkbake.errors import BuildError, BundleError
from sparkbake.mirrors import Mirrors
from sparkbake.model import ContextFile, Plan

PLAN = make_plan("0.20.2-t4")
BOTH = make_plan("0.20.2-t4", "0.20.2-t5")
NAME = "spark-vllm-0_20_2-t4"
CONTENT = {"Dockerfile": "FROM base\n", "layout.py": "#!/usr/bin/env python3\n", "notes.txt": "é\n"}


# ---- contexts


def write(folder: Path, content: dict[str, str] | None = None) -> Path:
    files = [ContextFile(path=PurePosixPath(path), content=text) for path, text in (content or CONTENT).items()]
    write_contexts(PLAN, {NAME: files}, folder)
    return folder / NAME


def found(place: Path) -> dict[str, bytes]:
    return {str(one.relative_to(place)): one.read_bytes() for one in place.rglob("*") if one.is_file()}


def test_a_context_has_its_files_and_scripts_may_be_run(tmp_path: Path) -> None:
    place = write(tmp_path / "build")
    assert found(place) == {path: text.encode() for path, text in CONTENT.items()}
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in place.iterdir()}
    assert modes == {"Dockerfile": 0o644, "layout.py": 0o755, "notes.txt": 0o644}
    assert stat.S_IMODE(place.stat().st_mode) == 0o755
    assert [one.name for one in (tmp_path / "build").iterdir()] == [NAME]


def spoil_with_a_stray_file(place: Path) -> None:
    (place / "old.txt").write_text("old", encoding="utf-8")


def spoil_with_a_binary_file(place: Path) -> None:
    (place / "stray.bin").write_bytes(b"\xff\xfe\x00")


def spoil_with_a_file_in_a_folder(place: Path) -> None:
    (place / "__pycache__").mkdir()
    (place / "__pycache__" / "layout.pyc").write_bytes(b"\xcb\x0d")


def spoil_the_mode(place: Path) -> None:
    (place / "layout.py").chmod(0o644)


def spoil_a_content(place: Path) -> None:
    (place / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")


def spoil_by_removal(place: Path) -> None:
    (place / "notes.txt").unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_with_a_stray_file,
        spoil_with_a_binary_file,
        spoil_with_a_file_in_a_folder,
        spoil_the_mode,
        spoil_a_content,
        spoil_by_removal,
    ],
)
def test_a_spoilt_context_is_replaced(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    place = write(tmp_path)
    spoil(place)
    assert write(tmp_path) == place
    assert found(place) == {path: text.encode() for path, text in CONTENT.items()}
    assert (place / "layout.py").stat().st_mode & 0o777 == 0o755


def test_an_equal_context_is_left_alone(tmp_path: Path) -> None:
    place = write(tmp_path)
    before = {one: (one.stat().st_ino, one.stat().st_mtime_ns) for one in (place, *place.iterdir())}
    write(tmp_path)
    assert {one: (one.stat().st_ino, one.stat().st_mtime_ns) for one in (place, *place.iterdir())} == before


def test_other_contexts_stay(tmp_path: Path) -> None:
    (tmp_path / "spark-vllm-0_32_0-t5").mkdir()
    write(tmp_path)
    assert (tmp_path / "spark-vllm-0_32_0-t5").is_dir()


# ---- outputs


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (Output(), "type=image"),
        (Output(load=True), "type=docker"),
        (Output(oci=Path("/x/a.tar")), "type=oci,dest=/x/a.tar"),
    ],
)
def test_an_image_goes_where_it_was_asked_to(output: Output, expected: str) -> None:
    assert outputs(PLAN, output) == {NAME: expected}


def test_several_images_go_into_a_folder_by_tag() -> None:
    assert outputs(BOTH, Output(oci=Path("/x"))) == {
        "spark-vllm-0_20_2-t4": "type=oci,dest=/x/0.20.2-t4.oci.tar",
        "spark-vllm-0_20_2-t5": "type=oci,dest=/x/0.20.2-t5.oci.tar",
    }


# ---- one at a time


def test_a_second_build_in_the_same_checkout_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    with exclusive(folder):
        with pytest.raises(BuildError) as caught, exclusive(folder):
            pytest.fail("two builds at once")
        assert str(caught.value) == (
            f"{folder}: another build runs in this checkout; wait for it, or use another clone"
        )
        with exclusive(tmp_path / "clone" / "build"):
            pass


def test_the_next_build_may_begin_after_one_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="failed"), exclusive(tmp_path):
        raise ValueError("failed")
    with exclusive(tmp_path):
        pass


# ---- bake


class FakeBake:
    """Plays buildx.bake: notes how it was called, and what the secrets held while it ran."""

    def __init__(self, digests: dict[str, str] | None = None, error: BaseException | None = None) -> None:
        self.digests = {one.name: INDEX for one in BOTH.targets} if digests is None else digests
        self.error = error
        self.options: BakeOptions | None = None
        self.named: dict[str, Any] = {}
        self.bake_file: dict[str, Any] = {}
        self.secrets: dict[str, tuple[int, str]] = {}

    def bake(self, bake_file: Path, metadata: Path, options: BakeOptions, **named: Any) -> BakeResult:
        self.options, self.named = options, named
        self.bake_file = json.loads(bake_file.read_text(encoding="utf-8"))
        self.secrets = {
            name: (path.stat().st_mode & 0o777, path.read_text(encoding="utf-8"))
            for name, path in options.secrets.items()
        }
        if self.error:
            raise self.error
        return BakeResult(digests=self.digests, executed=())


class Builder:
    """A checkout to build in, with what the user was told."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.said: list[str] = []
        self._monkeypatch = monkeypatch
        (root / "build").mkdir()

    def build(
        self,
        fake: FakeBake,
        *,
        plan: Plan = PLAN,
        mirrors: Mirrors | None = None,
        output: Output | None = None,
        folder: Path | None = None,
        ca: Path | None = None,
    ) -> BakeResult:
        self._monkeypatch.setattr(building, "bake", fake.bake)
        context = f"oci-layout://{folder}@{INDEX}" if folder else None
        return build(
            plan,
            Chosen(base=make_matrix().bases[1], context=context, folder=folder),
            mirrors or Mirrors(),
            BakeOptions(builder="default", secrets={}),
            output or Output(),
            root=self.root,
            ca=ca,
            say=self.said.append,
        )


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    return Builder(tmp_path, monkeypatch)


def names_in(options: BakeOptions | None) -> tuple[Sequence[Path], Sequence[Path]]:
    assert options is not None
    return options.readable, options.writable


def test_a_build_gives_what_bake_says(builder: Builder) -> None:
    fake = FakeBake()
    assert builder.build(fake).digests[NAME] == INDEX
    assert fake.secrets == {}
    assert names_in(fake.options) == ((), ())
    assert fake.named["targets"] == [NAME]
    assert fake.named["log"] == builder.root / "build/logs" / f"{NAME}.log"
    assert "contexts" not in fake.bake_file["target"][NAME]


def test_a_base_that_is_a_folder_may_be_read(builder: Builder) -> None:
    fake = FakeBake()
    builder.build(fake, folder=Path("/cache/debian"))
    assert names_in(fake.options) == ((Path("/cache/debian"),), ())
    assert fake.bake_file["target"][NAME]["contexts"]["base"] == f"oci-layout:///cache/debian@{INDEX}"


def test_the_folder_of_a_file_may_be_written(builder: Builder) -> None:
    fake = FakeBake()
    builder.build(fake, output=Output(oci=builder.root / "image.tar"))
    assert names_in(fake.options)[1] == (builder.root,)


def test_the_folder_of_several_files_is_made_and_may_be_written(builder: Builder) -> None:
    fake = FakeBake()
    builder.build(fake, plan=BOTH, output=Output(oci=builder.root / "images"))
    assert names_in(fake.options)[1] == (builder.root / "images",)
    assert (builder.root / "images").is_dir()


def test_a_bundle_that_is_none_ends_the_build_before_it_begins(builder: Builder, tmp_path: Path) -> None:
    fake = FakeBake()
    with pytest.raises(BundleError, match=r"bundle\.json: cannot be read"):
        builder.build(fake, mirrors=Mirrors(bundle=tmp_path))
    assert fake.options is None


def test_the_address_of_the_index_is_a_secret_of_this_user_and_gone_afterwards(builder: Builder) -> None:
    url = "https://user:password@index.example/simple"
    fake = FakeBake()
    builder.build(fake, mirrors=Mirrors(package_index=url))
    assert fake.secrets == {"index": (0o600, url)}
    assert fake.options
    assert not fake.options.secrets["index"].exists()
    assert not fake.options.secrets["index"].is_relative_to(builder.root)
    assert "password" not in json.dumps(fake.bake_file)


@pytest.mark.parametrize("error", [BuildError("failed"), KeyboardInterrupt()])
def test_the_address_of_the_index_is_gone_after_a_failure_too(builder: Builder, error: BaseException) -> None:
    fake = FakeBake(error=error)
    with pytest.raises(type(error)):
        builder.build(fake, mirrors=Mirrors(package_index="https://index.example/simple"))
    assert fake.options
    assert not fake.options.secrets["index"].exists()


def test_certificates_enter_as_they_lie_and_those_of_the_mirrors_file_first(builder: Builder) -> None:
    ours, theirs = builder.root / "ours.pem", builder.root / "theirs.pem"
    ours.write_text("ours", encoding="utf-8")
    theirs.write_text("theirs", encoding="utf-8")
    fake = FakeBake()
    builder.build(fake, ca=ours)
    assert fake.secrets["ca"][1] == "ours"
    builder.build(fake, ca=ours, mirrors=Mirrors(ca_bundle=theirs))
    assert fake.secrets["ca"][1] == "theirs"
    assert (ours.exists(), theirs.exists()) == (True, True)


def test_a_target_without_a_digest_is_told(builder: Builder) -> None:
    with pytest.raises(BuildError) as caught:
        builder.build(FakeBake({NAME: INDEX}), plan=BOTH)
    assert str(caught.value) == (
        f"bake ended well but names no digest for spark-vllm-0_20_2-t5; see {builder.root}/build/metadata.json"
    )


def test_an_interrupt_is_told_and_passed_on(builder: Builder) -> None:
    with pytest.raises(KeyboardInterrupt):
        builder.build(FakeBake(error=KeyboardInterrupt()))
    assert builder.said == ["interrupted: what was not finished has no tag; the next run goes on from the build cache"]


# ---- a plan for machines


def test_a_plan_as_json_says_what_each_image_is_made_of() -> None:
    text = plan_json(BOTH)
    assert text.endswith("]\n")
    first, second = json.loads(text)
    assert (first["tag"], second["tag"]) == ("0.20.2-t4", "0.20.2-t5")
    assert first["name"] == NAME
    assert first["reference"] == "registry.example:5000/sparks/spark-vllm:0.20.2-t4"
    assert first["base"] == {"name": "debian-13", "reference": "debian-13", "digest": "sha256:" + 64 * "d"}
    assert first["versions"]["vllm"] == "0.20.2"
    assert first["overrides"] == {"torch": "the foundation has a fix that 2.10.0 lacks"}
    assert first["labels"] == dict(BOTH.targets[0].labels)
    assert sum(one["packages"] for one in first["layers"]) == 4
    assert sum(one["download_bytes"] for one in first["layers"]) == 4000
    assert list(first) == sorted(first)
