"""
The secrets of a cluster: the file, and their replacement while a process runs.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dcounter.daemon.secrets import (
    ClusterSecrets,
    Rotation,
    from_hexadecimal,
    identity_of,
    in_hexadecimal,
    read_secrets,
)
from dcounter.errors import ConfigurationError
from dcounter.protocol.handshake import Identity
from dcounter.protocol.secrets import Secrets

CLUSTER = "0f" * 16
OLD, NEW = b"the old secret of the cluster", b"the new secret of the cluster"


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], str]:
    def write(content: bytes) -> str:
        (tmp_path / "secret").write_bytes(content)
        return str(tmp_path / "secret")

    return write


class TestFile:
    @pytest.mark.parametrize(
        "content",
        [
            b"the old secret of the cluster",
            # A secret of several lines, as `openssl rand -base64` writes them, is one, as it always was.
            b"the first line of a secret\nand its second line",
            b"cluster of which this is the secret\nand its second line",
            b"cluster " + b"0f" * 15 + b"\nand its second line",
            b"\x00\xff\n" * 8,
        ],
    )
    def test_a_file_that_names_no_cluster_is_one_secret(
        self, file: Callable[[bytes], str], content: bytes
    ) -> None:
        assert read_secrets(file(b" " + content + b"\n")) == (None, (content.strip(),))

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \n\n"])
    @pytest.mark.parametrize("accepted", [(OLD,), (OLD, NEW)])
    def test_a_file_that_names_its_cluster_has_a_secret_in_each_line(
        self, file: Callable[[bytes], str], end: bytes, accepted: tuple[bytes, ...]
    ) -> None:
        content = end.join([b"cluster " + CLUSTER.encode(), *accepted, b""])
        assert read_secrets(file(content)) == (CLUSTER, accepted)

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"short", "fewer than 16 bytes"),
            (b"cluster %s\nshort" % CLUSTER.encode(), "fewer than 16 bytes"),
            (b"cluster %s\n" % CLUSTER.encode(), "has 0 secrets"),
            (b"cluster %s\n%s\n%s" % (CLUSTER.encode(), OLD, OLD), "has 2 secrets, 1 different"),
            (b"cluster %s\n%s\n%s\nand a third of them" % (CLUSTER.encode(), OLD, NEW), "has 3 secrets"),
            (b"x" * 70_000, "more than 65536 bytes"),
        ],
    )
    def test_what_cannot_be_used_is_refused(
        self, file: Callable[[bytes], str], content: bytes, why: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=why) as refused:
            read_secrets(file(content))
        assert OLD.decode() not in str(refused.value)

    def test_the_cluster_stays_when_its_secret_changes(self, file: Callable[[bytes], str]) -> None:
        before = identity_of(read_secrets(file(OLD)), range(3))
        named = file(b"cluster %s\n%s\n%s\n" % (before.cluster.encode(), NEW, OLD))
        after = identity_of(read_secrets(named), range(3))
        assert (after.cluster, after.secrets.used) == (before.cluster, NEW)
        assert identity_of(read_secrets(named), range(3), before.cluster).cluster == before.cluster
        with pytest.raises(ConfigurationError, match="--cluster is another, but the file"):
            identity_of(read_secrets(named), range(3), "another")


class Process:
    """
    A process that reads its secrets again.
    """

    def __init__(self) -> None:
        self.identity = Identity(CLUSTER, Secrets(OLD), range(3))
        self.found: ClusterSecrets | ConfigurationError = ClusterSecrets(None, (OLD,))
        self.changes: list[tuple[bytes, ...]] = []
        self.rotation = Rotation(
            self.identity, self._read, lambda: self.changes.append(self.identity.secrets.accepted)
        )

    def _read(self) -> ClusterSecrets:
        if isinstance(self.found, ConfigurationError):
            raise self.found
        return self.found

    def reload(self, cluster: str | None, *accepted: bytes) -> None:
        self.found = ClusterSecrets(cluster, accepted)
        self.rotation.reload()


class TestRotation:
    def test_each_step_counts_and_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        process = Process()
        process.reload(None, OLD)
        process.reload(CLUSTER, OLD)
        assert not process.changes
        steps = [
            ((OLD, NEW), "2 are accepted, 1 were; the same one as before is used"),
            ((NEW, OLD), "2 are accepted, 2 were; the second one is used now"),
            ((NEW,), "1 are accepted, 2 were; the same one as before is used"),
            ((OLD,), "1 are accepted, 1 were; one that was not accepted before is used"),
        ]
        for accepted, told in steps:
            caplog.clear()
            process.reload(CLUSTER, *accepted)
            assert process.changes[-1] == process.identity.secrets.accepted == accepted
            assert told in caplog.text
            assert not any(each.decode() in caplog.text for each in (OLD, NEW))
        assert len(process.changes) == 4

    @pytest.mark.parametrize(
        ("cluster", "accepted", "why"),
        [
            (None, (NEW,), f"names no cluster: .* begin the file with the line 'cluster {CLUSTER}'"),
            ("1e" * 16, (OLD, NEW), f"names {'1e' * 16}: "),
            ("1e" * 16, (OLD,), f"names {'1e' * 16}: "),
        ],
    )
    def test_another_cluster_is_refused(
        self,
        cluster: str | None,
        accepted: tuple[bytes, ...],
        why: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        process = Process()
        process.reload(cluster, *accepted)
        assert process.identity.secrets.accepted == (OLD,)
        assert not process.changes
        [record] = caplog.records
        assert record.levelname == "ERROR"
        assert re.search(why, record.getMessage())
        assert "the secrets that were read before stay in force" in record.getMessage()

    def test_a_file_that_cannot_be_used_changes_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        process = Process()
        process.found = ConfigurationError("it cannot be read")
        process.rotation.reload()
        assert process.identity.secrets.accepted == (OLD,)
        assert "it cannot be read; the secrets that were read before stay in force" in caplog.text


class TestHexadecimal:
    def test_there_and_back(self) -> None:
        for accepted in ((OLD,), (OLD, NEW), (b"\x00,\n", b"")):
            assert from_hexadecimal(in_hexadecimal(accepted)) == accepted
