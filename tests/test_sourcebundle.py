"""Claims about what the bundle of a compiled row is to have."""

from dataclasses import replace

import pytest
import yaml
from tests.builders import ROOT
from tests.engine.rustpart import checksum, rust_vllm

from sparkbake.errors import BundleError
from sparkbake.project import open_project
from sparkbake.sourcebundle import (
    Crate,
    CrateSource,
    base_images,
    index_path,
    inputs_digest,
    os_packages,
    parse_cargo_lock,
    source_mirrors_yaml,
    sources_of_plan,
    wheels_of_plan,
)

PROJECT = open_project(ROOT)
PLAN = PROJECT.source_plan(PROJECT.select(["0.22.1-t5"]))


def test_every_wheel_of_every_build_is_in_it_once() -> None:
    found = wheels_of_plan(PLAN)
    assert len({one.file for one in found}) == len(found)
    for target in PLAN.targets:
        for _component, some in target.build_requirements:
            assert set(some) <= set(found)
        assert set(target.installer) <= set(found)


def test_what_rust_needs_is_asked_for_where_there_is_a_part_in_rust() -> None:
    assert "cargo-1.91" in os_packages(PLAN)["rust"]
    assert os_packages(PROJECT.source_plan(PROJECT.select(["0.14.1-t4"])))["rust"] == []


def test_it_is_another_one_when_anything_is_that_it_has() -> None:
    *others, row = PLAN.targets
    first = row.sources[0]
    changed = [
        replace(row, apt_snapshot="20200101T000000Z"),
        replace(row, build_os_packages=("x",)),
        replace(row, sources=(replace(first, commit=40 * "1"), *row.sources[1:])),
        replace(row, build_requirements=()),
    ]
    digests = {inputs_digest(replace(PLAN, targets=(*others, one))) for one in (row, *changed)}
    assert len(digests) == len(changed) + 1
    assert inputs_digest(replace(PLAN, targets=(*others, replace(row, patches=())))) in digests, "a checkout has those"


def test_sources_are_there_once_though_two_images_are_made_of_them() -> None:
    found = sources_of_plan(PLAN)
    assert len({one.name for one in found}) == len(found)


def test_its_mirrors_file_names_the_images_as_the_lock_does() -> None:
    body = yaml.safe_load(source_mirrors_yaml("0.22.1-t5", base_images(PLAN)))
    assert body["bundle"] == "."
    devel, runtime = base_images(PLAN)
    assert body["images"] == {
        devel.reference: f"oci-layout:images@{devel.manifest}",
        runtime.reference: f"oci-layout:images@{runtime.manifest}",
    }


# ---- crates


def test_a_cargo_lock_names_crates_by_hash_and_repositories_by_commit() -> None:
    text = rust_vllm(40 * "1", checksum())["rust/Cargo.lock"]
    crates, sources = parse_cargo_lock(text, "Cargo.lock")
    assert crates == (Crate(name="counting", version="1.0.0", sha256=checksum()),)
    address = "https://git.example/llm-multimodal"
    assert sources == (CrateSource(repository=address, commit=40 * "1", branch=None, tag=None),)


def test_a_branch_and_a_tag_that_were_asked_for_are_known() -> None:
    lines = [
        f'[[package]]\nname = "{name}"\nversion = "1"\nsource = "git+https://git.example/{name}?{query}#{40 * "1"}"\n'
        for name, query in (("a", "branch=feature%2Fx"), ("b", "tag=v1"), ("c", ""))
    ]
    found = parse_cargo_lock("".join(lines), "Cargo.lock")[1]
    assert [(one.branch, one.tag) for one in found] == [("feature/x", None), (None, "v1"), (None, None)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("]", "is not a Cargo.lock as it is read here: TOMLDecodeError"),
        ("version = 4", r"is not a Cargo.lock as it is read here: KeyError\('package'\)"),
        ('[[package]]\nname = "a"\nsource = "registry+x"', "is not a Cargo.lock as it is read here: KeyError"),
        (
            '[[package]]\nname = "a"\nsource = "sparse+https://x/"',
            "a is from 'sparse.https://x/', expected an index or",
        ),
    ],
)
def test_another_file_is_refused(text: str, fault: str) -> None:
    with pytest.raises(BundleError, match=f"^Cargo.lock: {fault}"):
        parse_cargo_lock(text, "Cargo.lock")


def test_a_sparse_index_has_crates_by_the_beginning_of_their_names() -> None:
    assert [index_path(one) for one in ("a", "cc", "Log", "serde_json")] == [
        "1/a",
        "2/cc",
        "3/l/log",
        "se/rd/serde_json",
    ]
