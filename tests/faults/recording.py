"""
What a process asked of its disk, and what it told its callers, recorded by strace in the order of events.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcounter.journal.disk import AppendFile
from dcounter.testing import SimulatedDisk

_CALLS = (
    "write,pwrite64,writev,sendto,fdatasync,fsync,rename,renameat,renameat2,openat,ftruncate,"
    "unlink,unlinkat,close"
)
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_DESCRIPTOR = re.compile(r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*|[A-Z]+:\[[^]]*\])>")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def recorded(command: Sequence[str], trace: Path) -> list[str]:
    """
    A command that does the same, and is recorded with all its children.
    """
    # -D: who started it has it as a child, as if it were not recorded.
    tracer = ["strace", "-D", "-f", "--seccomp-bpf", "-yy", "-xx", "-s", "100000000", "-e", f"trace={_CALLS}"]
    return [*tracer, "-o", str(trace), *command]


@dataclass(frozen=True, slots=True)
class Call:
    """
    One call to the system.

    :ivar begins: it was asked for, and did not return yet.
    :ivar descriptors: those among its arguments, each with what it is.
    :ivar strings: the texts among its arguments.
    :ivar result: what it returned, and what that is if it is a descriptor.
    """

    name: str
    begins: bool
    arguments: str
    descriptors: tuple[tuple[str, str], ...]
    strings: tuple[bytes, ...]
    result: int


def _plain(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _call(name: str, arguments: str, result: int, *, begins: bool) -> Call:
    strings = tuple(_plain(text) for text in _STRING.findall(arguments))
    rest = _STRING.sub('""', arguments)
    descriptors = tuple(
        (number, _plain(what).decode() if what.startswith("\\x") else what)
        for number, what in _DESCRIPTOR.findall(rest)
    )
    return Call(name, begins, rest, descriptors, strings, result)


def calls(trace: Path) -> Iterator[Call]:
    """
    What was recorded: each call when it begins, and again when it returned; those that failed do not count.
    """
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        thread, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>").rstrip()
            name, _, arguments = begun[thread].partition("(")
            yield _call(name, arguments, 0, begins=True)
            continue
        resumed = text.startswith("<... ")
        if resumed:
            text = begun.pop(thread, "") + text.partition(" resumed>")[2]
        found = _CALL.match(text)
        if found is None:
            continue
        name, arguments, result = found[1], found[2], int(found[3])
        if not resumed:
            yield _call(name, arguments, 0, begins=True)
        if result >= 0:
            yield _call(name, arguments, result, begins=False)


class Replay:
    """
    A disk in memory on which the same happens as was recorded for one directory.

    :param syncs: whether files are synced; without, a test sees that it would notice.
    """

    def __init__(self, directory: Path, *, syncs: bool = True) -> None:
        self.disk = SimulatedDisk()
        self.disk.open()
        self._directory = str(directory)
        self._syncs = syncs
        self._files: dict[str, AppendFile] = {}
        self._names: dict[str, str] = {}

    def do(self, call: Call) -> bool:
        """
        Do what was done.

        :returns: whether it had to do with the directory.
        """
        if call.begins or not call.descriptors or not call.descriptors[0][1].startswith(self._directory):
            return False
        number, path = call.descriptors[0]
        match call.name:
            case "openat" if "O_CREAT" in call.arguments:
                self._files[str(call.result)] = self.disk.create(call.strings[0].decode())
            case "openat":
                self._names[str(call.result)] = call.strings[0].decode()
            case "write":
                self._files[number].write(call.strings[0][: call.result])
            case "fdatasync":
                if self._syncs:
                    self._files[number].sync()
            case "fsync" if path == self._directory:
                self.disk.sync()
            case "fsync":
                # That of a cut, which the simulated disk does at once.
                assert number in self._names
            case "ftruncate":
                self.disk.truncate(self._names[number], int(call.arguments.rpartition(",")[2]))
            case "renameat":
                self.disk.rename(call.strings[0].decode(), call.strings[1].decode())
            case "unlinkat":
                self.disk.remove(call.strings[0].decode())
            case "close":
                self._files.pop(number, None)
                self._names.pop(number, None)
            case _:
                raise AssertionError(f"the journal did something new: {call}")
        return True
