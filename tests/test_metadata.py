"""Claims about what a wheel says of itself."""

import pytest

from sparkbake.metadata import commit_of, required

# Of torch 2.13.0 and 2.10.0 for aarch64, and of vLLM 0.33.0.
TORCH = """\
Metadata-Version: 2.4
Name: torch
Requires-Dist: cuda-toolkit[cublas,cudart]==13.0.3; platform_system == "Linux"
Requires-Dist: nvidia-nccl-cu13==2.29.7; platform_system == "Linux"
Requires-Dist: triton==3.7.1; platform_system == "Linux" and python_version < "3.15"
"""
TORCH_WITHOUT_CUDA = """\
Requires-Dist: nvidia-nccl-cu12==2.27.5; platform_system == "Linux" and platform_machine == "x86_64"
Requires-Dist: triton==3.6.0; platform_system == "Linux" and platform_machine == "x86_64"
"""


def shown(metadata: str) -> dict[str, str]:
    return {name: str(specifier) for name, specifier in required(metadata).items()}


def test_requirements_are_those_of_a_spark() -> None:
    assert shown(TORCH) == {"cuda-toolkit": "==13.0.3", "nvidia-nccl-cu13": "==2.29.7", "triton": "==3.7.1"}
    assert shown(TORCH_WITHOUT_CUDA) == {}


def test_extras_do_not_count_and_names_are_normalised() -> None:
    lines = 'Requires-Dist: Flash_Infer==1\nRequires-Dist: zentorch==2.14.0.1; extra == "zen"\n\nRequires-Dist: text'
    assert shown(lines) == {"flash-infer": "==1"}


def test_two_lines_about_one_package_hold_both() -> None:
    lines = 'Requires-Dist: numpy>=1.26\nRequires-Dist: numpy<3; sys_platform == "linux"\n'
    assert shown(lines) == {"numpy": "<3,>=1.26"}


@pytest.mark.parametrize(
    ("text", "commit"),
    [
        ("__commit_id__ = commit_id = 'g4ba787ec9'\n", "4ba787ec9"),
        (f"commit_id = '{40 * 'a'}'", 40 * "a"),
        ("commit_id: str | None\ncommit_id = None", None),
    ],
)
def test_the_commit_is_what_the_version_file_names(text: str, commit: str | None) -> None:
    assert commit_of(text) == commit
