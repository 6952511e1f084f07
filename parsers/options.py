"""What a house says of its own sources: how their workbooks and forms are meant.

Parsers get it; they fetch nothing.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How the workbooks of one source are meant.

    `fields` as in `parsers.secure_message.columns.HEADINGS_BY_FIELD`.
    """

    name: str
    columns: tuple[
        tuple[str, str], ...
    ] = ()  # heading, as `fields.label` folds it -> our field; "" is none of ours
    fingerprint: str = ""  # of the heading row this profile is for; "" serves every workbook
    date_order: str = "mdy"  # mdy, dmy or ymd, where a date in text can be read two ways
    time_zone: str = ""  # where a time names none; "" is the house's
    defaults: tuple[tuple[str, str], ...] = field(
        default=(), repr=False
    )  # our field -> what a row says that says none


@dataclass(frozen=True, slots=True, kw_only=True)
class FormMap:
    """What the fields of one form mean.

    A label or field id, as `fields.label` folds it -> our field.
    """

    form: str
    fields: tuple[tuple[str, str], ...] = ()
    defaults: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything a parser may be told beside the bytes."""

    profiles: tuple[Profile, ...] = ()
    passwords: tuple[str, ...] = field(default=(), repr=False)  # to be tried on a locked workbook
    time_zone: str = "America/New_York"
    forms: tuple[FormMap, ...] = ()


DEFAULT_OPTIONS = Options()
