"""The command that brings an image of the engine to the engines of other machines, over ssh."""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from sparkbake.blobs import find_blob
from sparkbake.engine import local_image
from sparkbake.errors import ImageError, SparkbakeError, UsageError
from sparkbake.imageinfo import ImageInfo, layer_name
from sparkbake.images import open_image
from sparkbake.model import LocalImage
from sparkbake.project import Project, open_project
from sparkbake.saving import save_image
from sparkbake.shipfar import FarEngine, check, look, pull
from sparkbake.shipserver import Content, Served, content_of, serve
from sparkbake.shipssh import Connection, connections
from sparkbake.tables import print_table, say

SCHEMA = 1
FAILED, HAS_IT, SHIPPED, WOULD_SHIP = "failed", "has it", "shipped", "would be shipped"

_SAY_EVERY_S = 5.0
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image that is shipped.

    Attributes:
        digest: of its manifest or index.
    """

    reference: str
    digest: str
    architecture: str
    info: ImageInfo
    content: Content


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one machine.

    Attributes:
        state: one of the four above.
        layers: (name or digest, bytes) of those that it seemed to lack.
        moved_bytes: that its engine got.
        replaced: ID of another image that has, or had, the name there.
        error: "" unless it failed.
    """

    host: str
    state: str
    layers: tuple[tuple[str, int], ...] = ()
    moved_bytes: int = 0
    seconds: float = 0.0
    replaced: str | None = None
    error: str = ""


def ship(options: argparse.Namespace) -> int:
    """Ship the image of a row; 1 when any of the machines did not get it, else 0.

    Raises:
        UsageError: the tag means several rows, or a machine is named twice or not as one.
        ImageError: the engine has no such image, or does not give it out as it is.
        PreflightError: there is no room to save it for a while.
    """
    project = open_project(options.root)
    hosts = checked_hosts(options.hosts, options.parallel)
    rows = project.select([options.tag])
    if len(rows) != 1:
        raise UsageError(f"TAG: got '{options.tag}', which is {', '.join(one.tag for one in rows)}; expected one row")
    reference = project.reference(rows[0])
    local = local_image(reference)
    if local is None:
        raise ImageError(f"{reference}: the engine has no such image; run `nox -s build -- {rows[0].tag}`")
    with ExitStack() as stack:
        made = stack.enter_context(connections(hosts))
        looked = _each(made, partial(_reach, reference=reference), options.parallel)
        far = {one: found for one, found in zip(made, looked, strict=True) if isinstance(found, FarEngine)}
        image = None
        # Saving takes a while, and is of no use where all have it.
        if any(one.image_id != local.digest for one in far.values()):
            image = _saved(project, local, reference, rows[0].tag, stack)
        told = _Progress()
        done = _each(tuple(far), lambda one: _ship_to(one, far[one], image, options, told), options.parallel, told)
    results = {one.host: result for one, result in (*zip(made, looked, strict=True), *zip(far, done, strict=True))}
    outcomes = [_outcome(host, results[host]) for host in hosts]
    _show(reference, local.digest, outcomes, options)
    return 1 if any(one.state == FAILED for one in outcomes) else 0


def checked_hosts(hosts: Sequence[str], parallel: int) -> tuple[str, ...]:
    """The machines that are named.

    Raises:
        UsageError: one of them is none, or stands there twice, or none at all would be done at once.
    """
    if parallel < 1:
        raise UsageError(f"--parallel: got {parallel}, expected 1 or more")
    for host in hosts:
        if not host.strip() or host.startswith("-"):
            raise UsageError(f"HOST: got '{host}', expected an ssh destination such as spark2 or user@spark2")
    twice = sorted({one for one in hosts if hosts.count(one) > 1})
    if twice:
        raise UsageError(f"HOST: {', '.join(twice)} is named twice; name each machine once")
    return tuple(hosts)


def _saved(project: Project, local: LocalImage, reference: str, tag: str, stack: ExitStack) -> Image:
    """The image in an archive, which is removed with the stack."""
    project.build.mkdir(exist_ok=True)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ship-", dir=project.build))
    archive = Path(folder, "image.tar")
    save_image(reference, tag, archive)
    opened = open_image(archive, platform=project.matrix.chip.platform)
    repository = reference.partition("/")[2].rpartition(":")[0]
    # The digest of an index is that of a blob of the archive, too.
    if find_blob(opened.locate, local.digest) is None:
        raise ImageError(
            f"{reference}: the engine has {local.digest} and gave out {opened.info.digest}; ship it while nothing else "
            "builds, from an engine with the containerd image store"
        )
    return Image(
        reference=reference,
        digest=local.digest,
        architecture=local.architecture,
        info=opened.info,
        content=content_of(repository, local.digest, opened.locate, str(archive)),
    )


# ---- several machines at once

_SAYING = threading.Lock()


def _say(text: str) -> None:
    """As `say`, from threads: two lines would else come as one."""
    with _SAYING:
        say(text)


class _Progress:
    """Says every few seconds how far each engine is."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._served: dict[str, tuple[Served, int, float]] = {}

    def begin(self, host: str, served: Served, about_bytes: int) -> None:
        self._served[host] = (served, about_bytes, self._now())

    def end(self, host: str) -> float:
        """Seconds since it began."""
        return self._now() - self._served.pop(host)[2]

    def __call__(self) -> None:
        for host, (served, about_bytes, began) in sorted(self._served.items()):
            sent, rate = served.sent_bytes, served.sent_bytes / (self._now() - began)
            _say(f"{host}: {sent / 1e6:.1f} of about {about_bytes / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s")


def _each(
    made: Sequence[Connection],
    work: Callable[[Connection], _T],
    parallel: int,
    tell: Callable[[], None] = lambda: None,
) -> list[_T | SparkbakeError]:
    """Do something with each machine, several at once; the error of one is its result, and the others go on."""

    def tried(one: Connection) -> _T | SparkbakeError:
        try:
            return work(one)
        except SparkbakeError as err:
            _say(f"{one.host}: {err}")
            return err

    with ThreadPoolExecutor(parallel) as pool:
        futures = [pool.submit(tried, one) for one in made]
        try:
            _wait(futures, tell)
        except KeyboardInterrupt:
            say("interrupted: nothing got its name that is not complete; ship again, it goes on from there")
            pool.shutdown(wait=False, cancel_futures=True)
            # A pull that is ended and does not fail keeps what it has for the next one.
            for one in made:
                one.cancel()
            wait(futures, timeout=_SAY_EVERY_S)
            for one in made:
                one.close()
            raise
    return [one.result() for one in futures]


def _wait(futures: Sequence["Future[_T]"], tell: Callable[[], None]) -> None:
    while wait(futures, timeout=_SAY_EVERY_S).not_done:
        tell()


# ---- one machine


def _reach(connection: Connection, *, reference: str) -> FarEngine:
    connection.open()
    return look(connection, reference)


def _ship_to(
    connection: Connection, far: FarEngine, image: Image | None, options: argparse.Namespace, told: _Progress
) -> Outcome:
    host = connection.host
    if image is None or far.has(image.info, image.digest):
        return Outcome(host=host, state=HAS_IT)
    check(far, image.info, image.architecture)
    lacks = far.lacks(image.info)
    layers = tuple((layer_name(one) or one.digest, one.size_bytes) for one in lacks)
    if options.dry_run:
        return Outcome(host=host, state=WOULD_SHIP, layers=layers, replaced=far.image_id)
    with serve(image.content) as served:
        _say(f"{host}: lacks {len(layers)} of {len(image.info.layers)} layers, {_sum(layers) / 1e6:.1f} MB")
        told.begin(host, served, _sum(layers))
        try:
            port = connection.forward(served.port)
            pull(
                connection,
                image.info,
                name=image.content.name,
                port=port,
                digest=image.digest,
                reference=image.reference,
            )
        finally:
            seconds = told.end(host)
        moved = served.sent_bytes
    _say(f"{host}: has {image.reference} {image.digest}; {moved / 1e6:.1f} MB in {seconds:.1f} s")
    return Outcome(host=host, state=SHIPPED, layers=layers, moved_bytes=moved, seconds=seconds, replaced=far.image_id)


def _sum(layers: Sequence[tuple[str, int]]) -> int:
    return sum(size for _name, size in layers)


def _outcome(host: str, result: FarEngine | Outcome | SparkbakeError) -> Outcome:
    return result if isinstance(result, Outcome) else Outcome(host=host, state=FAILED, error=str(result))


# ---- how it looks


def _show(reference: str, digest: str, outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    if options.json:
        body = {
            "schema": SCHEMA,
            "reference": reference,
            "digest": digest,
            "dry_run": options.dry_run,
            "hosts": [_as_json(one) for one in outcomes],
        }
        print(json.dumps(body, indent=2, sort_keys=True))
        return
    print_table(
        ("host", "what", "MB moved", "seconds", "why, or what it had under the name"),
        [
            (
                one.host,
                one.state,
                f"about {_sum(one.layers) / 1e6:.1f}" if one.state == WOULD_SHIP else f"{one.moved_bytes / 1e6:.1f}",
                f"{one.seconds:.1f}",
                one.error or (one.replaced or ""),
            )
            for one in outcomes
        ],
        title=f"{reference} {digest}",
    )
    for one in outcomes if options.dry_run else ():
        if one.layers:
            rows = [(name, f"{size / 1e6:.1f}") for name, size in one.layers]
            print_table(("layer", "MB"), rows, title=f"{one.host} seems to lack")


def _as_json(outcome: Outcome) -> dict[str, object]:
    layers = [{"layer": name, "bytes": size} for name, size in outcome.layers]
    return {**asdict(outcome), "layers": layers}
