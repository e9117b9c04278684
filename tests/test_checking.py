"""Claims about `check` as a consumer calls it, held against a registry in memory; tests/engine has a real one."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.imagebuilder import config_of, make_checkout, manifest_of
from tests.memoryregistry import NAME, PLACE, Memory
from tests.ocibuilder import add_image, copied, digest_of, make_file
from tests.saidbuilder import make_bill, make_provenance

from sparkbake import process
from sparkbake.attest import SLSA, SPDX, Part, attest, index_of
from sparkbake.cli import main
from sparkbake.errors import ImageError, ProcessError, RegistryError, UsageError
from sparkbake.exchange import Answer
from sparkbake.expected import Expected, record_json, record_path
from sparkbake.lockfile import sha256_of
from sparkbake.manifest import MANIFEST
from sparkbake.model import Target
from sparkbake.project import Project, write_file

T4, T5, NEWER = "0.20.2-t4", "0.20.2-t5", "0.32.0-t5"
REFERENCE = f"{PLACE}:{T4}"
OTHER = "sha256:" + 64 * "0"
NAMES = (
    "signature", "signature of the image", "index", "labels", "tag", "manifest in the image", "bill of materials",
    "provenance", "record",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A registry that is filled by hand."""

    project: Project
    memory: Memory
    folder: Path

    def target(self, tag: str = T4) -> Target:
        return self.project.plan(self.project.select([tag]), self.project.matrix.bases[1]).targets[0]

    def image(self, tag: str = T4, *, own: bytes | None = b"", **config: Any) -> Part:
        """Put an image there.

        Args:
            own: what it says of itself in place of what its build would write; None of nothing.
            config: keys of its config that are others; of `config` the labels.
        """
        target = self.target(tag)
        said = config_of(target, **config.pop("labels", {}))
        files = [] if own is None else [make_file(MANIFEST, own or manifest_of(self.project, target))]
        said_layer = copied("manifest", [make_file("usr/share/other"), *files])
        layers = [copied("shared", [make_file("opt/shared", b"s")]), said_layer, copied("workspace", [])]
        described = add_image(self.folder, layers, config=said, **config)
        for path in (self.folder / "blobs" / "sha256").iterdir():
            self.memory.blobs[f"sha256:{path.name}"] = path.read_bytes()
        body = self.memory.blobs[described["digest"]]
        return self.store(Part(digest=described["digest"], media_type=described["mediaType"], body=body))

    def store(self, part: Part, *tags: str) -> Part:
        self.memory.manifests |= dict.fromkeys((part.digest, *tags), part.body)
        return part

    def predicates(self, digest: str, tag: str = T4, **bill: str) -> dict[str, Any]:
        target = self.target(tag)
        said = make_provenance(target, digest, self.project.plan_digest(target))
        return {SPDX: json.loads(make_bill(target, digest, **bill)), SLSA: json.loads(said)["predicate"]}

    def attestation(self, predicates: Mapping[str, object], digest: str) -> Part:
        made = attest(predicates, name="pkg:oci/x", digest=digest)
        self.memory.blobs |= {one.digest: one.body for one in made.blobs}
        return self.store(made.manifest)

    def publish(self, image: Part, said: Part, *tags: str) -> Part:
        return self.store(index_of(image, said, platform="linux/arm64"), *(tags or (T4,)))

    def good(self, tag: str = T4, *tags: str) -> Part:
        image = self.image(tag)
        said = self.attestation(self.predicates(image.digest, tag), image.digest)
        return self.publish(image, said, *(tags or (tag,)))


@pytest.fixture
def shelf(project: Project, memory: Memory, tmp_path: Path) -> Shelf:
    return Shelf(project=project, memory=memory, folder=tmp_path / "image")


@pytest.fixture
def check(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, tuple[str, str]]]]:
    """Check an image; exit status, and verdict and words of each check."""

    def checked(reference: str = REFERENCE, *words: str) -> tuple[int, dict[str, tuple[str, str]]]:
        capsys.readouterr()
        status = main(["--root", str(shelf.project.root), "check", reference, "--json", *words])
        body = json.loads(capsys.readouterr().out)
        assert body["ok"] is (status == 0)
        return status, {one["name"]: (one["verdict"], one["told"]) for one in body["checks"]}

    return checked


Checked = Callable[..., tuple[int, dict[str, tuple[str, str]]]]


def only_fault(found: tuple[int, dict[str, tuple[str, str]]], name: str) -> str:
    """What is told of the one check that failed."""
    status, checks = found
    assert status == 1
    assert {one: told for one, (verdict, told) in checks.items() if verdict == "failed"}.keys() == {name}
    return checks[name][1]


# ---- what is well


def test_a_good_image_is_found_good_and_what_is_open_is_said(shelf: Shelf, check: Checked) -> None:
    index = shelf.good()
    status, found = check()
    assert status == 0
    assert tuple(found) == NAMES
    assert {name for name, (verdict, _told) in found.items() if verdict == "ok"} == {*NAMES[2:8]}
    assert found["signature"] == ("not checked", "say whose counts: --key FILE, or --identity ID and --issuer URL")
    assert found["record"] == ("not checked", "this checkout has recorded no digest of this image")
    plan = shelf.project.plan_digest(shelf.target())
    assert found["manifest in the image"] == ("ok", f"plan {plan}")
    image = json.loads(index.body)["manifests"][0]["digest"]
    assert found["index"] == ("ok", f"of one image, {image}, and what is said of it")
    assert found["tag"] == ("ok", f"the image is that of {T4}")
    assert 'built by "https://example.com/project#built-by-hand" of ' in found["provenance"][1]


def test_it_reads_and_never_writes_and_asks_for_no_more(shelf: Shelf, check: Checked) -> None:
    shelf.good()
    shelf.memory.asked.clear()
    check()
    assert {method for method, _path in shelf.memory.asked} == {"GET", "HEAD"}


def test_for_people_each_check_is_a_line(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    index = shelf.good()
    assert main(["--root", str(shelf.project.root), "check", T4]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{PLACE}:{T4} names {index.digest}\n")
    for name in NAMES:
        assert f"\n{name}  " in said.out
    assert f"{REFERENCE}: all that was checked is well" in said.err
    assert "not checked: signature, signature of the image, record" in said.err


def test_by_digest_the_tag_is_open(shelf: Shelf, check: Checked) -> None:
    index = shelf.good()
    status, found = check(f"{PLACE}@{index.digest}")
    assert (status, found["tag"]) == (0, ("not checked", "asked for by digest"))


def test_a_moving_tag_may_name_the_rows_that_it_is_about(shelf: Shelf, check: Checked) -> None:
    shelf.good(T5, "latest", "0.20-t4", "stable")
    status, found = check(f"{PLACE}:latest")
    assert (status, found["tag"]) == (0, ("ok", f"the image is that of {T5}"))
    told = only_fault(check(f"{PLACE}:0.20-t4"), "tag")
    assert told == f"0.20-t4 names the image of {T5}, expected that of {T4}"
    status, found = check(f"{PLACE}:stable")
    assert (status, found["tag"]) == (0, ("not checked", "this checkout knows no tag stable"))


def test_the_tag_before_a_revision_is_still_that_of_its_image_and_moving_tags_may_name_it(
    shelf: Shelf, check: Checked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As between the day a row gets a revision and the day that is published."""
    shelf.good(T5, T5, "0.20-t5", "0.20.2-t4")
    old = '        version: "5.8.0"\n'
    root = make_checkout(tmp_path / "revised", (old, old + '        revision: "2"\n')).root
    for tag, verdict, told in (
        (T5, "ok", f"the image is that of {T5}"),
        ("0.20-t5", "ok", f"the image is that of {T5}"),
        (T4, "failed", f"{T4} names the image of {T5}, expected that of {T4}"),
    ):
        capsys.readouterr()
        main(["--root", str(root), "check", f"{PLACE}:{tag}", "--json"])
        found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
        assert (found["tag"]["verdict"], found["tag"]["told"]) == (verdict, told)


def test_a_record_is_held_against_it(shelf: Shelf, check: Checked) -> None:
    image = json.loads(shelf.good().body)["manifests"][0]["digest"]
    for digest in (image, OTHER):
        record = Expected(digest=digest, config=digest, plan_digest=OTHER, engine="1", layers=())
        write_file(record_path(shelf.project.locks, T4), record_json(T4, {"debian-13": record}))
        if digest == image:
            assert check()[1]["record"] == ("ok", f"locks/digests has {image}, too")
        else:
            told = only_fault(check(), "record")
            record_path(shelf.project.locks, T4).unlink()
            assert told == f"locks/digests has {OTHER} of this row, the registry {image}"


# ---- what is not


def test_an_image_alone_is_not_as_published(shelf: Shelf, check: Checked) -> None:
    shelf.store(shelf.image(), T4)
    status, found = check()
    assert status == 1
    assert {name for name, (verdict, _told) in found.items() if verdict == "failed"} == {
        "index", "bill of materials", "provenance"
    }  # fmt: skip
    assert found["index"][1] == "nothing is said of the image: it has no attestations"
    assert found["bill of materials"][1].startswith("there is no statement of type https://spdx.dev/Document")


def test_a_tag_that_was_moved_to_another_row(shelf: Shelf, check: Checked) -> None:
    shelf.good(T5, T4)
    assert only_fault(check(), "tag") == f"{T4} names the image of {T5}, expected that of {T4}"


def test_an_index_with_the_attestations_of_another_image(shelf: Shelf, check: Checked) -> None:
    image, other = shelf.image(), shelf.image(T5)
    said = shelf.attestation(shelf.predicates(other.digest, T5), other.digest)
    theirs = json.loads(index_of(other, said, platform="linux/arm64").body)
    theirs["manifests"][0] |= {"digest": image.digest, "size": len(image.body)}
    body = json.dumps(theirs).encode()
    shelf.store(Part(digest=sha256_of(body), media_type="", body=body), T4)
    status, found = check()
    assert status == 1
    assert found["index"][1] == f"attestation {said.digest} is about {other.digest}, expected {image.digest}"
    assert f"it is about {other.digest[7:]}, expected {image.digest[7:]}" in found["bill of materials"][1]
    assert f"the document describes {other.digest}, expected {image.digest}" in found["bill of materials"][1]
    assert "it has other labels than the image: " in found["bill of materials"][1]
    assert f"it is about {other.digest[7:]}, expected {image.digest[7:]}" in found["provenance"][1]
    assert "plan: it says " in found["provenance"][1]


def test_an_index_with_a_further_image(shelf: Shelf, check: Checked) -> None:
    body = json.loads(shelf.good().body)
    body["manifests"].append(
        {**body["manifests"][0], "digest": OTHER, "platform": {"os": "linux", "architecture": "x"}}
    )
    text = json.dumps(body).encode()
    shelf.store(Part(digest=sha256_of(text), media_type="", body=text), T4)
    assert only_fault(check(), "index") == f"it has further images: {OTHER}"


def test_an_image_for_another_platform(shelf: Shelf, check: Checked) -> None:
    image = shelf.image(architecture="amd64")
    shelf.publish(image, shelf.attestation(shelf.predicates(image.digest), image.digest))
    assert only_fault(check(), "index") == "the image is for linux/amd64, expected linux/arm64"


def test_a_bill_of_another_image(shelf: Shelf, check: Checked) -> None:
    image = shelf.image()
    predicates = {**shelf.predicates(image.digest), SPDX: shelf.predicates(OTHER)[SPDX]}
    shelf.publish(image, shelf.attestation(predicates, image.digest))
    assert only_fault(check(), "bill of materials") == f"the document describes {OTHER}, expected {image.digest}"


def test_a_bill_with_another_version_than_the_labels(shelf: Shelf, check: Checked) -> None:
    image = shelf.image()
    predicates = shelf.predicates(image.digest)
    torch = next(one for one in predicates[SPDX]["packages"] if one["name"] == "torch")
    was = torch["versionInfo"]
    for version in (f"{was}.0", "1.0"):
        torch["versionInfo"] = version
        shelf.publish(image, shelf.attestation(predicates, image.digest))
        if version == "1.0":
            assert only_fault(check(), "bill of materials") == f"it has torch 1.0, the label says {was}"
        else:
            assert check()[0] == 0, "the same version, written otherwise"


def test_a_statement_of_another_type_than_it_is_called(shelf: Shelf, check: Checked) -> None:
    image = shelf.image()
    predicates = shelf.predicates(image.digest)
    said = attest(
        {"https://example.com/other": predicates[SPDX], SLSA: predicates[SLSA]}, name="x", digest=image.digest
    )
    shelf.memory.blobs |= {one.digest: one.body for one in said.blobs}
    body = said.manifest.body.replace(b"https://example.com/other", SPDX.encode())
    manifest = shelf.store(Part(digest=sha256_of(body), media_type=said.manifest.media_type, body=body))
    shelf.publish(image, manifest)
    told = only_fault(check(), "bill of materials")
    assert told.startswith(
        "it is a https://example.com/other in a https://in-toto.io/Statement/v1, expected https://spdx"
    )


def test_a_provenance_of_other_inputs(shelf: Shelf, check: Checked) -> None:
    image = shelf.image()
    predicates = shelf.predicates(image.digest)
    for one in predicates[SLSA]["buildDefinition"]["resolvedDependencies"]:
        if one.get("name", "").startswith(("torch-", "lock")):
            one["digest"] = {"sha256": 64 * "0"}
    shelf.publish(image, shelf.attestation(predicates, image.digest))
    told = only_fault(check(), "provenance")
    lock = dict(shelf.target().labels)["dev.example.lock_digest"]
    assert f"lock: it says {64 * '0'}, the image {lock}" in told
    assert "of 1 packages of the bill it knows no such file: torch-" in told


def test_no_provenance_at_all(shelf: Shelf, check: Checked) -> None:
    image = shelf.image()
    predicates = {SPDX: shelf.predicates(image.digest)[SPDX]}
    shelf.publish(image, shelf.attestation(predicates, image.digest))
    assert "there is no statement of type https://slsa.dev/provenance/v1" in only_fault(check(), "provenance")


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize(("kind", "name"), [(SPDX, "bill of materials"), (SLSA, "provenance")])
def test_a_second_statement_that_may_contradict_the_first(
    shelf: Shelf, check: Checked, kind: str, name: str, *, is_named: bool
) -> None:
    """Whoever reads it may take the other one; what the manifest calls it is not what decides."""
    image = shelf.image()
    good = shelf.predicates(image.digest)
    said, more = shelf.attestation(good, image.digest), shelf.attestation({kind: {"x": 1}}, image.digest)
    body = json.loads(said.body)
    (second,) = json.loads(more.body)["layers"]
    second["annotations"] = second["annotations"] if is_named else {}
    body["layers"].append(second)
    text = json.dumps(body).encode()
    shelf.publish(image, shelf.store(Part(digest=sha256_of(text), media_type=said.media_type, body=text)))
    status, found = check()
    assert (status, found[name][0]) == (1, "failed")
    assert found[name][1].startswith(f"there are 2 statements of type {kind}, expected one")


def test_labels_that_are_missing_or_said_twice(shelf: Shelf, check: Checked) -> None:
    image = shelf.image(labels={"org.opencontainers.image.revision": None})
    manifest = {**json.loads(image.body), "annotations": {"org.opencontainers.image.version": T5}}
    body = json.dumps(manifest).encode()
    changed = shelf.store(Part(digest=sha256_of(body), media_type=image.media_type, body=body))
    shelf.publish(changed, shelf.attestation(shelf.predicates(changed.digest), changed.digest))
    told = check()[1]["labels"]
    assert told == (
        "failed",
        "missing: org.opencontainers.image.revision; "
        f"org.opencontainers.image.version: the manifest has '{T5}', the label '{T4}'",
    )


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (None, "it has no layer with one"),
        (b"{}", "it has no labels"),
        (b'{"labels": {"a": "b"}}', "it has other labels than the image: a"),
    ],
)
def test_an_image_that_says_something_else_of_itself(
    shelf: Shelf, check: Checked, own: bytes | None, told: str
) -> None:
    image = shelf.image(own=own)
    shelf.publish(image, shelf.attestation(shelf.predicates(image.digest), image.digest))
    status, found = check()
    assert (status, found["manifest in the image"]) == (1, ("failed", told))
    assert "plan: it says " in found["provenance"][1]


def test_a_large_last_layer_is_not_fetched(shelf: Shelf, check: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkbake.checking._MOST_LAYER_BYTES", 10)
    shelf.good()
    assert check()[1]["manifest in the image"] == ("failed", "it has no layer with one")


def test_a_manifest_that_unpacks_to_too_much_is_not_read(
    shelf: Shelf, check: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparkbake.checking._MOST_LAYER_BYTES", 100_000)
    shelf.publish(image := shelf.image(own=bytes(1_000_000)), shelf.attestation({}, image.digest))
    assert check()[1]["manifest in the image"] == ("failed", "it has no layer with one")


# ---- signatures


def test_index_and_image_are_to_be_signed(
    shelf: Shelf, check: Checked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index = shelf.good()
    image = json.loads(index.body)["manifests"][0]["digest"]
    key = tmp_path / "cosign.pub"
    key.write_text("PUBLIC", encoding="utf-8")
    unsigned: set[str] = set()

    def run(argv: Sequence[str | Path], **_rest: Any) -> str:
        assert argv[:5] == ["cosign", "verify", "--key", str(key), "--insecure-ignore-tlog=true"]
        if str(argv[-1]).partition("@")[2] in unsigned:
            raise ProcessError("no", returncode=10, output="no signatures found")
        return "[]"

    monkeypatch.setattr(process, "run", run)
    status, found = check(REFERENCE, "--key", str(key))
    assert (status, found["signature"]) == (0, ("ok", f"{index.digest} is signed by {key}"))
    unsigned.add(image)
    told = only_fault(check(REFERENCE, "--key", str(key)), "signature of the image")
    assert told == f"{image}: it has no signature, expected one by {key}"


def test_who_a_certificate_names_is_told(shelf: Shelf, check: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.good()
    monkeypatch.setattr(process, "run", lambda *_words, **_rest: "[]")
    told = check(REFERENCE, "--identity", "me", "--issuer", "https://login.example")[1]["signature"][1]
    assert told.endswith("is signed by me, says https://login.example")


@pytest.mark.parametrize(
    "words",
    [("--identity", "me"), ("--issuer", "x"), ("--key", "cosign.pub", "--identity", "me", "--issuer", "x")],
)
def test_half_a_signer_is_none(shelf: Shelf, capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> None:
    assert main(["--root", str(shelf.project.root), "check", REFERENCE, *words]) == UsageError.exit_code
    assert "expected --key FILE, or --identity ID with --issuer URL, or none of them" in capsys.readouterr().err


def test_a_key_that_is_not_there(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(shelf.project.root), "check", REFERENCE, "--key", "no.pub"]) == UsageError.exit_code
    assert "--key: no file no.pub; expected the public key of who publishes" in capsys.readouterr().err


# ---- what cannot be checked


def test_a_tag_that_is_not_there(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(shelf.project.root), "check", T4]) == RegistryError.exit_code
    assert f"{PLACE}: has no tag {T4}; see which there are, or log in if it is private" in capsys.readouterr().err


def test_an_index_of_no_image_for_this_platform(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    image = shelf.image()
    said = shelf.attestation(shelf.predicates(image.digest), image.digest)
    shelf.store(index_of(image, said, platform="linux/s390x"), T4)
    assert main(["--root", str(shelf.project.root), "check", T4]) == ImageError.exit_code
    assert f"has {image.digest} (linux/s390x), expected one for linux/arm64" in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"{", b'{"manifests": 1}', b'{"manifests": [{"digest": "x"}]}'])
def test_what_is_no_index_is_told_as_such(shelf: Shelf, capsys: pytest.CaptureFixture[str], body: bytes) -> None:
    shelf.store(Part(digest=digest_of(body), media_type="", body=body), T4)
    assert main(["--root", str(shelf.project.root), "check", T4]) == ImageError.exit_code
    assert f"{PLACE}:{T4}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("which", "changed"),
    [
        ("manifests", {"config": "x"}),
        ("blobs", {"config": {"Labels": 1}}),
        ("blobs", {"config": {"Labels": {"a": []}}}),
    ],
)
def test_what_is_in_no_known_form_is_told_as_such(
    shelf: Shelf, capsys: pytest.CaptureFixture[str], which: str, changed: dict[str, Any]
) -> None:
    image = shelf.image()
    manifest = json.loads(image.body)
    if which == "blobs":
        body = json.dumps({**json.loads(shelf.memory.blobs[manifest["config"]["digest"]]), **changed}).encode()
        shelf.memory.blobs[digest_of(body)] = body
        changed = {"config": {"digest": digest_of(body), "size": len(body)}}
    body = json.dumps({**manifest, **changed}).encode()
    image = shelf.store(Part(digest=digest_of(body), media_type=image.media_type, body=body))
    shelf.publish(image, shelf.attestation(shelf.predicates(image.digest), image.digest))
    assert main(["--root", str(shelf.project.root), "check", T4]) == ImageError.exit_code
    assert "not in the form of an image and of what is said of one: " in capsys.readouterr().err


def test_platforms_that_are_none_are_of_no_image(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    body = json.dumps({"manifests": [{"digest": OTHER, "platform": "x", "annotations": [1]}]}).encode()
    shelf.store(Part(digest=digest_of(body), media_type="", body=body), T4)
    assert main(["--root", str(shelf.project.root), "check", T4]) == RegistryError.exit_code
    assert f"reading the manifest {OTHER}" in capsys.readouterr().err


def test_what_is_asked_for_by_digest_is_called_so(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    part = shelf.store(Part(digest=digest_of(b"{"), media_type="", body=b"{"))
    assert main(["--root", str(shelf.project.root), "check", f"{PLACE}@{part.digest}"]) == ImageError.exit_code
    assert f"{PLACE}@{part.digest}: " in capsys.readouterr().err


def test_a_digest_that_is_none_is_not_taken_from_a_header(shelf: Shelf, check: Checked) -> None:
    shelf.good()
    shelf.memory.failures[("HEAD", "")] = [Answer(status=200, headers={"docker-content-digest": "latest"}, body=b"")]
    assert check()[0] == 0


def test_a_blob_may_lie_elsewhere(shelf: Shelf, check: Checked) -> None:
    """As on Docker Hub; the answer is followed."""
    shelf.good()
    place = {"location": f"https://api.registry.example/v2/{NAME}/blobs/"}
    config = next(digest for digest, body in shelf.memory.blobs.items() if b'"rootfs"' in body and b'"Cmd"' in body)
    elsewhere = Answer(status=307, headers={"location": place["location"] + config}, body=b"")
    shelf.memory.failures[("GET", f"/blobs/{config}")] = [elsewhere]
    assert check()[0] == 0


def test_a_blob_of_other_bytes(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    shelf.good()
    shelf.memory.failures[("GET", "/blobs/")] = [Answer(status=200, headers={}, body=b"{}")]
    assert main(["--root", str(shelf.project.root), "check", T4]) == RegistryError.exit_code
    assert f"gave for the config bytes with the digest {digest_of(b'{}')}, expected sha256:" in capsys.readouterr().err


@pytest.mark.parametrize("reference", ["spark-vllm", "a.example/X:1", "-:1", "x@sha256:0", "a.example/x", "http://x:1"])
def test_what_is_no_reference(shelf: Shelf, capsys: pytest.CaptureFixture[str], reference: str) -> None:
    assert main(["--root", str(shelf.project.root), "check", "--", reference]) == UsageError.exit_code
    assert f"got '{reference}', expected a TAG as `list` shows it, NAME:TAG or NAME@sha256:" in capsys.readouterr().err


def test_a_name_without_a_registry_is_of_that_of_the_matrix(shelf: Shelf, check: Checked) -> None:
    index = shelf.good()
    assert check(f"{NAME}:{T4}")[0] == check(f"{NAME}:{T4}@{index.digest}")[0] == 0


def test_who_may_not_read_is_told_so(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    shelf.memory.failures[("HEAD", "")] = [Answer(status=403, headers={}, body=b"")]
    assert main(["--root", str(shelf.project.root), "check", T4]) == RegistryError.exit_code
    assert f"as somebody who may read {PLACE}" in capsys.readouterr().err
