"""One command a process, as a Procfile, systemd or `intake up` starts them."""

import click

from console.runtime.parent_death import end_with_supervisor

COMMON_HELP = """

    \b
    Example:  intake {name}

    SIGTERM or Ctrl-C ends it: what it has in hand is finished first. `intake up` runs all of them."""
HELP_TEXTS = {
    "smtp": (
        """Take mail by SMTP and LMTP.

    At INTAKE_SMTP_LISTEN, and at INTAKE_LMTP_LISTEN where it is set.

    A mail gets its 250 once it is stored for good; while it cannot be stored the sender hears 451 and tries again.
    Recipients outside INTAKE_ADDRESSES hear 550."""
    ),
    "imap": (
        """Read IMAP mailboxes.

    Those of INTAKE_IMAP_URLS, or of [[mailbox]] in intake.toml.

    A mail is marked or moved once it is stored for good. Without a mailbox it says so and exits with 78."""
    ),
    "folder": (
        """Take Excel files out of the watched folder (INTAKE_FOLDER).

    Read ones move to done/, others to rejected/ beside a text file that says why."""
    ),
    "webhooks": (
        """Take Formstack forms over HTTP.

    At INTAKE_WEBHOOK_LISTEN; this door faces the internet.

    POST /formstack is answered 202 once it is stored for good, 401 unless it is signed with INTAKE_FORMSTACK_KEY."""
    ),
    "console": (
        """Serve the pages that people work with.

    At INTAKE_CONSOLE_LISTEN; this door faces the inside."""
    ),
    "worker": (
        """Read deliveries and send mail.

    On hints from Redis (INTAKE_REDIS_URL).

    Without Redis it looks into the database every second instead. Start as many as you like."""
    ),
    "clock": (
        """Find missed deadlines and lost wake-ups.

    Does the waiting work, too, when no worker does.

    One is enough; two do no harm."""
    ),
}


def run_process(name: str) -> None:
    """Run a process of the table; it ends with its supervisor."""
    end_with_supervisor()
    from console.runtime import processes

    processes.run_process(name)


def _command(name: str) -> click.Command:
    return click.Command(
        name,
        callback=lambda: run_process(name),
        help=HELP_TEXTS[name] + COMMON_HELP.format(name=name),
    )


smtp, imap, folder, webhooks, console, worker, clock = map(_command, HELP_TEXTS)
