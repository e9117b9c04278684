"""Check what a host is on its network: RDMA devices with their interfaces, and the ports that a server listens on."""

from collections.abc import Iterator

from sparkbake.hostread import listening_ports
from sparkbake.hostvalues import Check, Host, Needs, Port, fine, on_host, skipped

_LAST_PORT = 65535


def check_rdma(host: Host, needs: Needs) -> Iterator[Check]:
    """The RDMA devices, each with its interface; they matter where a model is split over Sparks."""
    if not host.rdma:
        why = "this system knows no RDMA device; only several Sparks need one"
        yield skipped("roce", "RDMA devices", why)
        return
    if not any(one.state == "ACTIVE" for one in host.rdma):
        names = ", ".join(_named(one) for one in host.rdma)
        yield fine("roce", "RDMA devices", f"{names}: no link, as without a cable; only several Sparks need one")
        return
    yield from (_port(one, host, needs) for one in host.rdma)


def _named(port: Port) -> str:
    return f"{port.device}/{port.number} ({port.interface or 'no interface'})"


def _port(port: Port, host: Host, needs: Needs) -> Check:
    found = f"{port.state}, {port.rate}, {port.layer}, MTU {'unknown' if port.mtu is None else port.mtu}"
    if port.state != "ACTIVE" or port.layer != "Ethernet":
        return fine("roce", _named(port), found)
    if not port.interface or port.mtu is None:
        return skipped("roce", _named(port), f"it has a link ({port.rate}), but its interface cannot be seen from here")
    addresses = host.answers["ipv4"]
    missing: list[tuple[str, str, str]] = []
    if port.mtu < needs.roce_mtu:
        why = "RDMA packets are cut to what fits into a frame: with 1500 to 1024 bytes"
        mend = f"sudo ip link set dev {port.interface} mtu {needs.roce_mtu}"
        missing.append((f"MTU {needs.roce_mtu}, the same at both ends", why, mend))
    if addresses.text is None:
        found += f", whether it has an address is not known: {addresses.why}"
    elif port.interface in addresses.text.split():
        found += ", an IPv4 address"
    else:
        found += ", no IPv4 address"
        why = "NCCL and Ray reach another Spark over an interface by its address"
        mend = f"sudo ip address add ADDRESS/24 dev {port.interface}"
        missing.append(("an IPv4 address, if several Sparks are to use it", why, mend))
    if not missing:
        return fine("roce", _named(port), found)
    expected, whys, mends = zip(*missing, strict=True)
    return Check(
        id="roce",
        status="warning",
        subject=_named(port),
        found=found,
        expected="; ".join(expected),
        why="; ".join(whys),
        remedy=on_host(host, f"{' && '.join(mends)} (until it restarts; to keep it: netplan)"),
    )


def check_ports(host: Host, needs: Needs) -> Iterator[Check]:
    """The ports that a server will listen on."""
    tables = [host.answers[key] for key in ("tcp", "tcp6")]
    said = [one.text for one in tables if one.text is not None]
    taken = frozenset[int]().union(*(listening_ports(one) for one in said))
    named = {str(port): "--port" for port in needs.ports} or {port: name for name, port in host.named_ports.items()}
    for port, name in named.items():
        if not port.isdecimal() or not 0 < int(port) <= _LAST_PORT:
            yield _no_port(name, port)
        elif not said:
            yield skipped("port", port, tables[0].why)
        elif int(port) in taken:
            yield _taken(host, name, port)
        else:
            yield fine("port", port, "free")


def _no_port(name: str, said: str) -> Check:
    return Check(
        id="port",
        status="error",
        subject=name,
        found=repr(said),
        expected=f"a port from 1 to {_LAST_PORT}",
        why="a server that is told so refuses to start",
        remedy=f"-e {name}=NUMBER, or leave it out",
    )


def _taken(host: Host, name: str, port: str) -> Check:
    other = f"-e {'PORT' if name == '--port' else name}=NUMBER" if host.in_container else "--port"
    who = on_host(host, f"sudo ss -ltnp 'sport = :{port}'")
    return Check(
        id="port",
        status="error",
        subject=port,
        found="something listens on it",
        expected="free",
        why="with --network host the server ends with: address already in use",
        remedy=f"{who} names it; stop it, or serve on another: {other}",
    )
