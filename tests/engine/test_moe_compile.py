"""Every tuned config for a GB10 compiles for compute capability 12.1, with each row's Triton, and fits into the chip.

The kernel and its launcher are those of the real releases, out of their source distributions; Triton is the real one,
for this machine. It takes four to eight minutes, and a gigabyte in the user's cache.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT, real_matrix
from tests.moebuilder import BLOCKS, make_entry

from sparkbake.matrix import rows
from sparkbake.moe import Shape, is_for_gb10, parse_name
from sparkbake.moecompile import compile_config, kernel_sources, prepare
from sparkbake.moeresources import Compiled, findings_of, reason, worst
from sparkbake.project import cache_folder
from sparkbake.sources import fetch_sdist, read_members

pytestmark = pytest.mark.network

CONFIGS = "vllm/model_executor/layers/fused_moe/configs/"
# Of each Triton the oldest and the newest release would do: all five rows that are installed from wheels were tried. Of
# those that are compiled 0.13 has another launcher than those after it, and 0.14.1 is what patches are for.
VLLMS = ("0.13.0", "0.14.1", "0.20.2", "0.22.1", "0.32.0")
# vLLM to the Triton of its row.
TRITONS = {one.release.vllm: dict(one.foundation.versions)["triton"] for one in rows(real_matrix())}
TRITONS = {vllm: TRITONS[vllm] for vllm in VLLMS}
OURS = sorted((ROOT / "moe_configs").glob("*.json"))
BF16 = Shape(experts=256, intermediate=512, dtype=None, block_shape=None)


@pytest.fixture(scope="module")
def benches() -> Iterator[Mapping[str, Mapping[str, Path]]]:
    """Release to what `compile_config` takes."""
    cache = cache_folder()
    with ExitStack() as stack:
        yield {
            vllm: {
                "python": prepare(triton, ROOT, cache),
                "sources": stack.enter_context(kernel_sources(vllm, cache)),
                "root": ROOT,
            }
            for vllm, triton in TRITONS.items()
        }


def compiled(bench: Mapping[str, Path], name: str, text: bytes) -> tuple[Compiled, ...]:
    named = parse_name(name)
    assert named
    return compile_config(named[0], text, **bench)


def shipped(vllm: str) -> dict[str, str]:
    """The GB10 configs of a release, by name."""
    sdist = fetch_sdist("vllm", vllm, cache_folder())
    found = read_members(sdist, lambda path: path.startswith(CONFIGS) and is_for_gb10(path))
    return {path.removeprefix(CONFIGS): text for path, text in found.items()}


def most(done: tuple[Compiled, ...], name: str) -> int:
    return max(int(getattr(worst(one), name)) for one in done)


def try_entries(bench: Mapping[str, Path], shape: Shape, *entries: dict[str, Any]) -> tuple[Compiled, ...]:
    return compile_config(shape, json.dumps({str(2**n): one for n, one in enumerate(entries)}).encode(), **bench)


@pytest.mark.parametrize("vllm", TRITONS)
@pytest.mark.parametrize("path", OURS, ids=[one.stem for one in OURS])
def test_our_configs_fit_with_every_release(benches: Mapping[str, Mapping[str, Path]], vllm: str, path: Path) -> None:
    done = compiled(benches[vllm], path.name, path.read_bytes())
    assert findings_of(path.name, done) == []
    assert {one.triton for one in done} == {TRITONS[vllm]}
    assert {one.ptxas for one in done} == {"13.0"}
    assert (most(done, "shared_bytes"), most(done, "spill_bytes")) == (81_920, 0)


@pytest.mark.parametrize("vllm", ["0.32.0"])
def test_the_configs_that_vllm_ships_fit(benches: Mapping[str, Mapping[str, Path]], vllm: str) -> None:
    files = shipped(vllm)
    assert sorted(files) == [BLOCKS, BLOCKS.replace("E=256", "E=512")]
    for name, text in files.items():
        done = compiled(benches[vllm], name, text.encode())
        assert findings_of(name, done) == []
        assert most(done, "shared_bytes") == 74_240


@pytest.mark.parametrize("vllm", ["0.13.0", "0.14.1", "0.22.1", "0.25.1"])
def test_a_release_before_0_28_ships_none(vllm: str) -> None:
    assert shipped(vllm) == {}


@pytest.mark.parametrize("vllm", ["0.14.1", "0.20.2", "0.32.0"])
def test_what_does_not_fit_or_compile_is_found(benches: Mapping[str, Mapping[str, Path]], vllm: str) -> None:
    """147,456 bytes is what users of SGLang met on a GB10: https://github.com/sgl-project/sglang/issues/28019."""
    large = make_entry(BLOCK_SIZE_M=128, BLOCK_SIZE_N=256, BLOCK_SIZE_K=64, num_warps=8, num_stages=4)
    odd = make_entry(BLOCK_SIZE_M=24)
    done = try_entries(benches[vllm], BF16, large, odd, make_entry())
    assert [(one.id, one.found.partition(" (")[0]) for one in findings_of("x.json", done)] == [
        ("moe-shared-memory", "147456 bytes of shared memory for batch 1"),
        ("moe-compile", "CompilationError: arange's range must be a power of 2"),
    ]
    assert reason(done[1].launches[0].error).startswith("CompilationError: arange's")


@pytest.mark.parametrize("vllm", ["0.20.2", "0.32.0"])
def test_shared_memory_is_both_tiles_for_each_stage_but_one(
    benches: Mapping[str, Mapping[str, Path]], vllm: str
) -> None:
    tiles = 16 * 128 * 2 + 128 * 64 * 2
    done = try_entries(benches[vllm], BF16, *(make_entry(num_stages=stages) for stages in (1, 2, 3)))
    assert [most((one,), "shared_bytes") for one in done] == [tiles, tiles, 2 * tiles]
