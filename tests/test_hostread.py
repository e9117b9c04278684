"""Claims about reading what programs and files say."""

import pytest

from sparkbake.hostread import (
    Gpu,
    addressed,
    docker_refusal,
    driver_cuda,
    file_system,
    gpus,
    held,
    listening_ports,
    memory,
    numbers,
    nvcc_release,
    settings,
    smi_header,
    without_ids,
)


@pytest.mark.parametrize(
    ("header", "cuda"),
    [
        ("| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05      CUDA Version: 13.0     |", "13.0"),
        ("| NVIDIA-SMI 600.1   CUDA UMD Version: 13.4 |", "13.4"),
        ("CUDA Version        : 13.1", "13.1"),
        ("| NVIDIA-SMI 580.95.05  Driver Version: 580.95.05   CUDA Version: N/A |", None),
        ("", None),
    ],
)
def test_cuda_of_the_driver_is_read_however_it_is_laid_out(header: str, cuda: str | None) -> None:
    assert driver_cuda(header) == cuda


def test_gpus_are_read_and_other_lines_are_none() -> None:
    assert gpus("NVIDIA GB10, 12.1, 580.95.05\n\nNo devices were found\n") == (
        Gpu(name="NVIDIA GB10", compute_capability="12.1", driver="580.95.05"),
    )


def test_versions_compare_by_their_numbers_and_end_where_words_begin() -> None:
    assert numbers("580.95.05") < numbers("580.126.09") < numbers("590.1")
    assert numbers("13.0.2-rc1") == (13, 0, 2)
    assert numbers("none") == ()


def test_the_release_of_a_compiler_is_read() -> None:
    assert nvcc_release("Cuda compilation tools, release 12.0, V12.0.140") == "12.0"
    assert nvcc_release("nvcc: command not found") is None


def test_memory_is_read_in_bytes() -> None:
    assert memory("MemTotal:       2 kB\nHugePages_Total:       0\n") == {"MemTotal": 2048}


def test_settings_lose_their_quotes() -> None:
    assert settings("A=\"b c\"\nD='e'\nF=g=h\n# nothing\n") == {"A": "b c", "D": "e", "F": "g=h"}


def test_the_longest_mount_point_counts_and_of_two_the_later() -> None:
    mounts = "a / ext4 rw\nb /data xfs rw\nc /data nfs4 rw\nd /da ta tmpfs\ne /with\\040space btrfs rw\n\n"
    assert file_system(mounts, "/data/models") == ("/data", "nfs4")
    assert file_system(mounts, "/database") == ("/", "ext4")
    assert file_system(mounts, "/with space/x") == ("/with space", "btrfs")
    assert file_system("", "/") == ("", "")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"ServerErrors": null}', '{"ServerErrors": []}'])
def test_a_docker_that_names_no_refusal_has_none(text: str) -> None:
    assert docker_refusal(text) == ""


def test_interfaces_with_an_address_are_named_and_their_addresses_are_not() -> None:
    text = (
        '[{"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}]}, {"ifname": "enp1s0f0np0", "addr_info": '
        '[{"family": "inet", "local": "192.168.100.10", "prefixlen": 24}]}, {"ifname": "down", "addr_info": []}, {}]'
    )
    assert addressed(text) == "lo\nenp1s0f0np0\n"
    assert addressed("no JSON") == addressed("{}") == ""


def test_memory_of_processes_is_read_in_bytes() -> None:
    assert held("20480\n[N/A]\n\n 1 \n") == (20480 * 2**20, None, 2**20)
    assert held("") == held("No devices were found\n") == ()


def test_ports_are_those_of_sockets_that_listen() -> None:
    table = "  sl  local\n   0: 0100007F:1F40 00000000:0000 0A x\n   1: 0100007F:0016 00000000:0000 01 x\n\n"
    assert listening_ports(table) == {8000}


def test_a_header_ends_with_the_line_of_versions() -> None:
    assert smi_header("+--+\n| CUDA Version: 13.0 |\n| 4242 python |\n") == "+--+\n| CUDA Version: 13.0 |\n"
    assert smi_header("nothing\n") == ""


def test_a_gpu_is_listed_without_its_id() -> None:
    assert without_ids("GPU 0: NVIDIA GB10 (UUID: GPU-1-2)\n") == "GPU 0: NVIDIA GB10\n"
