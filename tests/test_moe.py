"""Claims about tuned configs: the name vLLM looks for, the entry a batch gets, and what is wrong with a file."""

import doctest
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.moebuilder import BLOCKS, FOLDER, PLAIN, make_config, make_entry

from sparkbake import moe
from sparkbake.findings import Finding
from sparkbake.moe import (
    DEFAULT_LADDER,
    DTYPES,
    Shape,
    chosen_rung,
    file_name,
    is_for_gb10,
    is_shipped,
    ladder,
    parse_name,
    read_entries,
    triton_version,
)
from sparkbake.moecheck import GB10_SHARED_BYTES, check_config, shared_bytes


def make_shape(**changes: Any) -> Shape:
    facts: dict[str, Any] = {"experts": 8, "intermediate": 64, "dtype": None, "block_shape": None, **changes}
    return Shape(**facts)


def found(name: str, text: bytes) -> list[tuple[str, str, str]]:
    return [(one.id, one.severity, one.found) for one in check_config(f"{FOLDER}/{name}", text)]


# ---- names


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "E=8,N=64,device_name=NVIDIA_GB10.json"),
        ({"dtype": "int4_w4a16"}, "E=8,N=64,device_name=NVIDIA_GB10,dtype=int4_w4a16.json"),
        ({"block_shape": (64, 128)}, "E=8,N=64,device_name=NVIDIA_GB10,block_shape=[64,128].json"),
    ],
)
def test_the_name_says_shape_device_dtype_and_blocks(changes: dict[str, Any], name: str) -> None:
    assert file_name(make_shape(**changes)) == name


def test_the_example_is_the_name_of_a_file_that_vllm_ships() -> None:
    assert doctest.testmod(moe).failed == 0


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.sampled_from([None, *DTYPES]),
    st.none() | st.tuples(st.integers(0, 999), st.integers(0, 999)),
)
def test_a_name_reads_back(experts: int, size: int, dtype: str | None, blocks: tuple[int, int] | None) -> None:
    shape = Shape(experts=experts, intermediate=size, dtype=dtype, block_shape=blocks)
    assert parse_name(file_name(shape, "NVIDIA_H200")) == (shape, "NVIDIA_H200")


@pytest.mark.parametrize(
    "name",
    [
        "E=8,N=64.json",
        "E=08,N=64,device_name=NVIDIA_GB10.json",
        "E=8,N=64,device_name=NVIDIA GB10.json",
        "E=8,N=64,device_name=NVIDIA_GB10,block_shape=[128, 128].json",
        "E=8,N=64,device_name=NVIDIA_GB10,block_shape=[128,128],dtype=fp8_w8a8.json",
        "E=8,N=64,device_name=NVIDIA_GB10,dtype=int4_w4a16,backend=other.json",
        "E=8,N=64,device_name=NVIDIA_GB10.json.bak",
    ],
)
def test_a_name_that_vllm_never_looks_for_is_none(name: str) -> None:
    assert parse_name(name) is None


def test_whose_config_a_file_is() -> None:
    assert is_for_gb10(BLOCKS)
    assert is_for_gb10(PLAIN)
    assert not is_for_gb10(PLAIN.replace("GB10", "GB100"))
    assert is_shipped(f"{FOLDER}/{PLAIN}")
    assert not is_shipped(f"opt/vllm/model_executor/layers/quantization/utils/configs/{PLAIN}")


# ---- the ladder


def test_a_batch_gets_the_nearest_entry_and_of_two_the_first() -> None:
    assert [chosen_rung(DEFAULT_LADDER, tokens) for tokens in (1, 3, 6, 20, 100, 1000, 9999)] == [
        1, 2, 4, 16, 96, 1024, 4096,
    ]  # fmt: skip
    assert chosen_rung((4, 2), 3) == 4


def test_the_ladder_is_read_in_the_order_of_the_file_without_the_version() -> None:
    assert ladder(make_config([4, 1])) == (4, 1)
    assert triton_version(make_config()) == "3.6"
    assert triton_version(b"{}") is None


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b"[" * 100_000, b'\xef\xbb\xbf{"1": {}}', b'{"x": {}}'])
def test_a_file_that_vllm_cannot_read_has_no_ladder(text: bytes) -> None:
    assert ladder(text) == ()
    assert triton_version(text) is None
    assert found(PLAIN, text)


def test_a_key_that_stands_twice_is_seen() -> None:
    assert read_entries(b'{"1": {"a": 1, "a": 2}, "1": 3}') == ({"1": 3}, ["a", "1"])


# ---- the check


@pytest.mark.parametrize("name", [BLOCKS, PLAIN, PLAIN.replace("GB10", "H200")])
def test_nothing_is_wrong_with_a_whole_config(name: str) -> None:
    assert check_config(f"{FOLDER}/{name}", make_config()) == []


def test_a_finding_names_the_file_the_evidence_and_what_to_do() -> None:
    path = f"{FOLDER}/{PLAIN}"
    assert check_config(path, make_config(num_warps=3)) == [
        Finding(
            id="moe-schema",
            severity="error",
            subject=path,
            found=f"num_warps 3 for batches {', '.join(map(str, DEFAULT_LADDER))}",
            expected="a power of two",
            remedy="tune it anew with vLLM's benchmark_moe.py, or take the file out",
        )
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.json", ("moe-name", "error", "the name x.json")),
        ("E=8,N=64,device_name=NVIDIA_GB10,dtype=bf16.json", ("moe-name", "error", "dtype=bf16")),
        ("E=8,N=0,device_name=NVIDIA_GB10.json", ("moe-name", "error", "a size of 0")),
    ],
)
def test_a_name_that_no_release_looks_for_is_a_finding(name: str, said: tuple[str, str, str]) -> None:
    assert found(name, make_config()) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", ("moe-json", "error", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)")),
        (b"[]", ("moe-json", "error", "a JSON list")),
        (b"[" * 100_000, ("moe-json", "error", "nested too deep")),
    ],
)
def test_a_file_that_is_no_json_object_is_a_finding(text: bytes, said: tuple[str, str, str]) -> None:
    assert found(PLAIN, text) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (make_config([*DEFAULT_LADDER, "x"]), ("moe-ladder", "error", "the key 'x'")),
        (make_config([0, *DEFAULT_LADDER]), ("moe-ladder", "error", "the key '0'")),
        (make_config([*DEFAULT_LADDER, "-1"]), ("moe-ladder", "error", "the key '-1'")),
        (make_config(DEFAULT_LADDER[1:-1]), ("moe-ladder", "error", "no entry for 1, 4096")),
        (make_config(DEFAULT_LADDER[::-1]), ("moe-ladder", "warning", "keys out of order")),
        (make_config()[:-1] + b', "1": {}}', ("moe-ladder", "error", "1 twice")),
    ],
)
def test_a_fault_of_the_ladder_is_a_finding(text: bytes, said: tuple[str, str, str]) -> None:
    assert said in found(PLAIN, text)


def test_more_entries_than_the_default_ones_are_no_fault() -> None:
    assert found(PLAIN, make_config([*DEFAULT_LADDER, 8192])) == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (5, "a JSON int for batch 2"),
        (make_entry(num_stages=None), "no num_stages for batch 2"),
        (make_entry(GROUP_SIZE_M=0), "GROUP_SIZE_M 0 for batch 2"),
        (make_entry(num_stages=True), "num_stages true for batch 2"),
        (make_entry(BLOCK_SIZE_M="16"), 'BLOCK_SIZE_M "16" for batch 2'),
        (make_entry(BLOCK_SIZE_N=96), "BLOCK_SIZE_N 96 for batch 2"),
        (make_entry(num_warps=64), "num_warps 64 for batch 2"),
        (make_entry(waves_per_eu=2), "the key waves_per_eu for batch 2"),
    ],
)
def test_a_fault_of_an_entry_is_a_finding(entry: object, said: str) -> None:
    text = json.dumps({**json.loads(make_config()), "2": entry}).encode()
    assert found(PLAIN, text) == [("moe-schema", "error", said)]


@pytest.mark.parametrize("key", ["SPLIT_K", "num_ctas"])
def test_keys_that_do_no_harm_are_no_fault(key: str) -> None:
    assert found(PLAIN, make_config(**{key: 1})) == []


def test_keys_of_another_triton_are_its_own_affair() -> None:
    assert found(PLAIN.replace("NVIDIA_GB10", "AMD_Instinct_MI300X"), make_config(waves_per_eu=2)) == []


def test_a_k_tile_that_vllm_cuts_is_a_warning() -> None:
    assert [one[:2] for one in found(BLOCKS, make_config(BLOCK_SIZE_K=256))] == [("moe-block", "warning")]
    assert found(BLOCKS, make_config(BLOCK_SIZE_K=64)) == []


def test_a_k_tile_with_two_scales_is_an_error() -> None:
    """A tile of 128 over blocks of 192 would take the scale of its first column for all."""
    name = BLOCKS.replace("[128,128]", "[192,192]")
    assert [one[:2] for one in found(name, make_config())] == [("moe-block", "error")]


def test_a_k_tile_that_is_cut_to_no_power_of_two_is_an_error() -> None:
    name = BLOCKS.replace("[128,128]", "[96,96]")
    assert [one[:2] for one in found(name, make_config())] == [("moe-block", "warning"), ("moe-block", "error")]


# ---- shared memory


@pytest.mark.parametrize(
    ("shape", "tiles"),
    [
        (make_shape(dtype="fp8_w8a8", block_shape=(128, 128)), 16 * 128 + 128 * 64),
        (make_shape(dtype="fp8_w8a8", block_shape=(64, 64)), 16 * 64 + 64 * 64),
        (make_shape(), 16 * 128 * 2 + 128 * 64 * 2),
        (make_shape(dtype="int8_w8a16"), 16 * 128 * 2 + 128 * 64),
        (make_shape(dtype="float32"), 16 * 128 * 4 + 128 * 64 * 4),
    ],
)
def test_shared_memory_is_both_tiles_for_each_stage_but_one(shape: Shape, tiles: int) -> None:
    sizes = [shared_bytes(make_entry(num_stages=stages), shape) for stages in (1, 2, 5)]
    assert sizes == [tiles, tiles, 4 * tiles]


def test_too_much_shared_memory_is_a_warning_on_a_gb10_alone() -> None:
    text = make_config(BLOCK_SIZE_N=256, num_stages=4)
    size = 3 * (16 * 128 * 2 + 128 * 256 * 2)
    assert size > GB10_SHARED_BYTES
    ((id_, severity, said),) = found(PLAIN, text)
    assert (id_, severity) == ("moe-shared-memory", "warning")
    assert said.startswith(f"{size} bytes of shared memory for batches 1, 2, ")
    assert found(PLAIN.replace("GB10", "H200"), text) == []


@given(st.binary(max_size=60))
def test_no_content_ends_the_check(text: bytes) -> None:
    check_config(f"{FOLDER}/{BLOCKS}", text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["1", "2", "BLOCK_SIZE_K", "num_warps", "é"]), inner, max_size=4)
        ),
    )
)
def test_no_json_ends_the_check(value: object) -> None:
    check_config(f"{FOLDER}/{BLOCKS}", json.dumps(value).encode())
