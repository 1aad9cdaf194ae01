"""
The command `dcounter`: what people type to run a daemon, to fill it and to ask it.

How a command is added: write a function in a module of this package (one module per subject), and give it a
row in `dcounter.cli.table`. That is what `dcounter --help` lists, without importing the module. A command
that calls a daemon is a coroutine, with a docstring for its help:

    @click.command()
    @click.argument("tenant")
    @remote
    async def erase(session: Session, tenant: str) -> Exit | None:
        erased = await session.client.erase(tenant)
        session.output.result(erased, f"{erased.deleted} items deleted")

`remote` adds the options `--url`, `--token-file`, `--cert` and `--json`, starts the reactor, and ends it when
the coroutine returns. What it returns is the exit status (`dcounter.cli.exits`); `None` is success. Errors of
`dcounter.client` pass through: `dcounter.cli.explaining` says them in words. For all else that goes wrong,
raise `dcounter.cli.failures.Failed`. Ctrl-C cancels the coroutine: what must be done then belongs in a
`finally`.

A command that calls no daemon is a function with `offline` instead of `remote`: it gets an `Output`, and has
the option `--json`.

Modules of commands are imported to complete options and to show help, so they must be light: Twisted, NumPy,
rich and `dcounter.client` are imported inside the functions that need them. `tests/cli/test_table.py` looks.

The reference in docs/cli.md is made from the commands (docs/reference/cli.py): a new one is in it by itself.
"""
