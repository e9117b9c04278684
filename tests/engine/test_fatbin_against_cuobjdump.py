"""What we find of device code is what NVIDIA's own tool lists, in real libraries and in each form that its tools write.

The tools are the newest on the index, so that a new form of the format is known here first.
"""

import hashlib
import re
import shutil
import subprocess
import tempfile
import tomllib
import zipfile
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

import pytest
import uv
from tests.builders import real_plan

from sparkbake import process
from sparkbake.elf import is_elf, read_elf
from sparkbake.fatbin import SECTIONS, Code, cubin_code, read_containers, read_payloads
from sparkbake.model import Trim
from sparkbake.pruning import prune
from sparkbake.remote import RemoteFile

pytestmark = pytest.mark.network

TARGET = real_plan("debian-13").targets[-1]
# Small members of large wheels: every architecture and suffix, PTX and SASS, plain, relocatable and compressed.
MEMBERS = (
    ("vllm", r"vllm/_moe_C\w*\.abi3\.so"),
    ("vllm", r"vllm/_C_stable_libtorch\.abi3\.so"),
    ("vllm", r"vllm/_qutlass_C\.abi3\.so"),
    ("torch", r"torch/lib/libtorch_nvshmem\.so"),
    ("torchvision", r"torchvision/_C\w*\.so"),
    ("cupy-cuda13x", r"cupy/cuda/cub\..*\.so"),
    ("nvidia-curand", r"nvidia/cu13/lib/libcurand\.so\.10"),
)
RUN_HERE = ("sm_120", "sm_120f", "sm_121", "sm_121a", "sm_121f")
PRUNED = tuple(one for one in TARGET.trims if one.cubins)
ARCHITECTURES = ("75", "80", "89", "90", "90a", "100", "100a", "100f", "120", "120a", "120f", "121", "121a", "121f")
PTX = ".version 9.0\n.target sm_{}\n.address_size 64\n.visible .entry k(.param .u64 p) {{ ret; }}\n"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with ptxas, fatbinary and cuobjdump for this machine."""
    place = tmp_path_factory.mktemp("tools")
    names = ["nvidia-cuda-cuobjdump", "nvidia-cuda-nvcc"]
    process.run([uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--target", place, *names], timeout_s=600)
    return next(place.rglob("cuobjdump")).parent


@pytest.fixture(scope="module")
def urls() -> dict[str, str]:
    """Wheel to where the index has it."""
    wheels = {one.name: one for one in TARGET.environment.wheels}
    names = {*(name for name, _pattern in MEMBERS), *(one.package for one in PRUNED)}
    wanted = {f"{name}=={wheels[name].version}" for name in names}
    argv = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-deps", "--format", "pylock.toml"]
    argv += ["--python-platform", "aarch64-manylinux_2_40", "--python-version", TARGET.environment.python]
    lock = tomllib.loads(process.run([*argv, "-"], timeout_s=300, stdin="\n".join(sorted(wanted))))
    found = [wheel["url"] for package in lock["packages"] for wheel in package.get("wheels", [])]
    by_file = {unquote(url.rpartition("/")[2]): url for url in found}
    return {name: by_file[wheels[name].file] for name in names}


def ours(path: Path) -> Counter[str]:
    """Kind and architecture of each piece, named as cuobjdump names them: it leaves out the "f" of SASS."""
    with path.open("rb") as file:
        if not is_elf(file.read(16)):
            found = [
                code for one in read_containers("it", file, offset=0, size_bytes=path.stat().st_size) for code in one
            ]
            return Counter(map(named, found))
        elf = read_elf("it", file)
        cubin = cubin_code("it", file, elf, size_bytes=1)
        found = [cubin] if cubin else []
        for section in elf.named(*SECTIONS):
            for one in read_containers("it", file, offset=section.offset, size_bytes=section.size_bytes):
                found += one
    return Counter(map(named, found))


def named(code: Code) -> str:
    assert code.kind != "other"
    return code.name.removesuffix("f") if code.kind == "sass" else code.name


def theirs(path: Path, tools: Path) -> Counter[str]:
    listed = process.run([tools / "cuobjdump", "-all", "--list-elf", "--list-ptx", path], timeout_s=300)
    found = re.findall(r"^(?:ELF|PTX) file +\d+: .*\.sm_(\w+)\.(cubin|ptx)$", listed, re.MULTILINE)
    return Counter(f"{'sm' if kind == 'cubin' else 'compute'}_{architecture}" for architecture, kind in found)


@pytest.mark.parametrize(("package", "pattern"), MEMBERS)
def test_a_real_library(package: str, pattern: str, urls: dict[str, str], tools: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(RemoteFile(urls[package])) as wheel:
        members = [one for one in wheel.infolist() if re.fullmatch(pattern, one.filename)]
        assert members, f"{pattern} matches nothing in {urls[package].rpartition('/')[2]}"
        for member in members:
            place = tmp_path / "lib.so"
            with wheel.open(member) as source, place.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            found = ours(place)
            assert found == theirs(place, tools)
            assert found


@pytest.mark.parametrize("trim", PRUNED, ids=[f"{one.package}-{one.paths[0]}" for one in PRUNED])
def test_a_real_library_without_the_cubins_of_other_chips(
    trim: Trim, urls: dict[str, str], tools: Path, tmp_path: Path
) -> None:
    """What can run is as it was, and NVIDIA's tool finds it so; the matrix says right how much is gone."""
    gone = 0
    with zipfile.ZipFile(RemoteFile(urls[trim.package])) as wheel:
        members = [one for one in wheel.infolist() if any(fnmatchcase(one.filename, path) for path in trim.paths)]
        assert members
        for member in members:
            place = tmp_path / "lib.so"
            with wheel.open(member) as source, place.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            whole, kept = pieces(place), for_chip(place, tools)
            with place.open("r+b") as file:
                size = prune(member.filename, file, 121)
            left = pieces(place)
            assert [code.name for code, _content in left] == [code.name for code, _content in whole]
            for (before, content), (after, now) in zip(whole, left, strict=True):
                stays = before.kind != "sass" or before.name in RUN_HERE
                assert (now == content) is stays
                assert after.is_emptied is not stays
            names = {code.name for code, _content in whole}
            assert bool(kept) is not names.isdisjoint(("sm_120", "sm_120f"))
            # It ends at the first of its architecture that is overwritten, and sm_120a is of sm_120 to it.
            if "sm_120a" not in names:
                assert for_chip(place, tools) == kept
            gone += size
    assert gone >= trim.saves_bytes


def pieces(path: Path) -> list[tuple[Code, str]]:
    """Each piece of device code, and the digest of its payload."""
    found = []
    with path.open("rb") as file:
        for code, at in list(read_payloads("it", file, read_elf("it", file))):
            assert at is not None
            file.seek(at)
            found.append((code, hashlib.sha256(file.read(code.stored_bytes)).hexdigest()))
    return found


def for_chip(path: Path, tools: Path) -> dict[str, str]:
    """Digest of each cubin of sm_120 that cuobjdump finds; it fails where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        argv: list[str | Path] = [tools / "cuobjdump", "-arch", "sm_120", "--extract-elf", "all", path]
        subprocess.run(argv, cwd=folder, capture_output=True, check=False)
        return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in Path(folder).iterdir()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "options",
    [["--compress=false"], ["--compress-all"], ["--compress-all", "--compress-mode=speed"], ["-ident", "foo"]],
)
def test_each_form_of_a_fat_binary(architecture: str, options: list[str], tools: Path, tmp_path: Path) -> None:
    ptx, cubin = compiled(architecture, tools, tmp_path)
    place = tmp_path / "it.fatbin"
    images = [f"--image3=kind=ptx,sm={architecture},file={ptx}", f"--image3=kind=elf,sm={architecture},file={cubin}"]
    process.run(
        [tools / "fatbinary", "-64", *options, "-cmdline", "--maxrregcount 32", f"--create={place}", *images],
        timeout_s=60,
    )
    assert sum(ours(place).values()) == 2
    assert ours(place) == theirs(place, tools)
    with place.open("rb") as file:
        (container,) = read_containers("it", file, offset=0, size_bytes=place.stat().st_size)
    assert {code.name for code in container} == {f"sm_{architecture}", f"compute_{architecture}"}


def test_cubins_packed_as_one(tools: Path, tmp_path: Path) -> None:
    images = [
        f"--image3=kind=elf,sm={one},file={compiled(one, tools, tmp_path)[1]}" for one in ("90a", "120f", "121", "121a")
    ]
    for options in ([], ["-ident", "foo"]):
        place = tmp_path / "it.fatbin"
        argv: list[str | Path] = [
            tools / "fatbinary",
            "-64",
            "--concat",
            "--compress-all",
            *options,
            f"--create={place}",
            *images,
        ]
        process.run(argv, timeout_s=60)
        assert sum(ours(place).values()) == 4
        assert ours(place) == theirs(place, tools)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_cubin(architecture: str, tools: Path, tmp_path: Path) -> None:
    _ptx, cubin = compiled(architecture, tools, tmp_path)
    assert ours(cubin) == theirs(cubin, tools)
    with cubin.open("rb") as file:
        code = cubin_code("it", file, read_elf("it", file), size_bytes=1)
    assert code
    assert code.name == f"sm_{architecture}"


def compiled(architecture: str, tools: Path, folder: Path) -> tuple[Path, Path]:
    """PTX of an empty kernel, and the cubin of it."""
    ptx, cubin = folder / f"k{architecture}.ptx", folder / f"k{architecture}.cubin"
    ptx.write_text(PTX.format(architecture), encoding="utf-8")
    process.run([tools / "ptxas", f"-arch=sm_{architecture}", ptx, "-o", cubin], timeout_s=60)
    return ptx, cubin
