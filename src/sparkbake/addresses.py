"""Tell what an address on the network is, without asking the network."""

import ipaddress
import re

# Of a sparse index of crates. Without the slash at its end cargo refuses it; quotes would end the setting that it goes
# into.
SPARSE = r"sparse\+https?://[^\s\"\\]+/"
SPARSE_EXPECTED = "'sparse+', a URL and a slash, as cargo has it"
_SCHEME = re.compile(r"[a-z][a-z+.-]*://")
_HOST = re.compile(r"(?:[^/@]*@)?(?:\[([^]]+)\]|([^/:]+))")


def is_loopback(address: str) -> bool:
    """Whether a host, with or without a port, or what a URL leads to, is this machine.

    A registry there is spoken to without TLS, as Docker does.

    >>> is_loopback("127.0.0.1:5000"), is_loopback("git://[::1]/nccl.git"), is_loopback("registry.example:5000")
    (True, True, False)
    """
    found = _HOST.match(_SCHEME.sub("", address, count=1))
    host = (found[1] or found[2]) if found else ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.casefold() == "localhost"
