"""The main menu: words, address, and the right it takes."""

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
    """The entries in order; pages are added here and nowhere else."""
    return MENU
