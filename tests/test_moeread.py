"""Claims about reading tuned configs of an image: which layers, which folders, and what upper layers hide."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.moebuilder import BLOCKS, FOLDER, PLAIN, make_config, make_vllm
from tests.ocibuilder import MadeLayer, copied, make_file, write_layout

from sparkbake.errors import UsageError
from sparkbake.images import open_image
from sparkbake.moeread import Configs, read_configs
from sparkbake.runtime import MOE_CONFIGS

VLLM = copied("vllm", make_vllm({BLOCKS: make_config(), "E=1,N=2,device_name=Other.json": b"{}"}))
BASE = MadeLayer(members=[make_file("etc/os", b"13")])
TUNED = ["A=b", "VLLM_TUNED_CONFIG_FOLDER=/etc/moe/"]


def read(
    folder: Path, layers: Sequence[MadeLayer], *, env: Sequence[str] = (), told: list[str] | None = None
) -> Configs:
    image = open_image(write_layout(folder, layers, config={"Env": list(env)}), platform="linux/arm64")
    return read_configs(image, "x", ([] if told is None else told).append)


def paths(found: Configs) -> list[str]:
    return [one.path for one in found.files]


def test_the_layer_of_vllm_alone_is_read(tmp_path: Path) -> None:
    told: list[str] = []
    found = read(tmp_path, [BASE, VLLM, copied("difference", [make_file("a", b"")])], told=told)
    assert told == ["reading layer vllm of x (0 MB)"]
    assert (found.image, found.version, found.shipped, found.folder) == ("x", "0.32.0", FOLDER, None)
    assert paths(found) == [f"{FOLDER}/E=1,N=2,device_name=Other.json", f"{FOLDER}/{BLOCKS}"]
    assert found.files[1].sha256 == hashlib.sha256(make_config()).hexdigest()
    assert found.files[1].text == make_config()
    assert found.files[1].layer_name == "vllm"


def test_all_layers_of_an_image_of_another_make_are_read(tmp_path: Path) -> None:
    found = read(tmp_path, [BASE, MadeLayer(members=make_vllm({PLAIN: b"{}"}, "0.30.1+cu130"), step="RUN pip")])
    assert (paths(found), found.version) == ([f"{FOLDER}/{PLAIN}"], "0.30.1+cu130")


def test_a_folder_that_the_image_names_is_read_too_whatever_layer_it_is_in(tmp_path: Path) -> None:
    mine = MadeLayer(members=[make_file(f"etc/moe/{PLAIN}", b"{}"), make_file("etc/moe/below/x.json", b"{}")])
    found = read(tmp_path, [VLLM, mine], env=TUNED)
    assert found.folder == "etc/moe"
    assert paths(found)[0] == f"etc/moe/{PLAIN}"
    assert "etc/moe/below/x.json" not in paths(found)


def test_of_an_image_that_names_our_folder_no_more_than_two_layers_are_read(tmp_path: Path) -> None:
    mine = copied("runtime", [make_file(f"{MOE_CONFIGS}/{PLAIN}", b"{}")])
    told: list[str] = []
    found = read(tmp_path, [BASE, VLLM, mine], env=[f"VLLM_TUNED_CONFIG_FOLDER=/{MOE_CONFIGS}"], told=told)
    assert told == ["reading layer vllm of x (0 MB)", "reading layer runtime of x (0 MB)"]
    assert found.folder == str(MOE_CONFIGS)
    assert f"{MOE_CONFIGS}/{PLAIN}" in paths(found)
    assert f"{FOLDER}/{BLOCKS}" in paths(found)


@pytest.mark.parametrize(
    "whiteout", [f"{FOLDER}/.wh.{BLOCKS}", f"{FOLDER}/.wh..wh..opq", f"{FOLDER.rpartition('/')[0]}/.wh.configs"]
)
def test_what_an_upper_layer_removes_is_gone(tmp_path: Path, whiteout: str) -> None:
    upper = MadeLayer(members=[make_file(f"{FOLDER}/{PLAIN}", b"{}"), make_file(whiteout)], step="RUN rm")
    left = paths(read(tmp_path, [VLLM, upper], env=TUNED))
    assert f"{FOLDER}/{BLOCKS}" not in left
    assert f"{FOLDER}/{PLAIN}" in left


def test_what_an_upper_layer_writes_anew_is_read_there(tmp_path: Path) -> None:
    upper = MadeLayer(members=[make_file(f"{FOLDER}/{BLOCKS}", b"{}")], step="RUN cp")
    assert read(tmp_path, [VLLM, upper], env=TUNED).files[1].text == b"{}"


def test_an_image_without_vllm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x: has no vLLM: no vllm-<version>\.dist-info was found"):
        read(tmp_path, [BASE])
