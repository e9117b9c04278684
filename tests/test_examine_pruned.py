"""Claims about images whose libraries lack the cubins of other chips: a right one, and what is found in wrong ones."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cudabuilder import KINDS, make_container, make_elf, make_entry, make_program
from tests.imagebuilder import (
    Package,
    changed,
    content_of,
    make_checkout,
    make_layers,
    make_packages,
    target_of,
    with_content,
    with_member,
)
from tests.ocibuilder import SITE, make_file
from tests.verified import Verify

from sparkbake.errors import ImageError
from sparkbake.project import Project

MIXED = "torch/lib/libmixed.so"
NOTE = f"{SITE}/torch-2.11.0.dist-info/PRUNED.json"
MIXED_CONTAINER = make_container(make_entry("sass", 90, "a"), make_entry("sass", 120))
WHOLE = make_program(MIXED_CONTAINER)
TRIM = """nothing links to them
  - package: torch
    paths: [torch/lib/libmixed.so]
    cubins: true
    saves_bytes: "8"
    imports: [torch]
    reason: cubins of other chips"""


@pytest.fixture
def pruning(tmp_path: Path) -> Project:
    """A checkout whose images prune a library of torch."""
    return make_checkout(tmp_path / "pruning", ("nothing links to them", TRIM))


def packages(*, pruned: bool, content: bytes = WHOLE) -> Mapping[str, Package]:
    torch = changed("torch", {MIXED: content})["torch"]
    return {**make_packages(), "torch": replace(torch, pruned=(MIXED,) if pruned else ())}


def test_a_library_that_lacks_the_cubins_of_other_chips_is_as_planned(verify: Verify, pruning: Project) -> None:
    found = verify(make_layers(pruning, packages(pruned=True)), of=pruning)
    assert (found.status, found.report["findings"]) == (0, [])


def test_a_library_that_has_them_although_the_plan_prunes_it_is_found(verify: Verify, pruning: Project) -> None:
    found = verify(make_layers(pruning, packages(pruned=False)), of=pruning)
    assert (found.status, found.errors) == (1, [("pruned", f"{SITE}/{MIXED}"), ("trim", "torch")])
    assert found.said("pruned") == ("1 of sm_90a, which the chip cannot load", "overwritten with zeros")
    assert found.said("trim") == ("whole", "cubins of other chips are overwritten")


def test_a_library_that_lacks_them_although_the_plan_keeps_all_is_found(verify: Verify, project: Project) -> None:
    found = verify(make_layers(project, packages(pruned=True)))
    assert (found.status, found.errors) == (1, [("pruned", f"{SITE}/{MIXED}"), ("trim", "torch")])
    assert found.said("pruned") == ("1 of sm_90a overwritten with zeros", "as the wheel has them")
    assert found.said("trim") == ("cubins of other chips are overwritten", "whole")


def test_an_image_of_a_build_that_keeps_everything_is_clean(verify: Verify, pruning: Project) -> None:
    whole = {name: replace(one, trimmed=None) for name, one in packages(pruned=False).items()}
    found = verify(
        make_layers(pruning, whole, trim=False), of=pruning, labels=dict(target_of(pruning, trim=False).labels)
    )
    assert (found.status, found.report["findings"]) == (0, [])


@pytest.mark.parametrize("lost", [make_entry("sass", 120, payload=bytes(8)), make_entry("ptx", 120, payload=bytes(8))])
def test_code_of_this_chip_that_is_overwritten_is_found(verify: Verify, pruning: Project, lost: bytes) -> None:
    """By itself, and by the number of bytes that are noted."""
    content = make_program(make_container(make_entry("sass", 90, "a"), lost, make_entry("sass", 121)))
    found = verify(make_layers(pruning, packages(pruned=True, content=content)), of=pruning)
    assert (found.status, found.errors) == (1, [("pruned", f"{SITE}/{MIXED}")] * 2)
    said = {(one["found"], one["expected"]) for one in found.report["findings"]}
    kind = "sm_120" if lost[0] == KINDS["sass"] else "compute_120"
    assert said == {
        (f"1 of {kind} overwritten with zeros", "as the wheel has them"),
        ("16 bytes overwritten", "8 bytes of it, by PRUNED.json"),
    }


def test_code_in_other_sections_is_not_looked_for(verify: Verify, pruning: Project) -> None:
    """Nothing there is pruned."""
    content = make_elf({".nv_fatbin": MIXED_CONTAINER, ".data": make_container(make_entry("sass", 80))})
    found = verify(make_layers(pruning, packages(pruned=True, content=content)), of=pruning)
    assert (found.status, found.report["findings"]) == (0, [])


@pytest.mark.parametrize("content", [b"hello", make_elf(), make_program(make_container(make_entry("sass", 120)))])
def test_a_file_in_the_place_of_a_pruned_library_is_found_though_all_records_agree(
    verify: Verify, pruning: Project, content: bytes
) -> None:
    layers = make_layers(pruning, packages(pruned=True))
    said = {MIXED: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": 8}}
    layers = with_content(with_content(layers, f"{SITE}/{MIXED}", content), NOTE, json.dumps(said).encode())
    found = verify(layers, of=pruning)
    assert ("pruned", f"{SITE}/{MIXED}") in found.errors
    assert found.said("pruned") == ("0 bytes overwritten", "8 bytes of it, by PRUNED.json")


def test_a_library_all_of_whose_code_is_overwritten_is_for_no_chip(verify: Verify, project: Project) -> None:
    emptied = make_program(make_container(make_entry("sass", 120, payload=bytes(8))))
    found = verify(make_layers(project, changed("torch", {MIXED: emptied})))
    path = f"{SITE}/{MIXED}"
    assert (found.status, found.errors) == (1, [("device-code", path), ("pruned", path)])


@pytest.mark.parametrize("at", [8, len(WHOLE) - 1])
def test_a_pruned_library_that_changed_is_found(verify: Verify, pruning: Project, at: int) -> None:
    layers = make_layers(pruning, packages(pruned=True))
    content = bytearray(content_of(layers, f"{SITE}/{MIXED}"))
    content[at] ^= 1
    found = verify(with_content(layers, f"{SITE}/{MIXED}", bytes(content)), of=pruning)
    assert (found.status, ("file-changed", f"{SITE}/{MIXED}") in found.errors) == (1, True)


def test_the_library_of_the_wheel_in_place_of_the_pruned_one_is_found(verify: Verify, pruning: Project) -> None:
    layers = make_layers(pruning, packages(pruned=True))
    found = verify(with_content(layers, f"{SITE}/{MIXED}", WHOLE), of=pruning)
    path = f"{SITE}/{MIXED}"
    assert (found.status, found.errors) == (1, [("file-changed", path), ("pruned", path), ("pruned", path)])


def test_a_note_that_names_another_file_is_found(verify: Verify, pruning: Project) -> None:
    """Whoever vouches for a changed file by such a note is found, too."""
    layers = make_layers(pruning, packages(pruned=True))
    note = json.loads(content_of(layers, NOTE))
    told = {**note, "torch/version.py": note[MIXED]}
    found = verify(with_content(layers, NOTE, json.dumps(told).encode()), of=pruning)
    assert found.status == 1
    assert {("trim", f"{SITE}/torch/version.py"), ("file-changed", f"{SITE}/torch/version.py")} <= set(found.errors)
    assert found.said("trim") == ("pruned", "not pruned, as no trim names it")


def test_a_note_that_lacks_a_file_is_found(verify: Verify, pruning: Project) -> None:
    layers = make_layers(pruning, packages(pruned=True))
    found = verify(with_content(layers, NOTE, b"{}"), of=pruning)
    assert {("trim", f"{SITE}/{MIXED}"), ("file-changed", f"{SITE}/{MIXED}")} <= set(found.errors)
    assert found.said("trim") == ("not pruned", "pruned")


@pytest.mark.parametrize(
    "said",
    [
        *(b'{"a.so": %s}' % one for one in (b"8", b"{}", b'{"sha256": "12", "bytes": 8}')),
        *(
            b'{"a.so": {"sha256": "%s", "bytes": %s}}' % (64 * b"0", one)
            for one in (b"0", b"-8", b"true", b'"8"', b"1.5")
        ),
        b"[]",
        b"{",
    ],
)
def test_a_note_that_is_damaged_is_an_error(verify: Verify, pruning: Project, said: bytes) -> None:
    layers = make_layers(pruning, packages(pruned=True))
    with pytest.raises(ImageError, match=r"PRUNED\.json: "):
        verify(with_content(layers, NOTE, said), of=pruning)


def test_a_note_of_a_package_that_has_nothing_to_prune_is_found(verify: Verify, project: Project) -> None:
    found = verify(with_member(make_layers(project), make_file(f"{SITE}/ray-1.0.dist-info/PRUNED.json", b"{}\n")))
    assert ("trim", "ray") in found.errors


@pytest.mark.parametrize("info", ["torch-2.11.1.dist-info", "x/site-packages/torch-2.11.0.dist-info"])
@pytest.mark.parametrize("name", ["PRUNED.json", "TRIMMED.json"])
def test_a_second_note_that_would_hide_the_first_is_found(
    verify: Verify, pruning: Project, info: str, name: str
) -> None:
    path = f"{SITE}/{info}/{name}"
    found = verify(with_member(make_layers(pruning, packages(pruned=True)), make_file(path, b"{}\n")), of=pruning)
    assert ("trim", path) in found.errors
