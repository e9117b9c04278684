"""Claims about gathering: what is there is found, what is missing is said, and nothing private is kept."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.builders import ROOT

from sparkbake.hostengine import check_docker
from sparkbake.hostfacts import gather, huggingface_home
from sparkbake.hostvalues import Answer, Host, Port, Token

Gather = Callable[..., Host]
# What runs inside an image, where nothing of this project is installed.
STANDALONE = (
    "__init__",
    "errors",
    "process",
    "hostvalues",
    "hostread",
    "hostchecks",
    "hostengine",
    "hostresources",
    "hostnetwork",
    "doctor",
    "hostfacts",
)
INFO = {
    "ServerVersion": "28.5.2",
    "DockerRootDir": "/var/lib/docker",
    "Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}},
    "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}],
    "Containerd": {"Address": "/var/run/docker/containerd/containerd.sock"},
    "HTTPProxy": "http://user:password@proxy:3128",
}
# What stood on both streams of `docker info`; each file says of which docker.
DOCKER_INFO = ROOT / "tests" / "data" / "docker-info"
REFUSALS = {
    "refused": "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
    "nothing": "Cannot connect to the Docker daemon at unix:///nonexistent/docker.sock. Is the docker daemon running?",
}
SMI = """\
+---------------------------------------------------------------------------------------+
| NVIDIA-SMI 580.95.05              Driver Version: 580.95.05      CUDA Version: 13.0   |
|    0   N/A  N/A      4242      C   /home/somebody/secret/python                       |
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def program(folder: Path, name: str, text: str) -> None:
    """A shell script in place of a program."""
    path = write(folder / name, f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def engine(info: object, host: str = "unix:///var/run/docker.sock") -> str:
    """What stands in for docker: it answers `context` and, whatever else it is asked, as `info`."""
    return f'if [ "$1" = context ]; then echo {host}; exit; fi\n{prints(json.dumps(info))}'


def prints(text: str) -> str:
    return f"/bin/cat <<'END'\n{text}\nEND"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_processes: None) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def look(tmp_path: Path, root: Path, programs: Path) -> Gather:
    def call(environment: Mapping[str, str] | None = None, **changes: object) -> Host:
        given = {"HF_HOME": str(tmp_path / "hf"), **(environment or {})}
        named = {"environment": given, "models": tmp_path / "hf", "clock": "2026-11-21", "root": root, **changes}
        return gather(**named)  # type: ignore[arg-type]

    return call


# ---- programs


def test_a_machine_without_anything_is_no_error(look: Gather) -> None:
    host = look()
    assert host.answers["nvidia-smi"] == Answer(why="nvidia-smi: not found on PATH")
    assert host.answers["docker"] == Answer(why="docker: not found on PATH")
    assert host.answers["container-gpu"] == Answer(why="not asked")
    assert host.answers["meminfo"].why.endswith("/proc/meminfo: No such file or directory")
    assert all(one.text is None and one.why for one in host.answers.values())
    assert (host.nvccs, host.images, host.token, host.rdma, host.in_container) == ({}, None, None, None, False)


def test_a_program_that_fails_says_why_on_one_line(look: Gather, programs: Path) -> None:
    program(programs, "nvidia-smi", "echo 'NVIDIA-SMI has failed' >&2\necho 'because' >&2\nexit 9")
    assert look().answers["gpus"] == Answer(why="NVIDIA-SMI has failed; because")


def test_of_nvidia_smi_no_process_is_kept(look: Gather, programs: Path) -> None:
    program(programs, "nvidia-smi", prints(SMI))
    text = look().answers["nvidia-smi"].text
    assert text
    assert "CUDA Version: 13.0" in text
    assert "secret" not in text


def test_of_processes_on_the_gpu_only_what_they_hold_is_asked(look: Gather, programs: Path, tmp_path: Path) -> None:
    program(programs, "nvidia-smi", f'echo "$@" >>{tmp_path}/called\n{prints("20480")}')
    assert look().answers["gpu-processes"] == Answer(text="20480\n")
    called = (tmp_path / "called").read_text(encoding="utf-8")
    assert "--query-compute-apps=used_memory --format=csv,noheader,nounits\n" in called


def test_shared_memory_is_that_of_the_root(look: Gather, root: Path) -> None:
    assert look().shm_bytes is None
    (root / "dev/shm").mkdir(parents=True)
    assert look().shm_bytes


def test_of_docker_only_what_matters_is_kept(look: Gather, programs: Path) -> None:
    program(programs, "docker", engine(INFO))
    text = look().answers["docker"].text
    assert text
    assert json.loads(text) == {
        "ServerVersion": "28.5.2",
        "DataFolder": "/var/lib/docker",
        "Runtimes": ["nvidia", "runc"],
        "Devices": ["nvidia.com/gpu=all"],
    }


@pytest.mark.parametrize("said", ["{}", "[]", "no JSON", '{"ServerVersion": ""}'])
def test_an_answer_of_docker_without_an_engine_is_none(look: Gather, programs: Path, said: str) -> None:
    program(programs, "docker", prints(said))
    assert look().answers["docker"] == Answer(why="docker info says nothing of an engine")


@pytest.mark.parametrize("name", sorted(path.stem for path in DOCKER_INFO.glob("*.json")))
def test_an_engine_that_does_not_answer_says_why_whatever_the_command_ends_with(
    look: Gather, programs: Path, name: str
) -> None:
    """Recorded: a docker of 2024 ends with 0 and has the reason in its JSON, one of 2025 ends with 1."""
    said = json.loads((DOCKER_INFO / f"{name}.json").read_text(encoding="utf-8"))
    assert said["source"] == "recorded"
    assert said["status"] == (0 if name.endswith("-26") else 1)
    program(
        programs, "docker", f"{{\n{prints(said['stderr'])}\n}} >&2\n{prints(said['stdout'])}\nexit {said['status']}"
    )
    host = look()
    assert host.answers["docker"].text is None
    assert host.answers["docker"].why.startswith(REFUSALS[name.partition("-")[0]])
    found = next(check_docker(host))
    denied = name.startswith("refused")
    assert found.remedy.startswith('sudo usermod -aG docker "$USER"' if denied else "sudo systemctl start docker")


def test_a_container_is_started_only_where_an_engine_and_a_gpu_answer(
    look: Gather, programs: Path, tmp_path: Path
) -> None:
    called = tmp_path / "called"
    program(programs, "docker", f'echo "$@" >>{called}\n{engine(INFO)}')
    look(image="one/image:1")
    assert not [line for line in called.read_text(encoding="utf-8").splitlines() if line.startswith("run")]
    program(programs, "nvidia-smi", prints("NVIDIA GB10, 12.1, 580.95.05"))
    look(image="one/image:1")
    assert [line for line in called.read_text(encoding="utf-8").splitlines() if line.startswith("run")] == [
        "run --rm --pull never --gpus all --network none --entrypoint nvidia-smi one/image:1 -L"
    ]


def test_where_no_image_is_named_the_first_of_ours_that_the_engine_has_is_asked(
    look: Gather, programs: Path, tmp_path: Path
) -> None:
    called = tmp_path / "called"
    listed = prints("debian:12\n<none>:<none>\none/image:1\nregistry:5000/one/image:3")
    program(programs, "docker", f'echo "$@" >>{called}\nif [ "$1" = image ]; then\n{listed}\nexit; fi\n{engine(INFO)}')
    program(programs, "nvidia-smi", prints("NVIDIA GB10, 12.1, 580.95.05"))
    ours = ("docker.io/one/image:2", "docker.io/one/image:1", "registry:5000/one/image:3")
    assert look(candidates=ours).image == "docker.io/one/image:1"
    assert "nvidia-smi docker.io/one/image:1 -L" in called.read_text(encoding="utf-8")
    assert look(candidates=ours[:1]).image == ""
    assert look(candidates=ours, image="other").image == "other"


def test_no_image_is_looked_for_without_a_gpu(look: Gather, programs: Path) -> None:
    program(programs, "docker", f'if [ "$1" = image ]; then\n{prints("one/image:1")}\nexit; fi\n{engine(INFO)}')
    assert look(candidates=("docker.io/one/image:1",)).image == ""


def test_compilers_are_listed_once_each_and_the_one_on_the_path_first(look: Gather, programs: Path, root: Path) -> None:
    for folder, release in (("usr/bin", "12.0"), ("usr/local/cuda-13.0/bin", "13.0")):
        (root / folder).mkdir(parents=True)
        program(root / folder, "nvcc", f"echo 'Cuda compilation tools, release {release}, V{release}.1'")
    (root / "usr/local/cuda").symlink_to("cuda-13.0")
    program(programs, "nvcc", "exit 1")
    found = look().nvccs
    assert list(found) == [
        str(programs / "nvcc"),
        *(str(root / one) for one in ("usr/bin/nvcc", "usr/local/cuda/bin/nvcc")),
    ]
    assert [one.text and one.text.split()[4] for one in found.values()] == [None, "12.0,", "13.0,"]


# ---- files


def test_of_connections_only_sockets_that_listen_are_kept(look: Gather, root: Path) -> None:
    line = "   {}: 00000000:1F40 0A00000A:0016 {} 00000000:00000000 00:00000000 00000000  1000        0 1"
    write(root / "proc/net/tcp", "\n".join(["  sl  local_address", line.format(0, "0A"), line.format(1, "01")]))
    text = look().answers["tcp"].text
    assert text
    assert [one.split()[3] for one in text.splitlines()] == ["0A"]


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_a_container_is_told_by_its_mark(look: Gather, root: Path, mark: str) -> None:
    write(root / mark, "")
    assert look().in_container


def test_a_folder_that_is_not_there_has_the_space_of_the_one_above(look: Gather, tmp_path: Path) -> None:
    found = look(models=tmp_path / "not" / "there").models
    assert (found.is_there, found.is_writable, found.owner, found.can_be_made) == (False, False, None, True)
    assert found.free_bytes


def test_a_folder_says_whose_it_is_and_what_it_is_on(look: Gather, tmp_path: Path, root: Path) -> None:
    (tmp_path / "hf").mkdir()
    write(
        root / "proc/mounts",
        f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path}/hf nfs4 rw 0 0\n/dev/b {tmp_path}/h xfs rw 0 0\n",
    )
    found = look().models
    assert (found.is_there, found.is_writable, found.owner, found.file_system) == (True, True, os.getuid(), "nfs4")
    assert (found.mount, found.can_be_made) == (f"{tmp_path}/hf", True)


def test_entries_of_others_are_found_two_levels_deep(
    look: Gather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("hub/model/blob", "token"):
        write(tmp_path / "hf" / path, "")
    assert look().models.foreign == ()
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    assert look().models.foreign == ("hub", "token")


def test_the_folder_of_an_engine_elsewhere_is_not_looked_for_here(look: Gather, programs: Path, root: Path) -> None:
    (root / "var/lib/docker").mkdir(parents=True)
    program(programs, "docker", engine(INFO))
    images = look().images
    assert images
    assert (images.path, images.is_there) == (str(root / "var/lib/docker"), True)
    assert look({"DOCKER_HOST": "ssh://spark"}).images is None
    program(programs, "docker", engine(INFO, "tcp://spark:2376"))
    assert look().images is None
    system = {**INFO, "Containerd": {"Address": "/run/containerd/containerd.sock"}}
    program(programs, "docker", engine(system))
    images = look().images
    assert images
    assert images.path == str(root / "var/lib/containerd")


def test_a_folder_below_one_that_this_user_may_not_write_cannot_be_made(
    look: Gather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(os, "access", lambda path, _mode: asked.append(Path(path)))
    assert not look(models=tmp_path / "not" / "there").models.can_be_made
    assert tmp_path in asked


def test_ports_are_those_that_the_variables_of_an_image_name(look: Gather) -> None:
    assert look().named_ports == {"PORT": "8000"}
    assert look({"PORT": "80", "RAY_PORT": "6380"}).named_ports == {"PORT": "80", "RAY_PORT": "6380"}


# ---- the token


def test_a_token_in_a_variable_goes_before_the_file(look: Gather, tmp_path: Path) -> None:
    write(tmp_path / "hf" / "token", "hf_file").chmod(0o640)
    assert look().token == Token(place=str(tmp_path / "hf" / "token"), is_plausible=True, mode=0o640)
    assert look({"HF_TOKEN": "no"}).token == Token(place="HF_TOKEN", is_plausible=False, mode=None)
    elsewhere = write(tmp_path / "elsewhere", "hf_other")
    elsewhere.chmod(0o600)
    assert look({"HF_TOKEN_PATH": str(elsewhere)}).token == Token(place=str(elsewhere), is_plausible=True, mode=0o600)


def test_the_home_of_hugging_face_is_where_its_library_has_it() -> None:
    assert huggingface_home({"HF_HOME": "/a"}) == Path("/a")
    assert huggingface_home({"XDG_CACHE_HOME": "/b"}) == Path("/b/huggingface")
    assert huggingface_home({}) == Path.home() / ".cache" / "huggingface"


# ---- RDMA


def test_rdma_devices_are_read_with_their_interfaces(look: Gather, root: Path) -> None:
    for device, interface in (("rocep1s0f0", "enp1s0f0np0"), ("rocep1s0f1", "enp1s0f1np1")):
        port = root / "sys/class/infiniband" / device / "ports" / "1"
        write(port / "state", "4: ACTIVE\n")
        write(port / "rate", "200 Gb/sec (4X HDR)\n")
        write(port / "link_layer", "Ethernet\n")
        write(root / "sys/class/net" / interface / "mtu", "9000\n")
    write(root / "sys/class/infiniband/rocep1s0f0/ports/1/gid_attrs/ndevs/0", "enp1s0f0np0\n")
    (root / "sys/class/infiniband/rocep1s0f1/device/net/enp1s0f1np1").mkdir(parents=True)
    common = {"number": 1, "state": "ACTIVE", "rate": "200 Gb/sec (4X HDR)", "layer": "Ethernet", "mtu": 9000}
    assert look().rdma == (
        Port(device="rocep1s0f0", interface="enp1s0f0np0", **common),  # type: ignore[arg-type]
        Port(device="rocep1s0f1", interface="enp1s0f1np1", **common),  # type: ignore[arg-type]
    )


def test_of_addresses_only_the_interfaces_that_have_one_are_kept(look: Gather, programs: Path) -> None:
    text = json.dumps([{"ifname": "enp1s0f0np0", "addr_info": [{"local": "192.168.100.10"}]}])
    program(programs, "ip", prints(text))
    assert look().answers["ipv4"] == Answer(text="enp1s0f0np0\n")


def test_an_rdma_device_without_an_interface_is_shown_as_well(look: Gather, root: Path) -> None:
    write(root / "sys/class/infiniband/mlx5_0/ports/1/state", "1: DOWN\n")
    (port,) = look().rdma or ()
    assert (port.state, port.interface, port.mtu) == ("DOWN", "", None)


# ---- inside an image


@pytest.mark.usefixtures("real_processes")
def test_the_checks_need_nothing_but_python(tmp_path: Path) -> None:
    """A folder with just these modules, and Python without any package, is enough."""
    for name in STANDALONE:
        write(
            tmp_path / "sparkbake" / f"{name}.py", (ROOT / "src/sparkbake" / f"{name}.py").read_text(encoding="utf-8")
        )
    script = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from sparkbake import doctor, hostfacts, hostvalues as v\n"
        "host = hostfacts.gather(environment={}, models=pathlib.Path('/'), clock='2026-11-21')\n"
        "needs = v.Needs(compute_capability='12.1', cuda='13.0.3', least_driver='1', drivers=(), troubles=(),"
        " image_bytes=1, models_bytes=1, utilization=0.9,"
        " shm_bytes=1, held_bytes=1, roce_mtu=1, clock_not_before='2026-01-01', ports=(1,))\n"
        "print(doctor.last_line(doctor.diagnose(host, needs)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": str(tmp_path)},
    )
    assert " checks: " in done.stdout
