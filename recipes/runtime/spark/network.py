"""Decide which interfaces and RDMA devices NCCL, Gloo, UCX and Ray take, and say why.

NCCL_IB_HCA and NCCL_SOCKET_IFNAME take prefixes; "=" before makes them exact, so that mlx5_1 is not mlx5_10, too:
https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark.say import SparkError, say
from sparkbake.errors import ProcessError
from sparkbake.hostfacts import rdma_ports
from sparkbake.hostvalues import Port
from sparkbake.process import run

# The address of this node, if it is given.
NODE_ADDRESS = "NODE_IP"
_VERBS = Path("/dev/infiniband")
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 address of this container."""

    interface: str
    address: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A variable, what it is set to, and why.

    Attributes:
        is_given: it was set before and stays so.
    """

    variable: str
    value: str
    why: str
    is_given: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What this container sees of networks.

    Attributes:
        ports: of RDMA devices.
        addresses: without those of the loopback interface.
        has_peer: whether the other node is known.
        toward: where the route to it leaves, or while it is not known, the default route; None without a route.
        has_verbs: whether programs can open RDMA devices.
    """

    ports: tuple[Port, ...]
    addresses: tuple[Address, ...]
    has_peer: bool
    toward: Address | None
    has_verbs: bool


def look(peer: str | None) -> Surroundings:
    """Look at this container's network.

    Args:
        peer: address of another node; None when there is none yet.
    """
    return Surroundings(
        ports=rdma_ports(Path("/")) or (),
        addresses=read_addresses(_ask("ip", "-json", "-4", "address", "show")),
        has_peer=peer is not None,
        toward=read_route(_ask("ip", "-json", "-4", "route", "get", peer or "192.0.2.1")),
        has_verbs=_VERBS.is_dir(),
    )


def _ask(*argv: str) -> str:
    try:
        return run(argv, timeout_s=_TIMEOUT_S)
    except ProcessError:
        return ""


def read_addresses(text: str) -> tuple[Address, ...]:
    """The addresses that `ip -json -4 address show` lists, but for the loopback interface's."""
    return tuple(
        Address(str(one["ifname"]), str(info["local"]))
        for one in _list(text)
        for info in one.get("addr_info", ())
        if one.get("ifname") != "lo" and info.get("local")
    )


def read_route(text: str) -> Address | None:
    """Where `ip -json route get` says that a packet leaves."""
    for one in _list(text):
        if one.get("dev") and one.get("prefsrc") and one["dev"] != "lo":
            return Address(str(one["dev"]), str(one["prefsrc"]))
    return None


def _list(text: str) -> list[dict[str, Any]]:
    try:
        body = json.loads(text or "[]")
    except ValueError:
        return []
    return [one for one in body if isinstance(one, dict)] if isinstance(body, list) else []


def decide(seen: Surroundings, environment: Mapping[str, str]) -> tuple[Decision, ...]:
    """What to set; a variable that is set already stays as it is.

    Raises:
        SparkError: the address that is given is none of this container's, or it has none at all.
    """
    node, why = _node(seen, environment)
    usable, ports_why = _usable(seen)
    hcas = [f"{one.device}:{one.number}" for one in usable]
    wanted = [
        Decision("VLLM_HOST_IP", node.address, why),
        Decision("NCCL_SOCKET_IFNAME", f"={node.interface}", f"it has {node.address}"),
        Decision("GLOO_SOCKET_IFNAME", node.interface, f"it has {node.address}"),
        Decision(
            "UCX_NET_DEVICES",
            ",".join([*hcas, node.interface]),
            "RDMA ports, and the interface for the rest" if hcas else f"it has {node.address}",
        ),
    ]
    if hcas:
        wanted.insert(1, Decision("NCCL_IB_HCA", f"={','.join(hcas)}", ports_why))
    return tuple(
        Decision(one.variable, environment[one.variable], "it is given", is_given=True)
        if environment.get(one.variable)
        else one
        for one in wanted
    )


def _node(seen: Surroundings, environment: Mapping[str, str]) -> tuple[Address, str]:
    names = [name for name in (NODE_ADDRESS, "VLLM_HOST_IP") if environment.get(name)]
    if len({environment[name] for name in names}) > 1:
        raise SparkError(" and ".join(f"{name} is {environment[name]}" for name in names) + "; set one of them")
    if names:
        return _given(names[0], environment[names[0]], seen), f"{names[0]} names it"
    # A worker must be reached from where it reaches the head.
    if seen.has_peer and seen.toward:
        return seen.toward, "the way to the other node"
    fast = {one.interface for one in _active(seen)}
    for one in sorted(seen.addresses, key=lambda one: _key(one.interface)):
        if one.interface in fast:
            return one, "the first interface with RDMA"
    if seen.toward:
        return seen.toward, "the default route"
    if seen.addresses:
        return seen.addresses[0], "the only network there is" if len(seen.addresses) == 1 else "the first interface"
    raise SparkError(
        "this container has no network but its own; start it with --network host, or on a network of Docker", 1
    )


def _given(name: str, given: str, seen: Surroundings) -> Address:
    try:
        ipaddress.IPv4Address(given)
    except ValueError as err:
        raise SparkError(f"{name} is {given!r}, expected an IPv4 address of this node") from err
    for one in seen.addresses:
        if one.address == given:
            return one
    here = ", ".join(f"{one.address} ({one.interface})" for one in seen.addresses) or "none"
    raise SparkError(f"{name} is {given}, which this container does not have; it has {here}")


def _active(seen: Surroundings) -> list[Port]:
    """Ports that NCCL could use: up, and with an address, without which RoCE has no GID that others reach."""
    with_address = {one.interface for one in seen.addresses}
    return [one for one in seen.ports if one.state == "ACTIVE" and one.interface in with_address]


def _usable(seen: Surroundings) -> tuple[list[Port], str]:
    active = sorted(_active(seen), key=lambda one: (_key(one.device), one.number))
    if not active or not seen.has_verbs:
        return [], ""
    return active, f"active, with an address each: {', '.join(f'{one.interface} {one.rate}' for one in active)}"


def remarks(seen: Surroundings) -> list[str]:
    """What a person should know of RDMA ports that are not used."""
    with_address = {one.interface for one in seen.addresses}
    if not any(one.state == "ACTIVE" for one in seen.ports):
        return ["no active RDMA port here: NCCL talks TCP"]
    if not seen.has_verbs:
        return [
            "RDMA ports are active, but not open to this container: NCCL talks TCP; start it with "
            "--device /dev/infiniband --ulimit memlock=-1 --cap-add IPC_LOCK"
        ]
    return [
        f"{one.device} is active and left out: {one.interface or 'it'} has no IPv4 address"
        for one in seen.ports
        if one.state == "ACTIVE" and one.interface not in with_address
    ]


def _key(name: str) -> tuple[tuple[str, int], ...]:
    """Sorts names with numbers as people do: rocep1 before rocep10, and enp1 before enP2."""
    return tuple((text, int(number or 0)) for text, number in re.findall(r"(\D+)(\d*)", name.casefold()))


def settle(peer: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with all that was decided, each decision said.

    Raises:
        SparkError: see `decide`.
    """
    seen = look(peer)
    decisions = decide(seen, environment)
    for one in decisions:
        say(f"{one.variable}={one.value} ({one.why})")
    for text in remarks(seen):
        say(text)
    return {**environment, **{one.variable: one.value for one in decisions}}


def value_of(environment: Mapping[str, str]) -> str:
    """This node's address, as `settle` decided it."""
    return environment["VLLM_HOST_IP"]
