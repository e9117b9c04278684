"""Stand-ins for what the source strategy compiles: git repositories of a few files, and CUDA images without CUDA.

They ask of a build what the real ones ask, and refuse what those would spoil in silence: NCCL is a library that torch
is linked to, torch a package that says what it was built with, vLLM's CMake fetches what it is not handed.
"""

import contextlib
import json
import os
import platform
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders import ROOT, real_matrix
from tests.engine.loopback import free_port
from tests.sourcebuilder import TAGS

from sparkbake.bases import choose
from sparkbake.debianmirror import find_mirror
from sparkbake.mirrors import Mirrors
from sparkbake.oci import read_index_digest
from sparkbake.project import cache_folder

MACHINE = platform.machine()
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[MACHINE]
# What of the package index the steps of a build install, by component.
ASKED = {
    "tools": ("cmake", "ninja", "setuptools", "wheel"),
    "runtime": ("typing-extensions",),
    "torch": ("packaging",),
    "triton": ("pyyaml",),
    "vllm": ("jinja2", "markupsafe", "semantic-version", "setuptools-rust"),
    "environment": ("pip", "six"),
    "installer": ("uv",),
}
NVCC = r"""#!/bin/bash
# Compiles nothing: says for which chip it would.
set -eu
if [[ ${1:-} == --version ]]; then echo "Cuda compilation tools, release 13.1, V13.1.80"; exit; fi
arguments="$*"
while (($#)); do
    case $1 in -o) output=$2; shift 2 ;; -ccbin) [[ $(type -P "$2") ]]; shift 2 ;; *.cu | -*) shift ;;
        *) echo "nvcc: no such file: $1" >&2; exit 1 ;; esac
done
[[ $arguments == *code=sm_12* ]] || { echo "nvcc: no chip given: $arguments" >&2; exit 1; }
echo "int cubin_${RANDOM};" | g++ -x c++ -c -o "$output" -
echo "nvcc $arguments"
"""
NCCL = {
    "Makefile": """
NVCC ?= nvcc
src.build:
\tmkdir -p $(BUILDDIR)/lib $(BUILDDIR)/include
\t$(NVCC) -ccbin $(CXX) $(NVCC_GENCODE) -c src/device.cu -o $(BUILDDIR)/device.o
\t$(CXX) -shared -fPIC -Wl,-soname,libnccl.so.2 src/nccl.cc -o $(BUILDDIR)/lib/libnccl.so.2.29.2
\tcd $(BUILDDIR)/lib && ln -sf libnccl.so.2.29.2 libnccl.so.2 && ln -sf libnccl.so.2 libnccl.so
\tar rcs $(BUILDDIR)/lib/libnccl_static.a $(BUILDDIR)/device.o
\tcp src/nccl.h $(BUILDDIR)/include/
src.install:
\tmkdir -p $(PREFIX)
\tcp -R $(BUILDDIR)/lib $(BUILDDIR)/include $(PREFIX)/
""",
    "src/device.cu": "// device code\n",
    "src/nccl.h": "#define NCCL_MAJOR 2\n#define NCCL_MINOR 29\n#define NCCL_PATCH 2\n",
    "src/nccl.cc": 'extern "C" int ncclGetVersion(int* v) { *v = 22902; return 0; }\n',
}
NCCL_TESTS = {
    "Makefile": """
default:
\tmkdir -p $(BUILDDIR)
\t$(NVCC) $(NVCC_GENCODE) -c test.cu -o $(BUILDDIR)/test.o
\t$(CXX) test.cc -I$(NCCL_HOME)/include -L$(NCCL_HOME)/lib -lnccl -o $(BUILDDIR)/all_reduce_perf
""",
    "test.cu": "",
    "test.cc": 'extern "C" int ncclGetVersion(int*);\nint main() { int v; return ncclGetVersion(&v) || v != 22902; }\n',
}
TORCH = {
    "setup.py": """
import os, re, subprocess
from pathlib import Path
from setuptools import Extension, setup

if not Path("third_party/fmt/fmt.h").exists() or not Path("third_party/fmt/deep/deep.h").exists():
    raise SystemExit("Could not find third_party/fmt: submodules are missing")
cuda, extensions = None, []
if os.environ.get("USE_CUDA") == "1":
    said = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    cuda = re.search(r"release ([\\d.]+)", said)[1]
    if os.environ["USE_SYSTEM_NCCL"] != "1":
        raise SystemExit("would compile another NCCL")
    places = {"include_dirs": [os.environ["NCCL_INCLUDE_DIR"]], "library_dirs": [os.environ["NCCL_LIB_DIR"]]}
    places["define_macros"] = [("ARCHES", '"sm_' + os.environ["TORCH_CUDA_ARCH_LIST"].replace(".", "") + '"')]
    cudnn = os.environ["USE_CUDNN"] == "1" and Path(os.environ["CUDNN_INCLUDE_DIR"], "cudnn.h").exists()
    places["define_macros"] += [("CUDNN", "91501" if cudnn else "0")]
    extensions = [Extension("torch._C", ["csrc/module.c"], libraries=["nccl"], **places)]
else:
    Path("torch/_C.py").write_text("has_lapack = True\\n")
version = os.environ["PYTORCH_BUILD_VERSION"]
Path("torch/version.py").write_text(f"__version__ = {version!r}\\ncuda = {cuda!r}\\n")
setup(name="torch", version=version, packages=["torch", "torch.backends", "torch.cuda"], ext_modules=extensions)
""",
    "csrc/module.c": """
#include <Python.h>
#include <nccl.h>
int ncclGetVersion(int*);
static PyObject* nccl(PyObject* self, PyObject* no) {
    int v = 0; ncclGetVersion(&v); return PyLong_FromLong(v);
}
static PyObject* arches(PyObject* self, PyObject* no) { return PyUnicode_FromString(ARCHES); }
static PyMethodDef methods[] = {
    {"nccl", nccl, METH_NOARGS, ""}, {"_cuda_getArchFlags", arches, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", "", -1, methods};
PyMODINIT_FUNC PyInit__C(void) {
    PyObject* made = PyModule_Create(&module);
    PyModule_AddIntConstant(made, "cudnn", CUDNN);
    PyModule_AddIntConstant(made, "has_lapack", 1);
    return made;
}
""",
    "torch/__init__.py": "import typing_extensions\nfrom torch import backends, version, cuda\n"
    "from torch.version import __version__\n",
    "torch/cuda/__init__.py": "from torch.cuda import nccl\n",
    "torch/backends/__init__.py": "from torch.backends import cudnn\n",
    "torch/backends/cudnn.py": "def version():\n    from torch import _C\n    return _C.cudnn or None\n",
    "torch/cuda/nccl.py": """
def version():
    from torch import _C
    return (_C.nccl() // 10000, _C.nccl() // 100 % 100, _C.nccl() % 100)
""",
}
ON_TORCH = """
import os, torch
from setuptools import setup
if os.environ.get("FORCE_CUDA") != "1":
    raise SystemExit("there is no GPU to see: would be compiled for the CPU alone")
setup(name={name!r}, version=os.environ["BUILD_VERSION"], packages=[{name!r}])
"""
# Of what it finds no headers of it goes without, as the real one does.
TORCHVISION = {
    "setup.py": """
import os, shutil, torch
from pathlib import Path
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

if os.environ.get("FORCE_CUDA") != "1":
    raise SystemExit("there is no GPU to see: would be compiled for the CPU alone")
headers = {"jpeg": "jpeglib.h", "png": "libpng16/png.h", "webp": "webp/decode.h"}
found = [name for name, header in headers.items() if Path("/usr/include", header).exists()]
macros = [(f"WITH_{name.upper()}", "1") for name in found]
extension = Extension("torchvision.image", ["image.c"], libraries=found, define_macros=macros)

class Plain(build_ext):
    def get_ext_filename(self, name):
        return name.replace(".", "/") + ".so"

setup(name="torchvision", version=os.environ["BUILD_VERSION"], packages=["torchvision"], ext_modules=[extension],
      cmdclass={"build_ext": Plain})
""",
    "image.c": """
#ifdef WITH_JPEG
extern void* jpeg_std_error(void*);
#else
static void* jpeg_std_error(void* none) { return none; }
#endif
#ifdef WITH_PNG
extern unsigned png_access_version_number(void);
#else
static unsigned png_access_version_number(void) { return 0; }
#endif
#ifdef WITH_WEBP
extern int WebPGetDecoderVersion(void);
#else
static int WebPGetDecoderVersion(void) { return 0; }
#endif
int formats(void* memory) {
    return (jpeg_std_error(memory) != 0) + (png_access_version_number() > 0) + (WebPGetDecoderVersion() > 0);
}
""",
    "torchvision/__init__.py": "",
}
LLVM = {
    "llvm/CMakeLists.txt": """
cmake_minimum_required(VERSION 3.20)
project(LLVM LANGUAGES NONE)
install(FILES mlir.txt DESTINATION lib)
""",
    "llvm/mlir.txt": "MLIR\n",
}
TRITON = {
    "cmake/llvm-hash.txt": "@llvm@\n",
    "setup.py": """
import os
from pathlib import Path
from setuptools import setup

assert os.environ["TRITON_OFFLINE_BUILD"] == "1"
assert Path(os.environ["LLVM_SYSPATH"], "lib/mlir.txt").exists()
backend = Path("third_party/nvidia/backend")
assert (backend / "bin/ptxas").exists() and (backend / "include/cuda.h").exists()
version = "3.5.1" + ("+git" if Path(".git").exists() else "")
setup(name="triton", version=version, packages=["triton"])
""",
    "triton/__init__.py": "",
}
VLLM = {
    "CMakeLists.txt": """cmake_minimum_required(VERSION 3.26)
project(vllm LANGUAGES CXX)
include(FetchContent)
# The lists that the stand-in has.
set(MARLIN_ARCHS "8.0+PTX")
set(SCALED_MM_ARCHS "12.0f")
if(DEFINED ENV{VLLM_CUTLASS_SRC_DIR})
  FetchContent_Declare(cutlass SOURCE_DIR $ENV{VLLM_CUTLASS_SRC_DIR})
else()
  FetchContent_Declare(cutlass GIT_REPOSITORY https://git.example/cutlass.git GIT_TAG @cutlass@)
endif()
if(DEFINED ENV{VLLM_FLASH_ATTN_SRC_DIR})
  FetchContent_Declare(vllm-flash-attn SOURCE_DIR $ENV{VLLM_FLASH_ATTN_SRC_DIR})
else()
  FetchContent_Declare(vllm-flash-attn GIT_REPOSITORY https://git.example/flash-attention.git
    GIT_TAG @flash-attention@)
endif()
if(DEFINED ENV{TRITON_KERNELS_SRC_DIR})
  FetchContent_Declare(triton_kernels SOURCE_DIR $ENV{TRITON_KERNELS_SRC_DIR})
else()
  FetchContent_Declare(triton_kernels GIT_REPOSITORY https://git.example/triton-kernels.git
    GIT_TAG @triton-kernels@)
endif()
FetchContent_MakeAvailable(cutlass vllm-flash-attn triton_kernels)
foreach(arch IN LISTS MARLIN_ARCHS SCALED_MM_ARCHS)
  if("$ENV{TORCH_CUDA_ARCH_LIST}" STREQUAL arch)
    list(APPEND chosen ${arch})
  endif()
endforeach()
list(LENGTH chosen kernels)
execute_process(COMMAND $ENV{CUDACXX} -gencode=arch=compute_120f,code=sm_120f -c kernel.cu -o kernel.o
  WORKING_DIRECTORY ${CMAKE_BINARY_DIR} COMMAND_ERROR_IS_FATAL ANY)
file(WRITE ${OUTPUT} "KERNELS = ${kernels}\\nARCH_LIST = '$ENV{TORCH_CUDA_ARCH_LIST}'\\n")
file(COPY ${triton_kernels_SOURCE_DIR}/routing.py DESTINATION ${PLACE})
""",
    "setup.py": """
import os, shlex, subprocess
from pathlib import Path
import torch
from setuptools import setup

assert torch.version.cuda and os.environ["VLLM_TARGET_DEVICE"] == "cuda"
here = Path.cwd()
arguments = [f"-DFETCHCONTENT_BASE_DIR={os.environ['FETCHCONTENT_BASE_DIR']}", "-G", "Ninja"]
arguments += [f"-DOUTPUT={here}/vllm/_kernels.py", f"-DPLACE={here}/vllm"]
arguments += shlex.split(os.environ.get("CMAKE_ARGS", ""))
subprocess.run(["cmake", "-S", here, "-B", here / "build/cmake", *arguments], check=True)
setup(
    name="vllm",
    version=os.environ["VLLM_VERSION_OVERRIDE"],
    packages=["vllm", "vllm.platforms"],
    entry_points={"console_scripts": ["vllm = vllm.main:main"]},
)
""",
    "vllm/__init__.py": "from vllm._kernels import ARCH_LIST, KERNELS\nimport torch\n"
    'from importlib.metadata import version\n__version__ = version("vllm")\n',
    "vllm/fp8.py": "def supported(capability):\n    return capability >= 90\n",
    # It needs a device, as the real one does.
    "vllm/main.py": "from vllm import __version__, platforms\n\n\ndef main():\n"
    "    assert platforms._current_platform.device_type\n    print(__version__)\n",
    "vllm/platforms/__init__.py": "_current_platform = None\n",
    "vllm/platforms/interface.py": "class UnspecifiedPlatform:\n    device_type = ''\n",
    "use_existing_torch.py": """
import glob
for file in (*glob.glob("requirements/*.txt"), "pyproject.toml"):
    lines = open(file).readlines()
    with open(file, "w") as out:
        out.writelines(line for line in lines if "torch" not in line)
""",
    "requirements/build.txt": "ninja\ntorch==2.9.1\n",
    "requirements/cuda.txt": "torch==2.9.1\ntorchvision==0.24.1\n",
    "pyproject.toml": '[build-system]\nrequires = [\n    "setuptools",\n    "torch == 2.9.1",\n]\n'
    'build-backend = "setuptools.build_meta"\n',
}
REPOSITORIES: dict[str, Mapping[str, str]] = {
    "deep": {"deep.h": "\n"},
    "fmt": {"fmt.h": "\n"},
    "nccl": NCCL,
    "nccl-tests": NCCL_TESTS,
    "torch": TORCH,
    "torchvision": TORCHVISION,
    "torchaudio": {"setup.py": ON_TORCH.format(name="torchaudio"), "torchaudio/__init__.py": ""},
    "llvm": LLVM,
    "triton": TRITON,
    "vllm": VLLM,
    "cutlass": {"include/cutlass.h": "\n"},
    "flash-attention": {"setup.py": ""},
    "triton-kernels": {"python/triton_kernels/triton_kernels/routing.py": "ROUTED = True\n"},
}
# Path to the repository that lies there; its address is relative, as some upstreams have it.
SUBMODULES = {
    "torch": {"third_party/fmt": "fmt"},
    "fmt": {"deep": "deep"},
    "flash-attention": {"csrc/cutlass": "cutlass"},
}


@dataclass(frozen=True, kw_only=True)
class Upstreams:
    """Bare repositories in a folder, `<name>.git`, as HOST has them; `commits` are what the builds are to take."""

    folder: Path
    commits: dict[str, str] = field(default_factory=dict)

    def make(self) -> None:
        first = [one for one in REPOSITORIES if one not in SUBMODULES and one != "vllm"]
        for name in (*first, "fmt", "flash-attention", "torch", "vllm"):
            self.commits[name] = self.commit(name, REPOSITORIES[name], SUBMODULES.get(name, {}))
            if tag := TAGS.get(name):
                self.git(name, "tag", "--annotate", "--message", tag, tag, self.commits[name])

    def named(self, text: str) -> str:
        """A file's text with the commits that it names, as "@llvm@"."""
        for name, commit in self.commits.items():
            text = text.replace(f"@{name}@", commit)
        return text

    def git(self, name: str, *words: str, stdin: str | None = None, **variables: str) -> str:
        author = {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        dates = {"GIT_AUTHOR_DATE": "@1700000000 +0000", "GIT_COMMITTER_DATE": "@1700000000 +0000"}
        plain = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", "-C", str(self.folder / f"{name}.git"), *words],
            env={**os.environ, **author, **dates, **plain, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, name: str, files: Mapping[str, str], submodules: Mapping[str, str], branch: str = "main") -> str:
        """Commit files and links to submodules to a branch; the same content is the same commit, whenever."""
        bare = self.folder / f"{name}.git"
        if not bare.exists():
            bare.mkdir(parents=True)
            self.git(name, "init", "--quiet", "--bare", "--initial-branch", "main")
        index = {"GIT_INDEX_FILE": str(bare / "index.new")}
        self.git(name, "read-tree", "--empty", **index)
        modules = "".join(
            f'[submodule "{path}"]\n\tpath = {path}\n\turl = ../{other}.git\n' for path, other in submodules.items()
        )
        for path, text in {**files, **({".gitmodules": modules} if modules else {})}.items():
            blob = self.git(name, "hash-object", "-w", "--stdin", stdin=self.named(text))
            self.git(name, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", **index)
        for path, other in submodules.items():
            self.git(name, "update-index", "--add", "--cacheinfo", f"160000,{self.commits[other]},{path}", **index)
        made = self.git(name, "commit-tree", "-m", "stand-in", self.git(name, "write-tree", **index))
        self.git(name, "update-ref", f"refs/heads/{branch}", made)
        return made

    def change(self, name: str, path: str, text: str, branch: str) -> str:
        """A commit with one file otherwise, on a branch of its own."""
        files = {**REPOSITORIES[name], path: text}
        return self.commit(name, files, SUBMODULES.get(name, {}), branch)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve repositories on the loopback by git's own daemon; gives its address."""
    port = free_port()
    words = ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}"]
    with subprocess.Popen([*words, "--export-all", str(folder)], stderr=subprocess.DEVNULL) as daemon:
        try:
            address = f"git://127.0.0.1:{port}"
            for _attempt in range(100):
                if (
                    subprocess.run(
                        ["git", "ls-remote", f"{address}/nccl.git"], capture_output=True, check=False
                    ).returncode
                    == 0
                ):
                    break
                time.sleep(0.1)
            else:
                raise AssertionError("git daemon does not answer")
            yield address
        finally:
            daemon.terminate()


# ---- CUDA images

TOOLS = ("cudafe++", "fatbinary", "nvlink", "cuobjdump", "nvdisasm", "nvcc.profile")
CUDA = f"""
home=/usr/local/cuda-13.1
lib=$home/targets/{MACHINE}-linux/lib
mkdir -p $home/bin/crt $home/nvvm/bin $home/nvvm/libdevice $home/targets/{MACHINE}-linux/include/crt $lib/stubs
ln -s targets/{MACHINE}-linux/include $home/include
ln -s targets/{MACHINE}-linux/lib $home/lib64
ln -s $home /usr/local/cuda
touch $home/bin/crt/link.stub $home/nvvm/libdevice/libdevice.10.bc $lib/libcudart.so.13 $lib/libcudart_static.a
touch $lib/libcudadevrt.a $lib/stubs/libcuda.so $lib/libcublas.so.13 $home/include/cuda.h $home/include/crt/host.h
ln -s libcudart.so.13 $lib/libcudart.so
ln -s libcublas.so.13 $lib/libcublas.so
touch $lib/libcupti.so.2025.4.1
ln -s libcupti.so.2025.4.1 $lib/libcupti.so.13
ln -s libcupti.so.13 $lib/libcupti.so
# The real package of cuDNN has 400 MB; nothing but torch's sources looks at it.
cudnn=/opt/venv/lib/python3.13/site-packages/nvidia/cudnn
mkdir -p $cudnn/include $cudnn/lib
touch $cudnn/include/cudnn.h
echo 'int cudnn;' | gcc -x c -shared -fPIC -o $cudnn/lib/libcudnn.so.9 -
for tool in {" ".join(TOOLS)}; do printf '#!/bin/sh\\n' >$home/bin/$tool; done
printf '#!/bin/sh\\n' >$home/nvvm/bin/cicc
# A program for this machine, as Triton needs one.
echo '#include <stdio.h>
int main(void) {{ puts("Cuda compilation tools, release 13.1, V13.1.80"); }}' | gcc -x c -o $home/bin/ptxas -
chmod 755 $home/bin/* $home/nvvm/bin/cicc
"""
# As NVIDIA's images have it: a package of the archive, held back, and the address of that archive.
PACKAGED_NCCL = f"""
mkdir -p /tmp/p/DEBIAN /tmp/p/usr/lib/{MACHINE}-linux-gnu
for line in "Package: libnccl2" "Version: 2.28.9-1" "Architecture: {ARCHITECTURE}" "Maintainer: n" "Description: n"; do
    echo "$line" >>/tmp/p/DEBIAN/control
done
echo other >/tmp/p/usr/lib/{MACHINE}-linux-gnu/libnccl.so.2.28.9
ln -s libnccl.so.2.28.9 /tmp/p/usr/lib/{MACHINE}-linux-gnu/libnccl.so.2
dpkg-deb --build /tmp/p /tmp/libnccl2.deb && dpkg -i /tmp/libnccl2.deb && rm -r /tmp/p /tmp/libnccl2.deb
echo libnccl2 hold | dpkg --set-selections
mkdir -p /etc/apt/sources.list.d
echo 'deb https://archive.example/cuda /' >/etc/apt/sources.list.d/cuda-ubuntu2404.list
"""
# For vLLM's part in Rust; where Ubuntu has its newer ones, PATH does not lead.
RUST_PACKAGES = ("cargo", "libprotobuf-dev", "protobuf-compiler", "rustc")
BESIDE_PATH = """
mkdir -p /usr/lib/rust-1.85/bin
mv /usr/bin/cargo /usr/bin/rustc /usr/lib/rust-1.85/bin/
"""
# What torchvision reads images with.
IMAGE_LIBRARIES = ("libjpeg62-turbo", "libpng16-16t64", "libwebp7")
IMAGE_HEADERS = ("libjpeg62-turbo-dev", "libpng-dev", "libwebp-dev")


# Of no stand-in for a CUDA image: to compile with, which needs two more; to run with; and for the part in Rust.
LACKING = ("jq", "tree", "pv")


def _installing(*packages: str) -> str:
    """A command that installs packages from the archive at $MIRROR; the image's own sources stay as they are."""
    options = "-o Dir::Etc::SourceList=/tmp/archive.list -o Dir::Etc::SourceParts=/dev/null"
    return (
        'echo "deb $MIRROR trixie main" >/tmp/archive.list'
        f" && apt-get {options} update && apt-get {options} install --yes --no-install-recommends {' '.join(packages)}"
        " && rm -rf /tmp/archive.list /var/lib/apt/lists/*"
    )


def cuda_dockerfile() -> str:
    """Stand-ins for a devel and a runtime image, on a base that has the operating system's packages but git's."""
    return f"""FROM scratch AS base
FROM base AS common
ENV NCCL_VERSION=2.28.9-1
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN <<'SHELL'
{PACKAGED_NCCL}
SHELL
FROM common AS runtime
ARG MIRROR
RUN {_installing(*IMAGE_LIBRARIES)}
RUN mkdir -p /usr/local/cuda-13.1/targets/{MACHINE}-linux/lib && ln -s /usr/local/cuda-13.1 /usr/local/cuda \
    && ln -s targets/{MACHINE}-linux/lib /usr/local/cuda-13.1/lib64
ARG NONCE
RUN echo "$NONCE" >/etc/nonce
FROM common AS devel
ARG MIRROR
RUN {_installing("ccache", "git", "make", *IMAGE_HEADERS, *RUST_PACKAGES)}
RUN <<'SHELL'
{BESIDE_PATH}
SHELL
RUN <<'SHELL'
{CUDA}
SHELL
COPY --chmod=755 nvcc /usr/local/cuda/bin/nvcc
ARG NONCE
RUN echo "$NONCE" >/etc/nonce
"""


def real_base() -> Path:
    """The base of the matrix that is made here, an OCI layout; made on the way if nobody has."""
    folder = choose(
        "debian-13",
        real_matrix(),
        Mirrors(),
        locks=ROOT / "locks",
        cache=cache_folder(),
        architectures=("amd64", "arm64"),
        say=print,
    ).folder
    assert folder is not None
    return folder


def make_cuda_images(folder: Path, base: Path) -> dict[str, str]:
    """Build stand-ins for CUDA images; no two runs have the same, so that every step on top of them is executed."""
    (folder / "Dockerfile").write_text(cuda_dockerfile(), encoding="utf-8")
    (folder / "nvcc").write_text(NVCC, encoding="utf-8")
    found = {}
    for stage in ("devel", "runtime"):
        layout = folder / stage
        argv = ["docker", "buildx", "build", "--quiet", "--platform", f"linux/{ARCHITECTURE}", "--provenance=false"]
        argv += ["--build-context", f"base=oci-layout://{base}@{read_index_digest(base)}", "--target", stage]
        argv += ["--build-arg", f"MIRROR={find_mirror(None)}", "--build-arg", f"NONCE={secrets.token_hex(8)}"]
        argv += ["--network", "host", "--allow", "network.host"]
        argv += ["--output", f"type=oci,dest={layout},tar=false,compression=uncompressed", str(folder)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        (manifest,) = json.loads((layout / "index.json").read_text(encoding="utf-8"))["manifests"]
        found[f"cuda-{stage}"] = f"oci-layout://{layout}@{manifest['digest']}"
    return found


def make_packages(folder: Path, devel: str) -> Path:
    """A folder with the packages that the stand-ins for CUDA images lack, and their list, as mirrors.yaml has one.

    Args:
        devel: context of the image to compile in; the other has no more than that.
    """
    context, made = folder / "context", folder / "packages"
    context.mkdir(parents=True)
    (context / "Dockerfile").write_text(
        f"""FROM scratch AS devel
FROM devel AS packages
ARG MIRROR
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN <<'SHELL'
echo "deb $MIRROR trixie main" >/tmp/archive.list
options="-o Dir::Etc::SourceList=/tmp/archive.list -o Dir::Etc::SourceParts=/dev/null -o Dir::Cache::Archives=/packages"
mkdir -p /packages/partial
apt-get $options update
apt-get $options install --yes --no-install-recommends --download-only {" ".join(LACKING)}
rm -r /packages/partial /packages/lock
cd /packages
for file in *.deb; do
    dpkg-deb --field "$file"
    echo "Filename: ./$file"
    echo "Size: $(stat --format %s "$file")"
    echo "SHA256: $(sha256sum "$file" | cut --delimiter ' ' --fields 1)"
    echo
done >Packages
SHELL
FROM scratch
COPY --from=packages /packages/ /
""",
        encoding="utf-8",
    )
    argv = ["docker", "buildx", "build", "--quiet", "--no-cache", "--platform", f"linux/{ARCHITECTURE}"]
    argv += ["--build-context", f"devel={devel}", "--build-arg", f"MIRROR={find_mirror(None)}", "--provenance=false"]
    argv += ["--network", "host", "--allow", "network.host", "--output", f"type=local,dest={made}", str(context)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return made
