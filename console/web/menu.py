"""The main menu: label, address, and the right each entry needs."""

from workflow.permissions import Right

MENU = (
    ("Tickets", "/", Right.READ),
    ("Tasks", "/tasks", Right.READ),
    ("Companies", "/companies", Right.READ),
    ("Dashboard", "/dashboard", Right.READ),
    ("Operations", "/operations", Right.AUDIT),
    ("People", "/people", Right.ADMIN),
)


def get_menu() -> tuple[tuple[str, str, Right], ...]:
    """Return the entries in order."""
    return MENU
