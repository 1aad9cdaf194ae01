"""
Refuses to let callers on other machines in unless they have to prove an identity.
"""

from collections.abc import Sequence
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address

from dcounter.daemon.http_endpoint import reaches_beyond
from dcounter.errors import ConfigurationError
from dcounter.http.callers import is_loopback

_OPEN: Final = (
    "HTTP can be reached from other machines, and neither tokens (--tokens-file) nor client certificates"
    " (--tls-client-ca) are required: any caller there can read and delete everything"
)


class Exposure:
    """
    Who reaches HTTP.

    :param protected: whether callers must show a token or a certificate.
    :param insecure: whether the operator permits that anyone may call.
    """

    def __init__(self, description: str, *, protected: bool, insecure: bool) -> None:
        self._description = description
        self._protected = protected
        self._insecure = insecure
        self._open = False

    def check(self) -> None:
        """
        Check the description of the endpoint, before anything is changed.

        :raises ConfigurationError: other machines would reach it.
        """
        if not (self._protected or self._insecure) and reaches_beyond(self._description):
            raise ConfigurationError(_refusal())

    def objection(self, address: object) -> str | None:
        """
        The reason not to listen on an address; `None` if there is none.
        """
        beyond = isinstance(address, IPv4Address | IPv6Address) and not is_loopback(address)
        self._open = beyond and not self._protected
        return None if self._insecure or not self._open else _refusal()

    def warnings(self) -> Sequence[str]:
        """
        What an operator should know for as long as it is so.
        """
        return [f"--insecure: {_OPEN}"] if self._open else []


def _refusal() -> str:
    return (
        f"{_OPEN}. Give one of these options, or listen on this machine only; --insecure starts all the same"
    )
