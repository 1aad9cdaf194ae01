"""
The options that all commands share: `--url`, `--token-file`, `--cert`, `--json`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

DEFAULT_URL: Final = "http://127.0.0.1:8085"

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass
class Settings:
    """
    What the shared options say. They may stand before and after the name of a command.

    :ivar url: of the daemon.
    :ivar token_file: a file with the token to show; it counts more than `token`.
    :ivar token: the token to show.
    :ivar cert: a file with the certificate to show, and its private key.
    :ivar json: whether the output is for programs.
    """

    url: str = DEFAULT_URL
    token_file: str | None = None
    token: str | None = None
    cert: str | None = None
    json: bool = False


def check_url(text: str) -> str:
    """
    The URL of a daemon, without a slash at its end, or its Unix socket.

    :raises ValueError: it cannot be one; the message says why.
    """
    from urllib.parse import urlsplit

    if text.startswith("unix:/"):
        return text
    try:
        parts = urlsplit(text)
        named = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not named:
        raise ValueError(f"{text!r} is not a URL such as {DEFAULT_URL}, and not unix:/PATH")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{text!r} has more than scheme, host, port and path")
    return text.rstrip("/")


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    if value:
        if parameter.name == "url":
            try:
                value = check_url(value)
            except ValueError as error:
                raise click.BadParameter(str(error), context, parameter) from error
        setattr(context.ensure_object(Settings), str(parameter.name), value)
    return value


def json_option(command: _F) -> _F:
    """
    Adds `--json` to a command.
    """
    add = click.option(
        "--json", is_flag=True, expose_value=False, callback=_keep, help="Write JSON, for programs."
    )
    return add(command)


def url_options(*, root: bool = False) -> Callable[[_F], _F]:
    """
    Adds the options that say which daemon is called, and with which token.

    :param root: before the name of a command. Only there the environment is read, since it counts least.
    """
    url = click.option(
        "--url",
        metavar="URL",
        envvar="DCOUNTER_URL" if root else None,
        expose_value=False,
        callback=_keep,
        help=f"The daemon to call; unix:/PATH is a socket. [env: DCOUNTER_URL; default: {DEFAULT_URL}]",
    )
    file = click.option(
        "--token-file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        expose_value=False,
        callback=_keep,
        help="A file with the token to show. [env: DCOUNTER_TOKEN, with the token itself]",
    )
    cert = click.option(
        "--cert",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        expose_value=False,
        callback=_keep,
        help="A file with a certificate to show, over HTTPS, and its private key (PEM).",
    )
    return lambda command: url(file(cert(command)))
