"""Fetch large blobs from a registry, piece by piece, to files.

Spec: https://github.com/opencontainers/distribution-spec v1.1, "Pull".
"""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

from sparkbake.errors import RegistryError
from sparkbake.exchange import opened
from sparkbake.registry import Repository
from sparkbake.remote import write_whole

_OK = 200
_REDIRECTS = range(300, 400)
# From a registry to where it keeps its blobs, and once more within that.
_MOST_REDIRECTS = 3


def download_blob(repository: Repository, digest: str, path: Path, count: Callable[[int], None]) -> None:
    """Fetch a blob; it has its name only when it is whole and has its digest.

    Args:
        count: told the size of each piece, in bytes.

    Raises:
        RegistryError: the registry does not give it.
        LockError: it broke off, or has another digest.
    """
    # A registry tells with this what authorization it wants, and that a token is still good.
    if not repository.has_blob(digest):
        raise RegistryError(f"{repository}: has no blob {digest}, which the locked manifest names")
    url = repository.blob_url(digest)
    for _turn in range(_MOST_REDIRECTS + 1):
        with opened(url, repository.authorized(url)) as answer:
            if answer.status == _OK:
                write_whole(answer, path, sha256=digest.removeprefix("sha256:"), count=count)
                return
            place = answer.getheader("location")
            if answer.status not in _REDIRECTS or not place:
                raise RegistryError(f"{repository}: answered {answer.status} for blob {digest}; run it again")
            url = urljoin(url, place)
    raise RegistryError(f"{repository}: leads on and on for blob {digest}, expected it after {_MOST_REDIRECTS} steps")
