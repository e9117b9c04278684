"""Answer git's questions about bare repositories in a folder, over HTTP, as `git http-backend` does for reading.

https://git-scm.com/docs/gitprotocol-http, https://git-scm.com/docs/gitprotocol-v2
"""

import os
import re
import tempfile
from pathlib import Path

from sparkbake.errors import ProcessError
from sparkbake.loopback import Answer, Request
from sparkbake.pipes import pipe

_TIMEOUT_S = 1800
_PATH = re.compile(r"([\w.-]+\.git)/(info/refs\?service=git-upload-pack|git-upload-pack)")
# Who carried a bundle here may be somebody else than who builds; and what is kept is given by its name.
_SETTINGS = (("safe.directory", "*"), ("uploadpack.allowAnySHA1InWant", "true"))
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
    **{f"GIT_CONFIG_KEY_{number}": key for number, (key, _value) in enumerate(_SETTINGS)},
    **{f"GIT_CONFIG_VALUE_{number}": value for number, (_key, value) in enumerate(_SETTINGS)},
}
_NEWEST = "version=2"


def answer_git(folder: Path, path: str, request: Request) -> Answer | None:
    """What git gets; None where there is no such repository, or the question is another.

    Args:
        folder: of the repositories.
        path: of the request below the address of the folder: "nccl.git/info/refs?service=git-upload-pack".

    Raises:
        ProcessError: git ended badly and said nothing; who asked is told by the connection's end.
    """
    found = _PATH.fullmatch(path)
    if found is None or not (folder / found[1]).is_dir():
        return None
    asked = request.headers.get("git-protocol", "")
    protocol = asked if re.fullmatch(r"version=\d", asked) else ""
    lists = found[2] != "git-upload-pack"
    if lists == (request.body is not None):
        return None
    more = ["--advertise-refs"] if lists else []
    output = tempfile.TemporaryFile()  # noqa: SIM115  (who answers closes it)
    try:
        if lists and protocol != _NEWEST:
            # A line of git's own format: its length in four hex digits, itself; then the end of a section.
            output.write(b"001e# service=git-upload-pack\n0000")
            output.flush()
        pipe(
            ["git", "upload-pack", "--stateless-rpc", *more, folder / found[1]],
            stdin=request.body or b"",
            stdout=output,
            timeout_s=_TIMEOUT_S,
            env={**_ENVIRONMENT, "GIT_PROTOCOL": protocol},
        )
    except ProcessError:
        # What it says in its own format, such as that there is no such commit, is for who asked.
        if os.fstat(output.fileno()).st_size == 0:
            output.close()
            raise
    kind = "advertisement" if lists else "result"
    return Answer(media_type=f"application/x-git-upload-pack-{kind}", body=output)
