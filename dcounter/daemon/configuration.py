"""
Reads options from the environment and from a configuration file, and says what is wrong there.

The file is TOML: a key for each option, named as on the command line. What several sources say, the strongest
wins: the command line, the environment, the file, the default.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dcounter.daemon.settings import VARIABLES, Setting, shown, variable_of

FILE_VARIABLE: Final = variable_of("config")
"""
The environment variable that names the configuration file.
"""

_MOST_BYTES: Final = 256 * 1024

_CLOSE: Final = 0.7
"""
How similar two names are, from 0 to 1, of which one may be a misspelling of the other.
"""

_OTHERS: Final = frozenset(variable_of(name) for name in ("config", "url", "token", "secret", "boot"))
"""
Variables that are no options: those of the client, and those by which a daemon starts its nodes.
"""

_OF_A_SERVICE: Final = re.compile(
    r"DCOUNTER_(?:.+_)?(?:SERVICE_(?:HOST|PORT.*)|PORT|PORT_[0-9]+_(?:TCP|UDP).*)"
)
"""
Variables that Kubernetes sets for a service with the name `dcounter`.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Something that is wrong with the configuration.

    :ivar where: the file with the line, or the variable.
    :ivar text: what is wrong, and what to do.
    :ivar fatal: whether the daemon does not start because of it.
    """

    where: str
    text: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(slots=True)
class Source:
    """
    What one source says.

    :ivar name: what messages call it.
    :ivar values: name of an option -> its value.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def did_you_mean(name: str, settings: Sequence[Setting], before: str = "") -> str:
    """
    A suggestion for a misspelt option, to be put after an error; empty if there is none.

    :param before: what is written before the name of an option.
    """
    close = _closest(name, settings)
    return f": did you mean {before}{close.name}?" if close else ""


def _closest(name: str, settings: Sequence[Setting]) -> Setting | None:
    names = [each.name for each in settings]
    found = [each for each in names if each.startswith(name)]
    found = found or difflib.get_close_matches(name, names, n=1, cutoff=_CLOSE)
    return settings[names.index(found[0])] if found else None


def read_environment(settings: Sequence[Setting], environ: Mapping[str, str]) -> Source:
    """
    What the environment says. A list has commas between its values.
    """
    source = Source("the environment")
    known = {each.variable: each for each in settings if not each.once}
    for variable, text in environ.items():
        if not variable.startswith(VARIABLES) or variable in _OTHERS:
            continue
        setting = known.get(variable)
        if setting is None:
            # What does not look like an option is another program's.
            name = variable.removeprefix(VARIABLES).lower().replace("_", "-")
            close = _closest(name, list(known.values()))
            if close is not None and not _OF_A_SERVICE.fullmatch(variable):
                why = f"there is no such option: did you mean {close.variable}?"
                source.findings.append(Finding(variable, why))
            else:
                source.findings.append(Finding(variable, "no option has this name: ignored", fatal=False))
            continue
        try:
            source.values[setting.name] = (
                [setting.read(each.strip(), variable) for each in text.split(",")]
                if setting.many
                else setting.read(text, variable)
            )
        except ValueError as error:
            source.findings.append(Finding(variable, str(error).removeprefix(f"{variable} ")))
    return source


def read_file(settings: Sequence[Setting], path: str) -> Source:
    """
    What a configuration file says.
    """
    source = Source(path)
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            source.findings.append(Finding(path, f"the file has more than {_MOST_BYTES} bytes"))
            return source
        text = content.decode()
        found = tomllib.loads(text)
    except OSError as error:
        source.findings.append(Finding(path, f"the file cannot be read: {error.strerror}"))
    except ValueError as error:
        # Errors of TOML and of UTF-8.
        source.findings.append(Finding(path, f"the file is not TOML: {error}"))
    else:
        _take(settings, found, source, path)
        if source.findings:
            lines = lines_of_keys(text)
            source.findings = [
                Finding(f"{path}, line {lines[each.where]}", each.text) for each in source.findings
            ]
    return source


def _take(settings: Sequence[Setting], found: Mapping[str, Any], source: Source, path: str) -> None:
    """
    Read what the file says; the place of a finding is the key.
    """
    known = {each.name: each for each in settings}
    in_file = [each for each in settings if not each.once]
    for key, value in found.items():
        setting = known.get(key)
        if setting is None:
            why = f"there is no option {key!r}{did_you_mean(key, in_file)}"
        elif setting.once:
            why = f"{key} works on the command line only: the file would repeat it at every start"
        else:
            try:
                source.values[key] = _value(setting, value, os.path.dirname(os.path.abspath(path)))
                continue
            except ValueError as error:
                why = str(error)
        source.findings.append(Finding(key, why))


def _value(setting: Setting, value: object, directory: str) -> Any:
    if setting.many and isinstance(value, list):
        return [_single(setting, each, directory) for each in value]
    if setting.many or isinstance(value, list):
        wanted = "a list of texts" if setting.many else setting.kind.what
        raise ValueError(f"{setting.name} must be {wanted}, not {_described(value)}")
    return _single(setting, value, directory)


def _single(setting: Setting, value: object, directory: str) -> Any:
    wanted = setting.kind.in_file
    fits = isinstance(value, (int, float) if wanted is float else wanted)
    if not fits or (isinstance(value, bool) and wanted is not bool):
        raise ValueError(f"{setting.name} must be {setting.kind.what}, not {_described(value)}")
    text = value if isinstance(value, str) else shown(value) if isinstance(value, bool) else repr(value)
    read = setting.read(text, setting.name)
    return os.path.join(directory, read) if setting.kind.is_path else read


def _described(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return shown(value)
    if isinstance(value, str):
        return f"the text {value!r}"
    return str(value)


def lines_of_keys(text: str) -> dict[str, int]:
    """
    The line of each key of a valid TOML file.

    `tomllib` does not say. But a key begins in the line after the last one up to which the text is valid
    without it.
    """
    lines: dict[str, int] = {}
    valid = 0
    every = text.split("\n")
    for number in range(1, len(every) + 1):
        try:
            found = tomllib.loads("\n".join(every[:number]))
        except tomllib.TOMLDecodeError:
            continue
        for key in found.keys() - lines.keys():
            lines[key] = valid + 1
        valid = number
    return lines
