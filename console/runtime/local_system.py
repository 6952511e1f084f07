"""The system of `intake up` on this machine: its addresses, whether it answers, its form key."""

import os
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `intake --help` loads this module, and shall not load the settings
    from workflow.settings.settings import Settings

# The processes of `intake up`, in the order in which they start (`processes.PROCESSES`).
PROCESS_NAMES = ("smtp", "imap", "folder", "webhooks", "backfill", "console", "worker", "clock")
KEY_FILE = "formstack.key"  # in INTAKE_HOME, mode 0600


def get_listen_addresses(settings: "Settings") -> dict[str, tuple[str, int]]:
    """Return the configured (host, port) pairs by the name of their setting.

    Port 0 is left out: it is chosen when the process starts.
    """
    listens = {
        "INTAKE_SMTP_LISTEN": settings.smtp_listen,
        "INTAKE_LMTP_LISTEN": settings.lmtp_listen,
        "INTAKE_WEBHOOK_LISTEN": settings.webhook_listen,
        "INTAKE_CONSOLE_LISTEN": settings.console_listen,
    }
    parts = {name: listen.rpartition(":") for name, listen in listens.items() if listen}
    return {
        name: (host.strip("[]"), int(port)) for name, (host, _, port) in parts.items() if int(port)
    }


def accepts_connections(settings: "Settings") -> bool:
    """Return whether every configured address accepts connections."""
    return all(_accepts_connection(address) for address in get_listen_addresses(settings).values())


def _accepts_connection(address: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(address, timeout=1):
        return True
    return False


def get_formstack_key(settings: "Settings") -> str:
    """Return the key of the setting, else the one in INTAKE_HOME, created on first use."""
    key = settings.formstack_key.get_secret_value()
    path = settings.home / KEY_FILE
    if not key and not path.exists():
        # Not `open`, then `chmod`: in between others could read it.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    return key or path.read_text().strip()
