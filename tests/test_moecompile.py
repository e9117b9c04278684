"""Claims about compiling tuned configs; Triton and the kernel are small stand-ins, the processes are real."""

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT, real_matrix, real_plan
from tests.moebuilder import make_config, make_entry

from sparkbake.errors import LockError, ProcessError, UsageError
from sparkbake.matrix import rows as matrix_rows
from sparkbake.moe import GB10_DEVICE, Shape, parse_name
from sparkbake.moecheck import GB10_SHARED_BYTES, check_config
from sparkbake.moecompile import compile_config, kernel_sources, known_tritons, prepare
from sparkbake.moeresources import COLUMNS, Compiled, Launch, Resources, findings_of, parse_answer, reason, rows, worst

TRITON = {
    "triton/__init__.py": """
import types
from triton import language, runtime
__version__ = "9.9.9"
knobs = types.SimpleNamespace(nvidia=types.SimpleNamespace(dump_ptxas_log=False))
jit = runtime.jit.JITFunction
""",
    "triton/language.py": 'bfloat16, float32 = "bf16", "fp32"\n',
    "triton/runtime/__init__.py": """
import types
from triton.runtime import jit
driver = types.SimpleNamespace(set_active=lambda one: setattr(driver, "active", one))
""",
    "triton/runtime/jit.py": """
import os, types, triton

class CompilationError(Exception):
    pass

class JITFunction:
    def __init__(self, function):
        self.function = function

    def __getitem__(self, grid):
        return lambda *some, **named: self.run(*some, grid=grid, warmup=False, **named)

    def run(self, said, *, grid, warmup, BLOCK_SIZE_M, num_warps, num_stages, **named):
        assert warmup, "launched"
        target = triton.runtime.driver.active.get_current_target()
        if BLOCK_SIZE_M == 3:
            os.abort()
        if BLOCK_SIZE_M == 9:
            os.kill(os.getpid(), 9)
        if BLOCK_SIZE_M == 5:
            raise CompilationError(f"at 1:2:\\n  the kernel\\n  ^\\n{said} for {target} with {sorted(named)}")
        print("ptxas info    : Used 40 registers, used 1 barriers")
        if triton.knobs.nvidia.dump_ptxas_log and BLOCK_SIZE_M != 7:
            print("    0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads")
        return types.SimpleNamespace(
            metadata=types.SimpleNamespace(name="k", shared=BLOCK_SIZE_M * num_stages * 1024, num_warps=num_warps)
        )
""",
    "triton/backends/__init__.py": "",
    "triton/backends/compiler.py": "def GPUTarget(*some): return some\n",
    "triton/backends/nvidia/__init__.py": "",
    "triton/backends/nvidia/compiler.py": """
import os, pathlib, types
def get_ptxas(arch):
    names = sorted(one for one in os.environ if one.startswith("TRITON_"))
    path = pathlib.Path(os.environ["TRITON_PTXAS_BLACKWELL_PATH"])
    return types.SimpleNamespace(version=f"{path.parts[-4:]} {names}")
""",
    "nvidia/cu13/bin/ptxas": "",
}
# In the manner of vLLM's: it imports much that is not there, and decides by settings, helpers and the chip.
KERNEL = """
import torch
import torch.nn.functional as F
import vllm.envs as envs
import vllm.model_executor.layers.fused_moe.modular_kernel as mk
from vllm.logger import init_logger
from vllm.model_executor.layers.fused_moe.utils import helps
from vllm.platforms import current_platform
from vllm.triton_utils import tl, triton

logger = init_logger(__name__)

@triton.jit
def kernel():
    pass

@torch.compile
def other(one: torch.Tensor | None, two: list[torch.Tensor]) -> None | torch.Tensor: ...

class Experts(mk.Modular): ...

def invoke_fused_moe_triton_kernel(
    A, B, C, A_scale, B_scale, topk_weights, sorted_token_ids, expert_ids, num_tokens_post_padded, mul_routed_weight,
    top_k, config, compute_type, use_fp8_w8a8, use_int8_w8a8, use_int8_w8a16, use_int4_w4a16, per_channel_quant,
    block_shape=None, B_bias=None,
):
    logger.warning_once("x")
    config = config.copy()
    if config["GROUP_SIZE_M"] == 9 and torch.compiler.is_compiling():
        return
    if config["GROUP_SIZE_M"] == 10 and torch.version.cuda == "13.0":
        return
    if config["GROUP_SIZE_M"] == 11 and "x" in torch.names:
        return
    said = [
        str(A.dtype), A.shape, [B.stride(0), B.stride(1), B.stride(2)], C.size(), str(C.dtype),
        A_scale and A_scale.shape, B_scale and B_scale.shape, sorted_token_ids is None, mul_routed_weight,
        top_k, compute_type, use_fp8_w8a8, per_channel_quant, block_shape, envs.SETTING, helps(),
        current_platform.is_cuda(), current_platform.is_rocm(), current_platform.is_device_capability(90),
        current_platform.has_device_capability((12, 0)), current_platform.is_device_capability_family(120),
    ]
    for _time in range(2 if config["GROUP_SIZE_M"] == 8 else 1):
        kernel[(1,)](said, **config)
"""
SOURCES = {
    "vllm/model_executor/layers/fused_moe/fused_moe.py": KERNEL,
    "vllm/model_executor/layers/fused_moe/utils.py": "import vllm.envs as envs\ndef helps(): return envs.SETTING\n",
    "vllm/envs.py": "import os\nSETTING = os.environ.get('VLLM_SETTING', 'default')\n",
    "vllm/other.py": "x = 1\n",
}
ASKED_BY_0_13 = """from vllm.utils.torch_utils import is_torch_equal_or_newer
TAGS = () if is_torch_equal_or_newer("2.7.0") else (torch.Tag.needs_fixed_stride_order,)
"""
BLOCKS = Shape(experts=8, intermediate=64, dtype="fp8_w8a8", block_shape=(32, 32))
FP8 = Shape(experts=8, intermediate=64, dtype="fp8_w8a8", block_shape=None)
BF16 = Shape(experts=8, intermediate=64, dtype=None, block_shape=None)


def make_wheel(files: dict[str, str], name: str = "triton") -> bytes:
    packed = io.BytesIO()
    info = f"{name}-9.9.9.dist-info"
    said = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9.9\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, *said, f"{info}/RECORD"])
    with zipfile.ZipFile(packed, "w") as wheel:
        for path, text in {**files, **said, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)
    return packed.getvalue()


def make_root(folder: Path, wheel: bytes, *, sha256: str | None = None) -> Path:
    """A project with what compiling takes: the script, and an environment that is pinned without any index."""
    (folder / "tools" / "requirements").mkdir(parents=True)
    (folder / "tools" / "moe").symlink_to(ROOT / "tools" / "moe")
    (folder / "triton-9.9.9-py3-none-any.whl").write_bytes(wheel)
    pin = f"triton==9.9.9 --hash=sha256:{sha256 or hashlib.sha256(wheel).hexdigest()}"
    file = folder / "tools" / "requirements" / "moe-9.9.9.txt"
    file.write_text(f"--no-index\n--find-links {folder}\n{pin}\n", encoding="utf-8")
    return folder


def make_cache(folder: Path, files: dict[str, str]) -> Path:
    """A cache that has the source distribution of vLLM 9.9.9."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"vllm-9.9.9/{path}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    (folder / "sources").mkdir(parents=True)
    (folder / "sources" / "vllm-9.9.9.tar.gz").write_bytes(packed.getvalue())
    note = f"{hashlib.sha256(packed.getvalue()).hexdigest()}  vllm-9.9.9.tar.gz\n"
    (folder / "sources" / "vllm-9.9.9.tar.gz.sha256").write_text(note, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """What `compile_config` takes: the environment, the sources and the project."""
    folder = tmp_path_factory.mktemp("moe")
    root, cache = make_root(folder / "root", make_wheel(TRITON)), make_cache(folder / "cache", SOURCES)
    with kernel_sources("9.9.9", cache) as sources:
        yield {"python": prepare("9.9.9", root, cache), "sources": sources, "root": root}


def make_text(*entries: Any) -> bytes:
    return json.dumps({"triton_version": "3", **{str(2**n): one for n, one in enumerate(entries)}}).encode()


def make_compiled(*launches: Launch, keys: tuple[str, ...] = ("1",)) -> Compiled:
    return Compiled(keys=keys, entry=json.dumps(make_entry()), triton="9", ptxas="9", launches=launches)


def make_launch(error: str = "", **changes: int) -> Launch:
    facts = {"shared_bytes": 1, "registers": 2, "spill_bytes": 0, "threads": 128, **changes}
    return Launch(name="w2", seconds=0.5, resources=None if error else Resources(**facts), error=error)


# ---- the environment


@pytest.mark.usefixtures("real_processes")
def test_an_environment_is_made_once(tmp_path: Path) -> None:
    wheel = make_wheel(TRITON)
    root = make_root(tmp_path / "root", wheel)
    python = prepare("9.9.9", root, tmp_path / "cache")
    assert python.is_file()
    assert known_tritons(root) == ("9.9.9",)
    (root / "triton-9.9.9-py3-none-any.whl").unlink()
    assert prepare("9.9.9", root, tmp_path / "cache") == python
    assert [one.name for one in (tmp_path / "cache" / "moe").iterdir()] == [python.parents[1].name]


@pytest.mark.usefixtures("real_processes")
def test_another_wheel_than_the_pinned_one_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root", make_wheel(TRITON), sha256="0" * 64)
    with pytest.raises(
        LockError, match=r"(?s)^Triton 9\.9\.9: its environment .* from moe-9\.9\.9\.txt:\n.*sha256:0000"
    ):
        prepare("9.9.9", root, tmp_path / "cache")
    assert list((tmp_path / "cache" / "moe").iterdir()) == []


def test_a_triton_that_is_not_pinned_is_named_with_those_that_are(tmp_path: Path) -> None:
    root = make_root(tmp_path, make_wheel(TRITON))
    with pytest.raises(UsageError, match=r"^Triton 1\.2\.3: has no moe-1\.2\.3\.txt .*, only 9\.9\.9; add one with"):
        prepare("1.2.3", root, tmp_path / "cache")


def test_every_row_has_its_triton_and_its_ptxas_pinned() -> None:
    for target in real_plan("debian-13").targets:
        wheels = {one.name: one.version for one in target.environment.wheels}
        text = (ROOT / "tools" / "requirements" / f"moe-{wheels['triton']}.txt").read_text(encoding="utf-8")
        assert f"triton=={wheels['triton']} " in text
        assert f"nvidia-cuda-nvcc=={wheels['nvidia-cuda-nvcc']} " in text


def test_every_compiled_row_has_its_triton_pinned_too() -> None:
    for row in matrix_rows(real_matrix()):
        triton = dict(row.foundation.versions).get("triton")
        assert triton in known_tritons(ROOT), row.tag


# ---- the sources


def test_the_sources_are_the_kernel_and_what_it_asks(tmp_path: Path) -> None:
    with kernel_sources("9.9.9", make_cache(tmp_path, SOURCES)) as folder:
        found = {str(one.relative_to(folder)) for one in folder.rglob("*.py")}
        assert found == set(SOURCES) - {"vllm/other.py"}
    assert not folder.exists()


def test_a_release_without_the_kernel_is_an_error(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, {"vllm/envs.py": ""})
    with pytest.raises(LockError, match=r"^vllm 9\.9\.9: .* has no vllm/model_executor/.*/fused_moe\.py: this"):
        kernel_sources("9.9.9", cache).__enter__()


# ---- compiling


@pytest.mark.usefixtures("real_processes")
def test_equal_entries_are_compiled_once_in_the_order_of_the_file(bench: dict[str, Path]) -> None:
    text = make_text(make_entry(), make_entry(num_stages=3, num_warps=8), make_entry())
    one, two = compile_config(BF16, text, **bench)
    assert (one.keys, two.keys) == (("1", "4"), ("2",))
    assert one.triton == "9.9.9"
    assert [launch.name for launch in one.launches] == ["w13 sorted", "w13 unsorted", "w2 sorted", "w2 unsorted"]
    least = Resources(shared_bytes=16 * 2 * 1024, registers=40, spill_bytes=8, threads=128)
    assert {launch.resources for launch in one.launches} == {least}
    assert {launch.resources for launch in two.launches} == {
        Resources(shared_bytes=16 * 3 * 1024, registers=40, spill_bytes=8, threads=256)
    }


@pytest.mark.usefixtures("real_processes")
def test_releases_up_to_0_15_are_compiled_as_they_are(tmp_path: Path) -> None:
    """Their Triton has one ptxas for all chips; 0.13 has a launcher of another name, for weights of 4 bits as well."""
    ptxas = "triton/backends/nvidia/compiler.py"
    triton = {**TRITON, ptxas: TRITON[ptxas].replace("get_ptxas(arch)", "get_ptxas()")}
    kernel = KERNEL.replace("def invoke_fused_moe_triton_kernel(", "def invoke_fused_moe_kernel(")
    kernel = kernel.replace("A_scale, B_scale, topk", "A_scale, B_scale, B_zp, topk")
    kernel = kernel.replace("import current_platform\n", "import current_platform\n" + ASKED_BY_0_13, 1)
    root = make_root(tmp_path / "root", make_wheel(triton))
    cache = make_cache(tmp_path / "cache", {**SOURCES, "vllm/model_executor/layers/fused_moe/fused_moe.py": kernel})
    with kernel_sources("9.9.9", cache) as sources:
        python = prepare("9.9.9", root, cache)
        (one,) = compile_config(BF16, make_text(make_entry()), python=python, sources=sources, root=root)
    assert [(launch.name, launch.error) for launch in one.launches] == [("w13 sorted", ""), ("w2 sorted", "")]


@pytest.mark.usefixtures("real_processes")
def test_a_launcher_of_a_name_that_is_not_known_is_an_error(tmp_path: Path, bench: dict[str, Path]) -> None:
    kernel = KERNEL.replace("def invoke_fused_moe_triton_kernel(", "def launch(")
    cache = make_cache(tmp_path, {**SOURCES, "vllm/model_executor/layers/fused_moe/fused_moe.py": kernel})
    with (
        kernel_sources("9.9.9", cache) as sources,
        pytest.raises(ProcessError) as raised,
    ):
        compile_config(BF16, make_text(make_entry()), **{**bench, "sources": sources})
    assert "has none of invoke_fused_moe_triton_kernel, invoke_fused_moe_kernel" in str(raised.value)


@pytest.mark.usefixtures("real_processes")
def test_fp8_without_blocks_is_compiled_with_both_of_its_scales(bench: dict[str, Path]) -> None:
    (one,) = compile_config(FP8, make_text(make_entry()), **bench)
    assert [launch.name for launch in one.launches] == [
        f"{matrix} {tokens} scale/{scale}"
        for scale in ("tensor", "channel")
        for matrix in ("w13", "w2")
        for tokens in ("sorted", "unsorted")
    ]


@pytest.mark.usefixtures("real_processes")
@pytest.mark.parametrize(
    ("shape", "launch", "said"),
    [
        (
            BLOCKS,
            "w13 sorted scale/blocks",
            "['torch.float8_e4m3fn', (1, 2048), [262144, 2048, 1], (1, 8, 128), 'torch.bfloat16', (1, 64), (8, 4, 64), "
            "False, False, 8, 'bf16', True, False, [32, 32], ",
        ),
        (
            FP8,
            "w2 unsorted scale/channel",
            "['torch.float8_e4m3fn', (8, 64), [131072, 64, 1], (1, 8, 2048), 'torch.bfloat16', (8, 1), (8, 2048, 1), "
            "True, True, 1, 'bf16', True, True, None, ",
        ),
        (
            BF16,
            "w13 unsorted",
            "['torch.bfloat16', (1, 2048), [262144, 2048, 1], (1, 8, 128), 'torch.bfloat16', None, None, "
            "True, False, 8, 'bf16', False, False, None, ",
        ),
    ],
)
def test_the_launcher_gets_what_a_model_gives_it(bench: dict[str, Path], shape: Shape, launch: str, said: str) -> None:
    """And is told that it runs on a GB10, with the settings that vLLM has by itself."""
    (one,) = compile_config(shape, make_text(make_entry(BLOCK_SIZE_M=5)), **bench)
    chip = "'default', 'default', True, False, False, True, True] for ('cuda', 121, 32) with "
    options = "['BLOCK_SIZE_K', 'BLOCK_SIZE_N', 'GROUP_SIZE_M']"
    error = next(some.error for some in one.launches if some.name == launch)
    assert error == f"CompilationError: at 1:2:\n  the kernel\n  ^\n{said}{chip}{options}"
    assert reason(error) == f"CompilationError: {said}{chip}{options}"


@pytest.mark.usefixtures("real_processes")
def test_the_user_s_settings_do_not_count_and_ptxas_is_that_of_cuda(
    bench: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_PTXAS_BLACKWELL_PATH", "/elsewhere/ptxas")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("VLLM_SETTING", "mine")
    good, bad = compile_config(BF16, make_text(make_entry(), make_entry(BLOCK_SIZE_M=5)), **bench)
    assert good.ptxas == (
        "('nvidia', 'cu13', 'bin', 'ptxas') ['TRITON_CACHE_DIR', 'TRITON_PTXAS_BLACKWELL_PATH', 'TRITON_PTXAS_PATH']"
    )
    assert "'default'" in bad.launches[0].error
    assert "mine" not in bad.launches[0].error


@pytest.mark.usefixtures("real_processes")
def test_what_goes_wrong_is_the_answer_of_that_entry_alone(bench: dict[str, Path]) -> None:
    said = {
        "TypeError: the launcher asks torch.compiler.is_compiling(), which is not there": make_entry(GROUP_SIZE_M=9),
        "TypeError: the launcher asks torch.version.cuda, which is not there": make_entry(GROUP_SIZE_M=10),
        "TypeError: 'Name' object is not a container": make_entry(GROUP_SIZE_M=11),
        "ValueError: the launcher launched 2 kernels, expected 1": make_entry(GROUP_SIZE_M=8),
        "ValueError: ptxas does not say how many registers it used: 'ptxas info": make_entry(BLOCK_SIZE_M=7),
        "KeyError: 'BLOCK_SIZE_M'": make_entry(BLOCK_SIZE_M=None),
        "the compiler ended with signal 6: it said nothing": make_entry(BLOCK_SIZE_M=3),
    }
    *bad, good = compile_config(BF16, make_text(*said.values(), make_entry()), **bench)
    for one, error in zip(bad, said, strict=True):
        assert all(launch.error.startswith(error) for launch in one.launches)
        assert [finding.id for finding in findings_of("x.json", [one])] == ["moe-compile"]
    assert worst(good)


def test_an_environment_without_triton_is_an_error(bench: dict[str, Path], real_processes: None) -> None:
    with pytest.raises(ProcessError, match="No module named 'triton'"):
        compile_config(BF16, make_text(make_entry()), **{**bench, "python": Path(sys.executable)})


def test_a_compiler_that_is_ended_from_outside_is_an_error(bench: dict[str, Path], real_processes: None) -> None:
    with pytest.raises(ProcessError, match="exit status -9"):
        compile_config(BF16, make_text(make_entry(BLOCK_SIZE_M=9)), **bench)


def test_a_dtype_of_another_kernel_is_refused(tmp_path: Path) -> None:
    shape = Shape(experts=8, intermediate=64, dtype="int4_w4a16", block_shape=None)
    with pytest.raises(UsageError, match=r"^dtype int4_w4a16: vLLM runs it with another kernel; expected none, fp8"):
        compile_config(shape, make_config(), python=tmp_path, sources=tmp_path, root=tmp_path)


# ---- what that says


def test_an_answer_stands_in_the_last_line() -> None:
    said = {"name": "w2", "seconds": 1.5, "shared_bytes": 7, "registers": 8, "spill_store_bytes": 9, "threads": 128}
    text = json.dumps({"triton": "3", "ptxas": "13", "launches": [{**said, "kernel": "k"}, {**said, "error": "E: x"}]})
    good, bad = parse_answer(("1",), "{}", f"Triton says\n{text}\n").launches
    assert good.resources == Resources(shared_bytes=7, registers=8, spill_bytes=9, threads=128)
    assert (bad.resources, bad.error, bad.seconds) == (None, "E: x", 1.5)


@pytest.mark.parametrize(("over", "said"), [(0, []), (1, ["101377 bytes of shared memory for batches 1, 2"])])
def test_the_shared_memory_of_a_block_is_the_limit(over: int, said: list[str]) -> None:
    some = make_compiled(make_launch(), make_launch(shared_bytes=GB10_SHARED_BYTES + over), keys=("1", "2"))
    found = findings_of("x.json", [some])
    assert [one.found for one in found] == said
    assert {(one.id, one.severity, one.expected) for one in found} <= {("moe-shared-memory", "error", "at most 101376")}


def test_an_entry_of_which_one_launch_does_not_compile_is_an_error() -> None:
    error = "PTXASError: ptxas failed\n`ptxas` stderr:\nptxas fatal : no\n\nRepro command: ptxas x\n"
    (one,) = findings_of("x.json", [make_compiled(make_launch(), make_launch(error), keys=("64",))])
    assert (one.id, one.severity, one.found) == (
        "moe-compile",
        "error",
        "PTXASError: ptxas fatal : no (w2) for batch 64",
    )


def test_an_error_without_lines_is_its_own_reason() -> None:
    assert reason("AssertionError: ") == "AssertionError: "


def test_a_row_has_the_most_that_a_launch_takes() -> None:
    some = make_compiled(make_launch(registers=9), make_launch(shared_bytes=GB10_SHARED_BYTES + 1, spill_bytes=4))
    bad = make_compiled(make_launch("E: x"), keys=("2", "4"))
    assert rows([some, bad]) == [
        ("1", "16, 64, 128", "1", "4", "2", "101377", "9", "4", "too much shared memory"),
        ("2 4", "16, 64, 128", "1", "4", "2", "-", "-", "-", "does not compile"),
    ]
    assert len(COLUMNS) == len(rows([some])[0])


# ---- our own configs


@pytest.mark.parametrize("path", sorted((ROOT / "moe_configs").glob("*.json")), ids=lambda one: one.stem)
def test_our_configs_have_names_and_entries_that_vllm_takes(path: Path) -> None:
    text = path.read_bytes()
    named = parse_name(path.name)
    assert named
    assert named[1] == GB10_DEVICE
    assert [one.id for one in check_config(path.name, text) if one.severity == "error"] == []
    assert path.name in (ROOT / "moe_configs" / "README.md").read_text(encoding="utf-8")
