"""The engine of another machine: what it is and has, and an image brought into it through a tunnel."""

import json
import re
from dataclasses import dataclass

from sparkbake.engine import store_folder
from sparkbake.errors import HostError, ProcessError
from sparkbake.imageinfo import ImageInfo, LayerInfo
from sparkbake.loopback import LOOPBACK
from sparkbake.preflight import KEPT_FREE_BYTES
from sparkbake.shipssh import Connection

# As `docker info` names machines, to what OCI calls them.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_ZSTD_SINCE = 23
# A layer stays as it came and is unpacked beside that, to about two and a half times its size.
_DISK_PER_BYTE = 3.5
_TOLD_CHARS = 500
_CONTAINERD_STORE = "io.containerd.snapshotter.v1"

_NONE = "none"
# $1: folder, $2: reference. One of several images may not be whole, or just be removed; only an estimate suffers.
_LOOK = f"""
df -Pk "$1" 2>/dev/null | awk 'NR == 2 {{print $4; found = 1}} END {{if (!found) print "{_NONE}"}}'
id=$(docker image inspect --format '{{{{.Id}}}}' "$2" 2>/dev/null)
echo "${{id:-{_NONE}}}"
docker image ls --quiet --no-trunc | sort -u | xargs -r docker image inspect --format '{{{{json .RootFS.Layers}}}}' || :
"""
# $1: as it was pulled, $2: reference, $3 and $4: the IDs that it may have. Anything else gets no name.
_NAME = """
id=$(docker image inspect --format '{{.Id}}' "$1") || exit
if [ "$id" = "$3" ] || [ "$id" = "$4" ]; then
    docker tag "$1" "$2" || exit
    id=$(docker image inspect --format '{{.Id}}' "$2") || exit
fi
echo "$id"
"""
# $1: a pattern of names, of this run and of any before that broke off.
_FORGET = """
docker image ls --digests --format '{{.Repository}}@{{.Digest}}' | grep -e "$1" | xargs -r docker image rm
"""

_REMEDIES = (
    ("not found", "there is no docker there: install it, or add it to PATH for ssh sessions"),
    ("No such file or directory", "there is no docker there: install it, or add it to PATH for ssh sessions"),
    (
        "permission denied",
        "you may not use its engine: `sudo usermod -aG docker USER` there, then log in anew; or ship to a user who may",
    ),
    ("Cannot connect to the Docker daemon", "no engine runs there: `sudo systemctl start docker`"),
    ("failed to connect to the docker API", "no engine runs there: `sudo systemctl start docker`"),
    ("no space left on device", "its disk is full: `docker image prune` there, then ship again"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FarEngine:
    """An engine as it is.

    Attributes:
        architecture: as OCI names it: "amd64", "arm64".
        folder: where images lie.
        free_bytes: there; None when df does not say.
        image_id: of what it has under the image's name; None when that is nothing.
        diff_ids: digests of all layers' tars of all its images.
    """

    version: str
    architecture: str
    has_containerd_store: bool
    is_rootless: bool
    folder: str
    free_bytes: int | None
    image_id: str | None
    diff_ids: frozenset[str]

    def has(self, info: ImageInfo, digest: str) -> bool:
        """Whether it has just this image under its name.

        The ID of an image is the digest of its manifest (or index) with the containerd store, else that of its config.
        """
        return self.image_id == (digest if self.has_containerd_store else info.config_digest)

    def lacks(self, info: ImageInfo) -> tuple[LayerInfo, ...]:
        """About what would move: the layers whose contents none of its images has, each once.

        It asks for more where it has a layer packed otherwise, or, without the containerd store, on top of others; and
        for less where an earlier run broke off.
        """
        found = {one.digest: one for one in info.layers if one.diff_id not in self.diff_ids}
        return tuple(found.values())


def look(connection: Connection, reference: str) -> FarEngine:
    """Ask the engine of another machine what it is and has.

    Raises:
        HostError: there is none, it does not answer, or the user may not use it.
    """
    answered = _ask(connection, "docker", "info", "--format", "{{json .}}")
    try:
        info = json.loads(answered)
        has_store = dict(info.get("DriverStatus") or []).get("driver-type") == _CONTAINERD_STORE
        folder = store_folder(info) if has_store else str(info["DockerRootDir"])
        # In one go: the set-up of a shell there may take longer than all the rest.
        answered = _script(connection, _LOOK, folder, reference)
        free, image, *images = answered.splitlines()
        return FarEngine(
            version=str(info["ServerVersion"]),
            architecture=_ARCHITECTURES.get(str(info["Architecture"]), str(info["Architecture"])),
            has_containerd_store=has_store,
            is_rootless=any("rootless" in one for one in info.get("SecurityOptions") or []),
            folder=folder,
            free_bytes=int(free) * 1024 if free.isdigit() else None,
            image_id=None if image == _NONE else image,
            diff_ids=frozenset(digest for line in images for digest in json.loads(line) or ()),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise HostError(
            f"got '{answered[:80]}', expected what docker answers ({err!r}); does its shell print something of its own "
            "(~/.bashrc)? It must not where no terminal is"
        ) from err


def check(far: FarEngine, info: ImageInfo, architecture: str) -> None:
    """See that an engine can take an image.

    Args:
        architecture: of the image.

    Raises:
        HostError: it cannot; with all reasons.
    """
    needed = int(sum(one.size_bytes for one in far.lacks(info)) * _DISK_PER_BYTE) + KEPT_FREE_BYTES
    faults = []
    if far.architecture != architecture:
        faults.append(f"it is {far.architecture}, the image is for {architecture}: ship to machines of that kind")
    if far.is_rootless:
        faults.append(f"its engine is rootless and does not see {LOOPBACK} of the machine: ship to one that root runs")
    is_zstd = any(one.media_type.endswith("zstd") for one in info.layers)
    if is_zstd and int(far.version.partition(".")[0]) < _ZSTD_SINCE:
        faults.append(f"Docker Engine {far.version} does not know zstd, expected {_ZSTD_SINCE} or newer: upgrade it")
    if far.free_bytes is not None and far.free_bytes < needed:
        faults.append(
            f"{far.folder} has {far.free_bytes / 1e9:.1f} GB free, expected {needed / 1e9:.1f} GB "
            f"({KEPT_FREE_BYTES / 1e9:.0f} of them to spare): free some: docker image prune, docker builder prune"
        )
    if faults:
        raise HostError("; ".join(faults))


def pull(connection: Connection, info: ImageInfo, *, name: str, port: int, digest: str, reference: str) -> None:
    """Let the engine pull an image from a port of its own machine, give it its name, and see that it is the one.

    Whatever happens, no name of the tunnel stays, not of an earlier run that broke off either.

    Args:
        name: of the repository, as it is served.

    Raises:
        HostError: it cannot, or has another image afterwards.
    """
    platform = "/".join(json.loads(info.config)[key] for key in ("os", "architecture"))
    pulled = f"{LOOPBACK}:{port}/{name}@{digest}"
    expected = (digest, info.config_digest)
    try:
        _pull(connection, "--platform", platform, pulled)
        found = _script(connection, _NAME, pulled, reference, *expected).strip()
        if found not in expected:
            raise HostError(
                f"after the pull {reference} is {found}, expected {' or '.join(expected)}; does something else pull "
                "or build there? Ship again"
            )
    finally:
        _script(connection, _FORGET, f"^{re.escape(LOOPBACK)}:[0-9]*/{re.escape(name)}@")


def _script(connection: Connection, script: str, *arguments: str) -> str:
    return _ask(connection, "sh", "-c", script, "sh", *arguments)


def _pull(connection: Connection, *words: str) -> None:
    try:
        connection.work("docker", "pull", *words)
    except ProcessError as err:
        raise _refused(err) from err


def _ask(connection: Connection, *words: str) -> str:
    try:
        return connection.run(*words)
    except ProcessError as err:
        raise _refused(err) from err


def _refused(err: ProcessError) -> HostError:
    told = " ".join(err.output.split()) or str(err)
    remedy = next((f"; {text}" for sign, text in _REMEDIES if sign in told), "")
    return HostError(f"{told[-_TOLD_CHARS:]}{remedy}")
