"""
TLS: the certificate of this process, and the authority whose certificates the other end must have.
"""

# Twisted's TLS has no annotations.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Sequence
from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from zope.interface import implementer

from dcounter.errors import ConfigurationError

_log = Logger()


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
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._authority = authority
        self._named = named
        self._protocols = protocols
        self._options = self._read()

    def reload(self) -> None:
        """
        Use what the files hold now for new connections; if they cannot be used, what they held before.
        """
        try:
            self._options = self._read()
        except ConfigurationError as error:
            _log.error("{error}; the certificates that were read before stay in use", error=error)

    def serverConnectionForTLS(self, protocol: Any) -> Any:
        return self._options.serverConnectionForTLS(protocol)

    def clientConnectionForTLS(self, protocol: Any) -> Any:
        return self._options.clientConnectionForTLS(protocol)

    def _read(self) -> Any:
        options = CertificateOptions(acceptableProtocols=list(self._protocols) or None)
        of_certificate, of_key, of_authority = self._named
        context = options.getContext()
        try:
            leaf = _load(self._certificate)[0]
            context.use_certificate_chain_file(self._certificate)
        except (OSError, ValueError, SSL.Error) as error:
            raise ConfigurationError(
                f"{of_certificate}: {self._certificate} cannot be used: {_reason(error)}"
            ) from error
        try:
            with open(self._key, "rb") as file:
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
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        _log.info(
            "TLS uses the certificate in {path}, which is valid until {end}",
            path=self._certificate,
            end=f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        )
        return options


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
