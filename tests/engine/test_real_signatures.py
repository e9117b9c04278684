"""What is published, signed by the real cosign in a real registry on this machine, and checked as a consumer would."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT
from tests.engine.loopback import Proxy, Server, docker_config, make_keys, proxy, registry
from tests.engine.published import NAME, Checkout, environment, index_under, made_checkout, names
from tests.ocibuilder import digest_of
from tests.test_slsa import SLSA as SLSA_SCHEMA

from sparkbake.attest import SLSA, SPDX, Part, attest, index_of

pytestmark = pytest.mark.engine

T4, T5 = "0.20.2-t4", "0.20.2-t5"
PASSWORD = "a password"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Two pairs of keys: that of who publishes, and that of somebody else."""

    folder: Path

    @property
    def key(self) -> str:
        return str(self.folder / "mine" / "cosign.key")

    @property
    def public(self) -> str:
        return str(self.folder / "mine" / "cosign.pub")

    @property
    def other_key(self) -> str:
        return str(self.folder / "other" / "cosign.key")

    @property
    def other_public(self) -> str:
        return str(self.folder / "other" / "cosign.pub")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        (folder / name).mkdir()
        make_keys(folder / name, PASSWORD)
    return Keys(folder=folder)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    with made_checkout(tmp_path_factory.mktemp("publish"), T4, T5) as made:
        yield made


@pytest.fixture(autouse=True)
def verified(checkout: Checkout) -> None:
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


def run(*argv: str, cwd: Path | None = None, **variables: str) -> str:
    """Run a program to its good end; what it wrote."""
    environment_ = {**environment(), "COSIGN_PASSWORD": PASSWORD, **variables}
    done = subprocess.run(argv, cwd=cwd, env=environment_, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish(checkout: Checkout, host: str, key: str, *tags: str) -> "subprocess.CompletedProcess[str]":
    return checkout.publish(host, *tags, "--sign-key", key, COSIGN_PASSWORD=PASSWORD)


def check(
    checkout: Checkout, reference: str, *words: str, **variables: str
) -> tuple[int, dict[str, tuple[str, str]], str]:
    """Exit status, verdict and words of each check, and what was said beside."""
    argv = [sys.executable, "-m", "sparkbake.cli", "--root", str(checkout.project.root), "check", reference, "--json"]
    done = subprocess.run(
        [*argv, *words], env={**environment(), **variables}, capture_output=True, text=True, check=False, timeout=120
    )
    found = json.loads(done.stdout)["checks"] if done.stdout else []
    return done.returncode, {one["name"]: (one["verdict"], one["told"]) for one in found}, done.stderr


def failed(found: Mapping[str, tuple[str, str]]) -> set[str]:
    return {name for name, (verdict, _told) in found.items() if verdict == "failed"}


# ---- as it should be


def test_what_is_published_with_a_key_is_found_good(checkout: Checkout, server: Server, keys: Keys) -> None:
    done = publish(checkout, server.host, keys.key, T4, T5)
    assert done.returncode == 0, done.stderr
    for tag in (T4, T5, "latest"):
        status, found, told = check(checkout, f"{server.host}/{NAME}:{tag}", "--key", keys.public)
        assert status == 0, told
        assert {name for name, (verdict, _told) in found.items() if verdict != "ok"} == {"record"}
    assert names(server, T4) == checkout.digests[T4]
    assert f"{index_under(server, T4)} is signed by {keys.public}" in check_signature(checkout, server, keys)


def check_signature(checkout: Checkout, server: Server, keys: Keys) -> str:
    return check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)[1]["signature"][1]


def test_docker_shows_the_bill_and_the_provenance(checkout: Checkout, server: Server, keys: Keys) -> None:
    assert publish(checkout, server.host, keys.key, T4).returncode == 0
    shown = ["docker", "buildx", "imagetools", "inspect", f"{server.host}/{NAME}:{T4}", "--format"]
    bill = json.loads(run(*shown, "{{json .SBOM.SPDX}}"))
    assert bill["spdxVersion"] == "SPDX-2.3"
    assert {"torch", "vllm"} <= {one["name"] for one in bill["packages"]}
    provenance = json.loads(run(*shown, "{{json .Provenance.SLSA}}"))
    SLSA_SCHEMA.validate(provenance)
    wheels = {one.file: one.sha256 for one in checkout.target(T4).environment.wheels}
    said = provenance["buildDefinition"]["resolvedDependencies"]
    assert wheels.items() <= {one.get("name"): one["digest"].get("sha256") for one in said}.items()
    image = json.loads(run(*shown, "{{json .Image}}"))
    assert image["config"]["Labels"]["org.opencontainers.image.version"] == T4


def test_docker_pulls_the_image_by_its_tag(checkout: Checkout, server: Server, keys: Keys) -> None:
    assert publish(checkout, server.host, keys.key, T4).returncode == 0
    reference = f"{server.host}/{NAME}:{T4}"
    try:
        run("docker", "pull", "--quiet", "--platform", "linux/arm64", reference)
        assert run("docker", "image", "inspect", "--format", "{{.Id}}", reference).strip() == index_under(server, T4)
    finally:
        subprocess.run(["docker", "image", "rm", reference], check=False, capture_output=True)


def test_a_second_run_sends_and_signs_nothing(checkout: Checkout, front: Proxy, keys: Keys) -> None:
    assert publish(checkout, front.server.host, keys.key, T4).returncode == 0
    front.seen.clear()
    done = publish(checkout, front.server.host, keys.key, T4)
    assert done.returncode == 0, done.stderr
    assert "signing" not in done.stderr
    assert front.requests("PUT", "POST") == []


def test_what_was_published_unsigned_can_be_signed_later(checkout: Checkout, server: Server, keys: Keys) -> None:
    assert checkout.publish(server.host, T4).returncode == 0
    before = index_under(server, T4)
    assert publish(checkout, server.host, keys.key, T4).returncode == 0
    assert index_under(server, T4) == before
    assert check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)[0] == 0


def test_a_key_may_be_in_a_variable(checkout: Checkout, server: Server, keys: Keys) -> None:
    text = Path(keys.key).read_text(encoding="utf-8")
    done = checkout.publish(server.host, T4, "--sign-key", "env://SIGN_KEY", COSIGN_PASSWORD=PASSWORD, SIGN_KEY=text)
    assert done.returncode == 0, done.stderr
    assert check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)[0] == 0


def test_a_registry_with_a_login_is_signed_in_and_checked_too(checkout: Checkout, tmp_path: Path, keys: Keys) -> None:
    with registry(tmp_path / "registry", with_login=True) as server:
        login = docker_config(tmp_path / "login", server.host)
        done = checkout.publish(server.host, T4, "--sign-key", keys.key, COSIGN_PASSWORD=PASSWORD, **login)
        assert done.returncode == 0, done.stderr
        reference = f"{server.host}/{NAME}:{T4}"
        status, _found, told = check(checkout, reference, "--key", keys.public, **login)
        assert status == 0, told
        status, _found, told = check(checkout, reference, **docker_config(tmp_path / "none", "elsewhere.example"))
        assert (status, f"as somebody who may read {server.host}/{NAME}" in told) == (9, True)


# ---- interrupted


def manifests_put(front: Proxy) -> list[str]:
    return [one.decode().split()[1].rpartition("/")[2] for one in front.requests("PUT") if b"/manifests/" in one]


def test_a_signature_is_there_before_the_tag(checkout: Checkout, front: Proxy, server: Server, keys: Keys) -> None:
    assert publish(checkout, front.server.host, keys.key, T4).returncode == 0
    put = manifests_put(front)
    index = index_under(server, T4) or ""
    # What refers to the index: cosign's tag for registries without the API for that.
    signature = f"sha256-{index.removeprefix('sha256:')}"
    assert put.index(index) < put.index(signature) < put.index(T4) < put.index("latest")


def test_a_registry_that_ends_between_signature_and_tag(
    checkout: Checkout, front: Proxy, server: Server, keys: Keys
) -> None:
    def stop(piece: bytes) -> None:
        if piece.startswith(f"PUT /v2/{NAME}/manifests/{T4} ".encode()):
            front.breaks, front.break_at = 3, 0

    front.hook = stop
    done = publish(checkout, front.server.host, keys.key, T4)
    assert done.returncode == 9, done.stderr
    assert names(server, T4) is None
    front.hook, front.breaks = (lambda _piece: None), 0
    front.seen.clear()
    done = publish(checkout, front.server.host, keys.key, T4)
    assert done.returncode == 0, done.stderr
    assert "signing" not in done.stderr
    assert set(manifests_put(front)) == {T4, "0.20-t4", "latest"}


def test_what_cannot_be_signed_is_not_tagged(checkout: Checkout, front: Proxy, server: Server, keys: Keys) -> None:
    def stop(piece: bytes) -> None:
        if re.match(rf"PUT /v2/{NAME}/manifests/sha256-".encode(), piece):
            front.breaks, front.break_at = 100, 0

    front.hook = stop
    done = publish(checkout, front.server.host, keys.key, T4)
    front.hook, front.breaks = (lambda _piece: None), 0
    assert done.returncode == 6, done.stderr
    assert "cosign sign --key" in done.stderr
    assert {names(server, tag) for tag in (T4, "0.20-t4", "latest")} == {None}
    assert publish(checkout, front.server.host, keys.key, T4).returncode == 0
    assert check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)[0] == 0


def test_a_signature_that_breaks_off_halfway_is_finished(
    checkout: Checkout, front: Proxy, server: Server, keys: Keys
) -> None:
    """The index is signed then, the image in it is not; only the second of cosign's tags is kept from being set."""
    tags: list[bytes] = []

    def stop(piece: bytes) -> None:
        found = re.match(rf"PUT /v2/{NAME}/manifests/(sha256-\w+) ".encode(), piece)
        if found:
            tags.extend(() if found[1] in tags else (found[1],))
            if found[1] != tags[0]:
                front.breaks, front.break_at = 100, 0

    front.hook = stop
    done = publish(checkout, front.server.host, keys.key, T4)
    front.hook, front.breaks = (lambda _piece: None), 0
    assert done.returncode == 6, done.stderr
    assert names(server, T4) is None
    assert len([one for one in server.tags(NAME) if one.startswith("sha256-")]) == 1
    done = publish(checkout, front.server.host, keys.key, T4)
    assert done.returncode == 0, done.stderr
    assert "signing" in done.stderr
    assert check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)[0] == 0


@pytest.mark.parametrize(
    ("words", "variables", "status", "told"),
    [
        ((), {}, 2, "expected one of --sign-key FILE (or env://VARIABLE), --keyless"),
        (("--sign-key", "KEY"), {}, 2, "set COSIGN_PASSWORD to the password of the key"),
        (("--sign-key", "KEY"), {"COSIGN_PASSWORD": "guessed"}, 6, "COSIGN_PASSWORD is not the password of this key"),
        (("--sign-key", "no.key"), {"COSIGN_PASSWORD": ""}, 6, "open no.key: no such file or directory"),
        (("--sign-key", "env://NONE"), {"COSIGN_PASSWORD": ""}, 6, "env var $NONE not found"),
    ],
)
def test_who_cannot_sign_sends_nothing(
    checkout: Checkout, front: Proxy, keys: Keys, *,
    words: tuple[str, ...], variables: dict[str, str], status: int, told: str,
) -> None:  # fmt: skip
    argv = checkout.argv(T4, *(keys.key if one == "KEY" else one for one in words))
    kept = {key: value for key, value in environment().items() if key != "COSIGN_PASSWORD"}
    done = subprocess.run(
        [*argv, "--registry", f"{front.server.host}/sparks"],
        env={**kept, **variables}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status
    assert told in done.stderr
    assert front.requests("PUT", "POST") == []


# ---- tampered with


def put(server: Server, reference: str, body: bytes) -> str:
    status, told = server.ask("PUT", f"/v2/{NAME}/manifests/{reference}", body)
    assert status == 201, told
    return digest_of(body)


def put_blob(server: Server, body: bytes) -> None:
    """As any client: by a session of its own."""
    status, told = server.ask("POST", f"/v2/{NAME}/blobs/uploads/?digest={digest_of(body)}", body)
    assert status in (201, 202), told
    if status == 202:
        subprocess.run(
            ["curl", "--silent", "--fail", "--location", "--data-binary", "@-", "--header", "Content-Type: a/b",
             "--request", "PUT", f"{upload_place(server)}&digest={digest_of(body)}"],
            input=body, check=True, capture_output=True,
        )  # fmt: skip


def upload_place(server: Server) -> str:
    address = f"http://{server.host}/v2/{NAME}/blobs/uploads/"
    told = subprocess.run(
        ["curl", "--silent", "--fail", "--include", "--request", "POST", address],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    (place,) = re.findall(r"(?im)^location: (\S+)", told)
    return str(place)


def part(server: Server, digest: str) -> Part:
    return Part(digest=digest, media_type=MANIFEST_TYPE, body=server.manifest(NAME, digest) or b"")


def index_of_tag(server: Server, tag: str) -> Any:
    return json.loads(server.manifest(NAME, tag) or b"")


def test_an_image_without_a_signature(checkout: Checkout, server: Server, keys: Keys) -> None:
    assert checkout.publish(server.host, T4).returncode == 0
    status, found, _told = check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)
    assert (status, failed(found)) == (1, {"signature", "signature of the image"})
    told = f"{index_under(server, T4)}: it has no signature, expected one by {keys.public}"
    assert found["signature"] == ("failed", told)


def test_a_signature_by_another_key(checkout: Checkout, server: Server, keys: Keys) -> None:
    assert publish(checkout, server.host, keys.other_key, T4).returncode == 0
    status, found, _told = check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)
    assert (status, failed(found)) == (1, {"signature", "signature of the image"})
    told = f"{index_under(server, T4)}: its signatures are by others, expected one by {keys.public}"
    assert found["signature"] == ("failed", told)
    # Then it is signed with this one, too, and both count.
    assert publish(checkout, server.host, keys.key, T4).returncode == 0
    for key in (keys.public, keys.other_public):
        assert check(checkout, f"{server.host}/{NAME}:{T4}", "--key", key)[0] == 0


def test_a_tag_that_was_moved_to_another_signed_image(checkout: Checkout, server: Server, keys: Keys) -> None:
    assert publish(checkout, server.host, keys.key, T4, T5).returncode == 0
    put(server, T4, server.manifest(NAME, T5) or b"")
    status, found, _told = check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)
    assert (status, failed(found)) == (1, {"tag"})
    assert found["tag"] == ("failed", f"{T4} names the image of {T5}, expected that of {T4}")


def forge(checkout: Checkout, server: Server) -> str:
    """Replace what is said of an image by what is whole, and says that another built it; the digest of the index."""
    image = part(server, checkout.digests[T4])
    shown = ["docker", "buildx", "imagetools", "inspect", f"{server.host}/{NAME}:{T4}", "--format"]
    bill, provenance = (json.loads(run(*shown, f"{{{{json .{one}}}}}")) for one in ("SBOM.SPDX", "Provenance.SLSA"))
    provenance["runDetails"]["builder"]["id"] = "https://example.com/trusted"
    made = attest({SPDX: bill, SLSA: provenance}, name="pkg:oci/x", digest=image.digest)
    for one in made.blobs:
        put_blob(server, one.body)
    put(server, made.manifest.digest, made.manifest.body)
    return put(server, T4, index_of(image, made.manifest, platform="linux/arm64").body)


def test_an_attestation_that_was_replaced(checkout: Checkout, server: Server, keys: Keys) -> None:
    assert publish(checkout, server.host, keys.key, T4).returncode == 0
    index = forge(checkout, server)
    status, found, _told = check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)
    assert (status, failed(found)) == (1, {"signature"})
    assert found["signature"][1] == f"{index}: it has no signature, expected one by {keys.public}"
    assert 'built by "https://example.com/trusted"' in found["provenance"][1], "whoever names no key learns no more"


def test_an_attestation_that_was_replaced_is_not_signed_but_put_back(
    checkout: Checkout, server: Server, keys: Keys
) -> None:
    assert publish(checkout, server.host, keys.key, T4).returncode == 0
    ours, forged = index_under(server, T4), forge(checkout, server)
    done = publish(checkout, server.host, keys.key, T4)
    assert done.returncode == 0, done.stderr
    assert "signed by nobody, or by others; it is replaced" in done.stdout
    assert index_under(server, T4) == ours
    assert check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)[0] == 0
    status, found, _told = check(checkout, f"{server.host}/{NAME}@{forged}", "--key", keys.public)
    assert (status, failed(found)) == (1, {"signature"}), "no key of ours is on it"


def test_an_index_that_points_elsewhere(checkout: Checkout, server: Server, keys: Keys) -> None:
    assert publish(checkout, server.host, keys.key, T4, T5).returncode == 0
    index = index_of_tag(server, T4)
    other = part(server, checkout.digests[T5])
    index["manifests"][0] |= {"digest": other.digest, "size": len(other.body)}
    put(server, T4, json.dumps(index).encode())
    status, found, _told = check(checkout, f"{server.host}/{NAME}:{T4}", "--key", keys.public)
    assert status == 1
    assert failed(found) == {"signature", "index", "tag", "bill of materials", "provenance"}
    assert f"is about {checkout.digests[T4]}, expected {other.digest}" in found["index"][1]
    assert found["signature of the image"][0] == "ok", "it is one of ours, at the wrong place"


def test_a_registry_that_is_gone(checkout: Checkout, tmp_path: Path, keys: Keys) -> None:
    with registry(tmp_path / "gone") as server:
        host = server.host
    status, found, told = check(checkout, f"{host}/{NAME}:{T4}", "--key", keys.public)
    assert (status, found) == (9, {})
    assert "Connection refused" in told


# ---- as the documentation has it

REFERENCE = "docker.io/scitrera/dgx-spark-vllm:0.32.0-t5"


def commands(section: str) -> list[str]:
    """The commands of docs/publishing.md below a heading, without comments."""
    text = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text.partition(section)[2].partition("\n## ")[0], re.DOTALL)
    return [shlex.join(shlex.split(line, comments=True)) for block in blocks for line in block.splitlines()]


def documented(command: str, checkout: Checkout, server: Server, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run one, on the rows and the registry that there are here."""
    words = shlex.split(command.replace(REFERENCE, f"{server.host}/{NAME}:{T5}"))
    words = [one.replace("0.32.0", "0.20.2").replace("registry.example:5000", server.host) for one in words]
    if words[0] == "nox":
        is_dash = words.index("--")
        words = [*checkout.argv()[:-1], words[2], *words[is_dash + 1 :]]
        words += ["--registry", f"{server.host}/sparks"] if "publish" in words and "--registry" not in words else []
        words = [f"{server.host}/{NAME}:{T5}" if one == T5 and "check" in words else one for one in words]
    if words[0].startswith("tools/"):
        words[0] = str(ROOT / words[0])
    variables = {**environment(), "COSIGN_PASSWORD": PASSWORD}
    return subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=120)


def test_the_documented_commands_do_what_they_say(checkout: Checkout, server: Server, tmp_path: Path) -> None:
    maintain, consume = commands("# Publishing"), commands("## Check what was published")
    assert (len(maintain), len(consume)) == (5, 8)
    keyless = [one for one in consume if "identity" in one]
    assert len(keyless) == 2, "these need the servers of Sigstore"
    for command in (*maintain, *(one for one in consume if one not in keyless)):
        done = documented(command, checkout, server, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert index_under(server, T5) == index_under(server, "latest")
    assert (tmp_path / "cosign.pub").is_file()
