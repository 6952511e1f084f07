"""Commands that run one process each, as a Procfile, systemd or `intake up` starts them."""

import click

from console.runtime.parent_death import end_with_supervisor

COMMON_HELP = """

    \b
    Example:  intake {name}

    SIGTERM or Ctrl-C ends it: work in hand is finished first. `intake up` runs all processes."""
HELP_TEXTS = {
    "smtp": (
        """Receive mail by SMTP and LMTP.

    At INTAKE_SMTP_LISTEN, and at INTAKE_LMTP_LISTEN where it is set.

    A mail is answered 250 once it is stored durably; while it cannot be stored the answer is 451
    and the sender tries again. Recipients outside INTAKE_ADDRESSES get 550."""
    ),
    "folder": (
        """Take Excel files out of the watched folder (INTAKE_FOLDER).

    Files that were read move to done/, others to rejected/ beside a text file with the reason."""
    ),
    "webhooks": (
        """Receive Formstack forms over HTTP.

    At INTAKE_WEBHOOK_LISTEN, which faces the internet.

    POST /formstack is answered 202 once it is stored durably, 401 unless it is signed with
    INTAKE_FORMSTACK_KEY."""
    ),
    "console": (
        """Serve the pages that people work with.

    At INTAKE_CONSOLE_LISTEN, which faces the internal network."""
    ),
    "worker": (
        """Read deliveries and send mail.

    On notifications from Redis (INTAKE_REDIS_URL).

    Without Redis it polls the database every second. Start as many as you like."""
    ),
    "clock": (
        """Raise missed deadlines, find lost notifications.

    Does the waiting work as well when no worker does.

    One is enough; two do no harm."""
    ),
}


def run_process(name: str) -> None:
    """Run a process of the table; it ends with its supervisor."""
    end_with_supervisor()
    from console.runtime import processes

    processes.run_process(name)


def _make_command(name: str) -> click.Command:
    return click.Command(
        name,
        callback=lambda: run_process(name),
        help=HELP_TEXTS[name] + COMMON_HELP.format(name=name),
    )


smtp, folder, webhooks, console, worker, clock = map(_make_command, HELP_TEXTS)
