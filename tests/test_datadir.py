import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dcounter.datadir import node_directory, open_data_directory
from dcounter.errors import ConfigurationError
from dcounter.handshake import Identity


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "data"


def _bytes(fill: int) -> Callable[[int], bytes]:
    return lambda size: bytes([fill]) * size


def _open(path: Path, nodes: int = 4, fill: int = 1) -> Identity:
    return open_data_directory(str(path), nodes, _bytes(fill))


def test_a_new_directory_is_a_new_cluster(path: Path) -> None:
    identity = _open(path)
    assert identity == Identity("01" * 16, b"\x01" * 32, [0, 1, 2, 3])
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
    with pytest.raises(ConfigurationError, match=r"has \['node-0', 'node-1'\], but cluster\.json is gone"):
        _open(path)


def test_what_is_no_nodes_does_not_matter(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "lost+found").mkdir()
    assert _open(path).cluster


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "is of version 2, this dcounter reads version 1"),
        ({"version": "1"}, "cannot be read"),
        ({"members": None}, "cannot be read"),
        ({"more": 1}, "cannot be read"),
        ({"secret": "xx"}, "cannot be read"),
        ({"secret": ""}, "the secret is too short"),
        ({"secret": "01" * 31}, "the secret is too short"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(path: Path, change: dict[str, object], why: str) -> None:
    _open(path)
    file = path / "cluster.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **change}))
    with pytest.raises(ConfigurationError, match=why) as caught:
        _open(path)
    assert str(file) in str(caught.value)


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


def test_two_daemons_that_start_at_once_are_one_cluster(path: Path) -> None:
    code = """
import sys
from secrets import token_bytes
from dcounter.datadir import open_data_directory
sys.stdin.readline()
print(open_data_directory(sys.argv[1], 4, token_bytes).cluster)
"""
    command = [sys.executable, "-c", code, str(path)]
    daemons = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = []
    for daemon in daemons:
        assert daemon.stdin is not None
        daemon.stdin.write("go\n")
        daemon.stdin.flush()
    for daemon in daemons:
        said.append(daemon.communicate()[0])
        assert daemon.returncode == 0
    assert len(set(said)) == 1
    assert said[0] == _open(path).cluster + "\n"


def test_nobody_else_looks_into_a_directory_that_is_being_made(path: Path) -> None:
    looked = []

    def randbytes(size: int) -> bytes:
        other = os.open(path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
        looked.append(size)
        return bytes(size)

    open_data_directory(str(path), 4, randbytes)
    assert looked
    other = os.open(path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_every_node_has_a_directory_of_its_own(path: Path) -> None:
    assert node_directory(str(path), 3) == str(path / "node-3")
