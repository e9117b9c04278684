"""The script that installs packages for what is compiled, in a real image: from another snapshot service."""

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.builders import RECIPES
from tests.engine.upstreams import ARCHITECTURE, LACKING, real_base

from sparkbake.debianmirror import find_mirror
from sparkbake.oci import read_index_digest

pytestmark = [pytest.mark.engine, pytest.mark.network]

SNAPSHOT = "20260101T000000Z"
DOCKERFILE = f"""FROM scratch AS base
FROM base AS image
ARG APT_SNAPSHOT FILE_EPOCH
RUN --mount=type=secret,id=apt,target=/dev/sparkbake/apt \\
    --mount=type=bind,source=apt-packages.sh,target=/dev/sparkbake/apt-packages.sh \\
    /dev/sparkbake/apt-packages.sh {LACKING[1]}
RUN dpkg-query --show {LACKING[1]} >/shown && ls -A /var/lib/apt/lists >/lists
FROM scratch
COPY --from=image /shown /lists /
"""


@contextlib.contextmanager
def snapshot_service(asked: list[str]) -> Iterator[str]:
    """A service that has one snapshot of the distribution's archive, which is that archive as it is now."""
    mirror = find_mirror(None)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            begin = f"/debian/{SNAPSHOT}/"
            if not self.path.startswith(begin):
                self.send_error(404)
                return
            self.send_response(302)
            self.send_header("Location", f"{mirror}/{self.path.removeprefix(begin)}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/debian"
    finally:
        server.shutdown()
        server.server_close()


def install(folder: Path, place: str, snapshot: str) -> "subprocess.CompletedProcess[str]":
    base = real_base()
    (folder / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
    script = folder / "apt-packages.sh"
    script.write_bytes((RECIPES / "scripts/apt-packages.sh").read_bytes())
    script.chmod(0o755)
    (folder / "apt").write_text(place, encoding="utf-8")
    argv = ["docker", "buildx", "build", "--no-cache", "--progress", "plain", "--platform", f"linux/{ARCHITECTURE}"]
    argv += ["--build-context", f"base=oci-layout://{base}@{read_index_digest(base)}", "--provenance=false"]
    argv += ["--build-arg", f"APT_SNAPSHOT={snapshot}", "--build-arg", "FILE_EPOCH=499162500"]
    argv += ["--secret", f"id=apt,src={folder / 'apt'}", "--network", "host", "--allow", "network.host"]
    argv += ["--output", f"type=local,dest={folder / 'out'}", str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)


def test_the_snapshot_of_the_lock_is_asked_for_with_the_image_s_own_suites_and_key(tmp_path: Path) -> None:
    """Apt checks the archive's signature with the key that the image has; it knows no other address."""
    asked: list[str] = []
    with snapshot_service(asked) as address:
        done = install(tmp_path, address, SNAPSHOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out/shown").read_text(encoding="utf-8").startswith(f"{LACKING[1]}\t")
    assert (tmp_path / "out/lists").read_text(encoding="utf-8") == ""
    assert f"/debian/{SNAPSHOT}/dists/trixie/InRelease" in asked
    assert all(one.startswith(f"/debian/{SNAPSHOT}/") for one in asked)


def test_a_snapshot_that_the_service_has_not_ends_the_build(tmp_path: Path) -> None:
    asked: list[str] = []
    with snapshot_service(asked) as address:
        done = install(tmp_path, address, "20260102T000000Z")
    assert done.returncode != 0
    assert "404" in done.stderr
