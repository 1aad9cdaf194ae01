"""
The frame of `dcounter`: shared options, errors, exit statuses.
"""

import json
from collections.abc import Sequence

import click
import pytest
from click.shell_completion import ShellComplete

from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.main import COMPLETE, main, root, run
from dcounter.cli.output import Output
from dcounter.cli.remote import offline
from dcounter.cli.settings import DEFAULT_URL, Settings, check_url, json_option, url_options
from dcounter.daemon.option_table import DAEMON, NODE
from dcounter.daemon.settings import Setting


@click.command()
@url_options()
@json_option
@click.option("--break", "broken", is_flag=True)
@click.pass_context
def probe(context: click.Context, broken: bool) -> None:
    """
    Show the settings, or fail.
    """
    if broken:
        raise Failed("it broke", "Nothing was stored.", exit=Exit.REFUSED, code="broken", details={"at": 3})
    settings = context.ensure_object(Settings)
    click.echo(f"{settings.url} {settings.token_file} {settings.token} {settings.json}")


@click.command()
@click.option("--status", type=int)
@offline
def mine(output: Output, status: int | None) -> Exit | None:
    """
    Need no daemon.
    """
    output.result({"a": 1}, "one")
    return None if status is None else Exit(status)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DCOUNTER_URL", "DCOUNTER_TOKEN", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@click.command()
def full() -> None:
    """
    Write to a full disk.
    """
    raise OSError(28, "No space left on device", "dump")


GROUP = click.Group(
    "dcounter", {"probe": probe, "mine": mine, "full": full}, callback=root.callback, params=root.params
)


@pytest.mark.parametrize(
    ("arguments", "environment", "shown"),
    [
        (["probe"], {}, f"{DEFAULT_URL} None None False"),
        (["probe"], {"DCOUNTER_URL": "http://a:1/", "DCOUNTER_TOKEN": "t"}, "http://a:1 None t False"),
        (["--url", "http://b:2", "probe"], {"DCOUNTER_URL": "http://a:1"}, "http://b:2 None None False"),
        (["--url", "http://b:2", "probe", "--url", "https://c/x"], {}, "https://c/x None None False"),
        (["probe", "--url", "unix:/run/d.sock"], {}, "unix:/run/d.sock None None False"),
        (["--json", "--token-file", "f", "probe"], {}, f"{DEFAULT_URL} f None True"),
        (["probe", "--json", "--token-file", "f"], {}, f"{DEFAULT_URL} f None True"),
    ],
)
def test_what_stands_nearer_counts_more(
    arguments: list[str],
    environment: dict[str, str],
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(arguments, GROUP) == 0
    assert capsys.readouterr().out == f"{shown}\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "127.0.0.1:8085",
        "ftp://a",
        "http://",
        "http://a:0",
        "http://a:x",
        "http://a?b",
        "http://u@a",
        "http://a#b",
    ],
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_url(text)


def test_a_wrong_url_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--url", "localhost"], GROUP) == Exit.USAGE
    assert "'localhost' is not a URL such as" in capsys.readouterr().err


def test_a_mistyped_command_is_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["statsu"], root) == Exit.USAGE
    assert "Did you mean one of: 'status'" in capsys.readouterr().err


def test_a_failure_says_what_happened_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--break"], GROUP) == Exit.REFUSED
    said = capsys.readouterr()
    assert click.unstyle(said.err) == "dcounter: it broke\n  Nothing was stored.\n"
    assert said.out == ""


def test_programs_get_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--json", "--break"], GROUP) == Exit.REFUSED
    assert json.loads(capsys.readouterr().err) == {
        "error": {
            "code": "broken",
            "message": "it broke",
            "notes": ["Nothing was stored."],
            "exit": 4,
            "at": 3,
        }
    }


def test_a_full_disk_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["full"], GROUP) == Exit.FAILED
    assert "dcounter: No space left on device: dump" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dcounter ")


def test_an_offline_command_ends_with_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mine"], GROUP) == Exit.OK
    assert run(["--json", "mine", "--status", "3"], GROUP) == Exit.NO
    assert capsys.readouterr().out == 'one\n{"a":1}\n'


def test_every_status_has_a_meaning() -> None:
    assert all(each.meaning.endswith(".") for each in Exit)


@pytest.mark.parametrize(("words", "options"), [((), DAEMON), (("node",), NODE)])
def test_serve_shows_and_completes_the_options_of_the_daemon(
    words: tuple[str, ...], options: Sequence[Setting], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", *words, "--help"]) == 0
    text = capsys.readouterr().out
    completing = ShellComplete(root, {}, "dcounter", COMPLETE)
    completed = [each.value for each in completing.get_completions(["serve", *words], "--")]
    for each in options:
        assert f"--{each.name}" in text
        assert f"--{each.name}" in completed


def test_what_serve_cannot_understand_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--idle", "0"]) == Exit.USAGE
    assert "--idle must be 1 to 86400 seconds, not '0'" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert f"{COMPLETE}={shell}_complete" in capsys.readouterr().out


def test_the_process_ends_with_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "tcsh"])
    assert ended.value.code == Exit.USAGE
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err
