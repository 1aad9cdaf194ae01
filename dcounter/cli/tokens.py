"""
The commands that make, list and revoke tokens of callers.
"""

from typing import Final, get_args

import click

from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.output import Output, columns, shown
from dcounter.cli.remote import offline
from dcounter.http.auth import Scope

_FILE: Final = click.argument("file", type=click.Path(dir_okay=False))
_RELOAD: Final = "a daemon that runs reads the file again at SIGHUP"


@click.group()
def token() -> None:
    """
    Make, list and revoke the tokens of callers.

    FILE is that of the daemon's option --tokens-file. It has no tokens, only hashes of them.
    """


@token.command()
@_FILE
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(get_args(Scope)),
    help="A right; may be given again.",
)
@click.option(
    "--prefix",
    "prefixes",
    metavar="TEXT",
    multiple=True,
    help="Bind it to tenants that begin so; may be given again.",
)
@click.option("--expires", metavar="TIME", help="Such as 2027-01-31T00:00:00Z.")
@click.option("--rate", metavar="N", help="How many requests per second it permits, in the long run.")
@click.option("--burst", metavar="N", help="How many requests at once. [default: those of a second]")
@offline
def new(
    output: Output,
    file: str,
    name: str,
    scopes: tuple[str, ...],
    prefixes: tuple[str, ...],
    expires: str | None,
    rate: str | None,
    burst: str | None,
) -> Exit | None:
    """
    Make a token, add it to FILE, and show it: it cannot be shown again.

    NAME is of letters, digits and ._@-, and errors may show it. The file is made if it does not exist.
    """
    import secrets

    from dcounter.daemon.token_file import add_token, describe_token, make_token

    made = make_token(secrets.token_bytes)
    try:
        add_token(file, describe_token(made, name, scopes, prefixes, expires=expires, rate=rate, burst=burst))
    except (OSError, ValueError) as error:
        raise _unchanged(file, error) from error
    output.result({"name": name, "token": made}, made)
    output.remark(_RELOAD)
    return None


@token.command("list")
@_FILE
@offline
def list_(output: Output, file: str) -> Exit | None:
    """
    List the tokens of FILE, and what they permit.

    With --json each line is a token.
    """
    from dcounter.daemon.token_file import read_tokens
    from dcounter.stamps import show_stamp

    try:
        found = read_tokens(file)
    except (OSError, ValueError) as error:
        raise Failed(f"{file} cannot be read: {_why(error)}") from error
    rows = []
    for each in found:
        who, rate = each.principal, each.principal.rate
        expires = None if each.expires is None else show_stamp(each.expires)
        scopes = sorted(who.scopes)
        if output.json:
            output.document(
                {
                    "name": who.name,
                    "scopes": scopes,
                    "prefixes": who.prefixes,
                    "expires": expires,
                    "rate": rate and rate.per_s,
                    "burst": rate and rate.burst,
                }
            )
        per_second = f"{rate.per_s:g}/s" if rate else ""
        prefixes = ", ".join(map(shown, who.prefixes))
        rows.append([who.name, ", ".join(scopes), prefixes, expires or "", per_second])
    if not output.json:
        click.echo(columns(["name", "scopes", "prefixes", "expires", "rate"], rows))
    return None


@token.command()
@_FILE
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@offline
def revoke(output: Output, file: str, names: tuple[str, ...]) -> Exit | None:
    """
    Take tokens out of FILE, with the comments above them.
    """
    from dcounter.daemon.token_file import revoke_token

    for name in names:
        try:
            revoke_token(file, name)
        except (OSError, ValueError) as error:
            raise _unchanged(file, error) from error
        output.result({"revoked": name}, f"revoked {name}")
    output.remark(_RELOAD)
    return None


def _unchanged(file: str, error: OSError | ValueError) -> Failed:
    return Failed(f"{file} was not changed: {_why(error)}")


def _why(error: OSError | ValueError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else str(error)
