"""Claims about what an image says of itself: labels, config, manifest, packages, and what it lacks."""

import hashlib
import json
from typing import Any

import pytest
from tests.builders import ROOT
from tests.imagebuilder import (
    ENV,
    MANIFEST,
    STATUS,
    Layers,
    Package,
    changed,
    content_of,
    make_layers,
    make_packages,
    manifest_of,
    os_package,
    target_of,
    with_content,
    with_member,
    without,
)
from tests.ocibuilder import SITE, make_file, make_link
from tests.runtimebuilder import LIBRARY, START
from tests.verified import ANEW, PREFIX, Verify

from sparkbake.project import Project
from sparkbake.words import settings

STATIC = "torch/lib/libstatic.a"
SERVE = f"{LIBRARY}/spark/serve.py"


# ---- labels


def test_a_label_that_lies_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(layers, labels={f"{PREFIX}.torch_version": "2.12.0"})
    assert (found.status, found.errors) == (1, [("label", f"{PREFIX}.torch_version")])
    assert found.said("label") == ("2.12.0", "2.11.0")
    assert found.report["findings"][0]["remedy"] == ANEW


def test_a_label_that_is_not_there_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(layers, labels={f"{PREFIX}.lock_digest": None})
    assert (found.status, found.errors) == (1, [("label", f"{PREFIX}.lock_digest")])
    assert found.said("label")[0] == "nothing"


def test_a_further_label_of_ours_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(layers, labels={f"{PREFIX}.blessed": "yes"})
    assert (found.status, found.errors) == (1, [("label", f"{PREFIX}.blessed")])
    assert found.said("label") == ("yes", "nothing")


@pytest.mark.parametrize("key", ["maintainer", f"{PREFIX}s.blessed", PREFIX])
def test_a_base_may_have_labels_of_its_own(verify: Verify, layers: Layers, key: str) -> None:
    found = verify(layers, labels={key: "ubuntu"})
    assert (found.status, found.errors) == (0, [])


# ---- config


def test_another_architecture_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(layers, architecture="amd64")
    assert found.status == 1
    assert found.said("architecture") == ("amd64", "arm64")
    assert ("program", "all") in found.errors


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("Env", [*ENV, "LD_PRELOAD=/usr/lib/evil.so"], "evil.so"),
        ("Env", [*ENV, "PATH=/tmp"], '"PATH=/tmp"'),
        ("Env", [one for one in ENV if not one.startswith("MAX_JOBS=")], '"LANG=C.UTF-8"'),
        ("Env", None, "nothing"),
        ("Entrypoint", ["/opt/venv/bin/ray"], '["/opt/venv/bin/ray"]'),
        ("User", "nobody", '"nobody"'),
        ("WorkingDir", "/tmp", '"/tmp"'),
        ("WorkingDir", None, "nothing"),
        ("Cmd", ["/bin/sh", "-c", "/tmp/x"], '["/bin/sh", "-c", "/tmp/x"]'),
        ("Cmd", None, "nothing"),
    ],
)
def test_another_setting_than_the_recipe_s_is_found(
    verify: Verify, layers: Layers, key: str, value: object, shown: str
) -> None:
    found = verify(layers, config={key: value})
    assert (found.status, ("config", key) in found.errors) == (1, True)
    assert {subject for kind, subject in found.errors if kind == "config"} == {key}
    assert shown in found.said("config")[0]
    assert found.report["findings"][0]["remedy"] == ANEW


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Healthcheck", {"Test": ["CMD", "/tmp/x"]}),
        ("OnBuild", ["RUN /tmp/x"]),
        ("Volumes", {"/opt/venv": {}}),
        ("StopSignal", "SIGKILL"),
    ],
)
def test_a_setting_that_the_recipe_does_not_make_is_found(
    verify: Verify, layers: Layers, key: str, value: object
) -> None:
    """https://github.com/moby/docker-image-spec: engines heed these, too."""
    found = verify(layers, config={key: value})
    assert (found.status, found.errors) == (1, [("config", key)])


@pytest.mark.parametrize(
    "config", [{"Env": list(reversed(ENV))}, {"Volumes": None, "User": ""}, {"Volumes": {}}, {"OnBuild": None}]
)
def test_the_order_of_variables_and_how_nothing_is_written_do_not_matter(
    verify: Verify, layers: Layers, config: dict[str, Any]
) -> None:
    assert verify(layers, config=config).errors == []


def test_an_expected_setting_is_shown(verify: Verify, layers: Layers) -> None:
    assert verify(layers, config={"Cmd": ["/bin/sh"]}).said("config") == ('["/bin/sh"]', '["/bin/bash"]')
    assert verify(layers, config={"User": "1000"}).said("config") == ('"1000"', "nothing")


def test_the_settings_of_a_rendered_recipe_are_read() -> None:
    text = (ROOT / "tests/golden/0.32.0-t5/Dockerfile").read_text(encoding="utf-8")
    assert settings(text) == {
        "Env": sorted(ENV),
        "Cmd": ["/bin/bash"],
        "Entrypoint": ["/usr/local/bin/spark"],
        "Healthcheck": {
            "Test": ["CMD", "/usr/local/bin/spark", "health"],
            "Interval": 30_000_000_000,
            "Timeout": 10_000_000_000,
            "StartPeriod": 1_800_000_000_000,
            "Retries": 3,
        },
        "Shell": ["/bin/bash", "-euo", "pipefail", "-c"],
        "User": None,
        "WorkingDir": "/workspace",
    }


def test_of_a_recipe_the_last_stage_counts_and_of_a_setting_the_last() -> None:
    text = (
        'FROM a AS b\nSHELL ["/bin/sh"]\nENV A=1\nUSER 1\nCMD ["a"]\nFROM b\n'
        'ENTRYPOINT ["x", "y z"]\nENV B="1 2" \\\n    C=\'3\'\nUSER 2\nUSER 3\nWORKDIR /w\n'
    )
    assert settings(text) == {
        "Env": ["B=1 2", "C=3"],
        "Cmd": None,
        "Entrypoint": ["x", "y z"],
        "Shell": ["/bin/sh"],
        "User": "3",
        "WorkingDir": "/w",
    }


# ---- the manifest


def test_a_manifest_that_is_not_there_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(without(layers, MANIFEST))
    assert (found.status, found.errors) == (1, [("file-missing", MANIFEST), ("manifest", MANIFEST)])
    assert found.said("manifest")[0] == "no such file"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no JSON object"),
        (
            b"{}",
            "other values of labels, layers, moe_configs, patches, plan_digest, platform, reference, schema, trims",
        ),
    ],
)
def test_a_damaged_manifest_is_found(verify: Verify, layers: Layers, text: bytes, what: str) -> None:
    found = verify(with_content(layers, MANIFEST, text))
    assert (found.status, found.errors) == (1, [("manifest", MANIFEST)])
    assert found.said("manifest") == (what, "what this checkout would build the image from")


def test_a_manifest_of_another_plan_is_found(verify: Verify, layers: Layers, project: Project) -> None:
    other = manifest_of(project, target_of(project, trim=False))
    found = verify(with_content(layers, MANIFEST, other))
    assert found.errors == [("manifest", MANIFEST)]
    assert found.said("manifest")[0] == "other values of labels, plan_digest, trims"


def test_a_manifest_that_lies_as_the_label_does_is_found(verify: Verify, layers: Layers) -> None:
    lie = content_of(layers, MANIFEST).replace(b'torch_version": "2.11.0"', b'torch_version": "2.12.0"')
    found = verify(with_content(layers, MANIFEST, lie), labels={f"{PREFIX}.torch_version": "2.12.0"})
    assert found.errors == [("label", f"{PREFIX}.torch_version"), ("manifest", MANIFEST)]
    assert found.said("manifest")[0] == "other values of labels"


def test_a_manifest_with_other_white_space_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(with_content(layers, MANIFEST, content_of(layers, MANIFEST).replace(b"\n", b"\r\n")))
    assert found.said("manifest")[0] == "other white space"


# ---- what images do by themselves


def test_an_own_file_with_other_content_is_found(verify: Verify, layers: Layers) -> None:
    was = content_of(layers, START)
    found = verify(with_content(layers, START, was + b"# more\n"))
    assert (found.status, ("runtime", START) in found.errors) == (1, True)
    shown, expected = found.said("runtime")
    assert shown == f"{hashlib.sha256(was + b'# more' + bytes([10])).hexdigest()}, mode 755"
    assert expected == f"{hashlib.sha256(was).hexdigest()}, mode 755"


def test_an_own_file_that_is_not_there_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(without(layers, SERVE))
    assert (found.status, ("runtime", SERVE) in found.errors) == (1, True)
    assert found.said("runtime")[0] == "no such file"


def test_an_own_file_that_a_link_took_the_place_of_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(with_member(layers, make_link(SERVE, "/workspace/serve.py")))
    assert (found.status, ("runtime", SERVE) in found.errors) == (1, True)
    assert found.said("runtime")[0] == "no file, but a link"


def test_an_entrypoint_that_cannot_be_executed_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(with_member(layers, make_file(START, content_of(layers, START), mode=0o644)))
    assert (found.status, found.errors) == (1, [("runtime", START)])
    assert found.said("runtime")[0].endswith(", mode 644")


# ---- packages


def test_a_package_that_is_not_there_is_found(verify: Verify, project: Project) -> None:
    packages = make_packages()
    del packages["ray"]
    found = verify(make_layers(project, packages))
    assert (found.status, found.errors) == (1, [("package", "ray")])
    assert found.said("package") == ("nothing", "1.0")


def test_a_package_that_nobody_asked_for_is_found(verify: Verify, project: Project) -> None:
    more = Package(version="3.0", files={"left_pad/__init__.py": b""})
    found = verify(make_layers(project, {**make_packages(), "left_pad": more}))
    assert (found.status, found.errors) == (1, [("package", "left-pad")])
    assert found.said("package") == ("3.0", "nothing")


def test_a_package_of_another_version_is_found(verify: Verify, project: Project) -> None:
    ray = Package(version="1.1", files=make_packages()["ray"].files)
    found = verify(make_layers(project, {**make_packages(), "ray": ray}))
    assert (found.status, found.errors) == (1, [("package", "ray")])
    assert found.said("package") == ("1.1", "1.0")


@pytest.mark.parametrize("version", ["0.9", "1.1"])
def test_a_package_that_is_there_in_two_versions_is_found(verify: Verify, layers: Layers, version: str) -> None:
    record = f"{SITE}/ray-{version}.dist-info/RECORD"
    found = verify(with_member(layers, make_file(record, f"ray-{version}.dist-info/RECORD,,\n".encode())))
    assert (found.status, found.errors) == (1, [("package", "ray")])


def test_a_python_package_of_an_os_package_is_none_of_the_environment(verify: Verify, layers: Layers) -> None:
    record = "usr/lib/python3/dist-packages/six-1.16.0.dist-info/RECORD"
    status, members = os_package("python3-six", {record: b"six-1.16.0.dist-info/RECORD,,\n"})
    made = with_content(layers, STATUS, content_of(layers, STATUS) + f"\n{status}".encode())
    found = verify({**made, "system": [*made["system"], *members]})
    assert (found.status, found.errors) == (0, [])


# ---- trims


def test_a_package_that_is_whole_though_the_plan_trims_it_is_found(verify: Verify, project: Project) -> None:
    packages = make_packages()
    whole = {**packages, "torch": Package(version="2.11.0", files=packages["torch"].files)}
    found = verify(make_layers(project, whole))
    assert (found.status, found.errors) == (1, [("trim", "torch")])


def test_a_package_that_is_trimmed_though_the_plan_keeps_it_is_found(verify: Verify, project: Project) -> None:
    packages = make_packages()
    vllm = Package(version="0.20.2", files=packages["vllm"].files, trimmed=("vllm/__init__.py",))
    found = verify(make_layers(project, {**packages, "vllm": vllm}))
    assert (found.status, found.errors) == (1, [("trim", "vllm")])


def test_a_file_that_is_trimmed_and_that_no_trim_names_is_found(verify: Verify, project: Project) -> None:
    packages = make_packages()
    torch = Package(version="2.11.0", files=packages["torch"].files, trimmed=(STATIC, "torch/__init__.py"))
    found = verify(make_layers(project, {**packages, "torch": torch}))
    path = f"{SITE}/torch/__init__.py"
    assert (found.status, found.errors) == (1, [("trim", path)])
    assert found.said("trim") == ("left out", "there, as no trim names it")


def test_a_file_that_a_trim_names_and_that_stayed_is_found(verify: Verify, project: Project) -> None:
    more = "torch/lib/libmore.a"
    found = verify(make_layers(project, changed("torch", {more: b"!<arch>\n"})))
    assert (found.status, found.errors) == (1, [("trim", f"{SITE}/{more}")])
    assert found.said("trim") == ("there", "left out")


def test_what_is_trimmed_and_in_no_record_is_found(verify: Verify, layers: Layers) -> None:
    note, torch = f"{SITE}/torch-2.11.0.dist-info/TRIMMED.json", f"{SITE}/torch/more.py"
    listed = {**json.loads(content_of(layers, note)), "torch/more.py": 1}
    found = verify(with_content(layers, note, json.dumps(listed).encode()))
    assert found.status == 1
    assert found.said("trim") == ("left out", "there, as no trim names it")
    assert ("trim", torch) in found.errors
