"""
The command that prints what completes words in a shell.
"""

import click

_SHELLS = {
    "bash": 'eval "$(dcounter completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(dcounter completion zsh)" in ~/.zshrc, after compinit',
    "fish": "dcounter completion fish > ~/.config/fish/completions/dcounter.fish",
}


@click.command(
    epilog="\b\nTo have it in every shell:\n" + "\n".join(f"  {each}" for each in _SHELLS.values())
)
@click.argument("shell", type=click.Choice([*_SHELLS]))
def completion(shell: str) -> None:
    """
    Print a script that completes commands and options in a shell.
    """
    from click.shell_completion import get_completion_class

    from dcounter.cli.main import COMPLETE, root

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(root, {}, "dcounter", COMPLETE).source())
