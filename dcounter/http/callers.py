"""
Where a request comes from: a program on this or another machine, or a web page in a browser.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from dcounter.errors import Refusal
from dcounter.http.problems import ForeignOrigin, UnknownHost, UnsupportedEncoding

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?")
_LONGEST_HOST: Final = 300
"""
A DNS name has at most 253 characters; a text of this length or more is not a name.
"""

_HOSTS_REMEMBERED: Final = 256
_SCHEMES: Final = ((b"https://", b":443"), (b"http://", b":80"))
"""
The schemes of origins, and the default port of each.
"""

_SHOWN: Final = 100
"""
How many characters of a header an error repeats.
"""


def is_loopback(address: object) -> bool:
    """
    Whether this is a loopback address.
    """
    if not isinstance(address, IPv4Address | IPv6Address):
        return False
    try:
        ip = ipaddress.ip_address(address.host)
    except ValueError:
        # A proxy may report something other than an address.
        return False
    # A dual-stack listener shows IPv4 addresses as ::ffff:127.0.0.1.
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def is_this_machine(address: object) -> bool:
    """
    Whether a caller with this address is on this machine.
    """
    return is_loopback(address) or isinstance(address, UNIXAddress)


class Guard:
    """
    Refuses requests that web pages of other sites send through a browser, and encoded bodies.

    A browser names the page that sends a request in `Origin`, and the host name to which it connected in
    `Host`. A page whose own host name resolves to this machine (DNS rebinding) is recognised by its `Host`.

    :param names: further host names of this daemon, besides `localhost` and the like.
    :param origins: sites whose web pages may call, such as `https://app.example`.
    """

    def __init__(self, names: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self.use_origins(origins)
        self.use_names(names)

    def use_origins(self, origins: Iterable[str]) -> None:
        """
        Change of which sites web pages may call.
        """
        self._origins = frozenset(origin.lower().encode() for origin in origins)

    def use_names(self, names: Iterable[str]) -> None:
        """
        Change the further host names.
        """
        self._names = frozenset(name.lower() for name in names)
        # Callers repeat their Host: checking it again would cost more than all other checks.
        self._is_ours = lru_cache(maxsize=_HOSTS_REMEMBERED)(self._names_us)

    def objection(
        self, headers: Mapping[bytes, Sequence[bytes]], *, inside: bool, secure: bool, body: bool
    ) -> Refusal | None:
        """
        The reason to refuse a request; `None` if there is none.

        :param inside: whether the caller connected to a loopback address.
        :param secure: whether the connection is encrypted.
        :param body: whether the request has a body.
        """
        hosts = headers.get(b"host", ())
        if inside:
            # A request without a Host does not come from a browser.
            for host in hosts:
                if not self._is_ours(host[:_LONGEST_HOST]):
                    return UnknownHost(_shown(host))
        if (
            b"origin" in headers
            and not _is_own_page(headers[b"origin"], hosts, secure=secure)
            and self.permitted_page(headers) is None
        ):
            return ForeignOrigin(_shown(b", ".join(headers[b"origin"])))
        if b"content-encoding" in headers and body:
            encoding = b", ".join(headers[b"content-encoding"])
            if any(each.strip().lower() not in {b"", b"identity"} for each in encoding.split(b",")):
                return UnsupportedEncoding(_shown(encoding))
        return None

    def permitted_page(self, headers: Mapping[bytes, Sequence[bytes]]) -> bytes | None:
        """
        The site of the web page that sends a request, if pages of that site may; else `None`.
        """
        origins = headers.get(b"origin", ())
        return origins[0] if len(origins) == 1 and origins[0].lower() in self._origins else None

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
    Whether a request goes to the site that its web page came from.
    """
    if len(origins) != 1:
        return False
    origin = origins[0].lower()
    for host in filter(None, hosts):
        # A proxy may remove encryption, but none adds it.
        for scheme, port in _SCHEMES[:1] if secure else _SCHEMES:
            if origin.removesuffix(port) == scheme + host.lower().removesuffix(port):
                return True
    return False


def _shown(value: bytes) -> str:
    return value.decode("latin-1")[:_SHOWN]
