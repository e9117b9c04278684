"""Claims about the doctor: what it finds on good and bad hosts, recorded and invented, and with which words."""

import json
from dataclasses import asdict, replace

import pytest
from tests.hostbuilder import HOSTS, KINDS, load_host, make_needs, with_answers

from sparkbake.doctor import as_json, count, diagnose, exit_status, last_line
from sparkbake.hostvalues import Answer, Check, Host, Needs

NAMES = sorted(path.stem for path in HOSTS.glob("*.json"))

# Host to what is wrong with it; every other check of it is "ok" or "not checked".
WRONG = {
    "spark": {},
    "spark-container": {},
    "spark-container-bare": {"shm": "warning", "hf-token": "warning", "hf-cache": "warning"},
    "debian-vm": {
        "system": "warning", "gpu": "error", "disk-models": "warning", "hf-token": "warning",
        "hf-cache": "warning",
    },
    "h200-container": {
        "system": "warning", "compute-capability": "error", "disk-models": "warning", "hf-token": "warning",
    },
    "h200-server": {
        "system": "warning", "driver": "error", "compute-capability": "error", "cuda": "error",
        "container-toolkit": "error",
    },
    "spark-half-set-up": {
        "driver": "warning", "container-toolkit": "warning", "container-gpu": "error", "disk-images": "error",
        "time": "error", "hf-token": "warning", "hf-cache": "warning",
    },
    "spark-neglected": {
        "driver": "error", "gpu-memory": "warning", "nvcc": "warning", "docker": "error", "disk-models": "warning",
        "memory": "warning",
        "swap": "warning", "roce": "warning", "time": "warning", "hf-token": "warning", "hf-cache": "warning",
        "cache-file-system": "warning", "port": "error",
    },
    "spark-without-driver": {"gpu": "error", "hf-token": "warning", "hf-cache": "warning"},
}  # fmt: skip
# Host to what could not be looked at.
NOT_CHECKED = {
    "spark": set[str](),
    "spark-container": {"gpu-memory", "docker", "container-toolkit", "container-gpu", "disk-images", "roce", "time"},
    "spark-container-bare": {
        "gpu-memory", "docker", "container-toolkit", "container-gpu", "disk-images", "roce", "time",
    },
    "debian-vm": {
        "driver", "compute-capability", "cuda", "gpu-memory", "container-toolkit", "container-gpu", "roce", "time",
    },
    "h200-container": {
        "gpu-memory", "docker", "container-toolkit", "container-gpu", "disk-images", "shm", "roce", "time", "hf-cache",
    },
    "h200-server": {"container-gpu", "roce"},
    "spark-half-set-up": set[str](),
    "spark-neglected": {"container-toolkit", "container-gpu", "disk-images"},
    "spark-without-driver": {
        "driver", "compute-capability", "cuda", "gpu-memory", "container-toolkit", "container-gpu", "disk-models",
        "memory", "shm", "swap", "roce", "time", "cache-file-system", "port",
    },
}  # fmt: skip


def checks_of(host: Host | str, needs: Needs | None = None) -> dict[str, Check]:
    """Kind to the check; of several of a kind the worst."""
    found = diagnose(load_host(host) if isinstance(host, str) else host, needs or make_needs())
    order = ("ok", "not checked", "warning", "error")
    return {one.id: one for one in sorted(found, key=lambda one: order.index(one.status))}


# ---- all of it


@pytest.mark.parametrize("name", NAMES)
def test_a_host_says_whether_it_was_recorded_or_invented(name: str) -> None:
    said = json.loads((HOSTS / f"{name}.json").read_text(encoding="utf-8"))
    assert said["source"] in ("recorded", "invented")
    assert said["from"]


@pytest.mark.parametrize("name", NAMES)
def test_a_host_has_what_is_wrong_with_it_found_and_nothing_else(name: str) -> None:
    found = checks_of(name)
    assert {kind: one.status for kind, one in found.items() if one.status in ("warning", "error")} == WRONG[name]
    assert {kind for kind, one in found.items() if one.status == "not checked"} == NOT_CHECKED[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_check_is_in_the_answer_whatever_came_of_it(name: str) -> None:
    assert list(dict.fromkeys(one.id for one in diagnose(load_host(name), make_needs()))) == KINDS


@pytest.mark.parametrize("name", NAMES)
def test_a_finding_says_what_why_and_how_to_mend_it_and_nothing_else_does(name: str) -> None:
    for one in diagnose(load_host(name), make_needs()):
        is_wrong = one.status in ("warning", "error")
        assert all([one.found, one.subject])
        assert (bool(one.expected), bool(one.why), bool(one.remedy)) == (is_wrong, is_wrong, is_wrong), one
        assert one.found.startswith("because ") == (one.status == "not checked"), one


def test_every_kind_of_finding_is_shown_by_some_host() -> None:
    assert {kind for wrong in WRONG.values() for kind in wrong} == set(KINDS)
    assert {kind for name in NAMES for kind, one in checks_of(name).items() if one.status == "ok"} == set(KINDS)


def test_errors_end_with_1_and_warnings_do_not() -> None:
    good, warned, bad = (diagnose(load_host(name), make_needs()) for name in ("spark", "spark", "debian-vm"))
    warned = (*warned, replace(good[0], status="warning"))
    assert [exit_status(one) for one in (good, warned, bad)] == [0, 0, 1]


def test_the_last_line_counts_all() -> None:
    checks = diagnose(load_host("h200-server"), make_needs())
    assert last_line(checks) == "21 checks: 4 errors, 1 warning, 2 not checked, 14 ok"
    assert count(checks) == {"error": 4, "warning": 1, "not checked": 2, "ok": 14}


def test_json_is_flat_and_has_what_was_gathered() -> None:
    host, needs = load_host("spark-neglected"), make_needs()
    checks = diagnose(host, needs)
    said = json.loads(json.dumps(as_json(checks, host, needs)))
    assert set(said) == {"schema", "count", "checks", "needs", "host"}
    assert set(said["checks"][0]) == {"id", "status", "subject", "found", "expected", "why", "remedy"}
    assert said["checks"][2]["id"] == "driver"
    assert said["host"] == json.loads((HOSTS / "spark-neglected.json").read_text(encoding="utf-8"))["host"]


# ---- the GPU and its driver


@pytest.mark.parametrize(
    ("name", "found", "remedy"),
    [
        ("debian-vm", "no NVIDIA GPU here: nvidia-smi: not found on PATH", "start the container with --gpus all; then"),
        (
            "spark-without-driver",
            "no NVIDIA GPU here: NVIDIA-SMI has failed because",
            "sudo apt-get update && sudo apt",
        ),
    ],
)
def test_without_a_gpu_there_is_one_error_for_it(name: str, found: str, remedy: str) -> None:
    checks = checks_of(name)
    assert checks["gpu"].found.startswith(found)
    assert checks["gpu"].remedy.startswith(remedy)
    for kind in ("driver", "compute-capability", "cuda", "gpu-memory", "container-toolkit", "container-gpu"):
        assert checks[kind].found == "because no NVIDIA GPU answers"


def test_a_machine_that_is_no_spark_is_not_told_to_update_its_driver() -> None:
    host = replace(load_host("debian-vm"), in_container=False)
    assert checks_of(host)["gpu"].remedy == "none here, unless the machine has an NVIDIA GPU: then install its driver"


def test_an_empty_list_of_gpus_is_no_gpu() -> None:
    host = with_answers(load_host("spark"), gpus=Answer(text="No devices were found\n"))
    assert checks_of(host)["gpu"].found == "no NVIDIA GPU here: nvidia-smi lists none"


def test_a_driver_is_held_against_the_chip_and_against_cuda() -> None:
    found = checks_of("spark-neglected")["driver"]
    assert (found.found, found.expected) == ("580.82.07", "580.95.05 or newer")
    assert checks_of("spark")["driver"].found == "580.95.05, at least 580.95.05 is needed"
    newer = make_needs(cuda="14.0.0", drivers=(("13.0", "580.65.06"), ("14.0", "610.10"), ("14.1", "620.1")))
    assert checks_of("spark", newer)["driver"].expected == "610.10 or newer"


def test_versions_of_drivers_compare_as_numbers() -> None:
    host = with_answers(load_host("spark"), gpus=Answer(text="NVIDIA GB10, 12.1, 580.142\n"))
    assert checks_of(host)["driver"].status == "ok"


def test_a_driver_that_users_report_trouble_of_is_a_warning_with_its_source() -> None:
    why = checks_of("spark-half-set-up")["driver"].why
    assert why == "users report a deadlock of CUDA graphs with it (README of eugr/spark-vllm-docker, 2026-03-12)"


def test_a_driver_that_cuda_came_with_and_that_users_report_trouble_of_is_told_as_such() -> None:
    """The doctor names 590.44.01 for CUDA 13.1, and warns of 590: both findings say so."""
    ours = make_needs(cuda="13.1.1")
    wanted = checks_of("spark", ours)["cuda"]
    trouble = "users report a deadlock of CUDA graphs with it (README of eugr/spark-vllm-docker, 2026-03-12)"
    assert wanted.expected == f"CUDA 13.1 or newer: driver 590.44.01, but {trouble}"
    assert wanted.remedy.startswith("take a row of CUDA 13.0: nox -s list; or a driver of a later series than 590: ")
    there = checks_of("spark-half-set-up", ours)["driver"]
    assert there.why == f"{trouble}; it is the series that CUDA 13.1 of this image came with"
    assert there.expected == "a later series than 590"
    other = checks_of("spark", make_needs(cuda="13.2.0"))["cuda"]
    assert (other.expected, other.remedy[:4]) == ("CUDA 13.2 or newer: driver 595.45.04", "sudo")


def test_another_chip_is_named() -> None:
    found = checks_of("h200-server")["compute-capability"]
    assert (found.found, found.expected) == ("NVIDIA H200: 9.0", "12.1")


def test_a_minor_release_of_cuda_ahead_of_the_driver_is_a_warning_and_a_major_one_an_error() -> None:
    minor = checks_of("spark", make_needs(cuda="13.1.1"))["cuda"]
    assert (minor.status, minor.found) == ("warning", "CUDA 13.0")
    assert minor.expected.startswith("CUDA 13.1 or newer: driver 590.44.01, but users report")
    assert "PTX" in minor.why
    major = checks_of("h200-server")["cuda"]
    assert (major.status, major.found, major.why) == (
        "error", "CUDA 12.8", "programs of a newer major release do not start",
    )  # fmt: skip


def test_a_driver_that_does_not_say_its_cuda_is_no_fault() -> None:
    host = with_answers(load_host("spark"), nvidia_smi=Answer(text="NVIDIA-SMI 999.1\n"))
    assert checks_of(host)["cuda"].found == "because nvidia-smi does not say which CUDA the driver knows"


# ---- compilers and the engine


def test_an_old_nvcc_names_the_one_that_it_hides() -> None:
    found = checks_of("spark-neglected")["nvcc"]
    assert (found.subject, found.found) == ("/usr/bin/nvcc", "CUDA 12.0, which hides /usr/local/cuda/bin/nvcc")
    assert found.remedy == "sudo apt-get remove nvidia-cuda-toolkit, or put /usr/local/cuda/bin first in PATH"
    host = load_host("spark-neglected")
    alone = replace(host, nvccs={"/usr/bin/nvcc": host.nvccs["/usr/bin/nvcc"]})
    assert checks_of(alone)["nvcc"].remedy == "sudo apt-get remove nvidia-cuda-toolkit"
    inside = checks_of(replace(alone, in_container=True))["nvcc"]
    assert inside.remedy == "in the Dockerfile of this image: apt-get remove nvidia-cuda-toolkit"


def test_an_nvcc_that_says_nothing_of_itself_is_not_judged() -> None:
    host = replace(load_host("spark"), nvccs={"/usr/bin/nvcc": Answer(why="Exec format error")})
    assert checks_of(host)["nvcc"].found == "because Exec format error"


def test_an_engine_that_refuses_this_user_is_told_from_one_that_does_not_run() -> None:
    assert checks_of("spark-neglected")["docker"].remedy == 'sudo usermod -aG docker "$USER", then log in anew'
    host = with_answers(load_host("spark"), docker=Answer(why="docker: not found on PATH"))
    assert checks_of(host)["docker"].remedy.startswith("sudo systemctl start docker; where none is installed:")
    assert checks_of(host)["container-gpu"].found == "because no Docker Engine answers"
    why = "WARNING: Error loading config file: open config.json: permission denied; Cannot connect to the Docker daemon"
    host = with_answers(load_host("spark"), docker=Answer(why=why))
    assert checks_of(host)["docker"].remedy.startswith("sudo systemctl start docker")


def test_a_container_without_an_engine_is_nothing_wrong() -> None:
    assert checks_of("spark-container")["docker"].found == "because this is a container, and no engine answers in it"


def test_the_toolkit_may_be_known_to_the_engine_by_its_runtime_or_by_devices() -> None:
    assert checks_of("spark")["container-toolkit"].found == "1.18.0, by the runtime nvidia"
    engine = {"ServerVersion": "29.1.0", "DataFolder": "/var/lib/docker", "Runtimes": ["runc"]}
    host = with_answers(load_host("spark"), docker=Answer(text=json.dumps({**engine, "Devices": ["nvidia.com/gpu=0"]})))
    assert checks_of(host)["container-toolkit"].found == "1.18.0, by CDI"


def test_a_toolkit_that_is_missing_and_one_that_is_not_set_up_are_told_apart() -> None:
    assert checks_of("h200-server")["container-toolkit"].found == "nvidia-ctk: not found on PATH"
    found = checks_of("spark-half-set-up")["container-toolkit"]
    assert found.found == "1.18.0, but the engine knows neither its runtime nor its devices"
    assert "sudo nvidia-ctk runtime configure --runtime=docker" in found.remedy


def test_a_container_that_gets_no_gpu_says_what_docker_said() -> None:
    assert "could not select device driver" in checks_of("spark-half-set-up")["container-gpu"].found
    assert checks_of("spark")["container-gpu"].found == "GPU 0: NVIDIA GB10"


def test_an_image_that_the_engine_does_not_have_is_no_fault() -> None:
    missing = Answer(why="docker: Error response from daemon: No such image: scitrera/x:1")
    found = checks_of(with_answers(load_host("spark"), container_gpu=missing))["container-gpu"]
    assert (found.status, found.found) == ("not checked", "because the engine does not have this image")
    host = replace(load_host("spark"), image="")
    assert checks_of(host)["container-gpu"].found == (
        "because the engine has no image of ours: docker pull one, or build it, and ask again"
    )


# ---- what a server takes


def test_disk_is_held_against_the_image_and_against_models() -> None:
    images, models = checks_of("spark-half-set-up")["disk-images"], checks_of("spark-neglected")["disk-models"]
    assert (images.found, images.expected, images.subject) == ("9 GB free", "17 GB", "/var/lib/docker")
    assert (models.found, models.expected) == ("12 GB free", "100 GB")


def test_memory_says_which_share_vllm_can_have() -> None:
    found = checks_of("spark-neglected")["memory"]
    assert found.found == "38.1 of 119.7 GiB available (32%), 1.9 GiB of it unused"
    assert "-e GPU_MEMORY_UTIL=0.27 (vllm serve: --gpu-memory-utilization 0.27)" in found.remedy


def test_shared_memory_of_a_container_is_64_mb_unless_it_is_told_otherwise() -> None:
    bare = checks_of("spark-container-bare")["shm"]
    assert (bare.found, bare.expected) == ("0.07 GB free", "4 GB")
    assert bare.remedy == "docker run --ipc host, or --shm-size 16g"
    assert checks_of("spark-container")["shm"].found == "62.7 GB free"
    full = checks_of(replace(load_host("spark"), shm_bytes=10**9))["shm"]
    assert full.remedy == "ls -l /dev/shm, and remove what no process uses; or sudo mount -o remount,size=4G /dev/shm"
    unseen = checks_of(replace(load_host("spark"), shm_bytes=None))["shm"]
    assert unseen.found == "because its free space cannot be seen from here"


def test_memory_that_other_processes_hold_on_the_gpu_is_told() -> None:
    held = checks_of("spark-neglected")["gpu-memory"]
    assert held.found == "3 processes hold 49.2 GiB, and of 1 of them nvidia-smi does not say how much"
    assert "docker stop" in held.remedy
    assert checks_of("spark")["gpu-memory"].found == "1 process holds 0.2 GiB"
    none = with_answers(load_host("spark"), gpu_processes=Answer(text=""))
    assert checks_of(none)["gpu-memory"].found == "no process holds any"
    some = with_answers(load_host("spark"), gpu_processes=Answer(text="[N/A]\n"))
    assert checks_of(some)["gpu-memory"].found == "because nvidia-smi does not say how much 1 process holds"


def test_a_container_does_not_see_the_processes_of_others() -> None:
    found = checks_of("spark-container")["gpu-memory"]
    assert found.found == "because a container sees its own processes alone: nox -s doctor on the host"
    seen = with_answers(load_host("spark-container"), gpu_processes=Answer(text="51200\n"))
    assert checks_of(seen)["gpu-memory"].status == "warning"


def test_swap_in_use_is_a_sign_of_memory_that_was_full() -> None:
    assert checks_of("spark-neglected")["swap"].found == "10.3 of 16.0 GiB in use"
    assert checks_of("spark")["swap"].found == "0.0 of 16.0 GiB in use"
    assert checks_of("debian-vm")["swap"].found == "none"


def test_each_rdma_device_is_shown_with_its_interface() -> None:
    found = [one for one in diagnose(load_host("spark"), make_needs()) if one.id == "roce"]
    assert [one.subject for one in found] == [
        "roceP2p1s0f0/1 (enP2p1s0f0np0)",
        "roceP2p1s0f1/1 (enP2p1s0f1np1)",
        "rocep1s0f0/1 (enp1s0f0np0)",
        "rocep1s0f1/1 (enp1s0f1np1)",
    ]
    assert found[0].found == "ACTIVE, 200 Gb/sec (2X NDR), Ethernet, MTU 9000, an IPv4 address"


def test_small_frames_matter_on_links_that_are_up_only() -> None:
    found = [one for one in diagnose(load_host("spark-neglected"), make_needs()) if one.id == "roce"]
    assert [one.status for one in found] == ["warning", "ok", "warning", "ok"]
    assert found[0].remedy.startswith("sudo ip link set dev enP2p1s0f0np0 mtu 9000")


def test_a_link_that_is_up_has_an_address_where_it_is_to_be_used() -> None:
    """A RoCE interface without one is no part of a cluster, whatever its MTU."""
    host = load_host("spark")
    bare = with_answers(host, ipv4=Answer(text="lo\nwlP9s9\nenp1s0f0np0\n"))
    found = [one for one in diagnose(bare, make_needs()) if one.id == "roce"]
    assert [one.status for one in found] == ["warning", "ok", "ok", "ok"]
    assert found[0].found.endswith("Ethernet, MTU 9000, no IPv4 address")
    assert found[0].expected == "an IPv4 address, if several Sparks are to use it"
    assert found[0].remedy.startswith("sudo ip address add ADDRESS/24 dev enP2p1s0f0np0 (until it restarts; to k")
    unknown = with_answers(host, ipv4=Answer(why="ip: not found on PATH"))
    found = [one for one in diagnose(unknown, make_needs()) if one.id == "roce"]
    assert {one.status for one in found} == {"ok"}
    assert found[0].found.endswith("MTU 9000, whether it has an address is not known: ip: not found on PATH")


def test_a_link_that_lacks_both_is_told_both() -> None:
    found = next(one for one in diagnose(load_host("spark-neglected"), make_needs()) if one.id == "roce")
    assert found.found.endswith("MTU 1500, no IPv4 address")
    assert found.expected == "MTU 9000, the same at both ends; an IPv4 address, if several Sparks are to use it"
    assert "mtu 9000" in found.remedy
    assert "sudo ip address add" in found.remedy


def test_no_cable_is_nothing_wrong() -> None:
    assert checks_of("spark-half-set-up")["roce"].found.endswith(
        "no link, as without a cable; only several Sparks need one"
    )


def test_an_interface_that_a_container_does_not_have_is_not_judged() -> None:
    because = "because it has a link (200 Gb/sec (2X NDR)), but its interface cannot be seen from here"
    assert checks_of("spark-container")["roce"].found == because


def test_a_clock_is_wrong_or_may_become_so() -> None:
    wrong, loose = checks_of("spark-half-set-up")["time"], checks_of("spark-neglected")["time"]
    assert (wrong.found, wrong.expected) == ("2024-02-29", "2026-11-01 or later")
    assert loose.found == "2026-11-21, not synchronised"


@pytest.mark.parametrize(
    ("name", "found", "remedy"),
    [
        ("spark-without-driver", "none", "hf auth login"),
        ("spark-container-bare", "none", "docker run -e HF_TOKEN (without a value: that of your shell)"),
        ("spark-half-set-up", "it does not begin with hf_", "hf auth login, or export HF_TOKEN=hf_..."),
        ("spark-neglected", "permissions 644", "chmod 600 /home/spark/.cache/huggingface/token"),
    ],
)
def test_a_token_is_there_plausible_and_nobody_elses_to_read(name: str, found: str, remedy: str) -> None:
    token = checks_of(name)["hf-token"]
    assert (token.found, token.remedy) == (found, remedy)


@pytest.mark.parametrize(
    ("name", "found", "remedy"),
    [
        ("spark-without-driver", "not there", "mkdir -p /home/spark/.cache/huggingface"),
        ("spark-container-bare", "in no volume", "docker run -v spark-cache:/cache -v ~/.cache/huggingface:/cache/hug"),
        ("spark-neglected", "not writable; it belongs to user 0", 'sudo chown -R "$(id -u):$(id -g)" /home/spark/'),
        ("spark-half-set-up", "belongs to other users: hub/models--a, hub/models--b, hub/models--c, ...", "sudo chown"),
    ],
)
def test_a_cache_is_there_and_this_users(name: str, found: str, remedy: str) -> None:
    cache = checks_of(name)["hf-cache"]
    assert cache.found == found
    assert cache.remedy.startswith(remedy)


def test_a_container_that_may_not_write_its_cache_cannot_serve() -> None:
    host = load_host("spark-neglected")
    assert [checks_of(replace(host, in_container=one))["hf-cache"].status for one in (False, True)] == [
        "warning",
        "error",
    ]
    host = load_host("spark-container-bare")
    shut = replace(host, models=replace(host.models, can_be_made=False))
    assert checks_of(shut)["hf-cache"].found == "not there, nor can it be made"


def test_a_container_keeps_what_is_mounted_and_is_not_judged_where_that_cannot_be_seen() -> None:
    assert checks_of("spark-container")["hf-cache"].found == (
        "writable by user 0, kept in what is mounted at /cache/huggingface"
    )
    host = load_host("spark-container-bare")
    kept, unknown = (replace(host, models=replace(host.models, mount=one)) for one in ("/cache", ""))
    assert checks_of(kept)["hf-cache"].found == "made at need by user 0, kept in what is mounted at /cache"
    assert checks_of(unknown)["hf-cache"].status == "not checked"


# What begins a command that does nothing good in a container, which has no sudo, no systemd and no engine.
OF_A_HOST = ("sudo ", "timedatectl ", "docker ps", "docker system", "mkdir ", "hf auth login", "systemctl ")


@pytest.mark.parametrize("name", NAMES)
def test_inside_a_container_a_remedy_of_the_host_says_so(name: str) -> None:
    """Whatever is wrong with a host is told a container in words that can be followed there."""
    for one in diagnose(replace(load_host(name), in_container=True), make_needs()):
        before, said, _rest = one.remedy.partition("on the host: ")
        assert not [word for word in OF_A_HOST if word in before], one
        if not said:
            assert not [word for word in OF_A_HOST if word in one.remedy], one


def test_a_port_is_the_one_that_the_variables_of_a_container_name() -> None:
    host, ours = load_host("spark-container-bare"), make_needs(ports=())
    found = [(one.subject, one.status, one.found) for one in diagnose(host, ours) if one.id == "port"]
    assert found == [("8001", "error", "something listens on it"), ("RAY_PORT", "error", "'no'")]
    assert checks_of("spark-container", ours)["port"].subject == "8000"
    # What --port names counts alone.
    assert checks_of(host)["port"].status == "ok"
    remedies = [one.remedy for one in diagnose(host, ours) if one.id == "port"]
    assert remedies == [
        "on the host: sudo ss -ltnp 'sport = :8001' names it; stop it, or serve on another: -e PORT=NUMBER",
        "-e RAY_PORT=NUMBER, or leave it out",
    ]


def test_a_cache_on_a_network_is_a_warning() -> None:
    assert checks_of("spark-neglected")["cache-file-system"].found == "nfs4"


def test_each_port_is_looked_at_in_both_tables_and_only_sockets_that_listen_count() -> None:
    host, needs = load_host("spark-neglected"), make_needs(ports=(22, 8000, 8001))
    found = [(one.subject, one.status) for one in diagnose(host, needs) if one.id == "port"]
    assert found == [("22", "error"), ("8000", "error"), ("8001", "ok")]
    assert checks_of("spark")["port"].found == "free"
    assert checks_of("spark-neglected")["port"].remedy.startswith("sudo ss -ltnp 'sport = :8000' names it")


def test_no_answer_of_a_host_is_needed() -> None:
    """Whatever is missing, every check is made or says why not."""
    host = load_host("spark")
    host = replace(host, answers={name: Answer(why="gone") for name in host.answers}, rdma=None, token=None)
    assert list(dict.fromkeys(one.id for one in diagnose(host, make_needs()))) == KINDS


def test_a_token_cannot_be_part_of_what_is_said() -> None:
    assert set(asdict(load_host("spark"))["token"]) == {"place", "is_plausible", "mode"}
