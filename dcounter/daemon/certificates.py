"""
TLS for HTTP: the certificate of the daemon, and the authority whose certificates callers must have.
"""

# Twisted's TLS has no annotations.
# mypy: disable-error-code="no-untyped-call"

from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from zope.interface import implementer

from dcounter.errors import ConfigurationError

_log = Logger()


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """
    Makes the server's end of TLS connections, from files that can be read again while callers use it.

    :param certificate: the file with the daemon's certificate; those of intermediate authorities follow it.
    :param key: the file with its private key, without a passphrase.
    :param client_ca: the file with the authorities of which callers must have a certificate; `None` if they
        need none.
    :raises ConfigurationError: a file cannot be used.
    """

    def __init__(self, certificate: str, key: str, client_ca: str | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
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

    def _read(self) -> Any:
        options = CertificateOptions(acceptableProtocols=[b"http/1.1"])
        context = options.getContext()
        try:
            leaf = _load(self._certificate)[0]
            context.use_certificate_chain_file(self._certificate)
        except (OSError, ValueError, SSL.Error) as error:
            raise ConfigurationError(
                f"--tls-cert: {self._certificate} cannot be used: {_reason(error)}"
            ) from error
        try:
            with open(self._key, "rb") as file:
                # Not by OpenSSL, which asks the terminal for the passphrase of a key that has one.
                context.use_privatekey(cast(Any, load_pem_private_key(file.read(), None)))
            context.check_privatekey()
        except (OSError, TypeError, ValueError, SSL.Error) as error:
            raise ConfigurationError(f"--tls-key: {self._key} cannot be used: {_reason(error)}") from error
        if self._client_ca is not None:
            try:
                _load(self._client_ca)
                context.load_verify_locations(self._client_ca)
            except (OSError, ValueError, SSL.Error) as error:
                raise ConfigurationError(
                    f"--tls-client-ca: {self._client_ca} cannot be used: {_reason(error)}"
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
