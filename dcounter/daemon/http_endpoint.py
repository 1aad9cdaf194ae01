"""
Endpoint descriptions of HTTP: adds our defaults, and tells how to call what listens there.
"""

import ipaddress
import os
import re
import shlex
import socket
from collections.abc import Callable
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

_ESCAPED: Final = re.compile(r"\\.", re.DOTALL)
_COLON: Final = re.compile(r"(?<!\\):")
_PROXIED: Final = "haproxy"
_ENCRYPTED: Final = frozenset({"ssl", "tls"})

_PASSED: Final = "http"
_FAMILIES: Final = {socket.AF_INET: "INET", socket.AF_INET6: "INET6", socket.AF_UNIX: "UNIX"}
"""
The name of a socket of systemd that is ours, and what Twisted calls the kinds of such sockets.
"""

_UNIX_MODE: Final = "660"
"""
The mode of a Unix socket: its owner and group may connect. Twisted's default lets every user connect.
"""

_PLACES: Final = {
    "tcp": {"backlog": 3},
    "tcp6": {"backlog": 2},
    "ssl": {"backlog": 6},
    "tls": {"backlog": 3},
    "unix": {"mode": 2, "backlog": 3},
}
"""
For each kind of endpoint, the fields that we complete: name -> position of the field if it has no name.
"""

_INTERFACES: Final = {"tcp": 1, "tcp6": 2, "ssl": 4, "tls": 3}
"""
For each kind that listens on an address, the position of the interface if it has no name. Without one they
listen on every interface.
"""


def complete(description: str, backlog: int) -> str:
    """
    Add our defaults to a description.

    Kinds that do not listen themselves, such as `systemd`, stay unchanged: the program that listens has
    decided.

    :param description: the description of a Twisted endpoint, such as `tcp:8085`.
    :param backlog: how many connections may wait to be accepted.
    """
    kind, _, rest = description.partition(":")
    if kind.lower() == _PROXIED:
        return f"{kind}:{complete(rest, backlog)}"
    # Only names matter here, and no field's name contains a character that must be escaped.
    fields = _ESCAPED.sub("_", rest).split(":")
    named = {field.partition("=")[0] for field in fields if "=" in field}
    given = len([field for field in fields if "=" not in field])
    for name, place in _PLACES.get(kind, {}).items():
        if name not in named and given < place:
            description += f":{name}={_UNIX_MODE if name == 'mode' else backlog}"
    return description


def passed_by_systemd(descriptor_of: Callable[[str], int]) -> str | None:
    """
    The description of the socket with the name `http` that systemd has passed to this process, if it has.

    :param descriptor_of: gives the descriptor of a passed socket with a name; raises `LookupError`.
    """
    try:
        with socket.socket(fileno=os.dup(descriptor_of(_PASSED))) as found:
            family = _FAMILIES.get(found.family)
    except (LookupError, OSError):
        return None
    return None if family is None else f"systemd:domain={family}:name={_PASSED}"


def curl(description: str, address: IAddress, *, encrypted: bool = False) -> tuple[str, str] | None:
    """
    How to call what listens: options for `curl` (may be empty), and the beginning of its URLs.

    `None` if that is unknown.

    :param description: the description of the endpoint.
    :param address: the address on which it listens.
    :param encrypted: whether it speaks TLS, even if the description does not say so.
    """
    kind, _, rest = description.partition(":")
    if kind.lower() == _PROXIED:
        found = curl(rest, address, encrypted=encrypted)
        return None if found is None else (f"--haproxy-protocol {found[0]}".strip(), found[1])
    scheme = "https" if encrypted or kind in _ENCRYPTED else "http"
    match address:
        case IPv4Address(host=host, port=port):
            # The address that stands for all addresses cannot be called.
            return "", f"{scheme}://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104
        case IPv6Address(host=host, port=port):
            host = "::1" if host == "::" else host.replace("%", "%25")
            return "", f"{scheme}://[{host}]:{port}"
        case UNIXAddress(name=bytes() as name) if name:
            if name.startswith(b"\0"):
                path = shlex.quote(os.fsdecode(name[1:]))
                return f"--abstract-unix-socket {path}", f"{scheme}://localhost"
            return f"--unix-socket {shlex.quote(os.path.abspath(os.fsdecode(name)))}", f"{scheme}://localhost"
        case _:
            return None


def speaks_tls(description: str) -> bool:
    """
    Whether what is described speaks TLS by itself.
    """
    kind, _, rest = description.partition(":")
    return speaks_tls(rest) if kind.lower() == _PROXIED else kind in _ENCRYPTED


def reaches_beyond(description: str) -> bool:
    """
    Whether it is certain that callers on other machines reach what listens there.

    If not, as for `systemd` or the name of a host, the address on which it listens will tell.

    :param description: the description of the endpoint.
    """
    kind, _, rest = description.partition(":")
    if kind.lower() == _PROXIED:
        return reaches_beyond(rest)
    if kind not in _INTERFACES:
        return False
    # Colons within an address are escaped.
    fields = _COLON.split(rest)
    named = [each.partition("=")[2] for each in fields if each.startswith("interface=")]
    plain = [each for each in fields if "=" not in each]
    given = (named or plain[_INTERFACES[kind] :])[:1]
    if given in ([], [""]):
        return True
    try:
        return not ipaddress.ip_address(given[0].replace("\\", "")).is_loopback
    except ValueError:
        return False
