"""Publishing to a real registry on this machine: nothing is half-published, and a rerun finishes the job."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.engine.loopback import (
    PASSWORD,
    USER,
    Proxy,
    Server,
    docker_config,
    fill,
    proxy,
    registry,
    small_disk,
    token_registry,
)
from tests.engine.published import (
    NAME,
    OWN_BYTES,
    SHARED_BYTES,
    Checkout,
    environment,
    index_under,
    made_checkout,
    names,
)
from tests.ocibuilder import digest_of
from tests.saidbuilder import keep

from sparkbake.errors import PreflightError, ProcessError
from sparkbake.expected import Expected, record_json, record_path
from sparkbake.findings import of_build
from sparkbake.preflight import KEPT_FREE_BYTES
from sparkbake.project import write_file
from sparkbake.verifying import report_path

pytestmark = pytest.mark.engine

T4, T5, NEWER = "0.20.2-t4", "0.20.2-t5", "0.32.0-t5"
# What requests, manifests and attestations take, beside layers.
FEW_BYTES = 80_000
# Of 0.20.2; 0.32.0 is withdrawn in the small matrix.
MOVING = {T4: {"0.20-t4"}, T5: {"0.20-t5", "latest"}}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    with made_checkout(tmp_path_factory.mktemp("publish"), T4, T5, NEWER) as made:
        yield made


@pytest.fixture(autouse=True)
def verified(checkout: Checkout) -> None:
    """All images are verified, and none is recorded; whatever a test before did."""
    checkout.verify_all()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server(tmp_path: Path, stack: ExitStack) -> Server:
    return stack.enter_context(registry(tmp_path / "registry"))


@pytest.fixture
def front(server: Server, stack: ExitStack) -> Proxy:
    return stack.enter_context(proxy(server))


def steps(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    """Tag to deed."""
    return {one["tag"]: one["deed"] for one in json.loads(done.stdout)["tags"]}


# ---- what a good run does


def test_a_row_is_pushed_tagged_and_what_moves_is_moved(checkout: Checkout, server: Server) -> None:
    done = checkout.publish(server.host, T5)
    assert done.returncode == 0, done.stderr
    assert server.tags(NAME) == {T5, *MOVING[T5]}
    for tag in (T5, *MOVING[T5]):
        assert names(server, tag) == checkout.digests[T5]
        assert f"{server.host}/{NAME}:{tag} names {index_under(server, T5)}" in done.stderr
    assert f"sending {T5}: layer 1 of 3, 8.0 MB" in done.stderr
    assert f"published in {server.host}/{NAME}: {T5}; sent 9.0 MB" in done.stderr
    table = [line.split() for line in done.stdout.splitlines()]
    assert [T5, "own", "push", checkout.digests[T5], "nothing", "its"] in [line[:6] for line in table]
    assert ["latest", "moving,", "now", T5, "move", checkout.digests[T5], "nothing"] in table
    assert not list(checkout.project.build.glob("publish-*"))


def test_publishing_again_sends_nothing(checkout: Checkout, front: Proxy) -> None:
    assert checkout.publish(front.server.host, T5).returncode == 0
    front.sent_bytes, front.seen = 0, []
    done = checkout.publish(front.server.host, T5, "--json")
    assert done.returncode == 0, done.stderr
    assert steps(done) == dict.fromkeys((T5, "0.20-t5", "latest"), "nothing to do")
    assert f"{T5}: nothing to do, {front.server.host}/{NAME} has {checkout.digests[T5]}" in done.stderr
    assert front.requests("PUT", "POST") == []
    assert front.sent_bytes < FEW_BYTES
    assert json.loads(done.stdout)["sent_bytes"] == 0


def test_a_sibling_sends_only_what_differs(checkout: Checkout, front: Proxy) -> None:
    assert checkout.publish(front.server.host, T4).returncode == 0
    assert front.sent_bytes > SHARED_BYTES + OWN_BYTES
    front.sent_bytes = 0
    done = checkout.publish(front.server.host, T5, "--json")
    assert OWN_BYTES < front.sent_bytes < OWN_BYTES + FEW_BYTES
    assert OWN_BYTES < json.loads(done.stdout)["sent_bytes"] < OWN_BYTES + FEW_BYTES
    assert f"{T5}: layer 2 of 3" in done.stderr
    assert f"{T5}: layer 1 of 3" not in done.stderr


def test_several_rows_at_once_and_latest_is_the_highest(checkout: Checkout, server: Server) -> None:
    done = checkout.publish(server.host, T4, T5, NEWER)
    assert done.returncode == 0, done.stderr
    assert server.tags(NAME) == {T4, T5, NEWER, *MOVING[T4], *MOVING[T5]}
    assert names(server, "latest") == checkout.digests[T5], "the small matrix withdraws 0.32.0-t5"


def test_an_older_row_does_not_take_a_moving_tag_back(checkout: Checkout, server: Server) -> None:
    assert checkout.publish(server.host, T5).returncode == 0
    done = checkout.publish(server.host, T4, "--json")
    assert done.returncode == 0, done.stderr
    assert steps(done) == {T4: "push", "0.20-t4": "move", "latest": "stays"}
    assert names(server, "latest") == checkout.digests[T5]


def test_a_moving_tag_moves_on_when_a_higher_row_is_published(checkout: Checkout, server: Server) -> None:
    assert checkout.publish(server.host, T4).returncode == 0
    assert names(server, "latest") == checkout.digests[T4]
    done = checkout.publish(server.host, T5)
    moved = f":latest names {index_under(server, T5)}, no longer {index_under(server, T4)}"
    assert moved in done.stderr
    assert names(server, "latest") == checkout.digests[T5]


def test_a_dry_run_says_all_and_sends_nothing(checkout: Checkout, front: Proxy, server: Server) -> None:
    done = checkout.publish(front.server.host, T4, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert steps(done) == {T4: "push", "0.20-t4": "move", "latest": "move"}
    assert json.loads(done.stdout)["dry_run"] is True
    assert "nothing was sent" in done.stderr
    assert front.requests("PUT", "POST") == []
    assert server.tags(NAME) == set()


# ---- what is refused


def test_the_tag_of_a_row_never_changes(checkout: Checkout, server: Server) -> None:
    assert checkout.publish(server.host, T4).returncode == 0
    try:
        other = checkout.load(T4, seed="other")
        checkout.report(T4, other)
        keep(checkout.project, checkout.target(T4), other)
        done = checkout.publish(server.host, T4, T5)
    finally:
        checkout.load(T4)
    assert done.returncode == 1
    assert f"the registry has {checkout.digests[T4]} under {T4}, this image is {other}: the tag of a row" in done.stdout
    assert "the tag of a row never changes" in done.stdout
    assert "nothing was sent: an image is refused" in done.stderr
    assert names(server, T4) == checkout.digests[T4]
    assert names(server, T5) is None, "of rows that are asked for together, all or none are begun"


FINDING = of_build("package", "torch", T4, found="1", expected="2")
REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"digest": "sha256:" + 64 * "0"}, "verified was sha256:0000"),
    ({"plan_digest": "sha256:" + 64 * "0"}, "verified as an image of other inputs"),
    ({"checks_digest": "sha256:" + 64 * "0"}, "verified by other checks"),
    ({"findings": (FINDING,)}, "verify found 1 errors in it"),
    ({"programs": "not run"}, "its programs were not run"),
]


@pytest.mark.parametrize(("changed", "told"), REFUSALS, ids=[one[1] for one in REFUSALS])
def test_what_has_no_clean_report_of_this_plan_is_refused(
    checkout: Checkout, front: Proxy, changed: dict[str, Any], told: str
) -> None:
    checkout.report(T4, **{"digest": checkout.digests[T4], **changed})
    done = checkout.publish(front.server.host, T4)
    assert done.returncode == 1
    assert told in done.stdout
    assert front.requests("PUT", "POST") == []


def test_what_was_never_verified_is_refused(checkout: Checkout, front: Proxy) -> None:
    report_path(checkout.project, checkout.target(T4)).unlink()
    done = checkout.publish(front.server.host, T4)
    assert (done.returncode, "not verified; run `nox -s verify -- 0.20.2-t4`" in done.stdout) == (1, True)
    assert front.requests("PUT", "POST") == []


def test_what_is_not_as_recorded_is_refused(checkout: Checkout, server: Server) -> None:
    plan_digest = checkout.project.plan_digest(checkout.target(T4))
    for digest, status in (("sha256:" + 64 * "0", 1), (checkout.digests[T4], 0)):
        record = Expected(digest=digest, config=digest, plan_digest=plan_digest, engine="1", layers=())
        write_file(record_path(checkout.project.locks, T4), record_json(T4, {"debian-13": record}))
        done = checkout.publish(server.host, T4)
        assert done.returncode == status
        assert ("locks/digests has sha256:000" in done.stdout) is bool(status)


def test_what_is_packed_or_trimmed_otherwise_is_refused(checkout: Checkout, server: Server) -> None:
    try:
        gzipped = checkout.load(T4, compression="gzip")
        checkout.report(T4, gzipped)
        keep(checkout.project, checkout.target(T4), gzipped)
        packed = checkout.publish(server.host, T4)
        checkout.report(T4, checkout.load(T4, trim=False), trim=False)
        whole = checkout.publish(server.host, T4)
    finally:
        checkout.load(T4)
    assert packed.returncode == whole.returncode == 1
    assert (
        "3 of its 3 layers are 'application/vnd.docker.image.rootfs.diff.tar.gzip', expected all to be" in packed.stderr
    )
    assert "says that 'none' is trimmed, expected 'torch'" in whole.stdout
    assert server.tags(NAME) == set()


# ---- what goes wrong


def test_a_registry_that_is_down(checkout: Checkout, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as server:
        host, port = server.host, server.port
    done = checkout.publish(host, T4)
    assert done.returncode == 9
    assert f"{host}/{NAME}: asking what {T4} names: {host}: HEAD: [Errno 111] Connection refused" in done.stderr
    assert "(tried 3 times); see that the registry is up" in done.stderr
    with registry(tmp_path / "registry", port=port) as server:
        assert checkout.publish(host, T4).returncode == 0
        assert names(server, T4) == checkout.digests[T4]


def test_an_upload_that_breaks_off_once_is_tried_again(checkout: Checkout, front: Proxy, server: Server) -> None:
    front.breaks = 1
    done = checkout.publish(front.server.host, T4)
    assert done.returncode == 0, done.stderr
    assert front.breaks == 0
    assert "trying again in 1 s" in done.stderr
    assert names(server, T4) == checkout.digests[T4]


def test_an_upload_that_keeps_breaking_off_leaves_no_tag_and_a_rerun_ends_it(
    checkout: Checkout, front: Proxy, server: Server
) -> None:
    """The first layer goes well, the second does not; then only that is sent."""
    assert checkout.publish(front.server.host, T5).returncode == 0
    before = server.tags(NAME)
    front.breaks, front.break_at = 3, 500_000
    done = checkout.publish(front.server.host, T4)
    assert done.returncode == 9
    assert f"sending {T4}: layer 2 of 3 (sha256:" in done.stderr
    assert "(tried 3 times); see that the registry is up and has room, then run it again" in done.stderr
    assert server.tags(NAME) == before
    assert front.breaks == 0
    front.sent_bytes = 0
    done = checkout.publish(front.server.host, T4)
    assert done.returncode == 0, done.stderr
    assert names(server, T4) == checkout.digests[T4]
    assert front.sent_bytes < OWN_BYTES + FEW_BYTES


def test_ctrl_c_leaves_no_tag_and_a_rerun_ends_it(checkout: Checkout, front: Proxy, server: Server) -> None:
    front.pause_s = 0.1
    argv = checkout.argv(T4, "--no-sign", "--registry", f"{front.server.host}/sparks")
    with subprocess.Popen(argv, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "layer 1 of 3" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=20) == 130, rest
    assert f"interrupted: no tag names what is not complete in {front.server.host}/{NAME}" in rest
    assert server.tags(NAME) == set()
    assert not list(checkout.project.build.glob("publish-*"))
    front.pause_s = 0
    done = checkout.publish(front.server.host, T4)
    assert done.returncode == 0, done.stderr
    assert names(server, T4) == names(server, "latest") == checkout.digests[T4]


def test_what_was_pushed_and_not_tagged_needs_only_its_tags(checkout: Checkout, front: Proxy, server: Server) -> None:
    """Ended between the two: the registry has the image, and no tag names it."""

    def stop(piece: bytes) -> None:
        if piece.startswith(f"PUT /v2/{NAME}/manifests/{T4} ".encode()):
            front.breaks, front.break_at = 3, 0

    front.hook = stop
    done = checkout.publish(front.server.host, T4)
    assert done.returncode == 9, done.stderr
    assert server.tags(NAME) == set()
    assert names(server, checkout.digests[T4]) == checkout.digests[T4]
    front.hook, front.sent_bytes, front.breaks = (lambda _piece: None), 0, 0
    done = checkout.publish(front.server.host, T4)
    assert (done.returncode, "saving" in done.stderr) == (0, False), done.stderr
    assert names(server, T4) == names(server, "latest") == checkout.digests[T4]
    assert front.sent_bytes < FEW_BYTES


def test_a_full_disk_of_the_registry(checkout: Checkout, tmp_path: Path) -> None:
    with registry(tmp_path / "registry", most_file_bytes=SHARED_BYTES // 2) as server:
        done = checkout.publish(server.host, T4)
        assert done.returncode == 9
        assert f"sending {T4}: layer 1 of 3" in done.stderr
        assert "the registry answered 500: UNKNOWN: unknown error" in done.stderr
        assert "see that the registry is up and has room" in done.stderr
        assert server.tags(NAME) == set()
    with registry(tmp_path / "registry") as server:
        assert checkout.publish(server.host, T4).returncode == 0
        assert names(server, T4) == checkout.digests[T4]


@pytest.mark.parametrize(
    ("place", "told", "is_complete"),
    [
        (f"PUT /v2/{NAME}/blobs/uploads/", f"sending {T4}: layer 2 of 3", False),
        (f"PUT /v2/{NAME}/manifests/sha256:", "storing the manifest sha256:", True),
        (f"PUT /v2/{NAME}/manifests/{T4} ", f"storing the manifest {T4}", True),
    ],
    ids=["layer", "manifest", "tag"],
)
def test_a_disk_of_the_registry_that_is_full_at_any_step(
    checkout: Checkout, tmp_path: Path, stack: ExitStack, *, place: str, told: str, is_complete: bool
) -> None:
    """Some other row was published before; somebody else's files take what is left right before a step."""
    disk = stack.enter_context(small_disk(tmp_path / "registry", 40_000_000))
    server = stack.enter_context(registry(disk))
    front = stack.enter_context(proxy(server))
    assert checkout.publish(server.host, NEWER).returncode == 0
    before = server.tags(NAME)
    filler: list[Path] = []

    def hook(piece: bytes) -> None:
        if piece.startswith(place.encode()) and not filler:
            filler.append(fill(disk))

    front.hook = hook
    done = checkout.publish(front.server.host, T4)
    assert done.returncode == 9, done.stderr
    assert told in done.stderr
    assert "the registry answered 500" in done.stderr
    assert "no space left on device" in done.stderr + (disk / "log").read_text(encoding="utf-8")
    assert {tag: names(server, tag) for tag in (T4, *MOVING[T4])} == dict.fromkeys((T4, *MOVING[T4]))
    filler[0].unlink()
    assert server.tags(NAME) - {T4} == before
    front.hook = lambda _piece: None
    damaged = [one for one in (disk / "data").rglob("blobs/sha256/*/*/data") if not one.stat().st_size]
    if damaged:
        # What docker-registry has begun to write it takes for whole ever after.
        done = checkout.publish(front.server.host, T4)
        assert (done.returncode, "which only who runs the registry can remove" in done.stderr) == (9, True), done.stderr
        assert names(server, T4) is None
        for one in damaged:
            one.unlink()
    front.sent_bytes = 0
    done = checkout.publish(front.server.host, T4)
    assert done.returncode == 0, done.stderr
    assert names(server, T4) == checkout.digests[T4]
    assert (front.sent_bytes < FEW_BYTES) is is_complete


# Saving an image keeps so much free beside it; no memory is taken for it.
ROOMY_BYTES, TIGHT_BYTES = KEPT_FREE_BYTES + 100_000_000, 4_000_000


def test_a_full_disk_of_ours(checkout: Checkout, front: Proxy, server: Server, tmp_path: Path) -> None:
    """Seen before; or noticed while the image is saved, when others take the room meanwhile."""
    build = checkout.project.build
    programs = tmp_path / "bin"
    programs.mkdir()
    docker = programs / "docker"
    remount = f"mount -o remount,size={TIGHT_BYTES} {build}"
    docker.write_text(f'#!/bin/sh\n[ "$2" != save ] || {remount} || exit 99\nexec {shutil.which("docker")} "$@"\n')
    docker.chmod(0o755)
    with small_disk(build, TIGHT_BYTES):
        checkout.verify_all()
        done = checkout.publish(front.server.host, T4)
        assert (done.returncode, "free: expected" in done.stderr) == (PreflightError.exit_code, True), done.stderr
        subprocess.run(["mount", "-o", f"remount,size={ROOMY_BYTES}", build], check=True)
        done = checkout.publish(front.server.host, T4, PATH=f"{programs}:{os.environ['PATH']}")
        assert done.returncode == ProcessError.exit_code, done.stderr
        assert "no space left on device" in done.stderr
        assert front.requests("PUT", "POST") == []
        assert not list(build.glob("publish-*"))
        subprocess.run(["mount", "-o", f"remount,size={ROOMY_BYTES}", build], check=True)
        done = checkout.publish(front.server.host, T4)
        assert done.returncode == 0, done.stderr
    assert names(server, T4) == checkout.digests[T4]


def test_a_login_that_is_revoked_while_blobs_are_sent(checkout: Checkout, tmp_path: Path, stack: ExitStack) -> None:
    server = stack.enter_context(registry(tmp_path / "registry", with_login=True))
    front = stack.enter_context(proxy(server))
    passwords = tmp_path / "registry" / "htpasswd"
    allowed = passwords.read_text(encoding="utf-8")
    login = docker_config(tmp_path / "login", front.server.host)

    def hook(piece: bytes) -> None:
        if piece.startswith(f"PUT /v2/{NAME}/manifests/".encode()):
            passwords.write_text(allowed.replace(USER, "nobody"), encoding="utf-8")

    front.hook = hook
    done = checkout.publish(front.server.host, T4, **login)
    assert done.returncode == 9, done.stderr
    assert f"the login of '{USER}' does not suffice: run `docker login {front.server.host}`" in done.stderr
    assert "trying again" not in done.stderr
    passwords.write_text(allowed, encoding="utf-8")
    front.hook, front.sent_bytes = (lambda _piece: None), 0
    done = checkout.publish(front.server.host, T4, "--json", **login)
    assert done.returncode == 0, done.stderr
    assert steps(done) == {T4: "push", "0.20-t4": "move", "latest": "move"}, "no tag was there"
    assert front.sent_bytes < OWN_BYTES + FEW_BYTES, "the layers were"


def test_a_registry_that_wants_a_login(checkout: Checkout, tmp_path: Path) -> None:
    with registry(tmp_path / "registry", with_login=True) as server:
        done = checkout.publish(server.host, T4, **docker_config(tmp_path / "none", "elsewhere.example"))
        assert done.returncode == 9
        assert "the registry answered 401; no login is known" in done.stderr
        assert f"no login is known: run `docker login {server.host}` as somebody who may push" in done.stderr
        done = checkout.publish(server.host, T4, **docker_config(tmp_path / "wrong", server.host, "guessed"))
        assert (done.returncode, "the login of 'somebody' does not suffice" in done.stderr) == (9, True)
        assert "trying again" not in done.stderr
        done = checkout.publish(server.host, T4, **docker_config(tmp_path / "right", server.host))
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stderr + done.stdout


@pytest.mark.parametrize("lasts_s", [300, 1])
def test_a_registry_that_wants_tokens(
    checkout: Checkout, server: Server, stack: ExitStack, tmp_path: Path, lasts_s: int
) -> None:
    wants, scopes = stack.enter_context(token_registry(server, lasts_s=lasts_s))
    done = checkout.publish(wants.host, T4, **docker_config(tmp_path / "wrong", wants.host, "guessed"))
    assert (done.returncode, "it answered 401; run `docker login` again" in done.stderr) == (9, True)
    scopes.clear()
    done = checkout.publish(wants.host, T4, **docker_config(tmp_path / "right", wants.host))
    assert done.returncode == 0, done.stderr
    assert names(server, T4) == checkout.digests[T4]
    assert set(scopes) == {"service=test&scope=repository%3Asparks%2Fspark-vllm%3Apull%2Cpush"}
    if lasts_s == 300:
        assert len(scopes) == 1


# ---- several at once


def test_two_publishers_of_one_image_both_end_well(checkout: Checkout, server: Server) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(checkout.publish(server.host, T4, T5))) for _one in (1, 2)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [one.returncode for one in results] == [0, 0], "\n".join(one.stderr for one in results)
    assert {tag: names(server, tag) for tag in (T4, T5)} == {tag: checkout.digests[tag] for tag in (T4, T5)}
    assert names(server, "latest") == checkout.digests[T5]


def other_image(server: Server, tag: str) -> str:
    """What another publisher does: it tags another image, of blobs that are there; the digest."""
    body = json.loads(server.manifest(NAME, names(server, NEWER) or "") or b"")
    other = json.dumps({**body, "annotations": {"by": "another"}}).encode()
    status, told = server.ask("PUT", f"/v2/{NAME}/manifests/{tag}", other)
    assert status == 201, told
    return digest_of(other)


def test_a_tag_that_appears_while_blobs_are_sent_is_not_changed(
    checkout: Checkout, front: Proxy, server: Server
) -> None:
    assert checkout.publish(server.host, NEWER).returncode == 0
    others: list[str] = []

    def hook(piece: bytes) -> None:
        if piece.startswith(f"PUT /v2/{NAME}/manifests/sha256:".encode()):
            others.append(other_image(server, T4))

    front.hook = hook
    done = checkout.publish(front.server.host, T4)
    assert done.returncode == 9
    assert f"another publisher was faster: the registry has {others[0]} under {T4}, this image is " in done.stderr
    assert names(server, T4) == others[0]
    assert names(server, "latest") is None


def test_a_tag_that_another_publisher_takes_at_the_same_moment_is_noticed(
    checkout: Checkout, front: Proxy, server: Server
) -> None:
    assert checkout.publish(server.host, NEWER).returncode == 0
    others: list[str] = []
    is_tagged = threading.Event()

    def hook(piece: bytes) -> None:
        if is_tagged.is_set() and not others and piece.startswith(f"HEAD /v2/{NAME}/manifests/{T4} ".encode()):
            others.append(other_image(server, T4))
        if piece.startswith(f"PUT /v2/{NAME}/manifests/{T4} ".encode()):
            is_tagged.set()

    front.hook = hook
    done = checkout.publish(front.server.host, T4)
    assert done.returncode == 9
    assert (
        re.search(
            f"{T4} was given sha256:[0-9a-f]+ and now names {others[0]}: another publisher is at work", done.stderr
        )
        is not None
    )
    assert names(server, "latest") is None


def test_a_tag_that_was_moved_back_is_noticed_and_publishing_again_mends_it(
    checkout: Checkout, front: Proxy, server: Server
) -> None:
    """The other publishes a higher row between our look at the registry and our move of `latest`."""
    others: list[subprocess.CompletedProcess[str]] = []

    def hook(piece: bytes) -> None:
        if not others and piece.startswith(f"PUT /v2/{NAME}/manifests/latest ".encode()):
            others.append(checkout.publish(server.host, T5))

    front.hook = hook
    done = checkout.publish(front.server.host, T4)
    assert [one.returncode for one in (*others, done)] == [0, 9], done.stderr
    told = f"latest names {index_under(server, T4)} and belongs to {T5} ({index_under(server, T5)})"
    assert f"another publisher is at work: {told}; wait for it, then `nox -s publish -- {T5}`" in done.stderr
    assert checkout.publish(server.host, T5).returncode == 0
    assert names(server, "latest") == checkout.digests[T5]
