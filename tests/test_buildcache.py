"""Claims about the caches of compiled images in registries: what they are called, and what is done where one fails."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.builders import ROOT, make_vertex
from tests.compiledimages import make_compiled_checkout
from tests.memoryregistry import refused

from sparkbake import buildx, process, registry
from sparkbake.buildcache import TargetCache, cache_bodies, check_caches, narrowed
from sparkbake.buildx import BakeOptions
from sparkbake.cacheasking import ask_caches, check_written
from sparkbake.cli import main
from sparkbake.errors import RegistryError, UsageError
from sparkbake.exchange import Answer
from sparkbake.progress import Progress
from sparkbake.project import open_project

PLACE = "registry.example:5000/sparks/build-cache"
DRY = ["--root", str(ROOT), "build", "0.14.1-t4", "--dry-run"]
EXPORT = "[vllm-0_14_1-t4] exporting cache to registry"


# ---- what they are called


def test_each_target_has_a_reference_by_its_name_and_its_lock(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DRY, "--json", "--cache-from", PLACE, "localhost/other", "--cache-to", PLACE]) == 0
    targets = json.loads(capsys.readouterr().out)["targets"]
    for one in targets:
        digest = one["labels"]["dev.scitrera.lock_digest"]
        tag = f"cache-{one['name']}-{digest.removeprefix('sha256:')[:12]}"
        assert one["cache"] == {"from": [f"{PLACE}:{tag}", f"localhost/other:{tag}"], "to": f"{PLACE}:{tag}"}
    assert len({one["cache"]["to"] for one in targets}) == 3


def test_a_dry_run_shows_them_to_people_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DRY, "--cache-from", PLACE, "--cache-to", PLACE]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("cache ")]
    assert [words[:2] for words in told] == 3 * [["cache", "from"], ["cache", "to"]]
    assert all(words[2].startswith(f"{PLACE}:cache-dgx-spark-") for words in told)


def test_a_cache_changes_nothing_that_an_image_says_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    plans = []
    for words in ([], ["--cache-from", PLACE, "--cache-to", PLACE]):
        assert main([*DRY, "--json", *words]) == 0
        plans.append(json.loads(capsys.readouterr().out)["targets"])
    assert [one.pop("cache") for one in plans[0]] == 3 * [{"from": [], "to": None}]
    assert plans[0] == [{key: value for key, value in one.items() if key != "cache"} for one in plans[1]]


def test_a_variant_has_a_cache_of_its_own_on_the_same_foundations(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for words in ([], ["--variant", "12.1"]):
        assert main([*DRY, "--json", "--cache-to", PLACE, *words]) == 0
        found.append([one["cache"]["to"] for one in json.loads(capsys.readouterr().out)["targets"]])
    assert found[0][:2] == found[1][:2]
    assert found[0][2] != found[1][2]


def test_a_row_reads_the_caches_of_others_on_its_foundation_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its sibling has the same vLLM, all of them the same Triton; its own comes first."""
    project = make_compiled_checkout(tmp_path)
    rows = [one.tag for one in project.rows if project.lock_state(one) == "yes"]
    assert len(rows) == 2
    words = ["--root", str(tmp_path), "build", "--dry-run", "--json", "--cache-from", PLACE, "--cache-to", PLACE]
    words[3:3] = rows[:1]
    assert main(words) == 0
    *foundations, row = json.loads(capsys.readouterr().out)["targets"]
    assert all(one["cache"]["from"] == [one["cache"]["to"]] for one in foundations)
    words[3:4] = rows[1:]
    assert main(words) == 0
    sibling = json.loads(capsys.readouterr().out)["targets"][-1]
    assert row["cache"]["from"] == [row["cache"]["to"], sibling["cache"]["to"]]
    assert sibling["cache"]["from"] == [sibling["cache"]["to"], row["cache"]["to"]]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("docker.io/scitrera/dgx-spark-vllm", "which is where images are published"),
        ("other.example/mine/dgx-spark-pytorch", "which is where images are published"),
        (f"{PLACE}:mine", "expected a repository as HOST/NAME"),
        (f"{PLACE}@sha256:{64 * '1'}", "expected a repository as HOST/NAME"),
        ("scitrera/build-cache", "expected a repository as HOST/NAME"),
        ("registry.example", "expected a repository as HOST/NAME"),
        ("", "expected a repository as HOST/NAME"),
        (f"{PLACE},mode=min", "expected a repository as HOST/NAME"),
    ],
)
@pytest.mark.parametrize("option", ["--cache-from", "--cache-to"])
def test_what_is_no_place_for_a_cache_is_refused(
    option: str, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DRY, option, name]) == UsageError.exit_code
    told = capsys.readouterr().err
    assert f"{option}: got '{name}'" in told
    assert said in told


def test_no_reference_of_a_cache_can_be_one_of_an_image() -> None:
    matrix = open_project(ROOT).matrix
    for image in matrix.images:
        with pytest.raises(UsageError, match=r"such as registry\.example/any/build-cache"):
            check_caches({"--cache-to": [f"registry.example/any/{image.name}"]}, [one.name for one in matrix.images])


def test_a_cache_is_not_for_rows_from_wheels_and_not_for_a_build_without_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for option in ("--cache-from", "--cache-to"):
        words = ["--root", str(ROOT), "build", "0.32.0-t5", "--dry-run", option, PLACE]
        assert main(words) == UsageError.exit_code
        assert f"{option}: is for rows that are compiled" in capsys.readouterr().err
    assert main([*DRY, "--no-cache", "--cache-from", PLACE]) == UsageError.exit_code
    assert "with --no-cache no step may come from a cache" in capsys.readouterr().err
    assert main([*DRY, "--no-cache", "--cache-to", PLACE]) == 0


# ---- what bake is told


@pytest.mark.parametrize(("compression", "words"), [("zstd", "zstd,compression-level=3"), ("gzip", "gzip,")])
def test_bake_keeps_all_stages_packed_as_the_image_is(compression: str, words: str) -> None:
    caches = {"one": TargetCache(read=("r/a:x", "r/b:x"), write="r/a:x"), "two": TargetCache()}
    found = cache_bodies(caches, compression=compression, is_borne=True)
    assert found["two"] == {}
    assert found["one"]["cache-from"] == ["type=registry,ref=r/a:x", "type=registry,ref=r/b:x"]
    (kept,) = found["one"]["cache-to"]
    assert kept.startswith("type=registry,ref=r/a:x,mode=max,")
    assert f"compression={words}" in kept
    assert kept.endswith(",ignore-error=true")
    (kept,) = cache_bodies(caches, compression=compression, is_borne=False)["one"]["cache-to"]
    assert "ignore-error" not in kept


# ---- a registry is asked


class Caches:
    """A registry that has some caches; what is asked of it.

    Attributes:
        fails: what answers instead, by method.
    """

    def __init__(self, *there: str) -> None:
        self.there = there
        self.asked: list[tuple[str, str]] = []
        self.fails: dict[str, Answer | RegistryError] = {}

    def __call__(self, method: str, url: str, *_rest: object, **_more: object) -> Answer:
        self.asked.append((method, url))
        answer = self.fails.get(method)
        if isinstance(answer, RegistryError):
            raise answer
        if answer or method == "DELETE":
            return answer or refused(204)
        if method == "POST":
            return Answer(status=202, headers={"location": f"{url}1?state=x"}, body=b"")
        found = any(url.endswith(f"/manifests/{one}") for one in self.there)
        return Answer(status=200 if found else 404, headers={"docker-content-digest": f"sha256:{64 * '1'}"}, body=b"")


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> Caches:
    made = Caches("cache-one")
    monkeypatch.setattr(registry, "exchange", made)
    monkeypatch.setattr("sparkbake.places.login_of", lambda _registry: None)
    monkeypatch.setattr(registry, "_WAITS_S", ())
    return made


def of(*tags: str, write: bool = False) -> dict[str, TargetCache]:
    return {
        tag: TargetCache(read=(f"{PLACE}:cache-{tag}",), write=f"{PLACE}:cache-{tag}" if write else None)
        for tag in tags
    }


def test_a_cache_that_is_not_there_is_said_and_left_out(caches: Caches, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask_caches(open_project(ROOT), of("one", "two"), ())
    assert {name: one.read for name, one in found.items()} == {"one": (f"{PLACE}:cache-one",), "two": ()}
    told = capsys.readouterr().err
    assert f"cache: {PLACE}:cache-one: is there" in told
    assert f"cache: {PLACE}:cache-two: is not there; nothing is taken from it" in told
    assert {method for method, _url in caches.asked} == {"HEAD"}


def test_of_other_rows_only_what_is_there_is_said(caches: Caches, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, three = (f"{PLACE}:cache-{name}" for name in ("one", "two", "three"))
    found = ask_caches(open_project(ROOT), {"two": TargetCache(read=(two,), others=(one, three))}, ())
    assert found == {"two": TargetCache(others=(one,))}
    told = capsys.readouterr().err
    assert f"{one}: is there\n" in told
    assert f"{two}: is not there; nothing is taken from it\n" in told
    assert three not in told
    (body,) = cache_bodies(found, compression="zstd", is_borne=True).values()
    assert body == {"cache-from": [f"type=registry,ref={one}"]}


def test_a_registry_that_does_not_answer_is_said_once_and_ends_nothing(
    caches: Caches, capsys: pytest.CaptureFixture[str]
) -> None:
    caches.fails["HEAD"] = RegistryError("no route to host", passes=True)
    found = ask_caches(open_project(ROOT), of("one", "two"), ())
    assert all(one.read == () for one in found.values())
    told = capsys.readouterr().err
    assert told.count("no route to host") == 1
    assert "nothing is taken from there" in told


def test_where_nothing_can_be_written_is_known_before_anything_is_built(caches: Caches) -> None:
    ask_caches(open_project(ROOT), of("one", "two", write=True), ())
    assert [method for method, _url in caches.asked[:2]] == ["POST", "DELETE"]
    assert caches.asked[1][1].endswith("/v2/sparks/build-cache/blobs/uploads/1?state=x")
    caches.fails["POST"] = refused(401)
    with pytest.raises(RegistryError) as caught:
        ask_caches(open_project(ROOT), of("one", write=True), ())
    assert str(caught.value).startswith(f"--cache-to: {PLACE}: asking to store something: the registry answered 401")
    assert "run `docker login registry.example:5000`" in str(caught.value)
    assert "nothing was built: mend it, or leave --cache-to out" in str(caught.value)


def test_what_is_there_already_has_no_cache_and_that_is_said(
    caches: Caches, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(ask_caches(open_project(ROOT), of("one", "two", write=True), ["one"])) == ["two"]
    assert "cache: one is there already and not built, so that its cache is not written" in capsys.readouterr().err


def test_only_what_can_be_read_stays() -> None:
    assert narrowed(of("one", "two", write=True), {f"{PLACE}:cache-two"}) == {
        "one": TargetCache(write=f"{PLACE}:cache-one"),
        "two": of("two", write=True)["two"],
    }


# ---- what could not be written


def test_a_cache_that_could_not_be_written_leaves_the_build_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(words: Sequence[str], on_line: Callable[[str], None], **_named: object) -> int:
        on_line(make_vertex(EXPORT))
        on_line(make_vertex(EXPORT, "completed", error="connection refused"))
        body = {"one": {"containerimage.digest": f"sha256:{64 * 'a'}"}}
        Path(words[words.index("--metadata-file") + 1]).write_text(json.dumps(body), encoding="utf-8")
        return 0

    monkeypatch.setattr(process, "stream", stream)
    result = buildx.bake(
        tmp_path / "b.json",
        tmp_path / "m.json",
        BakeOptions(builder="default", secrets={}),
        targets=["one"],
        root=tmp_path,
        log=tmp_path / "log",
        show=lambda _line: None,
    )
    assert result.unwritten == ("connection refused",)
    assert list(result.digests) == ["one"]


def test_a_step_that_failed_is_no_cache_that_was_not_written() -> None:
    progress = Progress(lambda _line: None, lambda _line: None, verbose=False)
    progress.feed(make_vertex("[a 1/1] RUN x", "completed", error="exit code: 1"))
    assert progress.unwritten == ()


def test_it_is_told_at_the_end_with_what_to_do() -> None:
    check_written((), PLACE)
    with pytest.raises(RegistryError) as caught:
        check_written(("connection refused", "connection refused"), PLACE)
    assert str(caught.value).startswith(
        f"--cache-to: {PLACE}: 2 not written: connection refused; what was built is in the engine."
    )
