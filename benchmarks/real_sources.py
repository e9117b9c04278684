"""What the source strategy makes of real sources, without an arm64 machine.

`nccl` compiles NCCL and nccl-tests by the recipe's own stages and prints the library's version and its device code;
half an hour on two cores, or less. `vllm` lets vLLM's CMake configure in the recipe's own stage, prints what it says of
architectures, and stops where compiling would begin; it downloads 3 GB and takes 20 GB of disk.

The Dockerfiles and their contexts are those that `render` writes for a row; sources come from a folder of bare
repositories (`<owner>/<name>.git`), by way of a mirrors.yaml. Made up are the platform, which is this machine's; the
hashes of Python packages, which are those of all files of the same versions; and CUDA's image: Debian, with the
compiler of NVIDIA's Python packages, of the same version. For `vllm` also torch, which is one of the package index.
Needs Docker, mmdebstrap, git and root.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uv

from sparkbake.bake import FILE_EPOCH, escape
from sparkbake.debianmirror import default_mirror, find_mirror
from sparkbake.devicecode import chip_number, verdicts_of
from sparkbake.elf import read_elf
from sparkbake.fatbin import SECTIONS, read_containers
from sparkbake.project import Project, open_project
from sparkbake.sourcemodel import GitSource, SourceTarget
from sparkbake.sourcerender import checkouts
from sparkbake.sourceresolve import SourcePlan
from sparkbake.sourcesecrets import git_config

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.engine.loopback import free_port  # noqa: E402

MACHINE = platform.machine()
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[MACHINE]
SUITE = "trixie"
HOST = "https://github.com/"
# Ubuntu's name to Debian's; all others are the same.
DEBIAN = {"libjpeg-turbo8": "libjpeg62-turbo", "libjpeg-turbo8-dev": "libjpeg62-turbo-dev"}
# Makes packages that have a name and nothing else; the number is above those that perl-base breaks.
NAMED = """for name in {names}; do \\
        mkdir -p /tmp/p/DEBIAN && printf '%s\\n' "Package: $name" "Version: 9999" "Architecture: all" \\
            "Maintainer: nobody" "Description: what Ubuntu calls a package of Debian's" >/tmp/p/DEBIAN/control \\
        && dpkg-deb --build /tmp/p /tmp/p.deb && dpkg --install /tmp/p.deb && rm -r /tmp/p /tmp/p.deb; \\
    done"""
STAND_IN = """FROM scratch
ADD base.tar /
COPY cuda /usr/local/cuda-{cuda}
RUN ln -s cuda-{cuda} /usr/local/cuda
RUN {named}
"""
# Behind the rendered file: a way to get at what its stages made, and an image to compile vLLM on. In the latter torch
# and NCCL are those of the package index, which find CUDA's libraries beside themselves.
BEHIND = """
FROM nccl AS nccl-version
RUN python3 -c 'import ctypes; number = ctypes.c_int(); \\
    ctypes.CDLL("/opt/nccl/lib/libnccl.so.2").ncclGetVersion(ctypes.byref(number)); print(number.value)' >/nccl-version

FROM scratch AS real-sources
COPY --from=nccl-version /nccl-version /
COPY --from=nccl /out/opt/nccl /nccl
COPY --from=nccl-tests /out/opt/nccl/bin /nccl-tests

FROM tools AS real-dev
{named}RUN --mount=type=secret,id=ca,target=/dev/sparkbake/ca.pem \\
    --mount=type=cache,id=sparkbake-uv,target=/dev/sparkbake/uv-cache,sharing=shared \\
    --mount=type=bind,source=torch.txt,target=/dev/sparkbake/torch.txt \\
    export UV_CACHE_DIR=/dev/sparkbake/uv-cache UV_HTTP_TIMEOUT=300 UV_LINK_MODE=copy; \\
    if [ -s /dev/sparkbake/ca.pem ]; then export SSL_CERT_FILE=/dev/sparkbake/ca.pem; fi; \\
    uv pip install --python /opt/venv/bin/python --no-deps --require-hashes --only-binary :all: \\
        --requirements /dev/sparkbake/torch.txt
RUN cd /opt/venv/lib/python3*/site-packages/nvidia/cu13 \\
    && for kind in include lib; do \\
        for one in $PWD/$kind/*; do \\
            [ -e /usr/local/cuda/$kind/${{one##*/}} ] || ln -s $one /usr/local/cuda/$kind/; \\
        done; \\
    done \\
    && cd lib && for one in *.so.*; do ln -sf $PWD/$one /usr/local/cuda/lib/${{one%.so.*}}.so; done \\
    && mkdir -p /usr/local/cuda/lib/stubs \\
    && echo | gcc -shared -x c -Wl,-soname,libcuda.so.1 -o /usr/local/cuda/lib/stubs/libcuda.so - \\
    && ls -d /opt/venv/lib/python3*/site-packages/nvidia/*/lib >/etc/ld.so.conf.d/nvidia-packages.conf && ldconfig
# packages.py takes away what uv leaves in packages, as it would later, when the guard looks whether they changed.
RUN --mount=type=bind,source=guard.py,target=/dev/sparkbake/guard.py \\
    --mount=type=bind,source=packages.py,target=/dev/sparkbake/packages.py \\
    python3 /dev/sparkbake/packages.py && python3 /dev/sparkbake/guard.py record --cuda 13.0 --nccl {nccl} \\
        --torch {torch} --torchvision {torchvision} --torchaudio {torchaudio}
"""
CRATES = "FROM rust AS crates\nRUN mkdir -p /src/crates\n\n"
MARKER = "FROM vllm-builder AS vllm\n"
# In the place of CMake: all of the configuration, and then what would be compiled for which architecture.
STOPPING = r"""FROM vllm-builder AS vllm-stopping
RUN mv /opt/venv/bin/cmake /opt/venv/bin/cmake-real && cat >/opt/venv/bin/cmake <<'EOF' && chmod 755 /opt/venv/bin/cmake
#!/bin/bash
[[ " $* " == *" --build "* ]] || exec cmake-real "$@"
echo "real_sources: configured; CUDA sources by architecture:"
python3 - <<'END'
import collections, pathlib, re
flags = re.findall(r"^  FLAGS = (.*-gencode.*)$", pathlib.Path("build.ninja").read_text(), re.MULTILINE)
found = collections.Counter(" ".join(re.findall(r"code=\[?([a-z0-9_,]+)", one)) for one in flags)
for code, count in sorted(found.items()):
    print(f"real_sources: {count:4} {code}")
print(f"real_sources: {len(flags):4} in all")
END
exit 9
EOF
FROM vllm-stopping AS vllm
"""
STEPS = re.compile(
    r"^#\d+ (?:[\d.]+ )?(checkout: |warning: |jobs: |packages: |apt-packages: |drop-nvidia: |guard: |patch: "
    r"|prepare-vllm: |real_sources: |error: |-- .*\b[Aa]rch)"
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What both builds have.

    Attributes:
        jobs: how many compile jobs there may be.
        instead: source to a folder that takes its place.
    """

    project: Project
    plan: SourcePlan
    work: Path
    git: Path
    jobs: str
    instead: Mapping[str, Path]

    def target(self, recipe: str) -> SourceTarget:
        return next(one for one in self.plan.targets if one.recipe == recipe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("nccl", "vllm"))
    parser.add_argument("--row", default="0.14.1-t4", help="default: 0.14.1-t4")
    parser.add_argument("--git", type=Path, required=True, help="folder of bare repositories: NVIDIA/nccl.git, ...")
    parser.add_argument(
        "--instead",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="take the files of a folder for a source that cannot be had at its commit",
    )
    parser.add_argument("--jobs", default="2", help="BUILD_JOBS (default: 2)")
    parser.add_argument("--work", type=Path, help="keep base, toolkit and results there (default: a temporary folder)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="real-sources-")))
        work.mkdir(parents=True, exist_ok=True)
        project = open_project(ROOT)
        bench = Bench(
            project=project,
            plan=project.source_plan(project.select([options.row])),
            work=work.resolve(),
            git=options.git.resolve(),
            jobs=options.jobs,
            instead={name: Path(folder) for name, _is, folder in (one.partition("=") for one in options.instead)},
        )
        {"nccl": compile_nccl, "vllm": configure_vllm}[options.what](bench)


def compile_nccl(bench: Bench) -> None:
    target = bench.target("pytorch-dev")
    print(f"{target.name}: {target.nccl_gencode}")
    for one in checkouts(target):
        if one.name.startswith("nccl"):
            print(f"  {one.name}: {one.repository} {one.tag} {one.commit}")
    result = bench.work / "result"
    shutil.rmtree(result, ignore_errors=True)
    bake = foundation(bench)
    bake["real-nccl"] = {**bake["real-dev"], "target": "real-sources", "output": [f"type=local,dest={result}"]}
    began = time.monotonic()
    done = build(bench, bake, "real-nccl")
    if done:
        sys.exit(done)
    print(f"built in {time.monotonic() - began:.0f} s; the whole log: {bench.work / 'real-nccl.log'}")
    describe(result)


def configure_vllm(bench: Bench) -> None:
    target = bench.target("vllm-source")
    print(f"{target.name}: TORCH_CUDA_ARCH_LIST={target.vllm_arch_list}")
    context = write_context(bench, target)
    path = context / "Dockerfile"
    text = path.read_text(encoding="utf-8")
    if text.count(MARKER) != 1:
        sys.exit(f"real_sources: error: {path} has {text.count(MARKER)} stages that compile vLLM, expected 1")
    # Crates are for what is compiled later.
    text = re.sub(r"^FROM rust AS crates\n.*?(?=^FROM )", CRATES, text, flags=re.MULTILINE | re.DOTALL)
    path.write_text(text.replace(MARKER, STOPPING), encoding="utf-8")
    bake = foundation(bench)
    bake["real-vllm"] = {
        **bake["real-dev"],
        "context": str(context),
        "contexts": {"dev": "target:real-dev"},
        "target": "vllm",
    }
    done = build(bench, bake, "real-vllm")
    if not done:
        sys.exit("real_sources: error: vLLM was built to its end; expected to stop it when it is configured")
    if "real_sources: configured;" not in (bench.work / "real-vllm.log").read_text(encoding="utf-8"):
        sys.exit(done)
    print(f"configured, and stopped there; the whole log: {bench.work / 'real-vllm.log'}")


# ---- what the build is given


def foundation(bench: Bench) -> dict[str, dict[str, Any]]:
    """Write the context of the foundation; gives bake's target for its last stage, on which vLLM is compiled."""
    target = bench.target("pytorch-dev")
    context = write_context(bench, target)
    torch = (ROOT / "tools/requirements/torch-cu130.txt").read_text(encoding="utf-8")
    (context / "torch.txt").write_text(torch, encoding="utf-8")
    versions = dict(re.findall(r"^(torch\w*|nvidia-nccl)(?:-cu13)?==(\S+)", torch, re.MULTILINE))
    with (context / "Dockerfile").open("a", encoding="utf-8") as file:
        # Of what has a part in Rust: compiling that comes after the configuration.
        cargo = " ".join(
            one for one in bench.target("vllm-source").build_os_packages if one not in installed_by(context)
        )
        named = f"RUN {NAMED.format(names=cargo)}\n" if bench.target("vllm-source").rust else ""
        file.write(BEHIND.format(named=named, nccl=versions.pop("nvidia-nccl"), **versions))
    return {
        "real-dev": {
            "context": str(context),
            "contexts": {"cuda-devel": f"oci-layout://{make_stand_in(bench, context)}"},
            "target": "real-dev",
            "platforms": [f"linux/{ARCHITECTURE}"],
            "args": {"BUILD_JOBS": bench.jobs, "FILE_EPOCH": str(FILE_EPOCH), "APT_SNAPSHOT": ""},
            "network": "host",
            "output": ["type=cacheonly"],
        }
    }


def write_context(bench: Bench, target: SourceTarget) -> Path:
    """Write what `render` writes, but for this machine, and with the sources there are."""
    [(name, files)] = bench.project.source_contexts(dataclasses.replace(bench.plan, targets=(target,))).items()
    context = bench.work / name
    shutil.rmtree(context, ignore_errors=True)
    for file in files:
        place = context / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        needed = place.name in ("installer.txt", "tools.txt", "vllm.txt")
        place.write_text(hashed(file.content) if needed else file.content, encoding="utf-8")
        place.chmod(0o755 if file.content.startswith("#!") else 0o644)
    path = context / "Dockerfile"
    for one in checkouts(target):
        if one.name in bench.instead:
            commit = make_repository(bench, one)
            print(f"  {one.name}: {bench.instead[one.name]} (as {commit}) in the place of {one.commit}")
            text = path.read_text(encoding="utf-8")
            old = checkout_words(one.repository, str(one.commit))
            if old not in text:
                sys.exit(f"real_sources: error: {path} does not check {one.name} out as expected: {old}")
            new = checkout_words(f"{HOST}instead/{one.name}", commit)
            path.write_text(text.replace(old, new), encoding="utf-8")
    return context


def checkout_words(repository: str, commit: str) -> str:
    """What a rendered file says of a source."""
    return f"--repository {repository} \\\n        --commit {commit}"


def toolkit_requirements(target: SourceTarget) -> Path:
    """Packages with the compiler of the target's CUDA, the locked file."""
    version = ".".join(dict(target.versions)["cuda"].split(".")[:2])
    return ROOT / "tools/requirements" / f"cuda-{version}.txt"


def make_repository(bench: Bench, source: GitSource) -> str:
    """Commit the files of a folder to a repository of its own; gives the commit."""
    place = bench.work / "git/instead" / f"{source.name}.git"
    shutil.rmtree(place, ignore_errors=True)
    command(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(place)])
    git = ["git", f"--git-dir={place}", f"--work-tree={bench.instead[source.name]}", "-c", "user.name=nobody"]
    git += ["-c", "user.email=nobody@example.invalid", "-c", "core.bare=false"]
    command([*git, "add", "--all", "--force"])
    dates = {f"GIT_{who}_DATE": "@0 +0000" for who in ("AUTHOR", "COMMITTER")}
    command([*git, "commit", "--quiet", "--message=files of a folder"], **dates)
    return command([*git, "rev-parse", "HEAD"]).strip()


def hashed(requirements: str) -> str:
    """The same packages with the hashes of all their files, one package a line as recipes/scripts/packages.py reads."""
    pinned = re.sub(r" --hash=\S+", "", requirements)
    argv = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-deps", "--universal", "--generate-hashes"]
    argv += ["--no-header", "--no-annotate", "--no-config", "--python-version", "3.12", "-"]
    found = command(argv, stdin=pinned).replace("\\\n    ", "")
    if [line.split()[0] for line in found.splitlines()] != pinned.split():
        sys.exit(f"real_sources: error: expected hashes of {pinned.split()}, got {found}")
    return found


def make_stand_in(bench: Bench, context: Path) -> str:
    """Build an image that takes the place of CUDA's; gives its OCI layout, with its digest."""
    work, target = bench.work, bench.target("pytorch-dev")
    place = work / "stand-in"
    place.mkdir(exist_ok=True)
    packages = installed_by(context)
    base = place / "base.tar"
    if not base.exists():
        print(f"base: {len(packages)} packages of Debian's {SUITE}", flush=True)
        names = ",".join(DEBIAN.get(one, one) for one in packages)
        mirror = find_mirror(None) or default_mirror()
        argv = ["mmdebstrap", "--quiet", "--variant=apt", f"--architectures={ARCHITECTURE}", f"--include={names}"]
        command([*argv, SUITE, str(base.with_suffix(".part.tar")), mirror])
        base.with_suffix(".part.tar").rename(base)
    version = ".".join(dict(target.versions)["cuda"].split(".")[:2])
    if not (place / "cuda/bin/nvcc").exists():
        install_toolkit(toolkit_requirements(target), place)
    named = NAMED.format(names=" ".join(one for one in packages if one in DEBIAN))
    text = STAND_IN.format(cuda=version, named=named)
    (place / "Dockerfile").write_text(text, encoding="utf-8")
    layout = work / "stand-in-image"
    shutil.rmtree(layout, ignore_errors=True)
    argv = ["docker", "buildx", "build", "--quiet", "--network=host", "--allow=network.host", "--provenance=false"]
    argv += [f"--platform=linux/{ARCHITECTURE}"]
    command([*argv, f"--output=type=oci,dest={layout},tar=false,compression=uncompressed", str(place)])
    [manifest] = json.loads((layout / "index.json").read_text(encoding="utf-8"))["manifests"]
    return f"{layout}@{manifest['digest']}"


def installed_by(context: Path) -> list[str]:
    """Packages of the operating system that a foundation's Dockerfile asks for."""
    dockerfile = (context / "Dockerfile").read_text(encoding="utf-8")
    [line] = re.findall(r"^ +/dev/sparkbake/apt-packages\.sh (.+)$", dockerfile, re.MULTILINE)
    return str(line).split()


def install_toolkit(requirements: Path, place: Path) -> None:
    """Lay the compiler of NVIDIA's Python packages out as a toolkit is: lib64, targets/, and names without numbers."""
    print(f"toolkit: {requirements.name}", flush=True)
    wheels = place / "wheels"
    argv = [uv.find_uv_bin(), "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--no-config"]
    command([*argv, "--link-mode", "copy", "--target", str(wheels), "--requirements", str(requirements)])
    [made] = wheels.glob("nvidia/cu*")
    made.rename(place / "cuda")
    shutil.rmtree(wheels)
    targets = place / "cuda/targets" / f"{MACHINE}-linux"
    targets.mkdir(parents=True)
    (place / "cuda/lib64").symlink_to("lib")
    for name in ("include", "lib"):
        (targets / name).symlink_to(f"../../{name}")
    for library in (place / "cuda/lib").glob("*.so.*"):
        library.with_name(library.name.partition(".so")[0] + ".so").symlink_to(library.name)


@contextlib.contextmanager
def served(bench: Bench) -> Iterator[Path]:
    """Serve the repositories on the loopback; gives a mirrors.yaml that leads there."""
    port = free_port()
    folder = bench.work / "git"
    folder.mkdir(exist_ok=True)
    for owner in bench.git.iterdir():
        if not (folder / owner.name).exists():
            (folder / owner.name).symlink_to(owner)
    # They may be another user's.
    trusted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    argv = ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}"]
    with subprocess.Popen([*argv, "--export-all"], env={**os.environ, **trusted}, stderr=subprocess.DEVNULL) as daemon:
        try:
            mirrors = bench.work / "mirrors.yaml"
            text = f'schema: "1"\ngit:\n  {HOST}: git://127.0.0.1:{port}/\n'
            mirrors.write_text(text, encoding="utf-8")
            yield mirrors
        finally:
            daemon.terminate()


# ---- the engine


def build(bench: Bench, bake: Mapping[str, object], name: str) -> str:
    """Build a target, and print what the recipes' own scripts say; the rest is in the log.

    Returns:
        How it failed, or nothing.
    """
    file, log, config = (bench.work / one for one in ("docker-bake.json", f"{name}.log", "gitconfig"))
    file.write_text(escape(json.dumps({"target": bake})), encoding="utf-8")
    argv = [
        "docker",
        "buildx",
        "bake",
        f"--file={file}",
        "--progress=plain",
        "--allow=network.host",
        "--provenance=false",
    ]
    argv += [f"--allow=fs={bench.work}", f"--set=*.secrets+=id=gitconfig,src={config}"]
    if bundle := os.environ.get("SSL_CERT_FILE"):
        argv += [f"--allow=fs.read={bundle}", f"--set=*.secrets+=id=ca,src={bundle}"]
    with served(bench) as mirrors, log.open("w", encoding="utf-8") as out:
        config.write_text(git_config(bench.project.mirrors(mirrors)), encoding="utf-8")
        with subprocess.Popen([*argv, name], stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr or ():
                out.write(line)
                out.flush()
                if STEPS.search(line):
                    print(f"  {line.rstrip()}", flush=True)
    if not process.returncode:
        return ""
    end = "".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-40:])
    return f"{end}real_sources: error: docker buildx bake ended with {process.returncode}; {log} has all it said"


def command(argv: Sequence[str], stdin: str | None = None, **variables: str) -> str:
    """What a program prints; variables are set for it."""
    environment = {**os.environ, **variables}
    done = subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"real_sources: error: {argv[0]} ended with {done.returncode}")
    return done.stdout


# ---- what came of it


def describe(result: Path) -> None:
    [library] = [one for one in (result / "nccl/lib").glob("libnccl.so.*") if not one.is_symlink()]
    version = (result / "nccl-version").read_text(encoding="utf-8").strip()
    print(f"{library.name}: {library.stat().st_size:,} bytes; ncclGetVersion: {version}")
    print(f"nccl-tests: {' '.join(sorted(one.name for one in (result / 'nccl-tests').iterdir()))}")
    with library.open("rb") as file:
        elf = read_elf(library.name, file)
        found = [
            container
            for section in elf.sections
            if section.name in SECTIONS
            for container in read_containers(library.name, file, offset=section.offset, size_bytes=section.size_bytes)
        ]
    tally: Mapping[str, int] = Counter(code.name for container in found for code in container)
    for name, count in sorted(tally.items()):
        print(f"{library.name}: {name}: {count}")
    for verdict, count in verdicts_of(found, chip_number("12.1")):
        print(f"{library.name}: on 12.1: {verdict}: {count} of {len(found)} containers")


if __name__ == "__main__":
    main()
