"""
What a daemon shows when it has started, and what it knows of its machine.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from dcounter.daemon.announcing import Listening
from dcounter.daemon.first_screen import FirstScreen, Start, screen
from dcounter.daemon.memory_watch import MemoryWatch
from dcounter.daemon.surroundings import Memory, clock_is_kept, memory_of_group, number_of_disks

HERE = Listening("http://127.0.0.1:8085", "http://127.0.0.1:8085", "curl http://127.0.0.1:8085")


def start(**changes: Any) -> Start:
    return replace(Start("1.2", 4, "node", directory="/data", new=True), **changes)


class TestScreen:
    def test_is_this(self) -> None:
        assert screen(start(), HERE, ["the clock is wrong"], colour=False, width=80) == (
            "\n"
            "dcounter 1.2\n"
            "\n"
            "  Listens on  http://127.0.0.1:8085\n"
            "  Dashboard   http://127.0.0.1:8085/\n"
            "  Requests    http://127.0.0.1:8085/docs\n"
            "  Data        /data, 4 nodes on this machine\n"
            "  Durability  items are on the disk of 1 node before the answer, on all soon\n"
            "              after (--ack node)\n"
            "\n"
            '  Try         curl http://127.0.0.1:8085/items -d \'[{"ID":1,"tenant":"hello"}]\'\n'
            "\n"
            "  Warning     the clock is wrong\n"
            "\n"
        )

    def test_shows_nothing_that_would_change_what_is_stored(self) -> None:
        text = screen(start(new=False), HERE, [], colour=False, width=80)
        assert text.endswith("\n  Try         curl http://127.0.0.1:8085/cluster\n\n")

    def test_has_no_page_where_no_browser_comes(self) -> None:
        text = screen(start(), Listening("/run/x"), [], colour=False, width=80)
        assert not [word for word in ("Dashboard", "Requests", "Try") if word in text]

    def test_may_have_colours(self) -> None:
        assert "\x1b[33mWarning\x1b[0m     x" in screen(start(), HERE, ["x"], colour=True, width=80)
        assert "\x1b" not in screen(start(), HERE, ["x"], colour=False, width=80)

    @pytest.mark.parametrize(
        ("changes", "data", "durability"),
        [
            ({"ack": "all"}, "/data, 4 nodes on", "the disk of all 4 nodes before the answer (--ack all)"),
            (
                {"ack": "majority", "nodes": 3},
                "3 nodes",
                "of 2 of 3 nodes before the answer, on all soon after",
            ),
            ({"ack": "primary"}, "4 nodes", "of 1 node and the primary before the answer"),
            ({"nodes": 1}, "/data, 1 node on", "of 1 node before the answer (--ack node)"),
            ({"directory": None}, "in memory, 4 nodes on this machine", "none: nothing is on disk"),
            (
                {"directory": None, "elsewhere": True, "new": False},
                "on 4 nodes, which run by themselves",
                "of 1 node before the answer, on all",
            ),
        ],
    )
    def test_says_what_an_answer_means(self, changes: dict[str, Any], data: str, durability: str) -> None:
        assert data in start(**changes).data
        assert durability in start(**changes).durability


class TestNotes:
    def test_name_one_disk_and_no_disk(self, tmp_path: Path) -> None:
        places = [str(tmp_path / "node-0"), str(tmp_path / "node-1")]

        def notes(**changes: Any) -> str:
            return "\n".join(start(**changes).notes())

        assert "all nodes keep their data on one disk" in notes(places=places)
        assert "on one disk" not in notes(places=places[:1], nodes=1)
        assert "on one disk" not in notes(places=[*places, "/proc"])
        assert "--in-memory: all items are lost" in notes(directory=None)
        assert "lost" not in notes(directory=None, elsewhere=True)

    def test_name_a_clock_that_no_program_synchronises(self) -> None:
        assert ("clock is not synchronised" in "\n".join(start().notes())) == (clock_is_kept() is False)


class TestFirstScreen:
    def test_is_on_the_terminal_if_there_is_one(self, caplog: pytest.LogCaptureFixture) -> None:
        shown: list[str] = []

        def show(text: Any) -> bool:
            shown.append(text(False))
            return True

        with caplog.at_level("INFO"):
            FirstScreen(start(), show=show, warnings=lambda: ["x"])(HERE)
        assert "  Warning     x\n" in shown[0]
        assert not caplog.records

    def test_is_in_the_log_if_there_is_none(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO"):
            FirstScreen(start(directory=None), show=lambda _: False, warnings=lambda: ["x"])(HERE)
        assert [each.getMessage() for each in caplog.records][:4] == [
            "dcounter 1.2; data: in memory, 4 nodes on this machine; durability: none: nothing is on disk",
            "HTTP listens on http://127.0.0.1:8085",
            "x",
            "--in-memory: all items are lost when the daemon stops",
        ]


def groups(root: Path, lines: str, **files: str) -> str:
    """
    A tree with the files of /proc and /sys that tell of control groups.
    """
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(root)


class TestMemory:
    def test_of_the_group_or_of_one_above_it(self, tmp_path: Path) -> None:
        root = groups(
            tmp_path,
            "0::/a/b\n",
            a__memory_dot_max="1000\n",
            a__memory_dot_current="900\n",
            a__memory_dot_stat="anon 1\ninactive_file 300\n",
            a__b__memory_dot_max="max\n",
            a__b__memory_dot_current="800\n",
            a__b__memory_dot_stat="",
        )
        assert memory_of_group(root) == Memory(600, 1000)

    def test_of_the_first_version_of_groups(self, tmp_path: Path) -> None:
        root = groups(
            tmp_path,
            "3:cpu:/x\n2:memory:/x\n",
            memory__memory_dot_limit_in_bytes="2000",
            memory__memory_dot_usage_in_bytes="1500",
            memory__memory_dot_stat="total_inactive_file 100",
            memory__x__memory_dot_limit_in_bytes=str(2**63 - 4096),
            memory__x__memory_dot_usage_in_bytes="1",
            memory__x__memory_dot_stat="",
        )
        assert memory_of_group(root) == Memory(1400, 2000)

    def test_where_there_is_no_limit(self, tmp_path: Path) -> None:
        assert memory_of_group(str(tmp_path)) is None
        assert memory_of_group(groups(tmp_path, "0::/\n")) is None

    def test_is_warned_of_until_there_is_enough(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = MemoryReactorClock()
        used = [899]
        watch = MemoryWatch(lambda: Memory(used[0] << 20, 1000 << 20), clock)
        watch.startService()
        seen = []
        for used[0] in (899, 900, 999, 851, 849, 899):
            clock.advance(10)
            seen.append([*watch.warnings()])
        watch.stopService()
        assert [bool(each) for each in seen] == [False, True, True, True, False, False]
        [warning] = seen[1]
        assert warning.startswith("900 MiB of 1000 MiB of memory of this service or container are in use: ")
        assert [each.getMessage() for each in caplog.records] == seen[1]

    def test_what_the_first_screen_says_is_not_logged_again(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = MemoryReactorClock()
        watch = MemoryWatch(lambda: Memory(95, 100), clock)
        assert len(watch.look()) == 1
        watch.startService()
        clock.advance(10)
        watch.stopService()
        assert len(watch.warnings()) == 1
        assert caplog.records == []


def test_disks_are_counted_where_directories_will_be(tmp_path: Path) -> None:
    assert number_of_disks([str(tmp_path), str(tmp_path / "a" / "b")]) == 1
    assert number_of_disks([str(tmp_path), "/proc/none"]) == 2
