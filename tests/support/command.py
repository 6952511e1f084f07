"""The `intake` command, run in this process."""

from collections.abc import Callable
from typing import Any

from click.testing import CliRunner, Result

from console.cli.main import cli

New = Callable[..., int]
ShowTicket = Callable[[int], dict[str, Any]]


class Intake:
    """Runs a command and insists on its exit code."""

    def __call__(self, *args: object, code: int = 0, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(cli, [str(a) for a in args], prog_name="intake", input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        return result
