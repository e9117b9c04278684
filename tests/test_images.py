"""Claims about reading images back: which image it is, what stands in its layers, and what is wrong with a bad one."""

import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.ocibuilder import (
    EPOCH,
    INDEX,
    MEDIA,
    MadeLayer,
    add_blob,
    add_image,
    blob_path,
    copied,
    digest_of,
    make_device,
    make_file,
    make_folder,
    make_hardlink,
    make_link,
    make_tar,
    pack,
    write_index,
    write_layout,
)

from sparkbake import process
from sparkbake.errors import ImageError
from sparkbake.imageinfo import Entry
from sparkbake.images import OpenImage, open_image, remote_image

ARM = "linux/arm64"
HELLO = digest_of(b"hello").removeprefix("sha256:")
MEMBERS = [
    make_folder("opt"),
    make_file("./opt/hello", b"hello", mode=0o755, uid=7, gid=8),
    make_link("opt/link", "../x"),
    make_hardlink("opt/second", "./opt/hello"),
    make_file("opt/.wh.gone"),
    make_device("dev/null"),
]


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "layout", [MadeLayer(members=MEMBERS, step="RUN x"), copied("cuda", [])])


def opened(place: Path, platform: str = ARM) -> OpenImage:
    return open_image(place, platform=platform)


def entries(image: OpenImage) -> list[list[Entry]]:
    return [list(image.entries(one)) for one in image.info.layers]


# ---- what is read


def test_a_layout_says_what_the_image_is(layout: Path) -> None:
    info = opened(layout).info
    assert info.digest == json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    assert info.labels == (("one", "1"),)
    assert json.loads(info.config)["architecture"] == "arm64"
    assert [one.created_by for one in info.layers] == ["RUN x", "COPY /layers/cuda/ / # buildkit"]
    assert info.layers[0].diff_id == digest_of(make_tar(MEMBERS))
    assert hash(info) == hash(opened(layout).info)


def test_entries_come_in_the_order_of_the_tar_with_all_that_they_say(layout: Path) -> None:
    found = entries(opened(layout))[0]
    assert [(one.path, one.kind, one.target, one.sha256) for one in found] == [
        ("opt", "folder", "", ""),
        ("opt/hello", "file", "", HELLO),
        ("opt/link", "link", "../x", ""),
        ("opt/second", "hardlink", "opt/hello", ""),
        ("opt/.wh.gone", "file", "", digest_of(b"").removeprefix("sha256:")),
        ("dev/null", "other", "1:3", ""),
    ]
    hello = found[1]
    assert (hello.mode, hello.uid, hello.gid, hello.mtime, hello.size_bytes) == (0o755, 7, 8, EPOCH, 5)


@pytest.mark.parametrize("compression", ["tar", "gzip", "zstd"])
def test_every_compression_is_read(tmp_path: Path, compression: str) -> None:
    image = opened(write_layout(tmp_path, [MadeLayer(members=MEMBERS, compression=compression)]))
    assert entries(image)[0][1].sha256 == HELLO


def test_a_blob_of_several_zstd_frames_is_read_whole(tmp_path: Path) -> None:
    tar = make_tar([make_file("a", bytes(9000)), make_file("b", b"hello")])
    blob = b"".join(zstandard.compress(tar[start : start + 700]) for start in range(0, len(tar), 700))
    image = opened(write_layout(tmp_path, [MadeLayer(tar=blob, compression="tar", media_type=MEDIA["zstd"])]))
    assert [one.path for one in entries(image)[0]] == ["a", "b"]


def test_an_archive_is_read_as_its_folder_is(layout: Path, tmp_path: Path) -> None:
    archive = opened(pack(layout, tmp_path / "image.tar"))
    assert archive.info == opened(layout).info
    assert entries(archive) == entries(opened(layout))


def test_extended_attributes_are_headers_and_long_names_are_not(tmp_path: Path) -> None:
    long = "/".join(["folder" * 10] * 5)
    members = [make_file(long, headers={"SCHILY.xattr.user.a": "b", "mtime": f"{EPOCH}.5"})]
    (found,) = entries(opened(write_layout(tmp_path, [MadeLayer(members=members)])))[0]
    assert (found.path, found.headers, found.mtime) == (long, (("SCHILY.xattr.user.a", "b"),), EPOCH)


def test_contents_may_be_passed_over_or_read(layout: Path) -> None:
    image = opened(layout)
    found = {entry.path: b"".join(chunks) for entry, chunks in image.contents(image.info.layers[0])}
    assert found["opt/hello"] == b"hello"
    assert found["opt/link"] == b""
    assert [entry.sha256 for entry, _chunks in image.contents(image.info.layers[0])] == [""] * len(MEMBERS)


def test_a_history_of_another_length_names_no_steps(tmp_path: Path) -> None:
    image = opened(write_layout(tmp_path, [MadeLayer(members=MEMBERS, step="RUN x")], history=[]))
    assert [one.created_by for one in image.info.layers] == [""]


# ---- which image of several


def described(folder: Path, name: str, **platform: str) -> dict[str, Any]:
    return {**add_image(folder, [MadeLayer(members=[make_file(name)])]), "platform": platform}


def test_of_several_images_the_one_of_the_platform_is_taken_and_attestations_are_not_looked_at(tmp_path: Path) -> None:
    arm = described(tmp_path, "arm", os="linux", architecture="arm64", variant="v8")
    amd = described(tmp_path, "amd", os="linux", architecture="amd64")
    note = described(tmp_path, "note", os="unknown", architecture="unknown")
    inner = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [amd, arm, note]}
    write_index(tmp_path, [add_blob(tmp_path, json.dumps(inner).encode(), INDEX)])
    blob_path(tmp_path, note["digest"]).unlink()
    assert opened(tmp_path).info.digest == arm["digest"]
    assert opened(tmp_path, "linux/amd64").info.digest == amd["digest"]
    with pytest.raises(ImageError, match=r"0 images are for linux/s390x.*linux/amd64 \(sha256:.*--platform"):
        opened(tmp_path, "linux/s390x")


def test_the_only_image_is_taken_whatever_it_is_for(tmp_path: Path) -> None:
    write_index(tmp_path, [described(tmp_path, "amd", os="linux", architecture="amd64")] * 2)
    assert opened(tmp_path).info.layers


def test_two_images_that_fit_are_an_error_that_lists_them(tmp_path: Path) -> None:
    """Their configs say what they are for, as `docker image save` leaves it out of the index."""
    some = [add_image(tmp_path, [MadeLayer(members=[make_file(name)])]) for name in ("a", "b")]
    write_index(tmp_path, some)
    with pytest.raises(ImageError, match="2 images are for linux/arm64, expected one") as caught:
        opened(tmp_path)
    assert all(one["digest"] in str(caught.value) for one in some)


# ---- what is wrong


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file or folder; expected an OCI layout"):
        opened(tmp_path / "none")


def test_a_file_that_is_no_tar_and_one_that_is_cut_off(layout: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(b"not a tar" * 100)
    with pytest.raises(ImageError, match="expected an OCI layout folder, or a whole uncompressed tar"):
        opened(path)
    whole = pack(layout, path).read_bytes()
    path.write_bytes(whole[:2000])
    with pytest.raises(ImageError, match=r"image\.tar: "):
        opened(path)


def test_an_archive_without_an_index(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(make_tar([make_file("manifest.json", b"[]")]))
    with pytest.raises(ImageError, match=r"has no index\.json.*since Docker 25"):
        opened(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "got a JSON list, expected an object"),
        ('{"manifests": 1}', "has no list 'manifests'"),
        ('{"manifests": []}', "its index names no image"),
        ('{"manifests": [{"digest": "sha256:../../x"}]}', "got the digest 'sha256:../../x', expected"),
    ],
)
def test_a_bad_index(layout: Path, text: str, message: str) -> None:
    (layout / "index.json").write_text(text)
    with pytest.raises(ImageError, match=message):
        opened(layout)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rootfs": {"diff_ids": []}}, "the manifest has 1 layers, the config 0"),
        ({"rootfs": None}, "not as the OCI format has it"),
    ],
)
def test_a_bad_config(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        opened(write_layout(tmp_path, [MadeLayer(members=MEMBERS)], **config))


def test_a_manifest_without_a_config(tmp_path: Path) -> None:
    write_index(tmp_path, [add_blob(tmp_path, b"{}", "application/json")])
    with pytest.raises(ImageError, match="names no config"):
        opened(tmp_path)


def test_a_missing_blob_and_a_short_one(layout: Path) -> None:
    layer = opened(layout).info.layers[0]
    path = blob_path(layout, layer.digest)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ImageError, match=f"{layer.digest}: {layer.size_bytes - 1} bytes, expected"):
        opened(layout)
    path.unlink()
    with pytest.raises(ImageError, match=f"{layer.digest}: is not there"):
        opened(layout)
    shutil.rmtree(layout / "blobs")
    with pytest.raises(ImageError, match="has no blob sha256:"):
        opened(layout)


@pytest.mark.parametrize("compression", ["tar", "gzip", "zstd"])
@pytest.mark.parametrize("position", [0, 5, -600, -1])
def test_a_damaged_layer_is_never_read_to_its_end(tmp_path: Path, compression: str, position: int) -> None:
    members = [make_file("a", bytes(range(256)) * 20), make_file("b", b"b")]
    image = opened(write_layout(tmp_path, [MadeLayer(members=members, compression=compression)]))
    path = blob_path(tmp_path, image.info.layers[0].digest)
    blob = bytearray(path.read_bytes())
    blob[max(position, -len(blob))] ^= 0xFF
    path.write_bytes(blob)
    with pytest.raises(ImageError, match=f"layer {image.info.layers[0].digest}: damaged"):
        list(image.entries(image.info.layers[0]))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (MadeLayer(tar=b"plain" * 500, compression="tar", media_type=MEDIA["zstd"]), "cannot be unpacked"),
        (MadeLayer(tar=b"plain" * 500, compression="tar", media_type=MEDIA["gzip"]), "cannot be unpacked"),
        (MadeLayer(tar=b"plain" * 500), "is no whole tar"),
        (MadeLayer(tar=make_tar([make_file("a", bytes(9000))])[:2048]), "ends within a file"),
        (MadeLayer(media_type="application/x-xz"), "got the media type 'application/x-xz', expected one that ends"),
    ],
)
def test_a_layer_that_is_whole_and_wrong(tmp_path: Path, layer: MadeLayer, message: str) -> None:
    image = opened(write_layout(tmp_path, [layer]))
    with pytest.raises(ImageError, match=message):
        list(image.entries(image.info.layers[0]))


# ---- in a registry

NAME = "registry.example:5000/sparks/spark-vllm"


class Registry:
    """Answers as `docker buildx imagetools inspect` does, from a layout."""

    def __init__(self, layout: Path, tagged: bytes) -> None:
        self._layout = layout
        self._tagged = tagged

    def run(self, argv: Sequence[str], *, timeout_s: float) -> str:
        assert argv[:4] == ["docker", "buildx", "imagetools", "inspect"]
        _name, _at, digest = argv[-1].partition("@")
        raw = blob_path(self._layout, digest).read_bytes() if digest else self._tagged
        if argv[4] == "--raw":
            return raw.decode()
        assert argv[4:6] == ["--format", "{{json .Image}}"]
        return blob_path(self._layout, json.loads(raw)["config"]["digest"]).read_text()


@pytest.mark.parametrize("is_index", [True, False])
@pytest.mark.parametrize("suffix", [":1.0", ""])
def test_an_image_of_a_registry_is_known_without_its_contents(
    layout: Path, monkeypatch: pytest.MonkeyPatch, *, is_index: bool, suffix: str
) -> None:
    local = opened(layout).info
    note = {"digest": digest_of(b"note"), "platform": {"os": "unknown", "architecture": "unknown"}}
    one = {"digest": local.digest, "platform": {"os": "linux", "architecture": "arm64"}}
    other = {"digest": digest_of(b"amd"), "platform": {"os": "linux", "architecture": "amd64"}}
    index = json.dumps({"mediaType": INDEX, "manifests": [one, other, note]}).encode()
    tagged = index if is_index else blob_path(layout, local.digest).read_bytes()
    monkeypatch.setattr(process, "run", Registry(layout, tagged).run)
    assert remote_image(NAME + suffix, platform=ARM) == local
    if is_index:
        with pytest.raises(ImageError, match="0 images are for linux/s390x"):
            remote_image(NAME + suffix, platform="linux/s390x")


def test_an_answer_of_a_registry_that_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run", lambda _argv, **_rest: '{"manifests": null}')
    with pytest.raises(ImageError, match=f"{NAME}: its index has no list"):
        remote_image(NAME, platform=ARM)


def test_a_tar_in_the_format_of_gnu_is_read_too(tmp_path: Path) -> None:
    image = opened(write_layout(tmp_path, [MadeLayer(members=MEMBERS, format=tarfile.GNU_FORMAT)]))
    assert entries(image)[0][1].sha256 == HELLO
