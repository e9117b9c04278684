"""Claims about what is taken from the metadata of wheels."""

from dataclasses import replace

import pytest
from tests.compiledbuilder import T4

from sparkbake.sourcemetadata import on_the_index, requirements_of, triton_faults

METADATA = """\
Metadata-Version: 2.1
Name: vllm
Requires-Dist: torch==2.9.1
Requires-Dist: numpy
Requires-Dist: ray[cgraph]>=2.48.0
Requires-Dist: flashinfer-python==0.6.1
Requires-Dist: transformers<5,>=4.56.0
Requires-Dist: xformers==0.1; platform_system == "Linux" and platform_machine == "x86_64"
Requires-Dist: setuptools<81; python_version > "3.11"
Requires-Dist: pytest; extra == "tests"
Requires-Dist: nvidia-cudnn-cu13==9
Provides-Extra: tests
"""


def test_what_is_compiled_is_left_out_and_markers_are_left_to_the_resolver() -> None:
    assert requirements_of(METADATA, ("torch", "nvidia-*")) == (
        "flashinfer-python==0.6.1",
        "numpy",
        "ray[cgraph]>=2.48.0",
        'setuptools<81; python_version > "3.11"',
        "transformers<5,>=4.56.0",
        'xformers==0.1; platform_system == "Linux" and platform_machine == "x86_64"',
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("triton==3.6.0", "but the wheel of torch says '==3.6.0'; correct it"),
        ("numpy", "but the wheel of torch requires no triton; remove it"),
    ],
)
def test_what_is_said_of_triton_is_held_against_torch(line: str, fault: str) -> None:
    row = replace(T4, release=replace(T4.release, declares=(("triton", "==3.5.1"),)))
    torch = f'Requires-Dist: {line}; platform_machine == "x86_64"\n'
    (told,) = triton_faults(row.release, torch)
    assert told == f"matrix.yaml: releases.0.14.0.declares.triton: got '==3.5.1', {fault}"


def test_what_torch_says_of_triton_too_is_right() -> None:
    release = replace(T4.release, declares=(("triton", "==3.5.1"),))
    assert triton_faults(release, 'Requires-Dist: triton==3.5.1; platform_machine == "x86_64"\n') == []
    assert triton_faults(T4.release, "") == []


def test_a_candidate_is_taken_for_its_release() -> None:
    assert [on_the_index(one) for one in ("0.14.0rc2", "0.14.0", "0.25.0-rc4", "2.10.0")] == [
        "0.14.0", "0.14.0", "0.25.0", "2.10.0",
    ]  # fmt: skip
