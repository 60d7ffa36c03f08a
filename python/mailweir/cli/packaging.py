"""What packages install beside the program: completion for shells, and manual pages."""

import click

from mailweir.errors import MailweirError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes commands, options and names.

    The names of servers, listeners and sessions are those of the running process. For all
    users of the machine:

    \b
        mailweir completion bash > /etc/bash_completion.d/mailweir
        mailweir completion zsh > /usr/local/share/zsh/site-functions/_mailweir
        mailweir completion fish > /etc/fish/completions/mailweir.fish
    """
    from click.shell_completion import get_completion_class

    of_shell = get_completion_class(shell)
    if of_shell is None:
        raise MailweirError(f"click knows no {shell}; reinstall mailweir")
    script = of_shell(context.find_root().command, {}, "mailweir", "_MAILWEIR_COMPLETE")
    click.echo(script.source(), nl=False)


@click.command()
@click.argument("page", type=click.Choice(["mailweir", "mailweir.yaml"]), default="mailweir")
@click.pass_context
def man(context: click.Context, page: str) -> None:
    """Print a manual page as troff: mailweir(8), or mailweir.yaml(5) of the configuration.

    `mailweir man | man -l -` shows it.
    """
    from mailweir.cli import manual

    root = context.find_root()
    lines = manual.of_commands(root) if page == "mailweir" else manual.of_configuration()
    click.echo("".join(lines), nl=False)
