"""The `intake` command: its subcommands, and the module of each."""

from pkgutil import resolve_name

import click

from console import errors

SECTIONS = {  # of `intake --help`, in the order in which one needs them
    "Run it": {
        "up": "console.cli.up:up",
        "demo": "console.cli.demo:demo",
        "smtp": "console.cli.processes:smtp",
        "imap": "console.cli.mailboxes:imap",
        "folder": "console.cli.processes:folder",
        "webhooks": "console.cli.processes:webhooks",
        "backfill": "console.cli.backfill:backfill",
        "console": "console.cli.processes:console",
        "worker": "console.cli.processes:worker",
        "clock": "console.cli.processes:clock",
    },
    "Put things in": {
        "parse": "console.cli.parse:parse",
        "deliver": "console.cli.deliveries:deliver",
        "import": "console.cli.crm_import:import_",
    },
    "Work on tickets": {
        "tickets": "console.cli.tickets.tickets:tickets",
        "ticket": "console.cli.tickets.tickets:ticket",
        "automated": "console.cli.tickets.automated:automated",
        "export": "console.cli.tickets.export:export",
        "process": "console.cli.admin:process",
    },
    "Who is who": {
        "user": "console.cli.people:user",
        "company": "console.cli.people:company",
        "contact": "console.cli.people:contact",
        "sender": "console.cli.senders:sender",
    },
    "Programs": {
        "token": "console.cli.integrations:token",
        "hook": "console.cli.integrations:hook",
    },
    "Operate it": {
        "status": "console.cli.admin:status",
        "deliveries": "console.cli.deliveries:deliveries",
        "delivery": "console.cli.deliveries:delivery",
        "replay": "console.cli.replay:replay",
        "dismiss": "console.cli.deliveries:dismiss",
        "map": "console.cli.column_mapping:map_",
        "profiles": "console.cli.column_mapping:profiles",
        "ledger": "console.cli.admin:ledger",
        "migrate": "console.cli.admin:migrate",
        "backup": "console.cli.admin:backup",
        "restore": "console.cli.admin:restore",
    },
}
COMMANDS = {name: place for section in SECTIONS.values() for name, place in section.items()}


def keep_line_breaks(command: click.Command) -> click.Command:
    r"""Have click keep the line breaks of examples, in a command and its subcommands.

    Docstrings hold `\b` as two characters, click expects the control character.
    """
    command.help = (command.help or "").replace("\\b", "\b")
    for sub in command.commands.values() if isinstance(command, click.Group) else ():
        keep_line_breaks(sub)
    return command


class IntakeGroup(click.Group):
    """Imports a subcommand when it is called, and prints expected errors as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the sections."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command of this name; None if there is none."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = resolve_name(COMMANDS[cmd_name])
        assert isinstance(command, click.Command)
        return keep_line_breaks(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section."""
        for section, names in SECTIONS.items():
            rows = [
                (name, command.get_short_help_str(90))
                for name in names
                if (command := self.get_command(ctx, name))
            ]
            with formatter.section(section):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; print an error that has a message without a traceback."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            known_error = errors.to_command_error(error)
            if known_error is None:
                raise
            raise known_error from None


HELP = """Customers' mail, forms, secure messages and calls become billing-support tickets.

\b
Try it:   intake up               everything, on this machine
          intake demo             one item through each channel
Then:     intake tickets          tickets without an owner
          intake ticket 1         one of them
          intake ticket 1 --help  what can be done with it

Every command has a --help with an example.
"""


@click.group(
    cls=IntakeGroup,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="support-intake", prog_name="intake")
def cli() -> None:
    """The root group.

    Its help is HELP, where click sees the control character that keeps line breaks.
    """


def main() -> None:
    """Run the `intake` script."""
    cli(prog_name="intake")


def run_command(name: str) -> None:
    """Run the command `intake NAME`. Raises SystemExit with its exit code."""
    cli([name], prog_name="intake")


if __name__ == "__main__":
    main()
