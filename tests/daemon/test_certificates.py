"""
TLS for HTTP: files that cannot be used, and files that are read again.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from OpenSSL import SSL

from dcounter.daemon.certificates import Certificates
from dcounter.errors import ConfigurationError
from tests.support.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def made(
    certificate: Path,
    key: Path,
    client_ca: Path | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Certificates:
    authority = None if client_ca is None else str(client_ca)
    return Certificates(str(certificate), str(key), authority, now=now, seconds=lambda: 0.0)


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
                made(files[0], files[1], files[2] if len(files) > 2 else None)
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


class TestWarnings:
    """
    What an operator should know of files that can be used.
    """

    def test_there_are_none_of_files_that_are_right(
        self, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert made(*authority.issue("server")).warnings() == []
        assert not [each for each in caplog.records if each.levelname == "WARNING"]

    @pytest.mark.parametrize(("later", "told"), [(20, "expires"), (31, "has expired")])
    def test_a_certificate_that_ends(
        self, authority: Authority, caplog: pytest.LogCaptureFixture, later: int, told: str
    ) -> None:
        now = datetime.now(UTC)
        certificate, key = authority.issue("server")
        certificates = made(certificate, key, now=lambda: now)
        assert certificates.warnings() == []
        now += timedelta(days=later)
        [warning] = certificates.warnings()
        assert warning.startswith(
            f"--tls-cert: the certificate in {certificate} {told}: it is valid until 20"
        )
        # So does the log at the next start, or when the files are read again.
        caplog.clear()
        certificates.reload()
        assert [each.getMessage() for each in caplog.records if each.levelname == "WARNING"] == [warning]
        authority.issue("server", days=90)
        certificates.reload()
        assert certificates.warnings() == []

    def test_a_key_that_others_can_read(self, authority: Authority) -> None:
        certificate, key = authority.issue("server")
        for mode, warned in [(0o640, False), (0o644, True), (0o604, True), (0o600, False)]:
            key.chmod(mode)
            warnings = made(certificate, key).warnings()
            assert len(warnings) == warned
            assert all(f"can read the private key in {key}" in each for each in warnings)


class Handshake:
    """
    A handshake in memory, of two ends with certificates.
    """

    def __init__(self, server: Certificates, client: Certificates) -> None:
        self.server, self.client = (
            SSL.Connection(each._options.getContext(), None)  # noqa: SLF001
            for each in (server, client)
        )
        self.server.set_accept_state()
        self.client.set_connect_state()

    def run(self) -> None:
        for _ in range(6):
            for end, other in ((self.client, self.server), (self.server, self.client)):
                with suppress(SSL.WantReadError):
                    end.do_handshake()
                with suppress(SSL.WantReadError):
                    other.bio_write(end.bio_read(65_536))


class TestRefusals:
    @pytest.mark.parametrize(
        ("days", "foreign", "why"),
        [
            (30, True, "its authority is not in the file of the authority"),
            (-1, False, "it has expired"),
        ],
    )
    def test_are_logged(
        self,
        authority: Authority,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        days: int,
        foreign: bool,
        why: str,
    ) -> None:
        issuer = Authority(tmp_path, "foreign") if foreign else authority
        ours = made(*authority.issue("server"), authority.file)
        theirs = made(*issuer.issue("client\n", days=days), authority.file)
        caplog.clear()
        for _ in range(20):
            with pytest.raises(SSL.Error):
                Handshake(ours, theirs).run()
        lines = {each.getMessage() for each in caplog.records}
        issued_by = "foreign" if foreign else "authority"
        assert lines == {f"refused the certificate of 'client\\n' (authority '{issued_by}'): {why}"}
        assert len(caplog.records) == 10

    def test_of_right_ones_there_are_none(
        self, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        ours = made(*authority.issue("server"), authority.file)
        theirs = made(*authority.issue("client"), authority.file)
        caplog.clear()
        Handshake(ours, theirs).run()
        assert not caplog.records


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
