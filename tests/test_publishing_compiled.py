"""Claims about `publish` and `check` of compiled rows, of images that `verify` has found clean."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.compiledimages import DEV, RUNTIME, TAG, VLLM, image_of, make_compiled_checkout
from tests.memoryregistry import Memory
from tests.ocibuilder import digest_of
from tests.saidbuilder import BUILT
from tests.test_looks import Engine
from tests.test_publishing import Cosign
from tests.verified import findings_of

from sparkbake import candidates, process, registry, saving, verifying
from sparkbake.attest import SLSA
from sparkbake.buildx import BakeResult
from sparkbake.cli import main
from sparkbake.errors import UsageError, VerifyError
from sparkbake.looks import compiled_images
from sparkbake.model import LocalImage
from sparkbake.project import Project
from sparkbake.provenance import keep_provenance, provenance_path
from sparkbake.verifying import report_path

HOST = "registry.example:5000"
NAMES = (DEV, RUNTIME, VLLM)
FOUNDATION = "2.10.0-cu131"
TAGS = (FOUNDATION, TAG, "0.14-t4", "latest")
OTHER = "sha256:" + 64 * "0"


class Registry:
    """Repositories in memory, of one host.

    Attributes:
        asked: of all of them, in order, "PUT spark-vllm/0.14.0-t4"; of an address the last part.
    """

    def __init__(self) -> None:
        self.repositories = {name: Memory(f"sparks/{name}") for name in NAMES}
        self.asked: list[str] = []

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: Any, **rest: Any) -> Any:
        name, last = urlsplit(url).path.split("/")[3], url.rpartition("/")[2]
        self.asked.append(f"{method} {name}/{last}")
        return self.repositories[name](method, url, headers, body, **rest)

    def tagged(self) -> list[str]:
        """What was given a tag, in order: "spark-vllm/0.14.0-t4"."""
        wrote = [one.removeprefix("PUT ") for one in self.asked if one.startswith("PUT ")]
        return [one for one in wrote if one.partition("/")[2] in TAGS]

    def image(self, name: str, tag: str) -> str:
        """The one image in what a tag names."""
        index = json.loads(self.repositories[name].manifests[tag])
        (digest,) = (one["digest"] for one in index["manifests"] if one["platform"]["os"] == "linux")
        return str(digest)

    def inputs(self, name: str, tag: str) -> dict[str, dict[str, str]]:
        """Name to digest of what its provenance says it was built from."""
        memory = self.repositories[name]
        index = json.loads(memory.manifests[tag])
        (said,) = (one["digest"] for one in index["manifests"] if one["platform"]["os"] == "unknown")
        for layer in json.loads(memory.manifests[said])["layers"]:
            statement = json.loads(memory.blobs[layer["digest"]])
            if statement["predicateType"] == SLSA:
                found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
                return {one["name"]: one["digest"] for one in found if "name" in one}
        raise AssertionError("no provenance")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Mapping[Path, bytes]]:
    """An engine that has built a row with its foundations and found all of it clean; what both have left."""
    project = make_compiled_checkout(tmp_path_factory.mktemp("checkout"))
    made = Engine(project, tmp_path_factory.mktemp("images"))
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("GITHUB_ACTIONS", raising=False)
        play(made, patched)
        keep(project, {image_of(project, name).target.name: made.hold(name) for name in NAMES})
        assert main(["--root", str(project.root), "verify", TAG]) == 0
    return made, {path: path.read_bytes() for path in (project.build / "reports").iterdir()}


@pytest.fixture
def engine(built: tuple[Engine, Mapping[Path, bytes]], monkeypatch: pytest.MonkeyPatch) -> Engine:
    made, left = built
    for path, content in left.items():
        path.write_bytes(content)
    # Of its own, so that a test may remove some.
    own = Engine(made.project, made.folder)
    own.places, own.images = made.places, dict(made.images)
    play(own, monkeypatch)
    return own


def play(engine: Engine, patched: pytest.MonkeyPatch) -> None:
    """Let an engine take the place of the real one."""
    patched.setattr(verifying, "engine_state", lambda: engine.state)
    patched.setattr(verifying, "run_python", engine.run_python)
    patched.setattr(saving, "free_bytes", lambda _folder: 10**12)
    patched.setattr(process, "run", engine.run)
    for module in (candidates, saving, verifying):
        patched.setattr(module, "local_image", engine.images.get)


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Registry:
    made = Registry()
    monkeypatch.setattr(registry, "exchange", made)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return made


def keep(project: Project, digests: Mapping[str, str], *names: str) -> None:
    """What a build leaves of the images that it has built: all, or some."""
    built = [one for one in compiled_images(project, project.select([TAG])) if not names or one.target.name in names]
    said = {one.target.name: BUILT for one in built}
    keep_provenance(project, built, BakeResult(digests=digests, executed=(), provenance=said))


def publish(project: Project, *words: str) -> int:
    return main(["--root", str(project.root), "publish", TAG, "--no-sign", *words])


def held(engine: Engine, name: str) -> str:
    found = engine.images[image_of(engine.project, name).target.reference]
    assert isinstance(found, LocalImage)
    return found.digest


# ---- what is done, and in which order


def test_a_row_goes_after_its_foundations_each_to_a_repository_of_its_own(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(engine.project) == 0
    told = capsys.readouterr().err
    assert registries.tagged() == [
        f"{DEV}/{FOUNDATION}", f"{RUNTIME}/{FOUNDATION}", f"{VLLM}/{TAG}", f"{VLLM}/0.14-t4", f"{VLLM}/latest"
    ]  # fmt: skip
    for name, tag in ((DEV, FOUNDATION), (RUNTIME, FOUNDATION), (VLLM, TAG)):
        assert registries.image(name, tag) == held(engine, name)
        assert f"published in {HOST}/sparks/{name}: {tag}; sent " in told


def test_what_is_said_of_a_row_names_its_foundations_and_all_commits(engine: Engine, registries: Registry) -> None:
    assert publish(engine.project) == 0
    found = registries.inputs(VLLM, TAG)
    for name in (DEV, RUNTIME):
        digest = registries.image(name, FOUNDATION).removeprefix("sha256:")
        assert found[image_of(engine.project, name).target.name] == {"sha256": digest}
    sources = {one.name: {"gitCommit": one.commit} for one in image_of(engine.project).sources}
    assert {name: found[name] for name in sources} == sources


def test_the_same_again_moves_nothing(engine: Engine, registries: Registry) -> None:
    assert publish(engine.project) == 0
    registries.asked.clear()
    assert publish(engine.project) == 0
    assert [one for one in registries.asked if not one.startswith(("HEAD", "GET"))] == []


def test_a_dry_run_shows_all_and_writes_nothing(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(engine.project, "--dry-run", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    places = [*(one["repository"] for one in body["foundations"]), body["repository"]]
    assert places == [f"{HOST}/sparks/{name}" for name in NAMES]
    tags = [step for one in (*body["foundations"], body) for step in one["tags"]]
    assert [(one["tag"], one["deed"], one["digest"]) for one in tags] == [
        (FOUNDATION, "push", held(engine, DEV)),
        (FOUNDATION, "push", held(engine, RUNTIME)),
        (TAG, "push", held(engine, VLLM)),
        ("0.14-t4", "move", held(engine, VLLM)),
        ("latest", "move", held(engine, VLLM)),
    ]
    assert {one["why"] for one in tags[:3]} == {"compiled images have no recorded digest"}
    assert publish(engine.project, "--dry-run") == 0
    told = capsys.readouterr()
    assert all(f"{HOST}/sparks/{name}\n" in told.out for name in NAMES)
    assert "nothing was sent" in told.err
    assert {one.partition(" ")[0] for one in registries.asked} == {"HEAD"}


def signing(registries: Registry, monkeypatch: pytest.MonkeyPatch) -> Cosign:
    own, *others = (registries.repositories[name] for name in reversed(NAMES))
    cosign = Cosign(own, process.run, *others)
    monkeypatch.setattr(process, "run", cosign.run)
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    return cosign


def signed(engine: Engine, *words: str) -> list[str]:
    return ["--root", str(engine.project.root), "publish", TAG, "--sign-key", "cosign.key", *words]


def test_each_is_signed_before_its_tag_names_it(
    engine: Engine, registries: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    cosign = signing(registries, monkeypatch)
    assert main(signed(engine)) == 0
    places = ((DEV, FOUNDATION), (RUNTIME, FOUNDATION), (VLLM, TAG))
    indexes = {name: digest_of(registries.repositories[name].manifests[tag]) for name, tag in places}
    assert cosign.signed == [
        f"{HOST}/sparks/{name}@{one}" for name, index in indexes.items() for one in (index, *cosign.inside(index))
    ]


# ---- what is refused


def refused(engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str]) -> str:
    """What is told of a run that sends nothing to any repository."""
    capsys.readouterr()
    registries.asked.clear()
    assert publish(engine.project, "--json") == 1
    assert {one.partition(" ")[0] for one in registries.asked} <= {"HEAD", "GET"}
    body = json.loads(capsys.readouterr().out)
    tags = [(one["repository"], step) for one in (*body["foundations"], body) for step in one["tags"]]
    ((place, step),) = ((place, step) for place, step in tags if step["deed"] == "refused")
    return f"{place}: {step['why']}"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_verified_is_refused_and_nothing_is_sent(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    report_path(engine.project, image_of(engine.project, name).target).unlink()
    told = refused(engine, registries, capsys)
    assert told == f"{HOST}/sparks/{name}: not verified; run `nox -s verify -- {TAG}`"


@pytest.mark.parametrize("is_of_another", [True, False])
def test_what_a_build_of_before_made_is_refused_until_it_is_built_again(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str], *, is_of_another: bool
) -> None:
    """A foundation that is there is not built: it has to go first."""
    names = [image_of(engine.project, name).target.name for name in NAMES]
    if is_of_another:
        # What that was made from says nothing of the foundation that this one was made from.
        keep(engine.project, dict.fromkeys(names, OTHER), names[1])
    else:
        provenance_path(engine.project, names[1]).unlink()
    told = refused(engine, registries, capsys)
    again = f"`docker image rm {HOST}/sparks/{RUNTIME}:{FOUNDATION}`, then `nox -s build -- {TAG}`"
    assert told.endswith(f": it is not known how it was built; run {again}, which takes from its cache what it has")


def test_an_image_of_another_plan_is_refused(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    path = report_path(engine.project, image_of(engine.project).target)
    body = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**body, "plan_digest": OTHER}), encoding="utf-8")
    told = refused(engine, registries, capsys)
    assert f"changed): plan {OTHER}, now {body['plan_digest']}; run `nox -s build -- {TAG}`" in told
    assert findings_of(body) == []


def test_a_foundation_that_was_published_otherwise_is_refused_with_both_digests(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(engine.project) == 0
    memory, ours = registries.repositories[RUNTIME], held(engine, RUNTIME)
    theirs = memory.manifests[FOUNDATION].replace(ours.encode(), OTHER.encode())
    memory.manifests |= {FOUNDATION: theirs, digest_of(theirs): theirs}
    told = refused(engine, registries, capsys)
    assert f": the registry has {OTHER} under {FOUNDATION}, this image is {ours}: the tag of a foundation never" in told
    assert f"(`docker image rm {HOST}/sparks/{RUNTIME}:{FOUNDATION}`, then `nox -s build -- {TAG}`)" in told


def test_a_row_that_was_made_from_another_foundation_is_refused(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    row, runtime = (image_of(engine.project, name).target.name for name in (VLLM, RUNTIME))
    digests = {image_of(engine.project, name).target.name: held(engine, name) for name in NAMES}
    keep(engine.project, {**digests, runtime: OTHER}, row)
    told = refused(engine, registries, capsys)
    assert told == (
        f"{HOST}/sparks/{RUNTIME}: {HOST}/sparks/{VLLM}:{TAG} was made from {OTHER}, the engine has "
        f"{held(engine, RUNTIME)}; run `nox -s build -- {TAG}`"
    )


def test_a_variant_is_refused_with_the_reason(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--root", str(engine.project.root), "publish", f"{TAG}-sm121", "--no-sign"]
    assert main(words) == UsageError.exit_code
    assert f"'{TAG}-sm121': {TAG} compiled in another way, which has no row of its own" in capsys.readouterr().err
    assert registries.asked == []


# ---- foundations that a registry has


@pytest.mark.parametrize("is_here", [True, False])
def test_a_row_on_foundations_of_the_registry_is_published_without_them(
    engine: Engine, registries: Registry, *, is_here: bool
) -> None:
    """A build that takes them from there knows them by their indexes; the engine may have them or not."""
    assert publish(engine.project) == 0
    names = {name: image_of(engine.project, name).target.name for name in NAMES}
    indexes = {names[one]: digest_of(registries.repositories[one].manifests[FOUNDATION]) for one in (DEV, RUNTIME)}
    keep(engine.project, {**indexes, names[VLLM]: held(engine, VLLM)}, names[VLLM])
    if not is_here:
        # Left by a build of before, of an image that is not there any more.
        keep(engine.project, dict.fromkeys(names.values(), OTHER), names[RUNTIME])
        for name in (DEV, RUNTIME):
            del engine.images[image_of(engine.project, name).target.reference]
    registries.repositories[VLLM].manifests.clear()
    registries.asked.clear()
    assert publish(engine.project) == 0
    assert registries.tagged() == [f"{VLLM}/{TAG}", f"{VLLM}/0.14-t4", f"{VLLM}/latest"]
    found = registries.inputs(VLLM, TAG)
    assert found[names[RUNTIME]]["sha256"] == indexes[names[RUNTIME]].removeprefix("sha256:")


def test_a_foundation_that_others_speak_of_is_refused(
    engine: Engine, registries: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one that is not here, nothing can be said in place of what the registry says."""
    assert publish(engine.project) == 0
    del engine.images[image_of(engine.project, DEV).target.reference]
    registries.repositories[VLLM].manifests.clear()
    cosign = signing(registries, monkeypatch)
    capsys.readouterr()
    registries.asked.clear()
    assert main(signed(engine, "--json")) == 1
    (body, *_rest) = json.loads(capsys.readouterr().out)["foundations"]
    told = (
        "what the registry says of it was signed by nobody, or by others; publish it from where it was built, as the "
    )
    assert (body["tags"][0]["deed"], body["tags"][0]["why"]) == ("refused", f"{told}same signer, then this again")
    assert cosign.signed == registries.tagged() == []


def test_a_row_on_foundations_that_are_nowhere_is_refused(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = image_of(engine.project, DEV).target.reference
    ours = engine.images.pop(reference).digest
    told = refused(engine, registries, capsys)
    assert told.startswith(f"{HOST}/sparks/{DEV}: the engine has no such image, and this registry not the one that ")
    made = f"{HOST}/sparks/{RUNTIME}:{FOUNDATION}, {HOST}/sparks/{VLLM}:{TAG}"
    assert f"{made} was made from, {ours}; copy that one there" in told


# ---- looking at what was published


@pytest.mark.parametrize(("name", "tag"), [(DEV, FOUNDATION), (RUNTIME, FOUNDATION), (VLLM, TAG)])
def test_what_was_published_is_found_good(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str], name: str, tag: str
) -> None:
    assert publish(engine.project) == 0
    capsys.readouterr()
    words = ["--root", str(engine.project.root), "check", f"{HOST}/sparks/{name}:{tag}", "--json"]
    assert main(words) == 0
    found = {one["name"]: (one["verdict"], one["told"]) for one in json.loads(capsys.readouterr().out)["checks"]}
    verdicts = {name: verdict for name, (verdict, _told) in found.items()}
    assert [name for name, verdict in verdicts.items() if verdict != "ok"] == [
        "signature", "signature of the image", "record"
    ]  # fmt: skip
    assert found["tag"] == ("ok", f"the image is that of {tag}")
    assert found["record"][1].startswith("there are no records of compiled images")


def test_what_is_said_of_other_wheels_gets_no_tag(
    engine: Engine, registries: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    path = provenance_path(engine.project, image_of(engine.project).target.name)
    wheel = next(one for one in image_of(engine.project).wheels if one.name == "ray")
    path.write_text(path.read_text(encoding="utf-8").replace(wheel.sha256, 64 * "0"), encoding="utf-8")
    assert publish(engine.project) == VerifyError.exit_code
    assert f"of 1 packages of the bill it knows no such file: {wheel.file}" in capsys.readouterr().err
    assert TAG not in registries.repositories[VLLM].manifests
