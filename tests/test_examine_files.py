"""Claims about files of an image that are not as planned: changed, of nobody, of other modes, of other OS packages."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.imagebuilder import (
    FILES,
    INFO,
    LIBC,
    STATUS,
    TUNED,
    Layers,
    changed,
    config_of,
    content_of,
    make_layers,
    make_packages,
    os_package,
    target_of,
    with_content,
    with_member,
    without,
    write_image,
)
from tests.ocibuilder import SITE, Member, make_file, make_folder, make_hardlink, make_link
from tests.verified import Verify

from sparkbake.examine import examine
from sparkbake.images import open_image
from sparkbake.model import Plan
from sparkbake.project import Project
from sparkbake.survey import read_survey

C_LIBRARY = f"{SITE}/vllm/_C.abi3.so"
STATIC = "torch/lib/libstatic.a"
OS = dict.fromkeys(("base-files", "libc6", "python3", "curl"), "1.0-1")


def flipped(content: bytes) -> bytes:
    """A byte changed that no reader of ELF files looks at: the last of e_ident."""
    return content[:15] + bytes([content[15] ^ 1]) + content[16:]


# ---- files


@pytest.mark.parametrize("path", [C_LIBRARY, LIBC, f"{SITE}/ray/__init__.py", "opt/venv/pyvenv.cfg"])
def test_a_file_with_one_other_byte_is_found(verify: Verify, layers: Layers, path: str) -> None:
    found = verify(with_content(layers, path, flipped(content_of(layers, path))))
    assert (found.status, found.errors) == (1, [("file-changed", path)])


@pytest.mark.parametrize("path", [f"{SITE}/{TUNED}", f"{SITE}/vllm/__init__.py", "usr/bin/curl", "opt/venv/pyvenv.cfg"])
def test_a_file_that_is_not_there_is_found(verify: Verify, layers: Layers, path: str) -> None:
    found = verify(without(layers, path))
    assert (found.status, found.errors) == (1, [("file-missing", path)])


@pytest.mark.parametrize(
    "member",
    [
        make_file("usr/bin/backdoor", b"#!/bin/sh\n"),
        make_file(f"{SITE}/sitecustomize.py", b"import os\n"),
        make_file(f"{SITE}/vllm/__pycache__/__init__.cpython-312.pyc", b"code"),
        make_link("usr/bin/python", "python3"),
    ],
)
def test_a_file_of_nobody_is_found(verify: Verify, layers: Layers, member: Member) -> None:
    found = verify(with_member(layers, member))
    assert (found.status, found.errors) == (1, [("file-unowned", member[0].name)])
    assert "in layer manifest" in found.said("file-unowned")[0]


def test_a_file_of_a_name_that_is_no_utf_8_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(with_member(layers, make_file("opt/\udcff", b"")))
    assert (found.status, found.errors) == (1, [("file-unowned", "opt/\udcff")])


def test_a_link_of_the_recipe_that_leads_elsewhere_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(with_member(layers, make_link("opt/venv/bin/python", "/usr/bin/curl")))
    assert (found.status, found.errors) == (1, [("file-changed", "opt/venv/bin/python")])


def test_a_file_that_is_trimmed_and_there_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(with_member(layers, make_file(f"{SITE}/{STATIC}", b"!<arch>\n")))
    assert (found.status, found.errors) == (1, [("trimmed-present", f"{SITE}/{STATIC}")])


def test_a_hard_link_to_nothing_is_found(verify: Verify, layers: Layers) -> None:
    member = make_hardlink(f"{SITE}/ray/__init__.py", "nowhere")
    found = verify(with_member(layers, member))
    assert found.status == 1
    assert ("link-dangling", f"{SITE}/ray/__init__.py") in found.errors


def test_a_rule_about_files_that_are_not_there_is_a_warning(verify: Verify, layers: Layers) -> None:
    found = verify(without(layers, "etc/ssl/certs/ca-certificates.crt"))
    assert (found.status, found.errors) == (0, [])
    assert found.warnings == [("rule-unused", "generated: etc/ssl/certs/*")]


@pytest.mark.parametrize("path", ["usr/bin/backdoor", "etc/profile.d/backdoor.sh"])
def test_a_file_that_the_image_s_own_list_vouches_for_is_found(verify: Verify, layers: Layers, path: str) -> None:
    content = b"#!/bin/sh\n"
    listed = {**json.loads(content_of(layers, FILES)), path: f"sha256:{hashlib.sha256(content).hexdigest()}"}
    made = with_member(with_content(layers, FILES, json.dumps(listed).encode()), make_file(path, content))
    found = verify(made)
    assert (found.status, found.errors) == (1, [("file-unowned", path)])


# ---- modes


def with_mode(layers: Layers, path: str, *, layer: str | None = None, **facts: Any) -> Layers:
    """The same file, with another mode or owner, in its layer or another one."""
    member = make_file(path, content_of(layers, path), **facts)
    return with_member(layers, member, layer=layer or next(name for name, some in layers.items() if has(some, path)))


def has(members: Sequence[Member], path: str) -> bool:
    return any(info.name == path for info, _content in members)


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"mode": 0o4755}, "4755 of 0:0"),
        ({"mode": 0o2755}, "2755 of 0:0"),
        ({"mode": 0o600}, "600 of 0:0"),
        ({"mode": 0o666}, "666 of 0:0"),
        ({"uid": 1000}, "644 of 1000:0"),
        ({"gid": 100}, "644 of 0:100"),
    ],
)
def test_a_file_of_ours_with_another_mode_or_owner_is_found(
    verify: Verify, layers: Layers, facts: dict[str, Any], shown: str
) -> None:
    path = f"{SITE}/ray/__init__.py"
    found = verify(with_mode(layers, path, **facts))
    assert (found.status, found.errors) == (1, [("file-mode", path)])
    assert found.said("file-mode") == (shown, "644 or 755 of 0:0")


@pytest.mark.parametrize("path", ["opt/venv/pyvenv.cfg", FILES])
def test_a_file_that_the_recipe_makes_has_a_mode_too(verify: Verify, layers: Layers, path: str) -> None:
    assert verify(with_mode(layers, path, mode=0o666)).errors == [("file-mode", path)]


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o700])
def test_a_folder_of_ours_with_another_mode_is_found(verify: Verify, layers: Layers, mode: int) -> None:
    found = verify(with_member(layers, make_folder("workspace", mode=mode), "skeleton"))
    assert (found.status, found.errors) == (1, [("file-mode", "workspace")])
    assert found.said("file-mode") == (f"{mode:o} of 0:0", "755 of 0:0")


@pytest.mark.parametrize(("path", "mode"), [("cache", 0o755), ("cache", 0o777), ("root", 0o755)])
def test_a_folder_with_a_mode_of_its_own_has_no_other(verify: Verify, layers: Layers, path: str, mode: int) -> None:
    found = verify(with_member(layers, make_folder(path, mode=mode), "skeleton"))
    assert (found.status, found.errors) == (1, [("file-mode", path)])


def test_a_setuid_program_as_a_hard_link_is_found(verify: Verify, project: Project) -> None:
    """Engines give the file of a hard link the mode that the link has."""
    copy = "ray/copy.py"
    content = make_packages()["ray"].files["ray/__init__.py"]
    layers = make_layers(project, changed("ray", {copy: content}))
    link = make_hardlink(f"{SITE}/{copy}", f"{SITE}/ray/__init__.py")
    assert verify(with_member(layers, link)).errors == []
    link[0].mode = 0o4755
    assert verify(with_member(layers, link)).errors == [("file-mode", f"{SITE}/{copy}")]


def test_a_file_of_ours_with_a_capability_is_found(verify: Verify, layers: Layers) -> None:
    """It is as good as setuid: https://man7.org/linux/man-pages/man7/capabilities.7.html."""
    path = "opt/venv/bin/ray"
    found = verify(with_mode(layers, path, mode=0o755, headers={"SCHILY.xattr.security.capability": "\x01"}))
    assert (found.status, found.errors) == (1, [("file-mode", path)])


def test_a_setuid_program_of_ours_in_a_layer_of_another_step_is_found(verify: Verify, layers: Layers) -> None:
    path = "opt/venv/bin/ray"
    found = verify(with_mode(layers, path, layer="system", mode=0o4755))
    assert (found.status, found.errors) == (1, [("file-mode", path)])


def test_modes_of_the_operating_system_are_its_own(verify: Verify, layers: Layers) -> None:
    found = verify(with_mode(layers, "usr/bin/curl", mode=0o4755, gid=42))
    assert (found.status, found.errors) == (0, [])


# ---- packages of the operating system


def os_findings(project: Project, made: Layers, folder: Path, locked: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """What is wrong with the OS packages of an image whose base is locked: name, found, expected."""
    target, matrix = target_of(project), project.matrix
    opened = open_image(write_image(folder, made, config_of(target)), platform="linux/arm64")
    found = examine(
        read_survey(opened, "it", lambda _text: None, compute_capability="12.1"),
        target,
        context={str(one.path): one.content for one in project.contexts(Plan(targets=(target,)))[target.name]},
        os_packages=locked,
        rules=matrix.rules,
        trims=matrix.trims,
        components=matrix.components,
        label_prefix=matrix.project.label_prefix,
    )
    return [(one.subject, one.found, one.expected) for one in found.findings if one.id == "os-package"]


@pytest.mark.parametrize(
    ("locked", "expected"),
    [
        (OS, []),
        ({**OS, "curl": "1.0-2"}, [("curl", "1.0-1", "1.0-2")]),
        ({**OS, "wget": "1.0-1"}, [("wget", "nothing", "1.0-1")]),
        ({name: one for name, one in OS.items() if name != "libc6"}, [("libc6", "1.0-1", "nothing")]),
    ],
)
def test_of_a_locked_base_an_image_has_just_the_packages(
    project: Project, layers: Layers, tmp_path: Path, locked: dict[str, str], expected: list[tuple[str, str, str]]
) -> None:
    assert os_findings(project, layers, tmp_path / "image", locked) == expected


def test_an_os_package_that_the_matrix_asks_for_and_is_not_there_is_found(verify: Verify, layers: Layers) -> None:
    status = content_of(layers, STATUS).replace(
        b"Package: curl\nStatus: install ok", b"Package: curl\nStatus: deinstall ok"
    )
    assert status != content_of(layers, STATUS)
    bare = layers
    for path in ("usr/bin/curl", f"{INFO}/curl.list", f"{INFO}/curl.md5sums"):
        bare = without(bare, path)
    found = verify(with_content(bare, STATUS, status.replace(b"deinstall ok installed", b"deinstall ok config-files")))
    assert (found.status, found.errors) == (1, [("os-package", "curl")])
    assert found.said("os-package") == ("nothing", "any version")


def test_an_os_package_more_than_the_matrix_asks_for_may_be_of_a_base_from_a_registry(
    verify: Verify, layers: Layers
) -> None:
    status, members = os_package("tzdata", {"usr/share/zoneinfo/UTC": b"TZif"})
    made = with_content(layers, STATUS, content_of(layers, STATUS) + f"\n{status}".encode())
    found = verify({**made, "system": [*made["system"], *members]})
    assert (found.status, found.errors) == (0, [])
