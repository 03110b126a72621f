"""The command line. Everything heavy is imported inside the commands, so that help and completion answer at once."""

from __future__ import annotations

import sys

import click

from vpngen.cli import rendering, sets, pictures, exporting, training, figures  # isort: skip # each adds its commands, in the order that help lists
from vpngen.cli.base import StorePath, cli, format_option, main, no_storage_options, place, report, storage_option
from vpngen.cli.dataset import warm
from vpngen.errors import ArgumentError, MissingError

__all__ = ["cli", "completion", "doctor", "exporting", "figures", "main", "pictures", "rendering", "sets", "training"]


@cli.command()
@click.argument("url", type=StorePath(), required=False)
@storage_option
@format_option
def doctor(url: str | None, form: str) -> None:
    """Check this machine and its pixels, or an object store.

    It shows what the machine has, and whether all backends give the right bytes; or what the store can, and how fast. URL is where stores are to be, such as s3://bucket/sets; nothing is left there. Exit code 4 if something is missing or wrong.

    Examples:
      vpngen doctor
      vpngen doctor s3://bucket/sets --storage-option region=eu-central-1
    """
    from vpngen import health
    from vpngen.terminal import compiling

    if url is None:
        no_storage_options()
        with compiling():
            for spec in health.trials().values():
                warm(spec, "auto")
        findings = health.examine()
    else:
        from vpngen.store.places import Objects

        objects = place(url)
        if not isinstance(objects, Objects):
            raise ArgumentError("must be that of an object store, such as s3://bucket/sets", "url", url)
        findings = health.examine_objects(objects)
    rows = [
        (
            f.name,
            f.value if f.good else f"{f.value}  <- {f.remedy}",
            {f.name: {"value": f.value, "good": f.good, "remedy": f.remedy}},
        )
        for f in findings
    ]
    report(form, rows)
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
