"""Save an image of the engine to an archive, to read it from there."""

from collections.abc import Callable
from pathlib import Path

from sparkbake import process
from sparkbake.engine import local_image
from sparkbake.errors import ImageError, PreflightError
from sparkbake.model import LocalImage
from sparkbake.preflight import KEPT_FREE_BYTES, free_bytes
from sparkbake.tables import say


def save_image(reference: str, tag: str, path: Path) -> None:
    """Write an image of the engine to an OCI archive.

    Args:
        tag: of its row, for the remedy.
        path: of the archive, in a folder that is there.

    Raises:
        ImageError: the engine has no such image.
        PreflightError: there is no room for it.
        ProcessError: the engine cannot save it.
    """
    image = local_image(reference)
    if image is None:
        raise ImageError(
            f"{reference}: the engine has no such image; run `nox -s build -- {tag}`, or name an OCI file of it"
        )
    check_disk(image, reference, path.parent, free_bytes)
    say(f"saving {reference} to {path} for a while")
    process.run(["docker", "image", "save", reference, "--output", path], timeout_s=None)


def check_disk(image: LocalImage, reference: str, folder: Path, free: Callable[[str], int | None]) -> None:
    """See that an image can be saved.

    Args:
        free: bytes that are free where a folder is; None when that is not known.

    Raises:
        PreflightError: it cannot.
    """
    # The engine counts the compressed layers, which the archive has, and the files of an image that it has unpacked.
    needed = image.size_bytes
    found = free(str(folder))
    if found is not None and found < needed + KEPT_FREE_BYTES:
        raise PreflightError(
            [
                f"{folder} has {found / 1e9:.1f} GB free: expected {(needed + KEPT_FREE_BYTES) / 1e9:.1f} GB to save "
                f"{reference} there for a while ({needed / 1e9:.1f} for it, {KEPT_FREE_BYTES / 1e9:.0f} to spare); "
                "free some: docker builder prune, docker image prune"
            ]
        )
