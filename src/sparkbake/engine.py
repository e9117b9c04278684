"""What this project asks the Docker Engine through its SDK: its state, images, and short-lived containers."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import docker
import docker.errors

from sparkbake.errors import PreflightError, ProcessError, VerifyError
from sparkbake.model import LocalImage
from sparkbake.process import run

_DEFAULT = "default"
_USAGE_WAITS_S = (1, 3, 10)
# The socket of a system-wide containerd, and the folder it keeps images in.
_SYSTEM_CONTAINERD = ("/run/containerd/containerd.sock", "/var/lib/containerd")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineState:
    """The engine as it is.

    Attributes:
        version: "28.5.2".
        architecture: of the machine it runs on, as OCI names it: "amd64", "arm64".
        has_containerd_store: whether images lie in containerd, which OCI output and rewritten file times need.
        data_folder: where it keeps images and the build cache; empty when that is on another machine.
        cached_bytes: what its build cache holds already.
    """

    version: str
    architecture: str
    has_containerd_store: bool
    data_folder: str
    cached_bytes: int


def engine_state() -> EngineState:
    """Ask the engine what it is.

    Raises:
        PreflightError: it does not answer.
    """
    try:
        client = _client(60)
        version, info, usage = client.version(), client.info(), _usage(client)
    except (docker.errors.DockerException, OSError) as err:
        raise PreflightError(
            [
                f"no Docker Engine answers: {_cause(err)}; start it (`sudo systemctl start docker`), "
                "or run ./quickstart, which installs one where none is"
            ]
        ) from err
    status = dict(info.get("DriverStatus") or [])
    return EngineState(
        version=str(version["Version"]),
        architecture=str(version["Arch"]),
        has_containerd_store=status.get("driver-type") == "io.containerd.snapshotter.v1",
        data_folder=_data_folder(info),
        cached_bytes=sum(int(one["Size"]) for one in usage.get("BuildCache") or [] if not one.get("Shared")),
    )


def _usage(client: docker.DockerClient) -> dict[str, Any]:
    """What lies in the engine. It answers with an error when something it was just counting is removed: then again.

    Raises:
        PreflightError: it goes on doing so, as it does for good once its build cache names what is gone.
    """
    waits_s = iter(_USAGE_WAITS_S)
    while True:
        try:
            return dict(client.df())
        except docker.errors.APIError as err:
            wait_s = next(waits_s, None)
            if wait_s is None:
                raise PreflightError(
                    [
                        f"the engine cannot count what it holds: {_cause(err)}; end what removes images or build cache "
                        "just now, or else restart the engine"
                    ]
                ) from err
            time.sleep(wait_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheRecord:
    """A record of the engine's build cache; `description` says the step, or what is mounted where."""

    record_id: str
    description: str
    size_bytes: int


def cache_records() -> tuple[CacheRecord, ...]:
    """All records of the engine's build cache, mounts included.

    Raises:
        PreflightError: it does not answer.
    """
    try:
        found = _usage(_client(60)).get("BuildCache") or []
    except (docker.errors.DockerException, OSError) as err:
        raise PreflightError([f"the engine does not answer: {_cause(err)}"]) from err
    return tuple(
        CacheRecord(
            record_id=str(one["ID"]),
            description=str(one.get("Description") or ""),
            size_bytes=int(one.get("Size") or 0),
        )
        for one in found
    )


def _client(timeout_s: int) -> docker.DockerClient:
    """A client of the very engine that the docker command line talks to: DOCKER_HOST, else its current context."""
    if os.environ.get("DOCKER_HOST"):
        return docker.from_env(timeout=timeout_s)
    return docker.DockerClient(base_url=_context_host(), timeout=timeout_s)


@cache
def _context_host() -> str | None:
    try:
        return run(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], timeout_s=20).strip()
    except ProcessError:
        return None


def default_builder() -> str:
    """The builder that is the engine itself, whichever one is current: it has the name of the context."""
    try:
        return run(["docker", "context", "show"], timeout_s=20).strip() or _DEFAULT
    except ProcessError:
        return _DEFAULT


def _data_folder(info: Mapping[str, Any]) -> str:
    """Where images lie, if that is on this machine."""
    host = os.environ.get("DOCKER_HOST") or _context_host() or ""
    return store_folder(info) if not host or host.startswith("unix:") else ""


def store_folder(info: Mapping[str, Any]) -> str:
    """Where an engine keeps images, of its answer to `docker info`: a containerd of the system has its own folder."""
    address = str((info.get("Containerd") or {}).get("Address", ""))
    return _SYSTEM_CONTAINERD[1] if address == _SYSTEM_CONTAINERD[0] else str(info["DockerRootDir"])


def local_image(reference: str) -> LocalImage | None:
    """An image by reference; None when the engine does not have it.

    Raises:
        VerifyError: the engine does not answer.
    """
    try:
        image = _client(60).images.get(reference)
    except docker.errors.ImageNotFound:
        return None
    except (docker.errors.DockerException, OSError) as err:
        raise VerifyError(f"{reference}: the engine does not answer: {_cause(err)}") from err
    attributes: dict[str, Any] = image.attrs
    return LocalImage(
        digest=str(attributes.get("Descriptor", {}).get("digest") or image.id),
        labels=tuple(sorted(image.labels.items())),
        architecture=str(attributes["Architecture"]),
        size_bytes=int(attributes["Size"]),
    )


def run_python(reference: str, script: str, arguments: Sequence[str], *, platform: str, timeout_s: int) -> str:
    """Run a Python script in a container of an image, without a network, and return what it printed.

    Raises:
        VerifyError: it ended with another status than 0, or took longer than `timeout_s` seconds.
    """
    try:
        container = _client(timeout_s + 60).containers.create(
            reference,
            ["python3", "-c", script, *arguments],
            platform=platform,
            network_disabled=True,
            entrypoint=[],
            # Nothing is served; under emulation each time that Docker asks takes seconds of a processor.
            healthcheck={"test": ["NONE"]},
        )
    except docker.errors.DockerException as err:
        raise VerifyError(f"{reference}: no container can be made of it: {_cause(err)}") from err
    try:
        container.start()
        status = int(container.wait(timeout=timeout_s)["StatusCode"])
        output = container.logs(stdout=True, stderr=False).decode(errors="replace")
        errors = container.logs(stdout=False, stderr=True).decode(errors="replace")
    except (docker.errors.DockerException, OSError) as err:
        raise VerifyError(f"{reference}: a probe could not run in the image: {_cause(err)}") from err
    finally:
        container.remove(force=True)
    if status:
        raise VerifyError(f"{reference}: a probe ended with {status} in the image:\n{errors[-2000:]}")
    return str(output)


def _cause(err: BaseException) -> str:
    """The innermost reason of a chain of wrapped errors."""
    while err.__cause__ or err.__context__:
        err = err.__cause__ or err.__context__ or err
    return str(err) or type(err).__name__
