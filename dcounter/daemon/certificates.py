"""
TLS: the certificate of this process, and the authority whose certificates the other end must have.
"""

# Twisted's TLS has no annotations.
# mypy: disable-error-code="no-untyped-call"

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from zope.interface import implementer

from dcounter.errors import ConfigurationError
from dcounter.links.throttle import Throttle

_log = Logger()

_SOON: Final = timedelta(days=14)
"""
How long before its end a certificate should be renewed.
"""

_REFUSALS: Final = 10
_REFUSALS_INTERVAL: Final = 10.0
"""
How many refused certificates are logged in how much time (s).
"""

_SHOWN: Final = 100
"""
Characters that the log shows of a name.
"""

_REASONS: Final[Mapping[int, str]] = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is signed by itself, and not in the file of the authority",
    19: "its authority is signed by itself, and not in the file of the authority",
    20: "its authority is not in the file of the authority",
    21: "its authority is not in the file of the authority",
    26: "its extended key usage does not permit this use",
}
"""
What the numbers of OpenSSL (`X509_V_ERR_...`) mean.
"""

OF_HTTP: Final = ("--tls-cert", "--tls-key", "--tls-client-ca")
OF_PEERS: Final = ("--peer-tls-cert", "--peer-tls-key", "--peer-tls-ca")
"""
The options that name the files.
"""


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class Certificates:
    """
    Makes one end of TLS connections, from files that can be read again while connections are open.

    :param certificate: the file with this end's certificate; those of intermediate authorities follow it.
    :param key: the file with its private key, without a passphrase.
    :param authority: the file with the authorities of which the other end must have a certificate, whatever
        name is in it; `None` if it needs none.
    :param named: the options that named these files.
    :param protocols: that are spoken over it, to be negotiated (ALPN).
    :param now: the wall clock.
    :param seconds: the clock (s) that limits how often refusals are logged.
    :raises ConfigurationError: a file cannot be used.
    """

    def __init__(
        self,
        certificate: str,
        key: str,
        authority: str | None,
        *,
        named: tuple[str, str, str] = OF_HTTP,
        protocols: Sequence[bytes] = (),
        now: Callable[[], datetime],
        seconds: Callable[[], float],
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._authority = authority
        self._named = named
        self._protocols = protocols
        self._now = now
        self._throttle = Throttle(_REFUSALS, _REFUSALS_INTERVAL, seconds)
        self._end = datetime.max.replace(tzinfo=UTC)
        self._key_is_open = False
        self._options = self._read()

    def reload(self) -> None:
        """
        Use what the files hold now for new connections; if they cannot be used, what they held before.
        """
        try:
            self._options = self._read()
        except ConfigurationError as error:
            _log.error("{error}; the certificates that were read before stay in use", error=error)

    def warnings(self) -> list[str]:
        """
        What an operator should know of the files, one sentence each.
        """
        warnings = []
        of_certificate, of_key, _ = self._named
        left = self._end - self._now()
        if left <= _SOON:
            expires = "expires" if left > timedelta() else "has expired"
            warnings.append(
                f"{of_certificate}: the certificate in {self._certificate} {expires}: it is valid until "
                f"{_shown(self._end)}. Renew it, and send SIGHUP"
            )
        if self._key_is_open:
            warnings.append(
                f"{of_key}: all users of this machine can read the private key in {self._key}: set its mode "
                "to 600, or make a new one if that is too late, and send SIGHUP"
            )
        return warnings

    def serverConnectionForTLS(self, protocol: Any) -> Any:
        return self._options.serverConnectionForTLS(protocol)

    def clientConnectionForTLS(self, protocol: Any) -> Any:
        return self._options.clientConnectionForTLS(protocol)

    def _read(self) -> Any:
        options = CertificateOptions(acceptableProtocols=list(self._protocols) or None)
        of_certificate, of_key, of_authority = self._named
        context = options.getContext()
        try:
            end = _load(self._certificate)[0].not_valid_after_utc
            context.use_certificate_chain_file(self._certificate)
        except (OSError, ValueError, SSL.Error) as error:
            raise ConfigurationError(
                f"{of_certificate}: {self._certificate} cannot be used: {_reason(error)}"
            ) from error
        try:
            with open(self._key, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                # Not by OpenSSL, which asks the terminal for the passphrase of a key that has one.
                context.use_privatekey(cast(Any, load_pem_private_key(file.read(), None)))
            context.check_privatekey()
        except (OSError, TypeError, ValueError, SSL.Error) as error:
            raise ConfigurationError(f"{of_key}: {self._key} cannot be used: {_reason(error)}") from error
        if self._authority is not None:
            try:
                _load(self._authority)
                context.load_verify_locations(self._authority)
            except (OSError, ValueError, SSL.Error) as error:
                raise ConfigurationError(
                    f"{of_authority}: {self._authority} cannot be used: {_reason(error)}"
                ) from error
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verified)
        self._end, self._key_is_open = end, bool(mode & stat.S_IROTH)
        _log.info(
            "TLS uses the certificate in {path}, which is valid until {end}",
            path=self._certificate,
            end=_shown(end),
        )
        for warning in self.warnings():
            _log.warn("{warning}", warning=warning)
        return options

    def _verified(
        self, connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int
    ) -> bool:
        """
        OpenSSL has looked at a certificate of the other end, or at one above it.
        """
        if not ok and self._throttle.passes():
            read = certificate.to_cryptography()
            _log.warn(
                "refused the certificate of {subject} (authority {authority}): {why}",
                subject=_named(lambda: read.subject),
                authority=_named(lambda: read.issuer),
                why=_REASONS.get(error, f"error {error} of OpenSSL"),
            )
        return bool(ok)


def _named(read: Callable[[], x509.Name]) -> str:
    """
    A name in a certificate of a stranger, made safe for a line of the log.
    """
    try:
        names = read().get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return "an unreadable name"
    return ascii(str(names[0].value)[:_SHOWN]) if names else "no name"


def _shown(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _load(path: str) -> list[x509.Certificate]:
    """
    The certificates in a file.

    :raises OSError: it cannot be read.
    :raises ValueError: it holds no certificate.
    """
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificates(file.read())


def _reason(error: Exception) -> str:
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        # Of a failure inside OpenSSL: library, function, reason; the first is the cause.
        return str(error.args[0][0][-1])
    return getattr(error, "strerror", None) or str(error)
