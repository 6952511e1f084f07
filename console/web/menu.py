"""The main menu: label, address, and the right each entry needs; and the menu of Operations."""

from workflow.permissions import Right

MENU = (
    ("Tickets", "/", Right.READ),
    ("Tasks", "/tasks", Right.READ),
    ("Companies", "/companies", Right.READ),
    ("Dashboard", "/dashboard", Right.READ),
    ("Operations", "/operations", Right.AUDIT),
    ("People", "/people", Right.ADMIN),
)
OPERATIONS_MENU = (
    ("Overview", "/operations"),
    ("Deliveries", "/operations/deliveries"),
    ("Outbox", "/operations/outbox"),
    ("Webhooks", "/operations/webhooks"),
    ("Next week", "/operations/next-week"),
    ("Ledger", "/operations/ledger"),
    ("Audit log", "/operations/audit"),
    ("Senders", "/operations/senders"),
    ("Excel profiles", "/operations/profiles"),
    ("Settings", "/operations/settings"),
)


def get_menu() -> tuple[tuple[str, str, Right], ...]:
    """Return the entries in order."""
    return MENU
