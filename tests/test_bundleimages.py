"""Claims about the images of a bundle: the same bytes from a layout and from a registry, in one layout."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT
from tests.memoryregistry import Memory
from tests.ocibuilder import MadeLayer, blob_path, make_file, write_layout

from sparkbake import pulling, registry
from sparkbake.bundlefetch import Wanted, fetch
from sparkbake.bundleimages import wanted_images
from sparkbake.errors import BundleError, LockError, RegistryError
from sparkbake.mirrors import Mirrors
from sparkbake.project import open_project
from sparkbake.sourcebundle import BaseImage

REFERENCE = "registry.example/nvidia/cuda:13-devel"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "layout", [MadeLayer(members=[make_file("etc/x", b"x" * 5000)], step="RUN x")])


def image_of(layout: Path) -> BaseImage:
    (manifest,) = json.loads((layout / "index.json").read_text(encoding="utf-8"))["manifests"]
    return BaseImage(context="cuda-devel", reference=REFERENCE, manifest=manifest["digest"])


def wanted(image: BaseImage, mirrors: Mirrors) -> tuple[Wanted, ...]:
    return wanted_images(open_project(ROOT), [image], mirrors, lambda _text: None)


def fetched(folder: Path, image: BaseImage, mirrors: Mirrors) -> Path:
    fetch(folder, wanted(image, mirrors), lambda _text: None)
    return folder / "images"


def of_layout(layout: Path, image: BaseImage) -> Mirrors:
    return Mirrors(images=((REFERENCE, f"oci-layout:{layout}@{image.manifest}"),))


def test_a_layout_is_copied_as_it_is(layout: Path, tmp_path: Path) -> None:
    image = image_of(layout)
    made = fetched(tmp_path / "bundle", image, of_layout(layout, image))
    for path in (layout / "blobs/sha256").iterdir():
        assert (made / "blobs/sha256" / path.name).read_bytes() == path.read_bytes()
    (entry,) = json.loads((made / "index.json").read_text(encoding="utf-8"))["manifests"]
    assert entry["digest"] == image.manifest
    assert json.loads((made / "oci-layout").read_text(encoding="utf-8")) == {"imageLayoutVersion": "1.0.0"}


def test_a_layout_of_another_image_is_refused(layout: Path) -> None:
    other = BaseImage(context="cuda-devel", reference=REFERENCE, manifest="sha256:" + 64 * "0")
    with pytest.raises(BundleError, match=r"mirrors\.yaml names a layout that has not all of sha256:0000"):
        wanted(other, of_layout(layout, other))


class Registry(Memory):
    """A registry that has one image, and keeps its blobs elsewhere."""

    def __init__(self, layout: Path) -> None:
        super().__init__("nvidia/cuda")
        digest = image_of(layout).manifest
        files = {f"sha256:{one.name}": one.read_bytes() for one in (layout / "blobs/sha256").iterdir()}
        self.manifests[digest] = files.pop(digest)
        self.blobs |= files
        self.opened: list[tuple[str, Mapping[str, str]]] = []

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: Any, **_rest: Any) -> Any:
        return super().__call__(method, url.replace("//registry.example/", "//api.registry.example/"), headers, body)

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str]) -> Iterator[Any]:
        self.opened.append((url, headers))
        if url.startswith("https://registry.example/"):
            yield Played(307, b"", f"https://elsewhere.example/{url.rpartition('/')[2]}")
        else:
            yield Played(200, self.blobs[url.rpartition("/")[2]], None)


class Played(io.BytesIO):
    """An answer of http.client's."""

    def __init__(self, status: int, body: bytes, place: str | None) -> None:
        super().__init__(body)
        self.status, self._place = status, place

    def getheader(self, _name: str) -> str | None:
        return self._place


@pytest.fixture
def memory(layout: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry(layout)
    monkeypatch.setattr(registry, "exchange", made)
    monkeypatch.setattr(pulling, "opened", made.open)
    monkeypatch.setattr("sparkbake.places.login_of", lambda _registry: None)
    return made


def test_a_registry_gives_the_same_bytes_also_from_elsewhere(layout: Path, memory: Registry, tmp_path: Path) -> None:
    image = image_of(layout)
    made = fetched(tmp_path / "bundle", image, Mirrors())
    copied = fetched(tmp_path / "other", image, of_layout(layout, image))
    names = sorted(one.relative_to(made).as_posix() for one in made.rglob("*") if one.is_file())
    assert names == sorted(one.relative_to(copied).as_posix() for one in copied.rglob("*") if one.is_file())
    assert all((made / one).read_bytes() == (copied / one).read_bytes() for one in names)
    assert not [headers for url, headers in memory.opened if "elsewhere" in url and "Authorization" in headers]


def test_a_mirror_is_asked_in_the_place_of_the_registry(layout: Path, memory: Registry) -> None:
    image = image_of(layout)
    renamed = BaseImage(context=image.context, reference="docker.io/nvidia/cuda:13-devel", manifest=image.manifest)
    assert wanted(renamed, Mirrors(images=(("docker.io/nvidia/cuda:13-devel", f"{REFERENCE}@{image.manifest}"),)))
    assert {path for _method, path in memory.asked} == {f"/v2/nvidia/cuda/manifests/{image.manifest}"}


def test_a_blob_that_breaks_off_is_no_file(layout: Path, memory: Registry, tmp_path: Path) -> None:
    image = image_of(layout)
    some = wanted(image, Mirrors())
    memory.blobs = {digest: body[:-1] for digest, body in memory.blobs.items()}
    with pytest.raises(LockError, match="it broke off, or is another file; run it again"):
        fetch(tmp_path / "bundle", some, lambda _text: None)
    assert not [one for one in (tmp_path / "bundle").rglob("*") if one.is_file() and one.suffix == ".part"]


def test_a_blob_that_a_registry_has_not_is_named(layout: Path, memory: Registry, tmp_path: Path) -> None:
    some = wanted(image_of(layout), Mirrors())
    lost = next(iter(memory.blobs))
    del memory.blobs[lost]
    with pytest.raises(RegistryError, match=f"has no blob {lost}, which the locked manifest names"):
        fetch(tmp_path / "bundle", some, lambda _text: None)
    assert blob_path(layout, lost).is_file()
