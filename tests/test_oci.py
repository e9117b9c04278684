"""Claims about the OCI layouts that sparkbake.oci writes, checked by reading them back."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sparkbake import oci
from sparkbake.errors import BaseError

EPOCH = 1_700_000_000


def member(name: str, **attributes: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


def directory(name: str) -> tarfile.TarInfo:
    return member(name, type=tarfile.DIRTYPE, mode=0o755)


def hard_link(name: str, to: str) -> tarfile.TarInfo:
    return member(name, type=tarfile.LNKTYPE, linkname=to)


def make_tar(path: Path, *entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info, content = entry
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def layer_of(
    tmp_path: Path,
    *entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes],
    dropped: tuple[str, ...] = (),
    replaced: Mapping[str, bytes] | None = None,
) -> dict[str, tarfile.TarInfo]:
    source = make_tar(tmp_path / "source.tar", *entries)
    target = tmp_path / "layer.tar"
    oci.write_layer_tar(
        source, target, epoch=EPOCH, is_dropped=lambda name, _: name in dropped, replaced=replaced or {}
    )
    with tarfile.open(target, "r:") as archive:
        return {info.name: info for info in archive}


def content_of(layer: Path, name: str) -> bytes:
    with tarfile.open(layer, "r:") as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


def make_layers(tmp_path: Path, *architectures: oci.Architecture) -> dict[oci.Architecture, Path]:
    return {
        architecture: make_tar(tmp_path / f"{architecture}.tar", (member("arch", mtime=EPOCH), architecture.encode()))
        for architecture in architectures
    }


def read_blob(layout: Path, descriptor: Mapping[str, Any]) -> bytes:
    """Read a blob the way a client has to: by digest, with size and digest checked."""
    algorithm, _, encoded = descriptor["digest"].partition(":")
    path: Path = layout / "blobs" / algorithm / encoded
    content = path.read_bytes()
    assert len(content) == descriptor["size"]
    assert hashlib.new(algorithm, content).hexdigest() == encoded
    return content


class TestWriteLayerTar:
    def test_same_content_gives_the_same_bytes_whatever_order_time_and_owner_name(self, tmp_path: Path) -> None:
        one = make_tar(
            tmp_path / "one.tar",
            directory("./"),
            directory("./b"),
            (member("./b/x", mtime=EPOCH + 5.25, uname="root"), b"x"),
            (member("./a", mtime=EPOCH + 9, pax_headers={"comment": "made today"}), b"a"),
        )
        other = make_tar(
            tmp_path / "other.tar",
            (member("a", mtime=EPOCH + 1000, uname="admin", gname="wheel"), b"a"),
            directory("b"),
            (member("b/x", mtime=EPOCH), b"x"),
        )
        layers = []
        for source in (one, other):
            target = source.with_suffix(".layer")
            oci.write_layer_tar(source, target, epoch=EPOCH, is_dropped=lambda *_: False, replaced={})
            layers.append(target.read_bytes())
        assert layers[0] == layers[1]

    def test_entries_are_sorted_and_times_cut_to_the_epoch(self, tmp_path: Path) -> None:
        layer = layer_of(
            tmp_path,
            (member("./z", mtime=EPOCH + 1), b""),
            (member("./a", mtime=EPOCH - 1), b""),
        )
        assert [(info.name, info.mtime) for info in layer.values()] == [("a", EPOCH - 1), ("z", EPOCH)]

    def test_modes_owners_and_links_stay(self, tmp_path: Path) -> None:
        layer = layer_of(
            tmp_path,
            (member("su", mode=0o4755, uid=0, gid=42), b"#!"),
            member("sh", type=tarfile.SYMTYPE, linkname="bin/dash"),
        )
        assert (layer["su"].mode, layer["su"].gid) == (0o4755, 42)
        assert layer["sh"].issym()
        assert layer["sh"].linkname == "bin/dash"

    def test_file_capabilities_stay_and_acls_do_not(self, tmp_path: Path) -> None:
        """ACLs are there or not depending on the build machine's file system."""
        headers = {"SCHILY.xattr.security.capability": "cap", "SCHILY.xattr.system.posix_acl_access": "acl"}
        layer = layer_of(tmp_path, (member("ping", pax_headers=headers), b""))
        assert layer["ping"].pax_headers == {"SCHILY.xattr.security.capability": "cap"}

    def test_a_link_to_a_dropped_file_becomes_the_file(self, tmp_path: Path) -> None:
        layer = layer_of(
            tmp_path,
            (member("doc/a"), b"text"),
            hard_link("bin/b", "doc/a"),
            hard_link("bin/c", "doc/a"),
            dropped=("doc/a",),
        )
        assert set(layer) == {"bin/b", "bin/c"}
        assert content_of(tmp_path / "layer.tar", "bin/b") == b"text"
        assert layer["bin/c"].islnk()
        assert layer["bin/c"].linkname == "bin/b"

    def test_the_first_name_of_a_linked_file_carries_it(self, tmp_path: Path) -> None:
        layer = layer_of(tmp_path, (member("./perl5"), b"elf"), hard_link("./perl", "./perl5"))
        assert layer["perl"].isreg()
        assert layer["perl5"].linkname == "perl"

    def test_replaced_files_are_written_whether_they_were_there_or_not(self, tmp_path: Path) -> None:
        layer = layer_of(
            tmp_path,
            (member("etc/machine-id", mode=0o444), b"0123"),
            replaced={"etc/machine-id": b"", "etc/sources": b"deb"},
        )
        assert layer["etc/machine-id"].size == 0
        assert (layer["etc/sources"].mode, layer["etc/sources"].mtime) == (0o644, EPOCH)
        assert content_of(tmp_path / "layer.tar", "etc/sources") == b"deb"

    def test_devices_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BaseError, match=r"null is a special file \(tar type b'3'\); expected none outside dev/"):
            layer_of(tmp_path, member("null", type=tarfile.CHRTYPE))


class TestWriteLayout:
    def test_a_client_finds_manifest_config_and_layer_of_each_platform(self, tmp_path: Path) -> None:
        layout = tmp_path / "layout"
        digest = oci.write_layout(layout, make_layers(tmp_path, "arm64", "amd64"), created_epoch=EPOCH)

        assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
        top = json.loads((layout / "index.json").read_bytes())
        assert top["schemaVersion"] == 2
        [entry] = top["manifests"]
        assert entry["digest"] == digest
        assert entry["mediaType"] == "application/vnd.oci.image.index.v1+json"
        assert entry["annotations"] == {"org.opencontainers.image.ref.name": "latest"}
        index = json.loads(read_blob(layout, entry))
        assert (index["schemaVersion"], index["mediaType"]) == (2, entry["mediaType"])
        assert [descriptor["platform"] for descriptor in index["manifests"]] == [
            {"architecture": "amd64", "os": "linux"},
            {"architecture": "arm64", "os": "linux", "variant": "v8"},
        ]
        for descriptor in index["manifests"]:
            assert descriptor["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
            manifest = json.loads(read_blob(layout, descriptor))
            assert (manifest["schemaVersion"], manifest["mediaType"]) == (2, descriptor["mediaType"])
            assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
            [layer] = manifest["layers"]
            assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
            with tarfile.open(fileobj=io.BytesIO(read_blob(layout, layer)), mode="r:") as archive:
                assert archive.getnames() == ["arch"]
            config = json.loads(read_blob(layout, manifest["config"]))
            assert {"os": config["os"], "architecture": config["architecture"]}.items() <= descriptor[
                "platform"
            ].items()
            assert config.get("variant") == descriptor["platform"].get("variant")
            # Of an uncompressed layer, the digest is the DiffID.
            assert config["rootfs"] == {"type": "layers", "diff_ids": [layer["digest"]]}
            assert config["created"] == "2023-11-14T22:13:20Z"
            assert config["config"]["Cmd"] == ["/bin/bash"]
            assert config["config"]["Env"][0].startswith("PATH=")
            assert len(config["history"]) == 1

    def test_nothing_is_in_the_layout_that_index_json_does_not_lead_to(self, tmp_path: Path) -> None:
        layout = tmp_path / "layout"
        oci.write_layout(layout, make_layers(tmp_path, "arm64", "amd64"), created_epoch=EPOCH)
        assert len(list((layout / "blobs" / "sha256").iterdir())) == 1 + 2 * 3
        assert sorted(path.name for path in layout.iterdir()) == ["blobs", "index.json", "oci-layout"]

    def test_the_digest_depends_on_content_and_date_alone(self, tmp_path: Path) -> None:
        def digest_of(name: str, *architectures: oci.Architecture, epoch: int = EPOCH) -> str:
            return oci.write_layout(tmp_path / name, make_layers(tmp_path, *architectures), created_epoch=epoch)

        first = digest_of("first", "arm64", "amd64")
        assert digest_of("second", "amd64", "arm64") == first
        assert digest_of("third", "arm64", "amd64", epoch=EPOCH + 1) != first
        assert digest_of("fourth", "arm64") != first

    def test_the_tar_is_moved(self, tmp_path: Path) -> None:
        layers = make_layers(tmp_path, "arm64")
        oci.write_layout(tmp_path / "layout", layers, created_epoch=EPOCH)
        assert not layers["arm64"].exists()


class TestReadLayout:
    @pytest.fixture
    def layout(self, tmp_path: Path) -> Path:
        oci.write_layout(tmp_path / "layout", make_layers(tmp_path, "arm64", "amd64"), created_epoch=EPOCH)
        return tmp_path / "layout"

    def test_digests_are_those_of_index_and_manifests(self, layout: Path) -> None:
        [entry] = json.loads((layout / "index.json").read_bytes())["manifests"]
        assert oci.read_index_digest(layout) == entry["digest"]
        index = json.loads(read_blob(layout, entry))
        assert oci.read_manifest_digests(layout) == (
            ("amd64", index["manifests"][0]["digest"]),
            ("arm64", index["manifests"][1]["digest"]),
        )

    def test_a_missing_index_is_named(self, layout: Path) -> None:
        (layout / "index.json").unlink()
        with pytest.raises(BaseError, match=r"index.json: cannot be read: .*; expected a complete OCI layout"):
            oci.read_index_digest(layout)

    def test_a_missing_blob_is_named(self, layout: Path) -> None:
        for blob in sorted((layout / "blobs" / "sha256").iterdir()):
            content = blob.read_bytes()
            blob.unlink()
            with pytest.raises(BaseError, match=rf"{blob.name}: no such file, expected {len(content)} bytes"):
                oci.read_index_digest(layout)
            blob.write_bytes(content)

    def test_a_short_blob_is_named(self, layout: Path) -> None:
        blob = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
        blob.write_bytes(blob.read_bytes()[:100])
        with pytest.raises(BaseError, match=rf"{blob.name}: 100 bytes, expected 10240 bytes; .* not complete"):
            oci.read_index_digest(layout)

    def test_an_index_json_that_is_no_json_is_told(self, layout: Path) -> None:
        (layout / "index.json").write_text("{")
        with pytest.raises(BaseError, match=r"index.json: cannot be read: .*; expected a complete OCI layout"):
            oci.read_index_digest(layout)

    def test_a_layout_of_single_images_is_refused(self, layout: Path) -> None:
        (layout / "index.json").write_text('{"manifests": []}')
        with pytest.raises(BaseError, match=r"index.json: expected exactly one entry"):
            oci.read_index_digest(layout)

    def test_a_changed_manifest_is_found_without_hashing_layers(self, layout: Path) -> None:
        [(_, digest), _] = oci.read_manifest_digests(layout)
        blob = layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
        blob.write_bytes(blob.read_bytes().replace(b"layers", b"LAYERS"))
        with pytest.raises(BaseError, match=rf"{blob.name}: damaged"):
            oci.read_index_digest(layout)
