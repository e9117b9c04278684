"""Claims about the file for `docker buildx bake`."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.builders import make_frozen, make_plan

from sparkbake import process
from sparkbake.bake import bake_file, escape, python_platform
from sparkbake.model import Plan

STORE = "type=image,unpack=true"


def bake(plan: Plan, bases: dict[str, str] | None = None) -> Any:
    return json.loads(bake_file(plan, {one.name: STORE for one in plan.targets}, bases or {}))


def only_target(plan: Plan, bases: dict[str, str] | None = None) -> Any:
    (body,) = bake(plan, bases)["target"].values()
    return body


def with_label(key: str, value: str) -> Plan:
    (target,) = make_plan().targets
    return Plan(targets=(replace(target, labels=((key, value),)),))


def as_buildx_reads(text: str) -> str:
    """What HCL makes of a string: https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#template-literals."""
    return text.replace("$${", "${").replace("%%{", "%{")


def test_every_target_is_in_the_default_group_in_the_order_of_the_plan() -> None:
    body = bake(make_plan("0.32.0-t5", "0.20.2-t4"))
    assert body["group"] == {"default": {"targets": ["spark-vllm-0_32_0-t5", "spark-vllm-0_20_2-t4"]}}
    assert sorted(body["target"]) == ["spark-vllm-0_20_2-t4", "spark-vllm-0_32_0-t5"]


def test_a_target_has_its_own_context_its_platform_and_its_one_tag() -> None:
    body = only_target(make_plan())
    assert body["context"] == "build/spark-vllm-0_20_2-t4"
    assert body["target"] == "image"
    assert body["platforms"] == ["linux/arm64"]
    assert body["tags"] == ["registry.example:5000/sparks/spark-vllm:0.20.2-t4"]


def test_arguments_hold_the_time_the_snapshot_and_the_platform_of_the_packages() -> None:
    ubuntu = make_frozen("ubuntu-24.04", snapshot="20260916T000000Z")
    assert only_target(make_plan(frozen=ubuntu))["args"] == {
        "SOURCE_DATE_EPOCH": "1700000000",
        "FILE_EPOCH": "499162500",
        "APT_SNAPSHOT": "20260916T000000Z",
        "PYTHON_PLATFORM": "aarch64-manylinux_2_39",
    }


@pytest.mark.parametrize(("compression", "told"), [("zstd", "compression=zstd,"), ("gzip", "compression=gzip,")])
def test_layers_are_packed_as_asked_all_of_them_and_once(compression: str, told: str) -> None:
    plan = make_plan()
    outputs = {one.name: "type=image" for one in plan.targets}
    (target,) = json.loads(bake_file(plan, outputs, {}, compression=compression))["target"].values()
    (output,) = target["output"]
    assert output.startswith("type=image,oci-mediatypes=true,")
    assert told in output
    assert "force-compression=true" in output
    assert "rewrite-timestamp" not in output


def test_a_base_without_a_snapshot_has_an_empty_one() -> None:
    assert only_target(make_plan())["args"]["APT_SNAPSHOT"] == ""


def test_the_platform_of_packages_is_named_as_uv_does() -> None:
    (target,) = make_plan().targets
    assert python_platform(target) == "aarch64-manylinux_2_40"
    assert python_platform(replace(target, platform="linux/amd64")) == "x86_64-manylinux_2_40"


def test_labels_are_all_and_annotations_those_of_oci() -> None:
    plan = make_plan()
    body = only_target(plan)
    assert body["labels"] == dict(plan.targets[0].labels)
    assert "manifest:org.opencontainers.image.title=vLLM" in body["annotations"]
    assert all(one.startswith("manifest:org.opencontainers.image.") for one in body["annotations"])


def test_a_base_from_the_registry_needs_no_context() -> None:
    assert "contexts" not in only_target(make_plan())
    assert "contexts" not in only_target(make_plan(), {"ubuntu-24.04": "docker-image://registry.example/ubuntu"})


def test_a_replaced_base_takes_the_place_of_both_stages() -> None:
    here = "oci-layout:///bases/debian@sha256:" + 64 * "d"
    assert only_target(make_plan(), {"debian-13": here})["contexts"] == {"base": here, "builder-base": here}


def test_secrets_and_attestations_are_not_in_the_file() -> None:
    body = only_target(make_plan())
    assert "secret" not in body
    assert body["attest"] == ["type=provenance,disabled=true", "type=sbom,disabled=true"]


def test_an_output_is_the_given_one_with_its_compression() -> None:
    (output,) = only_target(make_plan())["output"]
    assert output.startswith(f"{STORE},oci-mediatypes=true,compression=zstd,")


def test_the_file_has_sorted_keys_and_ends_with_a_line_end() -> None:
    plan = make_plan("0.20.2-t4", "0.20.2-t5")
    text = bake_file(plan, {one.name: STORE for one in plan.targets}, {})
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("value", ["${HOME}", "%{x}", "$${HOME}", "a ${b} %{c} $5 100% $ {}", 'quote " and \\ slash'])
def test_what_bake_would_expand_survives_in_a_label(value: str) -> None:
    body = only_target(with_label("note", value))
    assert as_buildx_reads(body["labels"]["note"]) == value


def test_what_bake_would_expand_is_escaped() -> None:
    assert only_target(with_label("org.note", "${HOME} %{x}"))["annotations"] == ["manifest:org.note=$${HOME} %%{x}"]


@given(st.text(alphabet="$%{}ab"))
@example("$$${")
@example("%%%{")
def test_any_text_survives_escaping(text: str) -> None:
    assert as_buildx_reads(escape(text)) == text


@given(st.text())
def test_any_label_survives_the_file(value: str) -> None:
    assert as_buildx_reads(only_target(with_label("note", value))["labels"]["note"]) == value


@pytest.mark.engine
@pytest.mark.parametrize(
    "value", ["${HOME}", "%{x}", "$${HOME}", "$$${HOME} %%{x}", "a $5 100% $ {} é", 'a " and \\ b']
)
def test_a_label_is_in_the_image_as_it_was_written(tmp_path: Path, value: str) -> None:
    plan = with_label("note", value)
    name = plan.targets[0].name
    context = tmp_path / "build" / name
    context.mkdir(parents=True)
    (context / "Dockerfile").write_text("FROM scratch AS image\nCOPY Dockerfile /\n", encoding="utf-8")
    text = bake_file(plan, {name: "type=oci,dest=image.tar"}, {})
    (tmp_path / "docker-bake.json").write_text(text, encoding="utf-8")
    process.run(["docker", "buildx", "bake", "--file", "docker-bake.json"], cwd=tmp_path, timeout_s=300)
    assert _labels(tmp_path / "image.tar")["note"] == value


def _labels(image: Path) -> dict[str, str]:
    with tarfile.open(image) as archive:

        def read(path: str) -> Any:
            file = archive.extractfile(path)
            assert file is not None
            return json.loads(file.read())

        def blob(descriptor: Any) -> Any:
            return read("blobs/" + descriptor["digest"].replace(":", "/"))

        manifest = blob(read("index.json")["manifests"][0])
        while "manifests" in manifest:
            manifest = blob(manifest["manifests"][0])
        return dict(blob(manifest["config"])["config"]["Labels"])


def test_the_network_of_steps_is_buildkits_own_unless_another_is_asked_for() -> None:
    plan = make_plan()
    outputs = {plan.targets[0].name: STORE}
    (target,) = json.loads(bake_file(plan, outputs, {}))["target"].values()
    (on_host,) = json.loads(bake_file(plan, outputs, {}, network="host"))["target"].values()
    assert "network" not in target
    assert on_host == {**target, "network": "host"}
