"""
TLS for HTTP: files that cannot be used, and files that are read again.
"""

from pathlib import Path

import pytest

from dcounter.daemon.certificates import Certificates
from dcounter.errors import ConfigurationError
from tests.support.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def made(certificate: Path, key: Path, client_ca: Path | None = None) -> Certificates:
    return Certificates(str(certificate), str(key), None if client_ca is None else str(client_ca))


class TestFiles:
    def test_that_are_right_are_named_with_their_end(
        self, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        certificate, key = authority.issue("server")
        with caplog.at_level("INFO"):
            made(certificate, key, authority.file)
        assert f"TLS uses the certificate in {certificate}, which is valid until 20" in caplog.text

    def test_that_are_missing(self, authority: Authority, tmp_path: Path) -> None:
        certificate, key = authority.issue("server")
        none = tmp_path / "none"
        for files, option in [
            ((none, key), "--tls-cert"),
            ((certificate, none), "--tls-key"),
            ((certificate, key, none), "--tls-client-ca"),
            ((certificate, key, tmp_path), "--tls-client-ca"),
        ]:
            with pytest.raises(ConfigurationError) as caught:
                made(*files)
            why = "Is a directory" if tmp_path in files else "No such file or directory"
            assert (
                str(caught.value)
                == f"{option}: {files[-1] if option != '--tls-cert' else none} cannot be used: {why}"
            )

    def test_that_hold_something_else(self, authority: Authority, tmp_path: Path) -> None:
        certificate, key = authority.issue("server")
        for content in (b"", b"no PEM", key.read_bytes()):
            wrong = tmp_path / "wrong"
            wrong.write_bytes(content)
            with pytest.raises(ConfigurationError, match=f"--tls-cert: {wrong} cannot be used: ."):
                made(wrong, key)
            with pytest.raises(ConfigurationError, match=f"--tls-client-ca: {wrong} cannot be used: ."):
                made(certificate, key, wrong)
        with pytest.raises(ConfigurationError, match=f"--tls-key: {certificate} cannot be used: ."):
            made(certificate, certificate)

    def test_that_do_not_belong_together(self, authority: Authority) -> None:
        certificate, _ = authority.issue("server")
        _, key = authority.issue("other")
        with pytest.raises(ConfigurationError, match=r"--tls-key: .*mismatch"):
            made(certificate, key)

    def test_a_key_with_a_passphrase_is_not_asked_for(self, authority: Authority) -> None:
        with pytest.raises(ConfigurationError, match=r"--tls-key: .*server\.key cannot be used: .*encrypted"):
            made(*authority.issue("server", passphrase=b"secret"))


def test_a_mistake_changes_nothing(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    certificate, key = authority.issue("server")
    certificates = made(certificate, key)
    before = certificates._options  # noqa: SLF001
    right = certificate.read_bytes()
    certificate.write_bytes(right[:100])
    certificates.reload()
    assert certificates._options is before  # noqa: SLF001
    assert f"--tls-cert: {certificate} cannot be used: " in caplog.text
    assert "the certificates that were read before stay in use" in caplog.text
    certificate.write_bytes(right)
    certificates.reload()
    assert certificates._options is not before  # noqa: SLF001
