"""Claims about models that an image cannot run: how `serve` knows them, and what it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from spark import limits
from spark.limits import check_model
from spark.say import SparkError

LIMIT = {
    "model": "GLM-4.7-Flash",
    "architectures": ["Glm4MoeLiteForCausalLM"],
    "model_types": ["glm4_moe_lite"],
    "reason": "this release has no such model",
}
NAME = "zai-org/GLM-4.7-Flash"


@pytest.fixture
def needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the image of this test was told."""
    path = tmp_path / "needs.json"
    path.write_text(json.dumps({"limits": [LIMIT]}))
    monkeypatch.setattr(limits, "NEEDS", path)
    return path


def make_config(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def refusal(needs: Path, *command: str, **environment: str) -> str | None:
    try:
        check_model(["vllm", "serve", *command], {"HF_HUB_CACHE": str(needs.parent / "hub"), **environment})
    except SparkError as err:
        return str(err)
    return None


@pytest.mark.parametrize("model", [NAME, "someone/glm-4.7-flash-NVFP4", f"{NAME}/"])
def test_a_model_that_is_not_here_yet_goes_by_its_name(needs: Path, model: str) -> None:
    expected = f"serve: {model}: GLM-4.7-Flash cannot run, since this release has no such model"
    assert refusal(needs, model) == expected


@pytest.mark.parametrize("model", ["zai-org/GLM-4.7", "Qwen/Qwen3-1.7B", "GLM-4.7-Flash/other"])
def test_other_models_pass(needs: Path, model: str) -> None:
    assert refusal(needs, model) is None


@pytest.mark.parametrize("config", [{"model_type": "glm4_moe_lite"}, {"architectures": ["Glm4MoeLiteForCausalLM"]}])
def test_a_folder_goes_by_its_config(needs: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    folder = make_config(tmp_path / "model", **config)
    assert refusal(needs, str(folder)) is not None


def test_a_config_says_more_than_a_name(needs: Path, tmp_path: Path) -> None:
    folder = make_config(tmp_path / "GLM-4.7-Flash-draft", model_type="qwen3", architectures=None)
    assert refusal(needs, str(folder)) is None


def test_a_model_in_the_cache_goes_by_the_snapshot_that_is_asked_for(needs: Path) -> None:
    snapshots = needs.parent / "hub" / "models--someone--mine" / "snapshots"
    make_config(snapshots / "aaa", model_type="glm4_moe_lite")
    make_config(snapshots / "bbb", model_type="qwen3")
    assert refusal(needs, "someone/mine") is not None
    assert refusal(needs, "someone/mine", "--revision", "bbb") is None
    assert refusal(needs, "someone/mine", "--revision", "aaa") is not None


def test_a_model_of_a_config_file_is_looked_at_too(needs: Path, tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(f"model: {NAME}\n")
    assert refusal(needs, "--config", str(file)) is not None


@pytest.mark.parametrize("text", ["not json", "[]"])
def test_a_config_that_cannot_be_read_is_vllms_to_judge(needs: Path, tmp_path: Path, text: str) -> None:
    (make_config(tmp_path / "model") / "config.json").write_text(text)
    assert refusal(needs, str(tmp_path / "model")) is None


def test_an_image_without_limits_refuses_nothing(needs: Path) -> None:
    needs.write_text("{}")
    assert refusal(needs, NAME) is None
