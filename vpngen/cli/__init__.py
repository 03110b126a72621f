"""The command line. Everything heavy is imported inside the commands, so that help and completion answer at once."""

from __future__ import annotations

import sys

import click

from vpngen.cli import sets, pictures, exporting, training, figures  # isort: skip # each adds its commands, in the order that help lists
from vpngen.cli.base import cli, format_option, main
from vpngen.cli.dataset import warm
from vpngen.errors import MissingError

__all__ = ["cli", "completion", "doctor", "exporting", "figures", "main", "pictures", "sets", "training"]


@cli.command()
@format_option
def doctor(form: str) -> None:
    """Show what this machine has, and whether its pixels are right.

    Exit code 4 if something is missing or wrong.
    """
    from vpngen import health
    from vpngen.terminal import compiling

    with compiling():
        for spec in health.trials().values():
            warm(spec, "auto")
    findings = health.examine()
    rows = [
        (
            f.name,
            f.value if f.good else f"{f.value}  <- {f.remedy}",
            {f.name: {"value": f.value, "good": f.good, "remedy": f.remedy}},
        )
        for f in findings
    ]
    sets.report(form, rows)
    if not all(f.good for f in findings):
        sys.exit(MissingError.exit_code)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    Examples:
      vpngen completion bash >> ~/.bashrc
      vpngen completion zsh >> ~/.zshrc
      vpngen completion fish > ~/.config/fish/completions/vpngen.fish
    """
    from click.shell_completion import get_completion_class

    cls = get_completion_class(shell)
    assert cls is not None
    click.echo(cls(cli, {}, "vpngen", "_VPNGEN_COMPLETE").source())
