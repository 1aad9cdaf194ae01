"""
Makes from the list of options what people read: the files in `etc`, and the tables of docs/configuration.md.

`python -m dcounter.daemon.reference` writes the files.
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from dcounter.daemon.option_table import DAEMON, NODE
from dcounter.daemon.settings import Setting, shown

_WIDTH: Final = 98

_AT_SIGHUP: Final = {
    "restart": "",
    "value": "A new value takes effect at SIGHUP.",
    "file": "The file is read again at SIGHUP.",
}

_IN_A_TABLE: Final = {"restart": "", "value": "new value", "file": "file read again"}

_FILES: Final = {
    "etc/dcounter.toml": ("a daemon", "twistd dcounter", DAEMON),
    "etc/dcounter-node.toml": ("a node by itself", "twistd dcounter node", NODE),
}


def configuration_file(what: str, command: str, settings: Sequence[Setting]) -> str:
    """
    A configuration file with every option, commented out.

    :param what: of what it is the configuration.
    :param command: what reads it.
    """
    lines = [
        f"# The configuration of {what}, read by: {command} --config FILE",
        "#",
        "# Every option is here with its default, or with an example if it has none: remove the # before",
        "# those that you set. The command line and the environment (DCOUNTER_MAX_BODY for max-body) take",
        "# precedence over this file. A relative path starts from the directory of this file.",
        "# Check it with: dcounter config check FILE",
    ]
    for group, members in groupby((each for each in settings if not each.once), lambda each: each.group):
        lines += ["", "", f"# {group}", f"# {'-' * len(group)}"]
        for each in members:
            lines += ["", *_comment(each), f"#{each.name} = {_in_toml(each)}"]
    return "\n".join([*lines, ""])


def _comment(setting: Setting) -> Iterator[str]:
    value = f"{values(setting)}." if setting.kind.in_file in (int, float) else ""
    more = [setting.help, value[:1].upper() + value[1:], _plain(setting.details), _AT_SIGHUP[setting.reload]]
    if setting.shown_default and setting.default is None:
        more.append(f"Default: {_plain(setting.shown_default)}.")
    text = " ".join(filter(None, more))
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def values(setting: Setting) -> str:
    """
    The values that an option takes, in words.
    """
    kind = setting.kind
    return kind.what if not kind.unit or kind.unit in kind.what else f"{kind.what}, in {kind.unit}"


def _plain(markdown: str) -> str:
    """
    A text without its marks of code, and with files instead of links.
    """
    return re.sub(r"\[([^\]]*)\]\(([^)#]*)[^)]*\)", _file_of_link, markdown).replace("`", "")


def _file_of_link(link: re.Match[str]) -> str:
    file = f"docs/{link[2]}".replace("docs/../", "")
    return file if link[1].endswith(".md") else f"{link[1]} ({file})"


def _in_toml(setting: Setting) -> str:
    if setting.example:
        value: object = [setting.example] if setting.many else setting.example
    else:
        value = setting.default
    match value:
        case float():
            return repr(value)
        case _:
            # A text, a list of texts, a number or a truth of JSON is one of TOML.
            return json.dumps(value)


def table(settings: Sequence[Setting]) -> str:
    """
    The options as tables of Markdown, one for each group.
    """
    lines: list[str] = []
    for group, members in groupby(settings, lambda each: each.group):
        lines += [f"### {group}", "", "| option | value | default | what it does | at `SIGHUP` |"]
        lines += ["|---|---|---|---|---|", *map(_row, members), ""]
    return "\n".join(lines)


def _row(setting: Setting) -> str:
    value = "" if setting.is_flag else values(setting)
    default = setting.shown_default or (f"`{text}`" if (text := shown(setting.default)) else "")
    if setting.is_flag:
        default = "off"
    again = " May be given again; a list in the file." if setting.many else ""
    once = " On the command line only." if setting.once else ""
    does = f"{setting.help}{again}{once} {setting.details}".strip().replace("|", "\\|")
    return f"| `--{setting.name}` | {value} | {default} | {does} | {_IN_A_TABLE[setting.reload]} |"


def made(root: Path) -> dict[Path, str]:
    """
    What the files should hold.

    :param root: the directory of the project.
    """
    return {root / name: configuration_file(*about) for name, about in _FILES.items()}


if __name__ == "__main__":
    for path, text in made(Path(sys.argv[1] if sys.argv[1:] else ".")).items():
        path.write_text(text, "utf-8")
