"""Claims about which interfaces and RDMA devices a node takes, on trees of sysfs and answers of ip that are marked as
recorded or invented.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.runtimebuilder import stand_in

from spark import commands, network
from spark.network import Address, Decision, Surroundings, decide, look, read_addresses, read_route, remarks, settle
from spark.say import SparkError
from sparkbake.hostfacts import rdma_ports

# Recorded: `ip -json -4 address show` and `route get` of iproute2 6.1, on a virtual machine with an engine.
ADDRESSES = """[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"qdisc":"noqueue",
"operstate":"UNKNOWN","group":"default","txqlen":1000,"addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,
"scope":"host","label":"lo","valid_life_time":4294967295,"preferred_life_time":4294967295}]},{"ifindex":4,
"ifname":"eth0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1400,"qdisc":"pfifo_fast","operstate":"UP",
"group":"default","txqlen":1000,"addr_info":[{"family":"inet","local":"192.0.2.2","prefixlen":24,
"broadcast":"192.0.2.255","scope":"global","label":"eth0","valid_life_time":4294967295,
"preferred_life_time":4294967295}]},{"ifindex":5,"ifname":"docker0","flags":["NO-CARRIER","BROADCAST","MULTICAST",
"UP"],"mtu":1500,"qdisc":"noqueue","operstate":"DOWN","group":"default","addr_info":[{"family":"inet",
"local":"172.17.0.1","prefixlen":16,"broadcast":"172.17.255.255","scope":"global","label":"docker0",
"valid_life_time":4294967295,"preferred_life_time":4294967295}]}]"""
ROUTE = """[{"dst":"10.255.255.1","gateway":"192.0.2.1","dev":"eth0","prefsrc":"192.0.2.2","flags":[],"uid":0,
"cache":[]}]"""
# Recorded there, too: the way to an address of its own.
OWN_ROUTE = """[{"type":"local","dst":"192.0.2.2","dev":"lo","prefsrc":"192.0.2.2","flags":[],"uid":0,
"cache":["local"]}]"""

LAN, FIRST, SECOND = (
    Address("enP7s7", "10.0.0.5"),
    Address("enp1s0f0np0", "192.168.100.10"),
    Address("enP2p1s0f0np0", "192.168.101.10"),
)
# Invented, in the form that the kernel documents: a Spark with one cable, which two of its four HCAs see.
SPARK = {
    "rocep1s0f0": ("4: ACTIVE", "enp1s0f0np0"),
    "rocep1s0f1": ("1: DOWN", "enp1s0f1np1"),
    "roceP2p1s0f0": ("4: ACTIVE", "enP2p1s0f0np0"),
    "roceP2p1s0f1": ("1: DOWN", "enP2p1s0f1np1"),
}
HCAS = "rocep1s0f0:1,roceP2p1s0f0:1"


def sysfs(root: Path, devices: Mapping[str, tuple[str, str]], layer: str = "Ethernet") -> Path:
    """A tree of RDMA devices with one port each: name to state and interface."""
    for device, (state, interface) in devices.items():
        port = root / "sys/class/infiniband" / device / "ports/1"
        (port / "gid_attrs/ndevs").mkdir(parents=True)
        for path, text in (
            ("state", state), ("rate", "200 Gb/sec (2X NDR)"), ("link_layer", layer), ("gid_attrs/ndevs/0", interface),
        ):  # fmt: skip
            (port / path).write_text(f"{text}\n", encoding="utf-8")
    return root


def seen(
    root: Path,
    *addresses: Address,
    toward: Address | None = LAN,
    has_peer: bool = False,
    has_verbs: bool = True,
) -> Surroundings:
    return Surroundings(
        ports=rdma_ports(root) or (), addresses=addresses, has_peer=has_peer, toward=toward, has_verbs=has_verbs
    )


def values(found: tuple[Decision, ...]) -> dict[str, str]:
    return {one.variable: one.value for one in found}


def refusal(there: Surroundings, **environment: str) -> tuple[str, int]:
    with pytest.raises(SparkError) as caught:
        decide(there, environment)
    return str(caught.value), caught.value.status


# ---- decisions


def test_a_spark_with_two_ports_up_takes_both_and_the_interface_of_the_first(tmp_path: Path) -> None:
    there = seen(sysfs(tmp_path, SPARK), LAN, FIRST, SECOND)
    found = decide(there, {})
    assert values(found) == {
        "VLLM_HOST_IP": "192.168.100.10",
        "NCCL_IB_HCA": f"={HCAS}",
        "NCCL_SOCKET_IFNAME": "=enp1s0f0np0",
        "GLOO_SOCKET_IFNAME": "enp1s0f0np0",
        "UCX_NET_DEVICES": f"{HCAS},enp1s0f0np0",
    }
    assert [one.why for one in found] == [
        "the first interface with RDMA",
        "active, with an address each: enp1s0f0np0 200 Gb/sec (2X NDR), enP2p1s0f0np0 200 Gb/sec (2X NDR)",
        "it has 192.168.100.10",
        "it has 192.168.100.10",
        "RDMA ports, and the interface for the rest",
    ]
    assert remarks(there) == []


def test_a_worker_is_reached_from_where_it_reaches_the_head(tmp_path: Path) -> None:
    found = decide(seen(sysfs(tmp_path, SPARK), LAN, FIRST, SECOND, toward=FIRST, has_peer=True), {})
    assert values(found)["VLLM_HOST_IP"] == "192.168.100.10"
    assert values(found)["GLOO_SOCKET_IFNAME"] == "enp1s0f0np0"
    assert found[0].why == "the way to the other node"


def test_ports_without_an_address_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    there = seen(sysfs(tmp_path, SPARK), LAN, FIRST)
    assert values(decide(there, {}))["NCCL_IB_HCA"] == "=rocep1s0f0:1"
    assert remarks(there) == ["roceP2p1s0f0 is active and left out: enP2p1s0f0np0 has no IPv4 address"]


def test_a_spark_none_of_whose_fast_ports_has_an_address_talks_over_its_network(tmp_path: Path) -> None:
    there = seen(sysfs(tmp_path, SPARK), LAN)
    assert values(decide(there, {})) == {
        "VLLM_HOST_IP": "10.0.0.5",
        "NCCL_SOCKET_IFNAME": "=enP7s7",
        "GLOO_SOCKET_IFNAME": "enP7s7",
        "UCX_NET_DEVICES": "enP7s7",
    }
    assert decide(there, {})[0].why == "the default route"
    assert len(remarks(there)) == 2


def test_names_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    """Invented: InfiniBand, of whose devices NCCL would take mlx5_10 for mlx5_1, too, but for the "="."""
    devices = {
        "mlx5_10": ("4: ACTIVE", "ib10"),
        "mlx5_1": ("4: ACTIVE", "ib1"),
        "mlx5_2": ("4: ACTIVE", "ib2"),
        "mlx5_3": ("1: DOWN", "ib3"),
    }
    root = sysfs(tmp_path, devices, "InfiniBand")
    two = (Address("ib10", "10.1.0.10"), Address("ib1", "10.1.0.1"))
    found = values(decide(seen(root, *two, Address("ib2", "10.1.0.2")), {}))
    assert found["NCCL_IB_HCA"] == "=mlx5_1:1,mlx5_2:1,mlx5_10:1"
    assert found["NCCL_SOCKET_IFNAME"] == "=ib1"
    assert values(decide(seen(root, two[1]), {}))["NCCL_IB_HCA"] == "=mlx5_1:1"


def test_a_container_that_may_not_open_rdma_devices_talks_tcp_and_says_what_to_do(tmp_path: Path) -> None:
    there = seen(sysfs(tmp_path, SPARK), LAN, FIRST, has_verbs=False)
    assert "NCCL_IB_HCA" not in values(decide(there, {}))
    assert values(decide(there, {}))["UCX_NET_DEVICES"] == "enp1s0f0np0"
    assert remarks(there) == [
        "RDMA ports are active, but not open to this container: NCCL talks TCP; start it with "
        "--device /dev/infiniband --ulimit memlock=-1 --cap-add IPC_LOCK"
    ]


def test_a_container_on_a_bridge_without_rdma_takes_what_there_is(tmp_path: Path) -> None:
    bridge = Address("eth0", "172.18.0.3")
    there = seen(tmp_path, bridge, toward=bridge)
    assert values(decide(there, {})) == {
        "VLLM_HOST_IP": "172.18.0.3",
        "NCCL_SOCKET_IFNAME": "=eth0",
        "GLOO_SOCKET_IFNAME": "eth0",
        "UCX_NET_DEVICES": "eth0",
    }
    assert remarks(there) == ["no active RDMA port here: NCCL talks TCP"]


def test_without_a_default_route_the_first_address_is_taken(tmp_path: Path) -> None:
    one, two = Address("eth0", "172.18.0.3"), Address("eth1", "172.19.0.3")
    alone, several = decide(seen(tmp_path, one, toward=None), {}), decide(seen(tmp_path, one, two, toward=None), {})
    assert (alone[0].value, alone[0].why) == ("172.18.0.3", "the only network there is")
    assert (several[0].value, several[0].why) == ("172.18.0.3", "the first interface")


def test_without_any_address_it_ends_with_what_to_do(tmp_path: Path) -> None:
    assert refusal(seen(tmp_path, toward=None)) == (
        "this container has no network but its own; start it with --network host, or on a network of Docker", 1
    )  # fmt: skip


# ---- what is given


def test_what_is_given_stays_and_is_said_to_be_given(tmp_path: Path) -> None:
    given = {"NCCL_IB_HCA": "mlx5_7", "NCCL_SOCKET_IFNAME": "eth9", "UCX_NET_DEVICES": "all", "GLOO_SOCKET_IFNAME": ""}
    found = decide(seen(sysfs(tmp_path, SPARK), LAN, FIRST), given)
    assert values(found) == {
        "VLLM_HOST_IP": "192.168.100.10",
        "NCCL_IB_HCA": "mlx5_7",
        "NCCL_SOCKET_IFNAME": "eth9",
        "GLOO_SOCKET_IFNAME": "enp1s0f0np0",
        "UCX_NET_DEVICES": "all",
    }
    assert {one.variable for one in found if one.is_given} == {"NCCL_IB_HCA", "NCCL_SOCKET_IFNAME", "UCX_NET_DEVICES"}
    assert {one.why for one in found if one.is_given} == {"it is given"}


@pytest.mark.parametrize("variable", ["NODE_IP", "VLLM_HOST_IP"])
def test_the_address_of_the_node_may_be_given(tmp_path: Path, variable: str) -> None:
    found = values(
        decide(seen(sysfs(tmp_path, SPARK), LAN, FIRST, toward=FIRST, has_peer=True), {variable: "10.0.0.5"})
    )
    assert (found["VLLM_HOST_IP"], found["GLOO_SOCKET_IFNAME"]) == ("10.0.0.5", "enP7s7")


@pytest.mark.parametrize("variable", ["NODE_IP", "VLLM_HOST_IP"])
@pytest.mark.parametrize("value", ["spark-1", "10.0.0", "fe80::1", "10.0.0.5/24"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, variable: str, value: str) -> None:
    message = f"{variable} is {value!r}, expected an IPv4 address of this node"
    assert refusal(seen(tmp_path, LAN), **{variable: value}) == (message, 2)


def test_an_address_of_another_node_is_refused_with_those_that_are_here(tmp_path: Path) -> None:
    here = "it has 10.0.0.5 (enP7s7), 192.168.100.10 (enp1s0f0np0)"
    message = f"NODE_IP is 10.0.0.6, which this container does not have; {here}"
    assert refusal(seen(tmp_path, LAN, FIRST), NODE_IP="10.0.0.6") == (message, 2)
    message = "NODE_IP is 10.0.0.6, which this container does not have; it has none"
    assert refusal(seen(tmp_path, toward=None), NODE_IP="10.0.0.6") == (message, 2)


def test_two_addresses_that_differ_are_refused(tmp_path: Path) -> None:
    given = {"NODE_IP": "10.0.0.5", "VLLM_HOST_IP": "192.168.100.10"}
    message = "NODE_IP is 10.0.0.5 and VLLM_HOST_IP is 192.168.100.10; set one of them"
    assert refusal(seen(tmp_path, LAN, FIRST), **given) == (message, 2)
    same = decide(seen(tmp_path, LAN), {"NODE_IP": "10.0.0.5", "VLLM_HOST_IP": "10.0.0.5"})
    assert values(same)["VLLM_HOST_IP"] == "10.0.0.5"


# ---- what ip says


def test_addresses_are_read_without_that_of_the_loopback_interface() -> None:
    assert read_addresses(ADDRESSES) == (Address("eth0", "192.0.2.2"), Address("docker0", "172.17.0.1"))


def test_a_route_is_read_unless_it_stays_here() -> None:
    assert read_route(ROUTE) == Address("eth0", "192.0.2.2")
    assert read_route(OWN_ROUTE) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", "[{}]", "[1]", "Error", '[{"dev": "eth0"}]'])
def test_an_answer_that_names_nothing_is_none(text: str) -> None:
    assert read_addresses(text) == ()
    assert read_route(text) is None


# ---- all of it, with a program that answers as ip did


@pytest.fixture
def ip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of ip; the file that it notes its arguments in."""
    for name, text in (("addresses", ADDRESSES), ("route", ROUTE)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    script = (
        f'echo "$@" >> {tmp_path}/asked\n[ "$3" = address ] && exec cat {tmp_path}/addresses\ncat {tmp_path}/route\n'
    )
    stand_in(tmp_path, "ip", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(network, "rdma_ports", lambda _root: rdma_ports(tmp_path))
    return tmp_path / "asked"


@pytest.mark.usefixtures("real_processes")
def test_the_way_to_the_other_node_is_asked_for(ip: Path) -> None:
    assert look("192.168.100.10").toward == Address("eth0", "192.0.2.2")
    assert look(None).has_peer is False
    assert ip.read_text(encoding="utf-8").splitlines()[1::2] == [
        "-json -4 route get 192.168.100.10",
        "-json -4 route get 192.0.2.1",
    ]


@pytest.mark.usefixtures("real_processes")
def test_without_ip_there_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (look(None).addresses, look(None).toward) == ((), None)


@pytest.mark.usefixtures("real_processes", "ip")
def test_every_decision_is_said_and_the_rest_of_the_environment_stays(capsys: pytest.CaptureFixture[str]) -> None:
    settled = settle(None, {"X": "y", "GLOO_SOCKET_IFNAME": "docker0"})
    assert capsys.readouterr().err == (
        "spark: VLLM_HOST_IP=192.0.2.2 (the default route)\n"
        "spark: NCCL_SOCKET_IFNAME==eth0 (it has 192.0.2.2)\n"
        "spark: GLOO_SOCKET_IFNAME=docker0 (it is given)\n"
        "spark: UCX_NET_DEVICES=eth0 (it has 192.0.2.2)\n"
        "spark: no active RDMA port here: NCCL talks TCP\n"
    )
    assert settled == {
        "X": "y", "GLOO_SOCKET_IFNAME": "docker0", "VLLM_HOST_IP": "192.0.2.2", "NCCL_SOCKET_IFNAME": "=eth0",
        "UCX_NET_DEVICES": "eth0",
    }  # fmt: skip
    assert network.value_of(settled) == "192.0.2.2"


@pytest.mark.usefixtures("real_processes", "ip")
def test_cluster_without_a_command_prints_lines_for_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["cluster"]) == 0
    assert capsys.readouterr().out == (
        "export VLLM_HOST_IP=192.0.2.2\nexport NCCL_SOCKET_IFNAME==eth0\nexport GLOO_SOCKET_IFNAME=eth0\n"
        "export UCX_NET_DEVICES=eth0\n"
    )
