"""Claims about `publish` as a user calls it, held against a registry in memory; tests/engine has a real one."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.imagebuilder import make_checkout
from tests.ocibuilder import MadeLayer, add_image, copied, digest_of, make_file, pack, write_index

from sparkbake import process, publishing, registry, saving
from sparkbake.blobs import folder
from sparkbake.cli import main
from sparkbake.errors import ImageError, RegistryError, UsageError
from sparkbake.exchange import Answer
from sparkbake.model import LocalImage, Target
from sparkbake.project import Project, write_file
from sparkbake.registry import Repository
from sparkbake.verify import Report, report_json
from sparkbake.verifying import checks_digest, report_path

T4, T5 = "0.20.2-t4", "0.20.2-t5"
NAME = "sparks/spark-vllm"
PLACE = "registry.example:5000/sparks/spark-vllm"


class Memory:
    """A registry in memory: what it has, and what was asked of it.

    Attributes:
        failures: (method, part of the address) to what answers instead, once each.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.failures: dict[tuple[str, str], list[Answer | RegistryError]] = {}
        self.hook: Callable[[str, str], None] = lambda _method, _path: None

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: Any, **_rest: Any) -> Answer:
        parts = urlsplit(url)
        assert (parts.scheme, parts.netloc) == ("https", "api.registry.example")
        self.asked.append((method, parts.path))
        self.hook(method, parts.path)
        for (which, place), failures in self.failures.items():
            if which == method and place in parts.path and failures:
                failure = failures.pop(0)
                if isinstance(failure, Answer):
                    return failure
                raise failure
        return self.answer(method, parts.path, parts.query, body)

    def answer(self, method: str, path: str, query: str, body: Any) -> Answer:
        kind, _slash, name = path.removeprefix(f"/v2/{NAME}/").partition("/")
        if method == "POST":
            return Answer(status=202, headers={"location": f"{path}1?_state=x"}, body=b"")
        if method == "PUT" and kind == "blobs":
            content, digest = body().read(-1), parse_qs(query)["digest"][0]
            assert digest_of(content) == digest
            self.blobs[digest] = content
        elif method == "PUT":
            assert all(one["digest"] in self.blobs for one in json.loads(body)["layers"])
            self.manifests |= {name: body, digest_of(body): body}
        else:
            found = (self.blobs if kind == "blobs" else self.manifests).get(name)
            headers = {"content-type": "application/json"}
            headers |= {"docker-content-digest": digest_of(found)} if found and kind == "manifests" else {}
            return Answer(status=200 if found else 404, headers=headers, body=found or b"")
        return Answer(status=201, headers={}, body=b"")

    def wrote(self) -> list[str]:
        """What was written, in order: the last part of each address."""
        return [path.rpartition("/")[2] for method, path in self.asked if method == "PUT"]


def refused(status: int, told: bytes = b"") -> Answer:
    return Answer(status=status, headers={}, body=told)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Memory:
    made = Memory()
    monkeypatch.setattr(registry, "exchange", made)
    monkeypatch.setattr(registry, "_WAITS_S", (0.0, 0.0))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = make_checkout(tmp_path / "checkout")
    made.build.mkdir()
    return made


@pytest.fixture
def images(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """An engine that has two verified rows; reference to layout."""
    places: dict[str, Path] = {}
    known: dict[str, LocalImage] = {}
    for tag in (T4, T5):
        target = target_of(project, tag)
        place = tmp_path / tag
        layers = [
            copied("shared", [make_file("opt/shared", b"s")]),
            copied("own", [make_file("opt/own", tag.encode())]),
        ]
        digest = write_image(place, layers, target)
        places[target.reference] = place
        known[target.reference] = LocalImage(digest=digest, labels=target.labels, architecture="arm64", size_bytes=100)
        write_report(project, target, digest)

    def run(argv: Sequence[str | Path], **_rest: Any) -> str:
        assert argv[:3] == ["docker", "image", "save"]
        pack(places[str(argv[3])], Path(argv[-1]))
        return ""

    monkeypatch.setattr(process, "run", run)
    for module in (publishing, saving):
        monkeypatch.setattr(module, "local_image", known.get)
    return places


def target_of(project: Project, tag: str) -> Target:
    return project.plan(project.select([tag]), project.matrix.bases[1]).targets[0]


def write_image(place: Path, layers: Sequence[MadeLayer], target: Target) -> str:
    described = add_image(place, layers, config={"Labels": dict(target.labels)})
    write_index(place, [described])
    return str(described["digest"])


def write_report(project: Project, target: Target, digest: str) -> None:
    report = Report(
        tag=target.tag,
        name=target.name,
        reference=target.reference,
        digest=digest,
        plan_digest=project.plan_digest(target),
        checks_digest=checks_digest(project, target),
        programs="natively",
        facts=(),
        findings=(),
        waived=(),
    )
    write_file(report_path(project, target), report_json(report))


def publish(project: Project, *words: str) -> int:
    return main(["--root", str(project.root), "publish", *words])


def digest_of_row(images: Mapping[str, Path], tag: str) -> str:
    """Of the image that the engine has."""
    index = json.loads((images[f"{PLACE}:{tag}"] / "index.json").read_text(encoding="utf-8"))
    return str(index["manifests"][0]["digest"])


# ---- what is done, and in which order


def test_an_image_is_there_before_its_tag_and_that_before_what_moves(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(project, T5) == 0
    digest = digest_of_row(images, T5)
    assert memory.wrote() == ["1", "1", "1", digest, T5, "0.20-t5", "latest"]
    assert {digest_of(memory.manifests[one]) for one in (T5, "0.20-t5", "latest")} == {digest}
    said = capsys.readouterr()
    assert f"sparkbake: published in {PLACE}: {T5}; sent 0.0 MB\n" in said.err
    assert said.out.startswith(f"{PLACE}\n")
    assert list(project.build.glob("publish-*")) == []


def test_for_machines_there_is_one_document(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    for _turn in range(2):
        assert publish(project, T4, "--json") == 0
    first, _brace, second = capsys.readouterr().out.partition("\n}\n")
    body = json.loads(second)
    assert (body["schema"], body["repository"], body["dry_run"], body["sent_bytes"]) == (1, PLACE, False, 0)
    assert body["tags"][0] == {
        "tag": T4, "row": T4, "is_moving": False, "deed": "nothing to do", "digest": digest_of_row(images, T4),
        "present": digest_of_row(images, T4), "why": "",
    }  # fmt: skip
    assert [one["deed"] for one in json.loads(first + "\n}")["tags"]] == ["push", "move", "move"]


def test_one_refused_row_keeps_all_from_being_sent(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    report_path(project, target_of(project, T5)).unlink()
    assert publish(project, T4, T5) == 1
    said = capsys.readouterr()
    assert memory.wrote() == []
    assert f"not verified; run `nox -s verify -- {T5}`" in said.out
    assert "nothing was sent: an image is refused" in said.err
    assert publish(project, T4, T5, "--dry-run") == 1


def test_a_row_that_the_engine_lacks_is_refused(
    project: Project, memory: Memory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publishing, "local_image", lambda _reference: None)
    assert publish(project, T4) == 1
    assert f"the engine has no such image; run `nox -s build -- {T4} --base " in capsys.readouterr().out


def test_a_dry_run_writes_nothing(project: Project, images: dict[str, Path], memory: Memory) -> None:
    assert publish(project, T4, "--dry-run") == 0
    assert {method for method, _path in memory.asked} == {"HEAD"}


@pytest.mark.parametrize(
    "place", ["", "registry.example", "https://registry.example/x", "a.example/X", "a.example/x:1"]
)
def test_a_place_that_is_none(project: Project, images: dict[str, Path], memory: Memory, place: str) -> None:
    options = argparse.Namespace(root=project.root, tags=[T4], registry=place, dry_run=True, json=False)
    with pytest.raises(
        UsageError, match=f"--registry: got '{place}', expected HOST/NAMESPACE such as registry.example:5000"
    ):
        publishing.publish(options)


# ---- what goes wrong


def test_an_engine_whose_tag_was_moved_meanwhile(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest_of_row(images, T4)
    write_image(images[f"{PLACE}:{T4}"], [copied("other", [make_file("opt/x")])], target_of(project, T4))
    assert publish(project, T4) == ImageError.exit_code
    assert f"under this tag, expected {before}, which was verified" in capsys.readouterr().err
    assert memory.wrote() == []


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_what_may_pass_is_tried_three_times(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str], failures: int
) -> None:
    told = b'{"errors": [{"code": "UNKNOWN", "message": "unknown error", "detail": "no space left on device"}]}'
    memory.failures[("PUT", "/blobs/uploads/1")] = [refused(500, told)] * failures
    assert publish(project, T4) == (RegistryError.exit_code if failures == 3 else 0)
    said = capsys.readouterr().err
    assert said.count("trying again in 0 s") == min(failures, 2)
    assert "the registry answered 500: UNKNOWN: unknown error (no space left on device)" in said
    assert ("(tried 3 times); see that the registry is up and has room, then run it again" in said) is (failures == 3)
    assert (T4 in memory.manifests) is (failures < 3)


def test_a_no_is_not_tried_again(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.failures[("POST", "")] = [refused(403, b'{"errors": [{"code": "DENIED", "message": "not yours"}]}')]
    assert publish(project, T4) == RegistryError.exit_code
    said = capsys.readouterr().err
    assert "the registry answered 403: DENIED: not yours; no login is known: run `docker login registry.example" in said
    assert "trying again" not in said


def test_an_answer_that_was_lost_costs_no_second_upload(
    project: Project, images: dict[str, Path], memory: Memory
) -> None:
    """The registry has the tag already when it is asked for it again: that is what was wanted."""

    def hook(method: str, path: str) -> None:
        if method == "PUT" and path.endswith(f"/{T4}") and not memory.failures:
            memory.manifests[T4] = memory.manifests[digest_of_row(images, T4)]
            memory.failures[("PUT", f"/{T4}")] = [RegistryError("reset", passes=True)]

    memory.hook = hook
    assert publish(project, T4) == 0


def test_a_registry_that_gives_other_bytes(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.failures[("GET", "/manifests/sha256:")] = [Answer(status=200, headers={}, body=b"{}")]
    assert publish(project, T4) == RegistryError.exit_code
    assert (
        f"gave a manifest with the digest {digest_of(b'{}')}, expected {digest_of_row(images, T4)}"
        in capsys.readouterr().err
    )
    assert T4 not in memory.manifests


def test_an_interrupted_run_says_that_no_tag_is_half_done(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    def hook(method: str, _path: str) -> None:
        if method == "POST":
            raise KeyboardInterrupt

    memory.hook = hook
    assert publish(project, T4) == 130
    assert f"interrupted: no tag names what is not complete in {PLACE}; the next run goes on" in capsys.readouterr().err
    assert memory.manifests == {}
    assert list(project.build.glob("publish-*")) == []


# ---- a repository by itself


def repository(said: list[str], now: Callable[[], float] = lambda: 0.0) -> Repository:
    return Repository(
        "api.registry.example", NAME, shown=PLACE, login=None, say=said.append, now=now, wait=lambda _s: None
    )


def test_a_tag_is_known_without_the_header_of_its_digest(memory: Memory) -> None:
    memory.manifests["x"] = b"{}"
    memory.failures[("HEAD", "/manifests/x")] = [refused(200)]
    assert repository([]).digest_of("x") == digest_of(b"{}")


def test_a_blob_that_lies_elsewhere_is_there(memory: Memory) -> None:
    memory.failures[("HEAD", "/blobs/")] = [refused(307)]
    assert repository([]).has_blob(digest_of(b"x"))


def test_a_long_upload_tells_how_far_it_is(memory: Memory, tmp_path: Path) -> None:
    content = bytes(3_000_000)
    blob = tmp_path / "blobs" / "sha256" / digest_of(content).removeprefix("sha256:")
    blob.parent.mkdir(parents=True)
    blob.write_bytes(content)
    said: list[str] = []
    seconds = iter(range(0, 1000, 6))
    answer = memory.answer

    def slowly(method: str, path: str, query: str, body: Any) -> Answer:
        file = body() if callable(body) else None
        whole = b"".join(iter(lambda: file.read(500_000), b"")) if file else None
        return answer(method, path, query, (lambda: argparse.Namespace(read=lambda _n: whole)) if file else body)

    memory.answer = slowly  # type: ignore[method-assign]
    one = repository(said, lambda: float(next(seconds)))
    assert one.put_blob(digest_of(content), folder(tmp_path), size_bytes=len(content), name="layer 1 of 1") == 3_000_000
    assert said[0] == "sending layer 1 of 1, 3.0 MB"
    assert "layer 1 of 1: 33 %, 0.1 MB/s" in said
    assert one.put_blob(digest_of(content), folder(tmp_path), size_bytes=len(content), name="layer 1 of 1") == 0
