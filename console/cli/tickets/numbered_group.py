"""Command groups that take an id before their command, as `intake ticket 12 follow-up`."""

from collections.abc import Collection

import click

HELP_OPTIONS = ("-h", "--help")


class NumberedGroup(click.Group):
    """A group that takes an id before its command, and stores it as the context's object.

    `default_command` runs for an id without a command ("" shows the help); `unnumbered_commands`
    take no id.
    """

    default_command = ""
    unnumbered_commands: Collection[str] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the id off the arguments.

        Fails with an example where a command needs an id and has none.
        """
        first = args[0].removeprefix("#") if args else ""
        if first.isascii() and first.isdigit():
            ctx.obj, ctx.info_name = int(first), f"{ctx.info_name} {first}"
            args = self._with_command(args[1:])
        elif (
            first in self.commands
            and first not in self.unnumbered_commands
            and args[1:2] not in ([h] for h in HELP_OPTIONS)
        ):
            ctx.fail(f"which one? For example: intake {ctx.info_name} 12 {first}")
        return super().parse_args(ctx, args)

    def _with_command(self, rest: list[str]) -> list[str]:
        if rest and (rest[0] in HELP_OPTIONS or not rest[0].startswith("-")):
            return rest
        return [self.default_command, *rest] if self.default_command else ["--help"]
