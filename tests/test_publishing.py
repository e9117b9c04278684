"""Claims about `publish` as a user calls it, held against a registry in memory; tests/engine has a real one."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.imagebuilder import make_checkout, manifest_of
from tests.memoryregistry import NAME, PLACE, Memory, refused
from tests.ocibuilder import MadeLayer, add_image, copied, digest_of, make_file, pack, write_index
from tests.saidbuilder import clean_report, keep, make_provenance

from sparkbake import candidates, process, publishing, saving
from sparkbake.attest import MANIFEST_TYPE, SLSA, SPDX, Part, attest, index_of
from sparkbake.blobs import folder
from sparkbake.cli import main
from sparkbake.errors import ImageError, ProcessError, RegistryError, UsageError, VerifyError
from sparkbake.exchange import Answer
from sparkbake.expected import Expected, record_json, record_path
from sparkbake.manifest import MANIFEST
from sparkbake.model import LocalImage, Target
from sparkbake.project import Project, write_file
from sparkbake.provenance import provenance_path
from sparkbake.registry import Repository
from sparkbake.verify import report_json
from sparkbake.verifying import report_path

T4, T5 = "0.20.2-t4", "0.20.2-t5"


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
            copied("manifest", [make_file(MANIFEST, manifest_of(project, target))]),
        ]
        digest = write_image(place, layers, target)
        places[target.reference] = place
        known[target.reference] = LocalImage(digest=digest, labels=target.labels, architecture="arm64", size_bytes=100)
        write_report(project, target, digest)
        keep(project, target, digest)

    def run(argv: Sequence[str | Path], **_rest: Any) -> str:
        assert argv[:3] == ["docker", "image", "save"]
        pack(places[str(argv[3])], Path(argv[-1]))
        return ""

    monkeypatch.setattr(process, "run", run)
    for module in (candidates, saving):
        monkeypatch.setattr(module, "local_image", known.get)
    return places


def image_under(memory: Memory, tag: str) -> str:
    """The one image in what a tag names."""
    index = json.loads(memory.manifests[tag])
    (digest,) = (one["digest"] for one in index["manifests"] if one["platform"]["os"] == "linux")
    return str(digest)


def target_of(project: Project, tag: str) -> Target:
    return project.plan(project.select([tag]), project.matrix.bases[1]).targets[0]


def write_image(place: Path, layers: Sequence[MadeLayer], target: Target) -> str:
    described = add_image(place, layers, config={"Labels": dict(target.labels)})
    write_index(place, [described])
    return str(described["digest"])


def write_report(project: Project, target: Target, digest: str) -> None:
    write_file(report_path(project, target), report_json(clean_report(project, target, digest)))


def publish(project: Project, *words: str) -> int:
    return main(["--root", str(project.root), "publish", "--no-sign", *words])


def digest_of_row(images: Mapping[str, Path], tag: str) -> str:
    """Of the image that the engine has."""
    index = json.loads((images[f"{PLACE}:{tag}"] / "index.json").read_text(encoding="utf-8"))
    return str(index["manifests"][0]["digest"])


def test_a_report_that_is_no_text_is_told_as_damaged(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    report_path(project, target_of(project, T5)).write_bytes(b"\xff{}")
    assert publish(project, T5) == 1
    assert f"its verify report is damaged; run `nox -s verify -- {T5}`" in capsys.readouterr().out
    assert memory.wrote() == []


# ---- what is done, and in which order


def test_an_image_is_there_before_its_tag_and_that_before_what_moves(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(project, T5) == 0
    digest = digest_of_row(images, T5)
    wrote = memory.wrote()
    attestation, index = wrote[8:10]
    assert wrote == ["1", "1", "1", "1", digest, "1", "1", "1", attestation, index, T5, "0.20-t5", "latest"]
    assert {digest_of(memory.manifests[one]) for one in (T5, "0.20-t5", "latest")} == {index}
    assert image_under(memory, T5) == digest
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
        "names": digest_of(memory.manifests[T4]), "present": digest_of(memory.manifests[T4]), "why": "",
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


def test_a_row_whose_record_is_of_another_base_is_refused(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = digest_of_row(images, T4)
    ours, other = project.matrix.bases[1].name, project.matrix.bases[0].name
    for bases, status in (([other], 1), ([ours, other], 0)):
        record = Expected(digest=digest, config=digest, plan_digest=digest, engine="1", layers=())
        write_file(record_path(project.locks, T4), record_json(T4, dict.fromkeys(bases, record)))
        assert publish(project, T4, "--dry-run") == status
        told = f"locks/digests has the row on {other} and not on {ours}, so that no page would name this image"
        assert (told in capsys.readouterr().out) is bool(status)


def test_a_row_that_the_engine_lacks_is_refused(
    project: Project, memory: Memory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(candidates, "local_image", lambda _reference: None)
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


# ---- what is said of an image


def test_the_index_holds_the_image_and_what_is_said_of_it(
    project: Project, images: dict[str, Path], memory: Memory
) -> None:
    """As BuildKit has it: docs/attestations/attestation-storage.md there."""
    assert publish(project, T4) == 0
    image, said = json.loads(memory.manifests[T4])["manifests"]
    digest = digest_of_row(images, T4)
    assert image["platform"] == {"architecture": "arm64", "os": "linux"}
    assert (image["digest"], image["size"]) == (digest, len(memory.manifests[digest]))
    assert said["platform"] == {"architecture": "unknown", "os": "unknown"}
    about = {"vnd.docker.reference.digest": digest, "vnd.docker.reference.type": "attestation-manifest"}
    assert said["annotations"] == about
    manifest = json.loads(memory.manifests[said["digest"]])
    config = json.loads(memory.blobs[manifest["config"]["digest"]])
    assert (config["architecture"], config["os"]) == ("unknown", "unknown")
    assert config["rootfs"]["diff_ids"] == [one["digest"] for one in manifest["layers"]]
    statements = [json.loads(memory.blobs[one["digest"]]) for one in manifest["layers"]]
    types = ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]
    assert [one["annotations"] for one in manifest["layers"]] == [{"in-toto.io/predicate-type": one} for one in types]
    assert {one["mediaType"] for one in manifest["layers"]} == {"application/vnd.in-toto+json"}
    assert [one["predicateType"] for one in statements] == types
    purl = f"pkg:oci/spark-vllm@{digest}?arch=arm64&repository_url=registry.example:5000/sparks/spark-vllm&tag={T4}"
    for one in statements:
        assert one["_type"] == "https://in-toto.io/Statement/v1"
        assert one["subject"] == [{"name": purl, "digest": {"sha256": digest.removeprefix("sha256:")}}]
    assert statements[0]["predicate"]["spdxVersion"] == "SPDX-2.3"
    assert statements[1]["predicate"]["runDetails"]["builder"]["id"] == "https://example.com/project#built-by-hand"


def test_another_build_of_the_same_image_changes_nothing(
    project: Project, images: dict[str, Path], memory: Memory
) -> None:
    assert publish(project, T4) == 0
    before = memory.manifests[T4]
    keep(project, target_of(project, T4), digest_of_row(images, T4), started="2026-01-01T00:00:00Z")
    memory.asked.clear()
    assert publish(project, T4) == 0
    assert memory.wrote() == []
    assert memory.manifests[T4] == before


def test_a_tag_that_names_the_image_alone_gets_what_is_said_of_it(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it was published before there were attestations."""
    assert publish(project, T4) == 0
    digest = digest_of_row(images, T4)
    index = memory.manifests[T4]
    for tag in (T4, "0.20-t4", "latest"):
        memory.manifests[tag] = memory.manifests[digest]
    assert publish(project, T4, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "attest" in told
    assert "the registry has this image without a bill of materials and provenance" in told
    memory.asked.clear()
    assert publish(project, T4) == 0
    assert memory.wrote() == [T4, "0.20-t4", "latest"]
    assert memory.manifests[T4] == memory.manifests["latest"] == index
    assert f"{PLACE}:{T4} names {digest_of(index)}, no longer {digest}" in capsys.readouterr().err


@pytest.mark.parametrize("when", ["before", "after"])
def test_another_publisher_of_the_same_image_keeps_the_tag(
    project: Project, images: dict[str, Path], memory: Memory, when: str
) -> None:
    """Its index differs, since it was built at another time; both say the truth."""
    assert publish(project, T4) == 0
    theirs = memory.manifests[T4]
    for tag in (T4, "0.20-t4", "latest"):
        del memory.manifests[tag]
    keep(project, target_of(project, T4), digest_of_row(images, T4), started="2026-01-01T00:00:00Z")

    def hook(method: str, path: str) -> None:
        """They come right before this one looks, or right after it has set the tag."""
        ours = any(b"2026-01-01T00:00:00Z" in one for one in memory.blobs.values())
        if (when == "before" and ours) or (when == "after" and T4 in memory.manifests and method == "HEAD"):
            memory.manifests[T4] = theirs

    memory.hook = hook
    assert publish(project, T4) == 0
    assert memory.manifests[T4] == memory.manifests["latest"] == theirs


def test_another_image_under_the_tag_ends_it(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(project, T4) == 0
    other = memory.manifests.pop(T4).replace(digest_of_row(images, T4).encode(), b"sha256:" + 64 * b"0")

    def hook(method: str, path: str) -> None:
        if method == "PUT" and path.endswith(f"/{T4}"):
            memory.failures[("PUT", f"/{T4}")] = [RegistryError("reset", passes=True)]
            memory.manifests |= {T4: other, digest_of(other): other}

    memory.hook = hook
    assert publish(project, T4) == RegistryError.exit_code
    told = capsys.readouterr().err
    assert f"another publisher was faster: the registry has sha256:{64 * '0'} under {T4}, this image is sha256:" in told
    assert memory.manifests[T4] == other


# ---- who signs


class Cosign:
    """Plays cosign: keeps whose signature is on what, and when it was put there.

    Attributes:
        ends_after: how many signatures it makes until it is ended; None of all.
    """

    def __init__(self, memory: Memory, engine: Callable[..., str], *others: Memory) -> None:
        self.memory = memory
        self.manifests = [one.manifests for one in (memory, *others)]
        self.engine = engine
        self.signed: list[str] = []
        self.fails: ProcessError | None = None
        self.ends_after: int | None = None

    def inside(self, digest: str) -> list[str]:
        """What cosign signs after an index."""
        (body,) = [some[digest] for some in self.manifests if digest in some]
        return [str(one["digest"]) for one in json.loads(body)["manifests"]]

    @property
    def indexes(self) -> list[str]:
        """What was signed as a whole, in order."""
        asked = [path.rpartition(" ")[2] for _method, path in self.memory.asked if path.startswith("/signature of ")]
        return [f"{PLACE}@{one}" for one in asked]

    def run(self, argv: Sequence[str | Path], **rest: Any) -> str:
        if argv[0] != "cosign":
            return self.engine(argv, **rest)
        words = [str(one) for one in argv[1:]]
        if self.fails and words[0] == "sign":
            raise self.fails
        if words[0] == "verify":
            assert words[1:4] == ["--key", "env://SPARKBAKE_PUBLIC_KEY", "--insecure-ignore-tlog=true"]
            assert rest["env"] == {"SPARKBAKE_PUBLIC_KEY": "PUBLIC"}
            if words[-1] not in self.signed:
                raise ProcessError("no signatures found", returncode=10, output="no signatures found")
        elif words[0] == "sign":
            assert words[1:4] == ["--key", "cosign.key", "--signing-config"]
            assert Path(words[4]).read_text(encoding="utf-8") == "{}"
            assert words[5:7] == ["--recursive", "--yes"]
            place, _at, digest = words[-1].partition("@")
            self.signed += [words[-1], *(f"{place}@{one}" for one in self.inside(digest))][: self.ends_after]
            self.memory.asked.append(("PUT", f"/signature of {digest}"))
            if self.ends_after is not None:
                raise ProcessError("cosign sign: killed", returncode=-9)
        return {"public-key": "PUBLIC", "signing-config": "{}"}.get(words[0], "")


@pytest.fixture
def cosign(images: dict[str, Path], memory: Memory, monkeypatch: pytest.MonkeyPatch) -> Cosign:
    made = Cosign(memory, process.run)
    monkeypatch.setattr(process, "run", made.run)
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    return made


def publish_signed(project: Project, *words: str) -> int:
    return main(["--root", str(project.root), "publish", "--sign-key", "cosign.key", *words])


def test_an_index_is_signed_before_any_tag_names_it(project: Project, cosign: Cosign, memory: Memory) -> None:
    assert publish_signed(project, T5) == 0
    index = digest_of(memory.manifests[T5])
    assert memory.wrote()[-5:] == [index, f"signature of {index}", T5, "0.20-t5", "latest"]
    assert cosign.signed == [f"{PLACE}@{one}" for one in (index, *cosign.inside(index))]


def test_a_signature_is_not_repeated(
    project: Project, cosign: Cosign, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish_signed(project, T5) == publish_signed(project, T5) == 0
    assert len(cosign.indexes) == 1
    assert capsys.readouterr().out.count("nothing to do") == 3


def test_what_cannot_be_signed_gets_no_tag_and_a_rerun_signs_it_once(
    project: Project, cosign: Cosign, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    cosign.fails = ProcessError("cosign sign: exit status 1", returncode=1)
    assert publish_signed(project, T5) == ProcessError.exit_code
    assert not {T5, "0.20-t5", "latest"} & set(memory.manifests)
    cosign.fails = None
    memory.asked.clear()
    assert publish_signed(project, T5) == 0
    assert memory.wrote()[1:] == [T5, "0.20-t5", "latest"]
    assert len(cosign.indexes) == 1


def test_what_was_published_unsigned_is_signed_where_it_is(
    project: Project, cosign: Cosign, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(project, T5) == 0
    index = digest_of(memory.manifests[T5])
    capsys.readouterr()
    assert publish_signed(project, T5, "--dry-run") == 0
    assert "the registry has it without this signature" in capsys.readouterr().out
    memory.asked.clear()
    assert publish_signed(project, T5) == 0
    assert memory.wrote() == [f"signature of {index}"]


def test_what_ended_between_signature_and_tag_is_not_signed_twice(
    project: Project, cosign: Cosign, memory: Memory
) -> None:
    memory.failures[("PUT", f"/manifests/{T5}")] = [refused(403)]
    assert publish_signed(project, T5) == RegistryError.exit_code
    assert T5 not in memory.manifests
    assert publish_signed(project, T5) == 0
    assert len(cosign.indexes) == 1


def test_a_signature_that_was_ended_halfway_is_finished_by_the_next_run(
    project: Project, cosign: Cosign, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    """The index is signed first: the image in it, and what is said of that, come after."""
    cosign.ends_after = 1
    assert publish_signed(project, T5) == ProcessError.exit_code
    assert T5 not in memory.manifests
    cosign.ends_after = None
    assert publish_signed(project, T5) == 0
    index = digest_of(memory.manifests[T5])
    wanted = {f"{PLACE}@{one}" for one in (index, *cosign.inside(index))}
    assert wanted <= set(cosign.signed)
    # As a run of before may have left it, its tag already there.
    for one in cosign.inside(index):
        cosign.signed = [each for each in cosign.signed if one not in each]
        capsys.readouterr()
        assert publish_signed(project, T5, "--dry-run") == 0
        assert "the registry has it without this signature" in capsys.readouterr().out
        assert publish_signed(project, T5) == 0
        assert wanted <= set(cosign.signed)


# ---- what others say of an image


def put_index(memory: Memory, tag: str, predicates: Mapping[str, object], about: str) -> str:
    """Put an index of the image of a tag there, with other statements; its digest."""
    image = memory.manifests[image_under(memory, tag)]
    part = Part(digest=digest_of(image), media_type=MANIFEST_TYPE, body=image)
    made = attest(predicates, name="pkg:oci/x", digest=about)
    memory.blobs |= {one.digest: one.body for one in made.blobs}
    index = index_of(part, made.manifest, platform="linux/arm64")
    memory.manifests |= {one.digest: one.body for one in (made.manifest, index)} | {tag: index.body}
    return index.digest


def statements_under(memory: Memory, tag: str) -> dict[str, Any]:
    """Type to predicate of what is said of the image of a tag."""
    said = json.loads(memory.manifests[tag])["manifests"][1]["digest"]
    bodies = [json.loads(memory.blobs[one["digest"]]) for one in json.loads(memory.manifests[said])["layers"]]
    return {one["predicateType"]: one["predicate"] for one in bodies}


def forge(memory: Memory, tag: str) -> str:
    """Say of the right image that somebody else built it, and nothing else that is wrong; the digest of the index."""
    predicates = statements_under(memory, tag)
    predicates[SLSA]["runDetails"]["builder"]["id"] = "https://example.com/trusted"
    return put_index(memory, tag, predicates, image_under(memory, tag))


def test_an_attestation_that_was_replaced_is_never_signed(
    project: Project, cosign: Cosign, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish_signed(project, T5) == 0
    ours = memory.manifests[T5]
    forged = forge(memory, T5)
    capsys.readouterr()
    assert publish_signed(project, T5, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "what the registry says of it was signed by nobody, or by others; it is replaced" in told
    assert publish_signed(project, T5) == 0
    assert memory.manifests[T5] == memory.manifests["latest"] == ours
    assert not [one for one in cosign.signed if forged in one]
    assert f"{PLACE}:{T5} names {digest_of(ours)}, no longer {forged}" in capsys.readouterr().err


def test_an_attestation_of_another_image_is_replaced(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(project, T5) == 0
    ours = memory.manifests[T5]
    put_index(memory, T5, statements_under(memory, T5), "sha256:" + 64 * "0")
    capsys.readouterr()
    assert publish(project, T5, "--dry-run") == 0
    told = capsys.readouterr().out
    assert f"attest  {digest_of_row(images, T5)}" in told
    assert f"does not hold: bill of materials: it is about {64 * '0'}, expected " in told
    assert publish(project, T5) == 0
    assert memory.manifests[T5] == ours


def test_statements_that_are_not_there_any_more_are_sent_again(
    project: Project, images: dict[str, Path], memory: Memory
) -> None:
    assert publish(project, T5) == 0
    said = json.loads(memory.manifests[T5])["manifests"][1]["digest"]
    del memory.blobs[json.loads(memory.manifests[said])["layers"][0]["digest"]]
    assert publish(project, T5) == 0
    assert set(statements_under(memory, T5)) == {SPDX, SLSA}


@pytest.mark.parametrize("status", [403, 500])
def test_a_registry_that_does_not_answer_has_nothing_replaced(
    project: Project, images: dict[str, Path], memory: Memory, status: int
) -> None:
    assert publish(project, T5) == 0
    memory.failures[("GET", "/blobs/")] = [refused(status)] * 3
    memory.asked.clear()
    assert publish(project, T5) == RegistryError.exit_code
    assert memory.wrote() == []


def test_what_another_publisher_puts_there_after_us_is_not_signed(
    project: Project, cosign: Cosign, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    forged: list[str] = []

    def hook(method: str, path: str) -> None:
        if T5 in memory.manifests and method == "HEAD" and not forged:
            forged.append(forge(memory, T5))

    memory.hook = hook
    assert publish_signed(project, T5) == RegistryError.exit_code
    assert f"and now names {forged[0]}: another publisher is at work" in capsys.readouterr().err
    assert not [one for one in cosign.signed if forged[0] in one]
    assert "latest" not in memory.manifests


def test_what_a_consumer_would_find_wrong_gets_no_tag(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    target, digest = target_of(project, T5), digest_of_row(images, T5)
    write_file(provenance_path(project, target.name), make_provenance(target, digest, "sha256:" + 64 * "0"))
    assert publish(project, T5) == VerifyError.exit_code
    told = capsys.readouterr().err
    assert f"{PLACE}:{T5}: whoever pulls it would find: provenance: plan: it says {64 * '0'}, the image sha256:" in told
    assert not {T5, "0.20-t5", "latest"} & set(memory.manifests)


# ---- what has to be said


@pytest.mark.parametrize("words", [(), ("--keyless", "--no-sign"), ("--sign-key", "x", "--no-sign")])
def test_it_has_to_be_said_who_signs(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str], words: Sequence[str]
) -> None:
    assert main(["--root", str(project.root), "publish", T5, *words]) == UsageError.exit_code
    told = capsys.readouterr().err
    assert "expected one of --sign-key FILE (or env://VARIABLE), --keyless (in a workflow" in told
    assert "--no-sign (whoever pulls the images cannot tell who published them)" in told
    assert memory.asked == []
    assert main(["--root", str(project.root), "publish", T5, "--dry-run"]) == 0


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


def test_a_manifest_at_which_a_registry_fails_is_stored_anew(
    project: Project, images: dict[str, Path], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a full disk, of which the registry has kept the beginning of a file."""
    digest = digest_of_row(images, T4)
    memory.failures[("HEAD", f"/manifests/{digest}")] = [refused(500)] * 3
    assert publish(project, T4) == 0
    assert f"asking what {digest} names: the registry answered 500 (tried 3 times)" in capsys.readouterr().err
    assert image_under(memory, T4) == digest


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
            memory.manifests[T4] = next(one for one in memory.manifests.values() if b'"manifests"' in one)
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
