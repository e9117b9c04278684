"""What this project asks the Docker Engine through its SDK: its state, images, and short-lived containers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors

from sparkbake.errors import BuildError, PreflightError, VerifyError
from sparkbake.model import LocalImage


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineState:
    """The engine as it is.

    Attributes:
        version: "28.5.2".
        architecture: of the machine it runs on, as OCI names it: "amd64", "arm64".
        has_containerd_store: whether images lie in containerd, which OCI output and rewritten file times need.
        data_folder: where it keeps images and the build cache.
    """

    version: str
    architecture: str
    has_containerd_store: bool
    data_folder: str


def engine_state() -> EngineState:
    """Ask the engine what it is.

    Raises:
        PreflightError: it does not answer.
    """
    try:
        client = docker.from_env(timeout=20)
        version, info = client.version(), client.info()
    except docker.errors.DockerException as err:
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
        data_folder=str(info["DockerRootDir"]),
    )


def local_image(reference: str) -> LocalImage | None:
    """An image by reference; None when the engine does not have it."""
    try:
        image = docker.from_env(timeout=60).images.get(reference)
    except docker.errors.ImageNotFound:
        return None
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
    client = docker.from_env(timeout=timeout_s + 60)
    container = client.containers.create(
        reference, ["python3", "-c", script, *arguments], platform=platform, network_disabled=True, entrypoint=[]
    )
    try:
        container.start()
        status = int(container.wait(timeout=timeout_s)["StatusCode"])
        output = container.logs(stdout=True, stderr=False).decode(errors="replace")
        errors = container.logs(stdout=False, stderr=True).decode(errors="replace")
    except (docker.errors.APIError, OSError) as err:
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


def push(reference: str, say: Callable[[str], None]) -> None:
    """Push an image of the engine to its registry.

    Raises:
        BuildError: the registry refuses it or does not answer.
    """
    say(f"pushing {reference}")
    repository, _colon, tag = reference.rpartition(":")
    try:
        for event in docker.from_env(timeout=600).images.push(repository, tag=tag, stream=True, decode=True):
            if "error" in event:
                raise BuildError(f"{reference}: cannot be pushed: {event['error']}; is `docker login` done?")
    except docker.errors.DockerException as err:
        raise BuildError(f"{reference}: cannot be pushed: {_cause(err)}") from err
