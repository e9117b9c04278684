"""The recipes of the source strategy, every step of them, in the real engine; what they compile are stand-ins.

For the platform of this machine. The package index gives CMake, setuptools and their like, which are the real ones.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.builders import RECIPES, ROOT, link_inputs, real_matrix
from tests.engine.rustpart import CRATE, CRATES, MAIN, MULTIMODAL, SAID, VERSION, checksum, rust_vllm, served_crates
from tests.engine.small import exists, inspect, remove
from tests.engine.upstreams import (
    ARCHITECTURE,
    ASKED,
    RUST_PACKAGES,
    TORCH,
    VLLM,
    Upstreams,
    make_cuda_images,
    real_base,
    served,
)
from tests.sourcebuilder import (
    FETCHED,
    HOST,
    PATCH,
    TUNED,
    make_native_patch,
    make_patch,
    make_source_target,
    runtime_of,
)

from sparkbake.attest import digest_in_bill
from sparkbake.bake import FILE_EPOCH, escape
from sparkbake.engine import engine_state, local_image
from sparkbake.labels import OCI
from sparkbake.mirrors import Mirrors
from sparkbake.model import Base, Environment, Wheel
from sparkbake.patches import Effect
from sparkbake.project import Project, open_project
from sparkbake.sourceimage import CompiledImage, images_of
from sparkbake.sourcelabels import CONTEXT_DIGEST
from sparkbake.sourcemodel import CompiledPatch, Fetch, GitSource, SourceTarget
from sparkbake.sourcerender import render_source
from sparkbake.sourceresolve import SourcePlan
from sparkbake.sourcesecrets import cargo_config, git_config
from sparkbake.verifying import bill_path, report_path, verify_built
from sparkbake.versions import variant_tag

pytestmark = [pytest.mark.engine, pytest.mark.network]

NAMES = ("pytorch-dev", "pytorch", "vllm-source")
# What a bill of materials needs; a real target has more.
LABELS = (
    ("dev.example.torch_version", "2.10.0-rc6"),
    (f"{real_matrix().project.label_prefix}.{CONTEXT_DIGEST}", "sha256:" + 64 * "0"),
    (f"{OCI}created", "2026-01-01T00:00:00Z"),
    (f"{OCI}licenses", "Apache-2.0"),
    (f"{OCI}url", "https://example.com"),
)
# Of what is installed as it is, unlike the one that all stand-ins have.
IN_PYTHON = CompiledPatch(
    name="0003-fp8.patch",
    text="""\
--- a/vllm/fp8.py
+++ b/vllm/fp8.py
@@ -1,2 +1,2 @@
 def supported(capability):
-    return capability >= 90
+    return 90 <= capability < 110
""",
    checks=(Effect(file="vllm/fp8.py", text="    return 90 <= capability < 110\n", count=1),),
)


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a build ended, and all that it said."""

    status: int
    text: str

    def ran(self, words: str) -> bool:
        """Whether a step whose command has these words was executed, and not taken from the cache."""
        steps = re.findall(rf"^(#\d+) \[[^\n]*{re.escape(words)}", self.text, re.MULTILINE)
        assert steps, f"no step has {words}"
        return not any(re.search(rf"^{one} CACHED$", self.text, re.MULTILINE) for one in steps)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All that a build needs: bases, sources, requirements.

    Attributes:
        bases: stage to the context that takes its place.
        wheels: as `SourceTarget.build_requirements` has them.
    """

    root: Path
    upstreams: Upstreams
    bases: Mapping[str, str]
    wheels: Mapping[str, tuple[Wheel, ...]]
    readable: tuple[Path, ...]
    secrets: dict[str, Path] = field(default_factory=dict)

    def targets(self, **changes: Any) -> tuple[SourceTarget, ...]:
        """All three; `changes` are of that for vLLM."""
        own = {"vllm-source": {"patches": (make_patch(), IN_PYTHON), **changes}}
        return tuple(
            replace(
                make_source_target(
                    name, self.upstreams.commits, requirements=self.wheels, environment=self.wheels["environment"]
                ),
                installer=self.wheels["installer"],
                platform=f"linux/{ARCHITECTURE}",
                base=Base(name="debian-13", python="3.13", manylinux="manylinux_2_40", image=None, suites=("trixie",)),
                apt_snapshot=None,
                differing=("six",) if name == "vllm-source" else (),
                labels=LABELS,
                **own.get(name, {}),
            )
            for name in NAMES
        )

    def argv(
        self, targets: Sequence[SourceTarget], *, load: bool, instead: Mapping[str, str] | None = None
    ) -> list[str]:
        file = self.root / "docker-bake.json"
        file.write_text(self.bake_file(targets, load=load, instead=instead), encoding="utf-8")
        argv = ["docker", "buildx", "bake", "--file", str(file), "--progress", "plain", "--allow=network.host"]
        argv += [f"--allow=fs.read={one}" for one in (self.root, *self.readable)]
        argv += [f"--allow=fs.read={one}" for one in self.secrets.values()]
        argv += [word for name, path in self.secrets.items() for word in ("--set", f"*.secrets+=id={name},src={path}")]
        return [*argv, targets[-1].name] if not load else [*argv, *(one.name for one in targets)]

    def bake_file(
        self, targets: Sequence[SourceTarget], *, load: bool, instead: Mapping[str, str] | None = None
    ) -> str:
        """What `docker buildx bake` is told.

        Args:
            instead: base or parent of targets, by the name that they have for it, to instructions that change it.
        """
        body: dict[str, dict[str, Any]] = {}
        for one in targets:
            for file in render_source(one, RECIPES, runtime_of(one)):
                place = self.root / one.name / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(file.content, encoding="utf-8")
                place.chmod(0o755 if file.content.startswith("#!") else 0o644)
            parents = {name: f"target:{parent}" for name, parent in one.parents}
            bases = {name: place for name, place in self.bases.items() if name in dict(BASES)[one.recipe]}
            body[one.name] = {
                "context": str(self.root / one.name),
                "target": "image",
                "platforms": [one.platform],
                "tags": [one.reference],
                "labels": dict(one.labels),
                "args": {"FILE_EPOCH": str(FILE_EPOCH), "APT_SNAPSHOT": ""},
                "contexts": {**parents, **bases},
                "network": "host",
                "output": ["type=image"] if load else ["type=cacheonly"],
                "attest": ["type=provenance,disabled=true", "type=sbom,disabled=true"],
            }
        for name, instructions in (instead or {}).items():
            having = [one["contexts"] for one in body.values() if name in one["contexts"]]
            body[f"other-{name}"] = {
                "context": str(self.root),
                "contexts": {"whole": having[0][name]},
                "dockerfile-inline": f"FROM whole\n{instructions}\n",
            }
            for contexts in having:
                contexts[name] = f"target:other-{name}"
        return escape(json.dumps({"target": body}))

    def variant(self) -> tuple[SourceTarget, ...]:
        """All three; vLLM for 12.1 alone."""
        *foundations, vllm = self.targets()
        labels = {
            **dict(vllm.labels),
            "dev.example.patches": "0001-marlin-lists.patch,0002-native-lists.patch,0003-fp8.patch",
            "dev.example.variant": "12.1",
            "dev.example.vllm_arch_list": "12.1a",
        }
        native = replace(
            vllm,
            name=f"{vllm.name}-sm121",
            variant="12.1",
            tag=variant_tag(vllm.row, "12.1"),
            reference=f"{vllm.reference}-sm121",
            vllm_arch_list="12.1a",
            patches=(make_patch(), make_native_patch(), IN_PYTHON),
            labels=tuple(sorted(labels.items())),
        )
        return (*foundations, native)

    def run(self, script: str, *, image: str | None = None) -> str:
        """What a script prints in the image of vLLM, or in another."""
        image = image or self.targets()[-1].reference
        argv = ["docker", "run", "--rm", "--network", "none", image, "bash", "-c", script]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def build(
        self, targets: Sequence[SourceTarget], *, load: bool = False, instead: Mapping[str, str] | None = None
    ) -> Done:
        argv = self.argv(targets, load=load, instead=instead)
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900)
        return Done(status=done.returncode, text=done.stderr + done.stdout)


@dataclass(frozen=True, kw_only=True)
class Built:
    """Two builds; `missing` are the images that the first one, which was interrupted, left untagged."""

    interrupted: Done
    missing: Sequence[str]
    whole: Done


BASES = (("pytorch-dev", ("cuda-devel",)), ("pytorch", ("cuda-runtime",)), ("vllm-source", ()))


def locked(*names: str) -> tuple[Wheel, ...]:
    """Wheels of the package index, with the hashes of their files."""
    found = []
    for line in (ROOT / "tests/engine/stand-ins.txt").read_text(encoding="utf-8").splitlines():
        name, _is, rest = line.partition("==")
        if name in names:
            version, *hashes = rest.split()
            digests = [one.removeprefix("--hash=sha256:") for one in hashes]
            found += [Wheel(name=name, version=version, file="", sha256=one, size_bytes=0) for one in digests]
    assert len({one.name for one in found}) == len(names)
    return tuple(found)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("source")
    for name in ("bases", "git", "build"):
        (root / name).mkdir()
    upstreams = Upstreams(folder=root / "git")
    upstreams.make()
    wheels = {name: locked(*asked) for name, asked in ASKED.items()}
    made = Bench(
        root=root / "build",
        upstreams=upstreams,
        bases=make_cuda_images(root / "bases", real_base()),
        wheels=wheels,
        readable=(root / "bases",),
    )
    for target in (*made.targets(), *made.variant()):
        remove(target.reference)
    with served(upstreams.folder) as address:
        mirrors = Mirrors(git=((f"{HOST}/", f"{address}/"),))
        (root / "gitconfig").write_text(git_config(mirrors), encoding="utf-8")
        (root / "jobs").write_text("2\n", encoding="utf-8")
        made.secrets.update({"gitconfig": root / "gitconfig", "jobs": root / "jobs"})
        if bundle := os.environ.get("SSL_CERT_FILE"):
            made.secrets["ca"] = Path(bundle)
        yield made
    for target in (*made.targets(), *made.variant()):
        remove(target.reference)


@pytest.fixture(scope="module")
def built(bench: Bench) -> Built:
    """Interrupt a build while it compiles torch, then let it come to its end."""
    # Upstreams move tags: this one is elsewhere before the build comes to it.
    elsewhere = bench.upstreams.change("nccl-tests", "README", "newer\n", "newer")
    bench.upstreams.git("nccl-tests", "tag", "--force", "v2.17", elsewhere)
    said = []
    with subprocess.Popen(bench.argv(bench.targets(), load=True), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if "build-torch: with the cuDNN in " in line:
                process.send_signal(signal.SIGINT)
                break
        said += process.stderr.readlines()
        status = process.wait(timeout=120)
    missing = [one.reference for one in bench.targets() if not exists(one.reference)]
    return Built(
        interrupted=Done(status=status, text="".join(said)),
        missing=missing,
        whole=bench.build(bench.targets(), load=True),
    )


# ---- the whole way


def test_an_interrupted_build_goes_on_where_it_was(bench: Bench, built: Built) -> None:
    assert built.interrupted.status != 0
    assert len(built.missing) == len(NAMES), "nothing has a tag before it is whole"
    assert built.whole.status == 0, built.whole.text[-3000:]
    for words in ("/src/nccl,rw", "commit " + bench.upstreams.commits["nccl"]):
        assert built.interrupted.ran(words)
        assert not built.whole.ran(words), f"{words}: what was finished is not done again"
    assert built.whole.ran("/dev/sparkbake/build-torch.sh")


def test_every_instruction_ran(bench: Bench, built: Built) -> None:
    """Those of all three files, in one of the two builds; none came from what an earlier run of the tests left."""
    for target in bench.targets():
        text = (bench.root / target.name / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
        # BuildKit names a step with its build arguments' values.
        named = text.replace("$FILE_EPOCH", str(FILE_EPOCH))
        instructions = [line for line in named.splitlines() if line.startswith("RUN ")]
        assert instructions
        for one in instructions:
            assert any(one in done.text and done.ran(one) for done in (built.interrupted, built.whole)), one


def test_labels_are_those_of_the_target(bench: Bench, built: Built) -> None:
    for target in bench.targets():
        body = inspect(target.reference)
        assert body["Config"]["Labels"] == dict(target.labels)
        assert body["Config"]["Cmd"] == ["/bin/bash"]
        assert "TORCH_CUDA_ARCH_LIST=12.1a" in body["Config"]["Env"]
    assert {"VLLM_TUNED_CONFIG_FOLDER=/usr/share/sparkbake/moe_configs", "XDG_CACHE_HOME=/cache"} <= set(
        body["Config"]["Env"]
    )
    assert body["Config"]["Entrypoint"] == ["/usr/local/bin/spark"]
    assert body["Config"]["Healthcheck"]["Test"] == ["CMD", "/usr/local/bin/spark", "health"]


def test_everything_in_the_image_is_what_was_compiled(bench: Bench, built: Built) -> None:
    """VLLM has the kernels of both lists, so the patch is in; torch asks the one NCCL there is for its version."""
    script = "import triton, vllm, vllm.routing, torch as t\nprint(vllm.KERNELS, t.version.cuda, t.cuda.nccl.version())"
    done = bench.run(f"python -c '{script}' && all_reduce_perf && find / -xdev -name 'libnccl*' -type f")
    assert done == "2 13.1 (2, 29, 2)\n/opt/nccl/lib/libnccl.so.2.29.2\n"


def test_the_image_says_what_it_was_made_of(bench: Bench, built: Built) -> None:
    said = json.loads(bench.run("cat /usr/share/sparkbake/manifest.json"))
    assert {one["name"]: one["commit"] for one in said["sources"]} == {
        name: bench.upstreams.commits[name] for name in ("llvm", "triton", "vllm", *FETCHED)
    }
    assert [one["name"] for one in said["patches"]] == ["0001-marlin-lists.patch", IN_PYTHON.name]
    assert bench.run("ls $VLLM_TUNED_CONFIG_FOLDER") == f"{TUNED}\n"


def test_the_image_has_by_itself_what_those_have_that_are_installed_from_wheels(bench: Bench, built: Built) -> None:
    asked = "stat --format='%a %n' /cache /workspace /root /usr/local/bin/spark /usr/lib/sparkbake/needs.json"
    assert bench.run(f"{asked}; readlink /root/.cache").splitlines() == [
        "1777 /cache",
        "755 /workspace",
        "700 /root",
        "755 /usr/local/bin/spark",
        "644 /usr/lib/sparkbake/needs.json",
        "/cache",
    ]


def test_a_runtime_image_compiles_and_has_no_compiler_of_the_build(bench: Bench, built: Built) -> None:
    tools = "cicc ptxas nvlink cudafe++ fatbinary"
    found = bench.run(
        f"cd /usr/local/cuda; for one in {tools}; do test -x bin/$one -o -x nvvm/bin/$one && echo $one; done"
    )
    assert found.split() == tools.split()
    assert bench.run("ls /usr/local/cuda/lib64/libcudart.so /usr/local/cuda/include/cuda.h | wc -l") == "2\n"
    assert bench.run("cd /usr/local/cuda/lib64; readlink libcupti.so.13; ls libcupti.so.2*").split() == 2 * [
        "libcupti.so.2025.4.1"
    ]
    assert bench.run("ls /opt/wheels /usr/local/bin/uv /opt/venv/bin/cmake 2>/dev/null | wc -l") == "0\n"


def test_torchvision_reads_every_format(bench: Bench, built: Built) -> None:
    script = "import ctypes, sys\nprint(ctypes.CDLL(sys.argv[1]).formats(ctypes.create_string_buffer(4096)))"
    assert bench.run(f"python -c '{script}' /opt/venv/lib/python3*/site-packages/torchvision/image.so") == "3\n"


def test_nothing_of_the_base_s_own_nccl_is_left(bench: Bench, built: Built) -> None:
    left = bench.run("dpkg-query --show | grep nccl; ls /etc/apt/sources.list.d | grep cuda; true")
    assert left == ""
    assert "drop-nvidia: removing libnccl2" in built.interrupted.text + built.whole.text


# ---- what `verify` makes of it


@pytest.fixture(scope="module")
def checkout(bench: Bench) -> Project:
    """This one, with a folder of its own for reports."""
    root = bench.root.parent / "checkout"
    root.mkdir()
    link_inputs(root)
    return replace(open_project(ROOT), root=root)


def looked_at(
    checkout: Project,
    bench: Bench,
    name: str,
    reference: str | None = None,
    *,
    targets: tuple[SourceTarget, ...] | None = None,
) -> tuple[int, dict[str, Any]]:
    """Look into the image of a recipe, as `build` does; the status, and the report.

    Args:
        reference: of an image that is taken for it.
        targets: what was built, if not the usual ones.
    """
    targets = targets or bench.targets()
    plan = SourcePlan(targets=targets, reusable=tuple(one.name for one in targets[:-1]), open_pins=(), by_hand=())
    contexts = {one.name: render_source(one, RECIPES, runtime_of(one)) for one in targets}
    image: CompiledImage = next(one for one in images_of(plan, contexts) if one.target.recipe == name)
    image = replace(image, target=replace(image.target, reference=reference or image.target.reference))
    there = local_image(image.target.reference)
    assert there
    status = verify_built(checkout, [image], engine_state(), {image.target.name: there.digest}, as_json=False)
    report: dict[str, Any] = json.loads(report_path(checkout, image.target).read_text(encoding="utf-8"))
    return status, report


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_found_clean_with_its_programs_run(
    checkout: Project, bench: Bench, built: Built, name: str
) -> None:
    status, report = looked_at(checkout, bench, name)
    assert (status, report["findings"], report["programs"]) == (0, [], "natively")
    assert report["facts"]["torch"].startswith("2.10.0rc6, CUDA 13.1, NCCL 2.29.2, sm_121a")
    (target,) = (one for one in bench.targets() if one.recipe == name)
    assert digest_in_bill(bill_path(checkout, target).read_text(encoding="utf-8")) == report["digest"]


SPOILT = """\
LABEL dev.example.torch_version=2.11.0
RUN touch /usr/lib/libnccl.so.2.28.9 \\
    && rm -r /opt/venv/lib/python3.13/site-packages/six-*.dist-info /usr/local/bin/spark \\
    && sed -i 's/90 <= capability < 110/capability >= 90/' /opt/venv/lib/python3.13/site-packages/vllm/fp8.py
ENTRYPOINT []
CMD ["/bin/bash"]
"""


def test_all_that_was_spoilt_of_an_image_is_found(checkout: Project, bench: Bench, built: Built) -> None:
    target = bench.targets()[-1]
    reference = f"{target.reference}-spoilt"
    argv = ["docker", "buildx", "build", "--quiet", "--provenance=false", "--tag", reference, "-"]
    done = subprocess.run(argv, input=f"FROM {target.reference}\n{SPOILT}", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    try:
        status, report = looked_at(checkout, bench, "vllm-source", reference)
    finally:
        remove(reference)
    assert status == 1
    assert sorted((one["id"], one["subject"]) for one in report["findings"]) == [
        ("config", "Entrypoint"),
        ("label", "dev.example.torch_version"),
        ("nccl", "usr/lib/libnccl.so.2.28.9"),
        ("package", "six"),
        ("patch", "vllm/fp8.py"),
        ("runtime", "usr/local/bin/spark"),
    ]


# ---- how it was built


def test_every_file_that_a_build_wrote_has_one_time(bench: Bench, built: Built) -> None:
    """All but what the engine itself adds, and folders that steps before ours made."""
    newer = "find /opt /usr/share/sparkbake /workspace /etc/ld.so.cache -newermt 1985-10-28"
    assert bench.run(newer) == ""


def test_a_tag_that_moved_is_told_and_its_commit_counts(bench: Bench, built: Built) -> None:
    commit = bench.upstreams.commits["nccl-tests"]
    told = rf"the tag v2\.17 points to (?!{commit})[0-9a-f]{{40}} now; the commit {commit} counts"
    assert re.search(told, built.interrupted.text + built.whole.text)


def test_jobs_are_as_asked_for_and_change_no_cache_key(bench: Bench, built: Built) -> None:
    assert "jobs: 2 (as asked for)" in built.whole.text
    bench.secrets["jobs"].write_text("1\n", encoding="utf-8")
    again = bench.build(bench.targets())
    bench.secrets["jobs"].write_text("2\n", encoding="utf-8")
    assert again.status == 0, again.text[-2000:]
    assert "jobs: " not in again.text


# ---- vLLM in another way


@pytest.fixture(scope="module")
def native(bench: Bench, built: Built) -> Done:
    """A build of the variant after the usual one."""
    return bench.build(bench.variant(), load=True)


def test_a_variant_compiles_vllm_alone_anew(native: Done) -> None:
    assert native.status == 0, native.text[-3000:]
    assert native.ran("/dev/sparkbake/prepare-vllm.sh")
    assert native.ran("/dev/sparkbake/build-vllm.sh")
    for words in ("/dev/sparkbake/build-nccl.sh", "/dev/sparkbake/build-torch.sh", "/dev/sparkbake/build-triton.sh"):
        assert not native.ran(words), f"{words}: what both have in common is compiled once"


def test_a_variant_is_compiled_for_its_architecture_with_its_patches(bench: Bench, native: Done) -> None:
    """Of the stand-in's two lists its patch adds 12.1a to one."""
    assert "patch: 0002-native-lists.patch: applied, with its 1 effects" in native.text
    script = "python -c 'import vllm; print(vllm.ARCH_LIST, vllm.KERNELS)'; echo $TORCH_CUDA_ARCH_LIST"
    assert bench.run(script, image=bench.variant()[-1].reference) == "12.1a 1\n12.1a\n"
    said = json.loads(bench.run("cat /usr/share/sparkbake/manifest.json", image=bench.variant()[-1].reference))
    names = ["0001-marlin-lists.patch", "0002-native-lists.patch", IN_PYTHON.name]
    assert [one["name"] for one in said["patches"]] == names
    assert said["labels"]["dev.example.variant"] == "12.1"


def test_a_variant_says_so_in_its_labels_and_leaves_the_usual_image_alone(bench: Bench, native: Done) -> None:
    usual, other = bench.targets()[-1], bench.variant()[-1]
    assert inspect(other.reference)["Config"]["Labels"] == dict(other.labels)
    assert inspect(usual.reference)["Config"]["Labels"] == dict(usual.labels)
    assert inspect(usual.reference)["Id"] != inspect(other.reference)["Id"]
    assert bench.run("python -c 'import vllm; print(vllm.ARCH_LIST, vllm.KERNELS)'") == "12.0f 2\n"


def test_a_variant_is_found_clean_and_is_not_taken_for_the_usual_image(
    checkout: Project, bench: Bench, native: Done
) -> None:
    status, report = looked_at(checkout, bench, "vllm-source", targets=bench.variant())
    assert (status, report["findings"], report["programs"]) == (0, [], "natively")
    status, report = looked_at(checkout, bench, "vllm-source", bench.variant()[-1].reference)
    assert status == 1
    assert ("manifest", "usr/share/sparkbake/manifest.json") in {
        (one["id"], one["subject"]) for one in report["findings"]
    }


# ---- what ends a build, and how


def failed(bench: Bench, **changes: Any) -> str:
    """What a build of vLLM said that must not come to its end."""
    done = bench.build(bench.targets(**changes))
    assert done.status != 0
    return done.text


def test_a_commit_that_is_not_in_the_repository(bench: Bench, built: Built) -> None:
    (vllm,) = bench.targets()[-1:]
    sources = tuple(replace(one, commit="f" * 40) if one.name == "vllm" else one for one in vllm.sources)
    done = bench.build(bench.targets(sources=sources))
    assert done.status != 0
    assert not done.ran("/dev/sparkbake/build-torch.sh"), "a fault of vLLM's never compiles torch anew"
    text = done.text
    assert f"{HOST}/vllm.git: has no commit {'f' * 40} on any branch or tag" in text
    assert f"(its tag v0.14.1 is {bench.upstreams.commits['vllm']})" in text


def test_a_patch_that_does_not_apply(bench: Bench, built: Built) -> None:
    wrong = make_patch(PATCH.replace("The lists that the stand-in has", "Lists of another release"))
    assert "0001-marlin-lists.patch does not apply to /src/vllm; nothing was changed" in failed(bench, patches=(wrong,))


def test_a_submodule_that_is_not_in_its_repository(bench: Bench, built: Built) -> None:
    """A commit of flash-attention that names a commit of CUTLASS which nobody pushed."""
    lost = replace(bench.upstreams, commits={**bench.upstreams.commits, "cutlass": "e" * 40})
    commit = lost.commit("flash-attention", {"setup.py": "lost"}, {"csrc/cutlass": "cutlass"}, "lost")
    naming = replace(bench.upstreams, commits={**bench.upstreams.commits, "flash-attention": commit})
    vllm = naming.commit("vllm", VLLM, {}, "lost")
    text = failed(bench, fetches=with_commit(bench, "flash-attention", commit), sources=with_vllm(bench, vllm))
    assert f"{HOST}/cutlass.git: has no commit {'e' * 40}" in text


def test_a_commit_that_is_not_the_one_that_cmake_would_fetch(bench: Bench, built: Built) -> None:
    """It is there, and would be compiled: with the variable set CMake does not look."""
    commit = bench.upstreams.change("flash-attention", "setup.py", "another\n", "another")
    text = failed(bench, fetches=with_commit(bench, "flash-attention", commit))
    theirs = bench.upstreams.commits["flash-attention"]
    assert f"fetched: error: VLLM_FLASH_ATTN_SRC_DIR: got {HOST}/flash-attention.git at {commit}, but this" in text
    assert f"names {HOST}/flash-attention.git at {theirs}; correct the matrix" in text


def test_a_source_that_cmake_needs_and_nobody_hands_it(bench: Bench, built: Built) -> None:
    fetches = tuple(one for one in bench.targets()[-1].fetches if one.source.name != "cutlass")
    text = failed(bench, fetches=fetches)
    assert "FETCHCONTENT_FULLY_DISCONNECTED is set to true" in text
    assert "/tmp/fetched/cutlass-src" in text


def test_submodules_that_were_left_out(bench: Bench, built: Built) -> None:
    """Without its submodules torch refuses to be compiled, and the log says which were left out."""
    dev, runtime, vllm = bench.targets()
    sources = tuple(replace(one, submodules=False) for one in dev.sources)
    done = bench.build((replace(dev, sources=sources), runtime, vllm))
    assert done.status != 0
    assert "1 submodules are left out: third_party/fmt" in done.text
    assert "Could not find third_party/fmt" in done.text


def test_a_torch_from_the_package_index(bench: Bench, built: Built) -> None:
    """A PyPI torch for arm64 is one for the CPU; it never comes as far as being fetched."""
    torch = Wheel(name="torch", version="2.10.0", file="", sha256="0" * 64, size_bytes=0)
    wheels = (*bench.wheels["environment"], torch)
    text = failed(bench, environment=Environment(base="cuda", python="3.13", wheels=wheels))
    assert "environment.txt names torch, which this build compiles" in text


def test_a_torch_that_was_compiled_for_the_cpu(bench: Bench, built: Built) -> None:
    """Whatever led its own build astray: the guard looks at what came out."""
    text = TORCH["setup.py"].replace('os.environ.get("USE_CUDA") == "1"', "False")
    commit = bench.upstreams.change("torch", "setup.py", text, "cpu")
    dev, runtime, vllm = bench.targets()
    sources = tuple(replace(one, commit=commit) if one.name == "torch" else one for one in dev.sources)
    done = bench.build((replace(dev, sources=sources), runtime, vllm))
    assert done.status != 0
    assert "torch 2.10.0rc6 is a build for the CPU alone; CUDA 13.1.0 was to be compiled in" in done.text


def test_a_torchvision_without_a_format(bench: Bench, built: Built) -> None:
    done = bench.build(bench.targets(), instead={"cuda-devel": "RUN rm /usr/include/jpeglib.h"})
    assert done.status != 0
    assert "torchvision/image.so is not linked to libjpeg: their headers were not found" in done.text


def test_a_runtime_image_without_a_library_that_torchvision_needs(bench: Bench, built: Built) -> None:
    done = bench.build(bench.targets(), instead={"cuda-runtime": "RUN dpkg --purge --force-depends libwebp7"})
    assert done.status != 0
    assert "torchvision/image.so does not load: " in done.text
    assert "libwebp.so.7: cannot open shared object file" in done.text


def test_an_llvm_that_triton_does_not_name(bench: Bench, built: Built) -> None:
    commit = bench.upstreams.change("llvm", "llvm/mlir.txt", "another\n", "another")
    (vllm,) = bench.targets()[-1:]
    sources = tuple(replace(one, commit=commit) if one.name == "llvm" else one for one in vllm.sources)
    text = failed(bench, sources=sources)
    assert f"Triton 3.5.1 needs LLVM {bench.upstreams.commits['llvm']}, but LLVM is at {commit}" in text


# ---- vLLM's part in Rust

RUST_IMAGE = "docker.io/sparkbake-test/vllm-rust:1"


@pytest.fixture(scope="module")
def rust_sources(bench: Bench, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The files of a vLLM that has one; while its crates are served, and builds are told where."""
    commit = bench.upstreams.commit("llm-multimodal", MULTIMODAL, {})
    with served_crates(tmp_path_factory.mktemp("crates")) as address:
        settings = bench.root / "cargo.toml"
        settings.write_text(cargo_config(address), encoding="utf-8")
        bench.secrets["cargo"] = settings
        remove(RUST_IMAGE)
        yield rust_vllm(commit, checksum())
        remove(RUST_IMAGE)
        del bench.secrets["cargo"]


def with_rust(bench: Bench, files: Mapping[str, str], branch: str) -> tuple[SourceTarget, ...]:
    """Targets for a vLLM of these files."""
    commit = bench.upstreams.commit("vllm", files, {}, branch)
    own = tuple(replace(one, commit=commit) if one.name == "vllm" else one for one in bench.targets()[-1].sources)
    image = {"name": "vllm-rust-1", "reference": RUST_IMAGE}
    return bench.targets(sources=own, rust=True, build_os_packages=RUST_PACKAGES, **image)


def failed_rust(bench: Bench, files: Mapping[str, str], branch: str) -> str:
    """What a build of a vLLM of these files said, which must not come to its end."""
    done = bench.build(with_rust(bench, files, branch))
    assert done.status != 0
    return done.text


def test_the_part_in_rust_is_compiled_from_crates_of_mirrors(
    bench: Bench, built: Built, rust_sources: Mapping[str, str]
) -> None:
    """What is compiled tells nothing of the mirrors: they never change what is built."""
    targets = with_rust(bench, rust_sources, "rust")
    done = bench.build(targets, load=True)
    assert done.status == 0, done.text[-3000:]
    assert done.ran("/dev/sparkbake/fetch-crates.sh")
    assert not done.ran("/dev/sparkbake/build-torch.sh")
    program = "/opt/venv/lib/python3*/site-packages/vllm/vllm-rs"
    assert bench.run(program, image=targets[-1].reference) == SAID
    words = (f"{CRATES}/{CRATE}-{VERSION}/src/lib.rs", "127.0.0.1")
    asked = "; ".join(f"grep --count --text --fixed-strings {one} {program}" for one in words)
    of_crate, of_mirror = bench.run(f"{asked}; true", image=targets[-1].reference).split()
    assert of_crate != "0"
    assert of_mirror == "0"


def test_a_cargo_lock_that_does_not_fit(bench: Bench, built: Built, rust_sources: Mapping[str, str]) -> None:
    locked = rust_sources["rust/Cargo.lock"].replace(f'checksum = "{checksum()}"', f'checksum = "{64 * "0"}"')
    text = failed_rust(bench, {**rust_sources, "rust/Cargo.lock": locked}, "other-checksum")
    assert "checksum for `counting v1.0.0` changed between lock files" in text
    workspace = rust_sources["rust/Cargo.toml"].replace('version = "0.1.0"', 'version = "0.2.0"')
    text = failed_rust(bench, {**rust_sources, "rust/Cargo.toml": workspace}, "other-version")
    assert re.search(r"lock file /src/vllm/rust/Cargo.lock .*--locked was passed", text)


def test_a_crate_that_cargo_lock_does_not_name(bench: Bench, built: Built, rust_sources: Mapping[str, str]) -> None:
    """A program outside the workspace with crates of its own: nobody fetched them, or can where it is compiled."""
    setup = rust_sources["setup.py"].replace("rust/src/cmd/Cargo.toml", "more/Cargo.toml")
    manifest = '[package]\nname = "vllm-cmd"\nversion = "0.1.0"\n\n[dependencies]\nanother = "1"\n\n[workspace]\n'
    more = {"setup.py": setup, "more/Cargo.toml": manifest, "more/src/main.rs": "fn main() {}\n"}
    text = failed_rust(bench, {**rust_sources, **more}, "more-crates")
    assert "no matching package named `another` found" in text
    assert "directory source `/src/crates/vendor`" in text


def test_rust_that_does_not_compile(bench: Bench, built: Built, rust_sources: Mapping[str, str]) -> None:
    """Upstream's own build would go on without it."""
    text = failed_rust(bench, {**rust_sources, MAIN: "fn main() { 1 }\n"}, "wrong-type")
    assert "error[E0308]: mismatched types" in text


def test_a_machine_without_cargo(bench: Bench, built: Built, rust_sources: Mapping[str, str]) -> None:
    done = bench.build(with_rust(bench, rust_sources, "rust"), instead={"dev": "RUN rm -r /usr/lib/rust-*"})
    assert done.status != 0
    assert "fetch-crates: error: there is no cargo; name its package in the matrix" in done.text


def with_vllm(bench: Bench, commit: str) -> tuple[GitSource, ...]:
    return tuple(replace(one, commit=commit) if one.name == "vllm" else one for one in bench.targets()[-1].sources)


def with_commit(bench: Bench, name: str, commit: str) -> tuple[Fetch, ...]:
    return tuple(
        replace(one, source=replace(one.source, commit=commit)) if one.source.name == name else one
        for one in bench.targets()[-1].fetches
    )


# ---- what tools say of the recipes


@pytest.mark.parametrize("name", NAMES)
def test_buildkit_finds_nothing_to_say_of_the_dockerfile(bench: Bench, name: str) -> None:
    target = next(one for one in bench.targets() if one.recipe == name)
    bench.bake_file([target], load=False)
    argv = ["docker", "buildx", "build", "--check", "--progress", "plain"]
    argv += [word for stage, place in bench.bases.items() for word in ("--build-context", f"{stage}={place}")]
    done = subprocess.run([*argv, str(bench.root / target.name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Check complete, no warnings found." in done.stdout + done.stderr
