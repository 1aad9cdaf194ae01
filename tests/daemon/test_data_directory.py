import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from errno import EACCES, EBUSY, EDQUOT, EIO, ENFILE, ENOSPC, EROFS
from pathlib import Path

import pytest

from dcounter.daemon.data_directory import open_data_directory, open_node_directory
from dcounter.daemon.remedies import trouble
from dcounter.errors import ConfigurationError
from dcounter.journal.disk import RealDisk
from dcounter.protocol.handshake import Identity


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "data"


def _bytes(fill: int) -> Callable[[int], bytes]:
    return lambda size: bytes([fill]) * size


def _open(path: Path, nodes: int = 4, fill: int = 1) -> Identity:
    directory = open_data_directory(str(path), nodes, _bytes(fill))
    directory.begin(os.getpid())
    directory.close()
    return directory.identity


def test_a_new_directory_is_a_new_cluster(path: Path) -> None:
    identity = _open(path)
    assert (identity.cluster, identity.members) == ("01" * 16, [0, 1, 2, 3])
    assert identity.secrets.accepted == (b"\x01" * 32,)
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "cluster.json").stat().st_mode & 0o777 == 0o600
    assert os.listdir(path) == ["cluster.json"]


def test_it_stays_that_cluster(path: Path) -> None:
    assert _open(path, fill=1) == _open(path, fill=2)


def test_what_an_earlier_start_left_unfinished_is_written_over(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "cluster.json.new").write_text("{" * 1_000)
    first = _open(path)
    assert _open(path, fill=2) == first
    assert os.listdir(path) == ["cluster.json"]


def test_the_file_can_be_read_by_people(path: Path) -> None:
    _open(path, nodes=2)
    assert json.loads((path / "cluster.json").read_bytes()) == {
        "version": 1,
        "cluster": "01" * 16,
        "secret": "01" * 32,
        "members": [0, 1],
    }


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_another_number_of_nodes_is_refused(path: Path, nodes: int) -> None:
    _open(path)
    with pytest.raises(ConfigurationError, match=r"has nodes \[0, 1, 2, 3\]; start it with --nodes 4"):
        _open(path, nodes)


def test_nodes_without_their_cluster_are_refused(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "node-1").mkdir()
    (path / "node-0").mkdir()
    (path / "lost+found").mkdir()
    with pytest.raises(ConfigurationError, match=r"has \['node-0', 'node-1'\], but cluster\.json is missing"):
        _open(path)


def test_what_is_no_nodes_does_not_matter(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "lost+found").mkdir()
    assert _open(path).cluster


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "has version 2, and this dcounter reads version 1"),
        # A newer version may keep more in it: that is no damage, and no reason for an old file in its place.
        ({"version": 2, "more": 1}, "has version 2, .*: start the dcounter that wrote it, or a newer one"),
        ({"version": "1"}, "cannot be read"),
        ({"members": None}, "cannot be read"),
        ({"more": 1}, "cannot be read"),
        ({"secret": "xx"}, "cannot be read"),
        ({"secret": ""}, "the secret has fewer than 32 bytes"),
        ({"secret": "01" * 31}, "the secret has fewer than 32 bytes"),
        ({"accepted": ["02" * 31]}, "the secret has fewer than 32 bytes"),
        ({"accepted": ["xx"]}, "cannot be read"),
        ({"accepted": ["01" * 32]}, "has 2 secrets, 1 different ones"),
        ({"accepted": ["02" * 32, "03" * 32]}, "has 3 secrets"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(path: Path, change: dict[str, object], why: str) -> None:
    _open(path)
    file = path / "cluster.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **change}))
    with pytest.raises(ConfigurationError, match=why) as caught:
        _open(path)
    assert str(file) in str(caught.value)


def test_its_secret_can_be_changed_while_it_is_used(path: Path) -> None:
    with ExitStack() as ending:
        directory = open_data_directory(str(path), 4, lambda size: b"\x01" * size)
        ending.callback(directory.close)
        directory.begin(0)
        cluster, before = "01" * 16, bytes([1]) * 32
        assert directory.read_secrets() == (cluster, (before,))
        file = path / "cluster.json"
        file.write_text(json.dumps({**json.loads(file.read_bytes()), "accepted": ["02" * 32]}))
        assert directory.read_secrets() == (cluster, (before, bytes([2]) * 32))
        file.write_bytes(b"")
        with pytest.raises(ConfigurationError, match="cannot be read"):
            directory.read_secrets()


def test_a_start_finds_all_accepted_secrets(path: Path) -> None:
    _open(path)
    file = path / "cluster.json"
    file.write_text(
        json.dumps({**json.loads(file.read_bytes()), "secret": "02" * 32, "accepted": ["01" * 32]})
    )
    found = _open(path)
    assert (found.cluster, found.secrets.accepted) == ("01" * 16, (bytes([2]) * 32, bytes([1]) * 32))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"])
def test_a_damaged_file_is_refused(path: Path, content: bytes) -> None:
    _open(path)
    (path / "cluster.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        _open(path)


def test_a_file_that_cannot_be_opened_is_refused(path: Path) -> None:
    (path / "cluster.json").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"cluster\.json cannot be read: .*Is a directory"):
        _open(path)


_DAEMON = """
import os, sys
from secrets import token_bytes
from dcounter.daemon.data_directory import open_data_directory
from dcounter.errors import ConfigurationError
sys.stdin.readline()
try:
    directory = open_data_directory(sys.argv[1], 4, token_bytes)
except ConfigurationError as error:
    print("refused", error, flush=True)
else:
    if "background" in sys.argv and os.fork():
        os._exit(0)
    directory.begin(os.getpid())
    print(os.getpid(), directory.identity.cluster, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """
    Starts a process that uses a directory when it is told to, until it is told to end.
    """
    started = []

    def start(path: Path, *words: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", _DAEMON, str(path), *words]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for each in started:
        each.communicate()


def _go(daemon: "subprocess.Popen[str]") -> None:
    assert daemon.stdin is not None
    daemon.stdin.write("go\n")
    daemon.stdin.flush()


def _said(daemon: "subprocess.Popen[str]") -> list[str]:
    assert daemon.stdout is not None
    return daemon.stdout.readline().split(maxsplit=1)


def test_of_daemons_that_start_at_once_one_gets_the_directory(
    path: Path, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    daemons = [start(path) for _ in range(4)]
    for daemon in daemons:
        _go(daemon)
    said = [_said(daemon) for daemon in daemons]
    [(_, cluster)] = [words for words in said if words[0] != "refused"]
    assert all(f"{path} is used by" in words[1] for words in said if words[0] == "refused")
    for daemon in daemons:
        daemon.communicate()
    assert cluster == _open(path).cluster + "\n"


@pytest.mark.parametrize("words", [(), ("background",)])
def test_a_second_daemon_is_told_the_process_of_the_first(
    path: Path, words: Sequence[str], start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    first = start(path, *words)
    _go(first)
    pid, _ = _said(first)
    with pytest.raises(ConfigurationError, match=f"{path} is used by process {pid}: stop that daemon first"):
        _open(path)
    first.communicate()
    assert _open(path).cluster


def test_a_number_that_an_earlier_daemon_left_is_not_believed(path: Path) -> None:
    _open(path)
    directory = open_data_directory(str(path), 4, _bytes(2))
    for left in (b"1\n", b"999999999\n", b"", b"nonsense"):
        (path / "daemon.pid").write_bytes(left)
        with pytest.raises(ConfigurationError, match=f"is used by process {os.getpid()}"):
            _open(path)
    directory.close()
    assert os.listdir(path) == ["cluster.json"]


def test_a_start_waits_for_a_moment_only(path: Path) -> None:
    _open(path)
    directory = open_data_directory(str(path), 4, _bytes(1))
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 5:
            directory.close()

    open_data_directory(str(path), 4, _bytes(1), sleep=sleep).close()
    assert len(waited) == 5
    directory = open_data_directory(str(path), 4, _bytes(1))
    with pytest.raises(ConfigurationError):
        open_data_directory(str(path), 4, _bytes(1), sleep=sleep)
    assert 0.4 < sum(waited[5:]) < 0.6
    directory.close()


def test_a_directory_that_is_replaced_meanwhile_is_not_used(path: Path) -> None:
    _open(path)
    directory = open_data_directory(str(path), 4, _bytes(1))

    def sleep(_: float) -> None:
        path.rename(path.with_name("moved"))
        path.mkdir()
        directory.close()

    with pytest.raises(ConfigurationError, match=f"{path} was replaced by another process"):
        open_data_directory(str(path), 4, _bytes(1), sleep=sleep)
    assert os.listdir(path) == []


@pytest.mark.parametrize("there", [[], ["var"], ["var", "data"]])
def test_a_daemon_that_never_began_leaves_nothing(path: Path, there: list[str]) -> None:
    root = path.parent.parent
    root.joinpath(*there).mkdir(parents=True, exist_ok=True)
    before = sorted(root.rglob("*"))
    open_data_directory(str(path), 4, _bytes(1)).close()
    assert sorted(root.rglob("*")) == before
    first = _open(path)
    open_data_directory(str(path), 4, _bytes(2)).close()
    assert _open(path) == first


def test_every_node_has_a_directory_of_its_own(path: Path) -> None:
    directory = open_data_directory(str(path), 4, _bytes(1))
    assert directory.node(3) == str(path / "node-3")
    directory.close()


class TestWhatIsNotADaemonsDirectory:
    @pytest.mark.parametrize("name", ["owner", "000000000001.journal", "000000000007.snapshot"])
    def test_a_nodes(self, path: Path, name: str) -> None:
        path.mkdir(parents=True)
        (path / name).touch()
        with pytest.raises(ConfigurationError, match=rf"is the directory of a node \(it has {name}\)"):
            _open(path)
        assert os.listdir(path) == [name]

    def test_an_empty_one_of_a_node_below_a_daemons(self, path: Path) -> None:
        _open(path)
        with pytest.raises(ConfigurationError, match="node-0 is the directory of a node: give the daemon"):
            _open(path / "node-0")
        assert os.listdir(path) == ["cluster.json"]

    def test_a_cluster_whose_name_leads_nowhere(self, path: Path) -> None:
        path.mkdir(parents=True)
        (path / "cluster.json").symlink_to(path / "elsewhere")
        with pytest.raises(ConfigurationError, match=r"cluster\.json .*elsewhere, which does not exist"):
            _open(path)

    def test_no_name(self) -> None:
        with pytest.raises(ConfigurationError, match="--data-dir is empty"):
            open_data_directory("", 4, _bytes(1))
        with pytest.raises(ConfigurationError, match="--data-dir is empty"):
            open_node_directory("")


class TestTheDirectoryOfANode:
    def test_is_made(self, path: Path) -> None:
        assert open_node_directory(str(path)) == str(path)
        assert path.stat().st_mode & 0o777 == 0o700

    def test_is_not_a_daemons(self, path: Path) -> None:
        _open(path)
        with pytest.raises(
            ConfigurationError, match=r"is the directory of a daemon \(it has cluster\.json\)"
        ):
            open_node_directory(str(path))

    def test_is_used_by_one_node(self, path: Path) -> None:
        disk = RealDisk(str(path))
        disk.open()
        with pytest.raises(ConfigurationError, match=f"is used by process {os.getpid()}: stop that node"):
            open_node_directory(str(path))
        # One of a daemon waits for it later.
        open_node_directory(str(path), alone=False)
        disk.close()
        open_node_directory(str(path))


class TestErrorsOfTheSystem:
    """
    Each is one line with the path and what to do; what was made is gone again.
    """

    @pytest.mark.parametrize("alone", [False, True])
    def test_that_of_a_daemons_node_has_to_be_where_it_is(self, alone: bool, tmp_path: Path) -> None:
        path = tmp_path / "node-0"
        path.touch()
        with pytest.raises(ConfigurationError) as refused:
            open_node_directory(str(path), alone=alone)
        # In another directory nothing of what is stored would be there.
        assert str(refused.value) == f"{path}: File exists: {path} is not a directory: move it away" + (
            ", or name another directory" if alone else ""
        )

    @staticmethod
    def _refused(path: Path, root: Path) -> str:
        before = sorted(root.rglob("*"))
        with pytest.raises(ConfigurationError) as daemon:
            _open(path)
        with pytest.raises(ConfigurationError) as node:
            open_node_directory(str(path))
        assert str(daemon.value) == str(node.value)
        assert "\n" not in str(daemon.value)
        assert sorted(root.rglob("*")) == before
        return str(daemon.value)

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        assert f"{file} is not a directory: move it away" in self._refused(file, tmp_path)
        assert f"{file} is not a directory: move it away" in self._refused(file / "a" / "b", tmp_path)

    def test_a_link_that_leads_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "none")
        for path in (tmp_path / "link", tmp_path / "link" / "data"):
            said = self._refused(path, tmp_path)
            assert f"{tmp_path / 'link'}: " in said
            assert f"a symbolic link to {tmp_path / 'none'}, which does not exist" in said

    def test_links_in_a_circle(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "link")
        assert "link" in self._refused(tmp_path / "link" / "data", tmp_path)

    def test_a_name_that_is_too_long(self, tmp_path: Path) -> None:
        said = self._refused(tmp_path / "made" / ("x" * 300), tmp_path)
        assert said.endswith("File name too long: choose a shorter path")

    def test_where_nobody_may_write(self, tmp_path: Path) -> None:
        said = self._refused(Path("/proc/self"), tmp_path)
        assert said.startswith("/proc/self cannot be written: ")
        assert "needs the right" in said or "file system" in said

    def test_no_descriptors(self, path: Path, tmp_path: Path) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        try:
            with pytest.raises(ConfigurationError) as refused:
                _open(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert "Too many open files: raise the limit on open files" in str(refused.value)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("number", [ENOSPC, EROFS, EBUSY])
    def test_no_other_directory_is_advised_where_there_is_one_with_data(
        self, number: int, tmp_path: Path
    ) -> None:
        error = OSError(number, os.strerror(number))
        # In another one nothing of what is stored would be counted.
        assert "another directory" in trouble(error, str(tmp_path))
        (tmp_path / "cluster.json").touch()
        assert "another directory" not in trouble(error, str(tmp_path))

    @pytest.mark.parametrize("number", [ENOSPC, EDQUOT, EROFS, EACCES, EIO, ENFILE, EBUSY])
    def test_others_have_a_remedy_each(self, number: int) -> None:
        said = trouble(OSError(number, os.strerror(number), "/var/x"), "/var")
        assert said.startswith(f"/var/x: {os.strerror(number)}: ")
        assert len(said.rpartition(": ")[2]) > 10

    def test_a_new_file_that_cannot_be_written_leaves_nothing(self, path: Path, tmp_path: Path) -> None:
        def randbytes(size: int) -> bytes:
            raise OSError(ENOSPC, os.strerror(ENOSPC))

        with pytest.raises(ConfigurationError, match=f"{path}: No space left on device: make room there"):
            open_data_directory(str(path), 4, randbytes)
        assert list(tmp_path.iterdir()) == []
