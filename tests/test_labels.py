"""Claims about labels: what they name is what the matrix and the lock say."""

from dataclasses import replace

import pytest
from tests.builders import make_lock, make_matrix, make_row

from sparkbake.labels import image_labels, overrides_label, revision, rfc3339
from sparkbake.lockfile import lock_digest
from sparkbake.model import Override, Trim

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def labels_of(tag: str = "0.20.2-t5", trims: tuple[Trim, ...] = ()) -> dict[str, str]:
    matrix, row = make_matrix(), make_row(tag)
    pairs = image_labels(
        matrix,
        row,
        make_lock(row),
        image=matrix.images[0],
        base_name="debian-13",
        base_digest="sha256:" + 64 * "d",
        trims=trims,
    )
    assert pairs == tuple(sorted(pairs))
    return dict(pairs)


def test_every_component_of_the_matrix_has_its_version_in_a_label() -> None:
    labels = labels_of()
    assert {key: labels[key] for key in labels if key.endswith("_version")} == {
        "dev.example.cuda_version": "13.0.2",
        "dev.example.torch_version": "2.11.0",
        "dev.example.flashinfer_version": "0.6.8.post1",
        "dev.example.transformers_version": "5.8.0",
        "dev.example.vllm_version": "0.20.2",
    }


def test_the_annotations_of_oci_are_those_of_the_image_its_base_and_its_lock() -> None:
    labels = labels_of()
    prefix = "org.opencontainers.image."
    assert {key.removeprefix(prefix): labels[key] for key in labels if key.startswith(prefix)} == {
        "base.digest": "sha256:" + 64 * "d",
        "base.name": "debian-13",
        "created": "2023-11-14T22:13:20Z",
        "description": "vLLM for one chip",
        "licenses": "Apache-2.0",
        "ref.name": "0.20.2-t5",
        "revision": COMMIT,
        "source": "https://example.com/vllm",
        "title": "vLLM",
        "url": "https://example.com/sparks",
        "vendor": "Example",
        "version": "0.20.2-t5",
    }


def test_overrides_stand_in_a_label_sorted_and_none_is_said_too() -> None:
    assert labels_of("0.20.2-t4")["dev.example.overrides"] == "torch"
    assert labels_of("0.20.2-t5")["dev.example.overrides"] == "torch,transformers"
    assert labels_of("0.32.0-t5")["dev.example.overrides"] == "none"
    assert overrides_label([Override(package="torch", reason="a"), Override(package="xgrammar", reason="b")]) == (
        "torch,xgrammar"
    )


def test_the_lock_and_the_architecture_compiled_for_stand_in_labels() -> None:
    labels = labels_of()
    assert labels["dev.example.lock_digest"] == lock_digest(make_lock(make_row("0.20.2-t5")))
    assert labels["dev.example.jit_arch"] == "12.1a"


@pytest.mark.parametrize(
    ("tag_commit", "wheel_commit", "expected"),
    [
        (COMMIT, "0123456", COMMIT),
        (COMMIT, COMMIT, COMMIT),
        (COMMIT, "bc150f502", "bc150f502"),
        (None, "bc150f502", "bc150f502"),
    ],
)
def test_the_revision_is_what_the_wheel_was_built_from(
    tag_commit: str | None, wheel_commit: str, expected: str
) -> None:
    assert revision(tag_commit, wheel_commit) == expected


def test_the_time_of_creation_is_in_utc_wherever_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    assert rfc3339(1_792_874_458) == "2026-10-24T20:40:58Z"


def test_what_is_trimmed_stands_in_a_label_each_package_once_and_none_is_said_too() -> None:
    (trim,) = make_matrix().trims
    other = replace(trim, package="ray")
    assert labels_of(trims=(trim, other, trim))["dev.example.trimmed"] == "ray,torch"
    assert labels_of()["dev.example.trimmed"] == "none"
