"""Ids of database rows as text from URLs, forms and JSON."""

MAX_ID = 2**31 - 1  # the database's INTEGER columns hold no larger number


def parse_id(text: str | None) -> int | None:
    """Return the id a text names, 0 included; None for anything that is no id."""
    if not text or not text.isascii() or not text.isdigit():
        return None
    if len(text) > len(str(MAX_ID)):  # int() of a very long text would take very long
        return None
    number = int(text)
    return number if number <= MAX_ID else None
