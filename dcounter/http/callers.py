"""
Who sends a request: a program on this machine or elsewhere, or a web page that a browser was led to.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.web.http_headers import Headers

from dcounter.errors import Refusal
from dcounter.http.problems import ForeignOrigin, UnknownHost, UnsupportedEncoding

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?")
_LONGEST_HOST: Final = 300
"""
A name of DNS has 253 characters at most; what is as long as this, or longer, is none.
"""

_HOSTS_REMEMBERED: Final = 256
_SCHEMES: Final = ((b"https://", b":443"), (b"http://", b":80"))
"""
Beginnings of origins, and the port that is not said.
"""

_SHOWN: Final = 100
"""
How much of a header an error repeats.
"""


def is_loopback(address: object) -> bool:
    """
    Whether this is an address by which a machine reaches itself.
    """
    if not isinstance(address, IPv4Address | IPv6Address):
        return False
    try:
        ip = ipaddress.ip_address(address.host)
    except ValueError:
        # What a proxy says of a caller need not be an address.
        return False
    # A listener for both kinds of addresses shows those of IPv4 as ::ffff:127.0.0.1.
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def is_this_machine(address: object) -> bool:
    """
    Whether a caller with this address sits on this machine.
    """
    return is_loopback(address) or isinstance(address, UNIXAddress)


class Guard:
    """
    Refuses what web pages elsewhere make a browser send, and bodies that nobody here can read.

    A browser names the page that sends a request in `Origin`, and the name by which it was led here in
    `Host`. A page that has its own name lead to this machine (DNS rebinding) is betrayed by that name.

    :param names: further names of this daemon, besides those of every machine for itself.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(name.lower() for name in names)
        # Callers repeat themselves; to look at a name again would cost more than the rest of this.
        self._is_ours = lru_cache(maxsize=_HOSTS_REMEMBERED)(self._names_us)

    def objection(self, headers: Headers, *, inside: bool, secure: bool, body: bool) -> Refusal | None:
        """
        Why a request must not be answered; `None` if it may.

        :param inside: whether the caller connected to a loopback address.
        :param secure: whether the connection is encrypted.
        :param body: whether the request has a body.
        """
        # Past `getRawHeaders`, which looks up how each name is usually spelled: this costs every request.
        given = headers._rawHeaders  # noqa: SLF001
        hosts = given.get(b"Host", ())
        if inside:
            # Without a Host it is no browser.
            for host in hosts:
                if not self._is_ours(host[:_LONGEST_HOST]):
                    return UnknownHost(_shown(host))
        if b"Origin" in given and not _is_own_page(given[b"Origin"], hosts, secure=secure):
            return ForeignOrigin(_shown(b", ".join(given[b"Origin"])))
        if b"Content-Encoding" in given and body:
            encoding = b", ".join(given[b"Content-Encoding"])
            if any(each.strip().lower() not in {b"", b"identity"} for each in encoding.split(b",")):
                return UnsupportedEncoding(_shown(encoding))
        return None

    def _names_us(self, host: bytes) -> bool:
        if not host:
            return True
        found = _HOST.fullmatch(host.decode("latin-1"))
        if found is None or len(host) == _LONGEST_HOST:
            return False
        name = found[1].lower().removesuffix(".")
        if name == "localhost" or name.endswith(".localhost") or name in self._names:
            return True
        try:
            ip = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _is_own_page(origins: Sequence[bytes], hosts: Iterable[bytes], *, secure: bool) -> bool:
    """
    Whether the page that sends a request came from where the request goes.
    """
    if len(origins) != 1:
        return False
    origin = origins[0].lower()
    for host in filter(None, hosts):
        # A proxy may take the encryption off; nobody puts it on.
        for scheme, port in _SCHEMES[:1] if secure else _SCHEMES:
            if origin.removesuffix(port) == scheme + host.lower().removesuffix(port):
                return True
    return False


def _shown(value: bytes) -> str:
    return value.decode("latin-1")[:_SHOWN]
