"""Options of parsers: the settings for the workbooks and forms of single sources.

Callers pass them in; parsers read no settings themselves.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Column mapping for the workbooks of one source.

    Fields are those of `parsers.secure_message.headings.HEADINGS_BY_FIELD`.
    """

    name: str
    # Pairs of a heading, folded by `normalize.fold_label`, and our field; "" for none of ours.
    columns: tuple[tuple[str, str], ...] = ()
    fingerprint: str = ""  # of the heading row this profile is for; "" serves every workbook
    date_order: str = "mdy"  # mdy, dmy or ymd, where a date in text can be read two ways
    time_zone: str = ""  # for times that name none; "" is the one of the options
    # Pairs of our field and the value of a row that has none.
    defaults: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormMap:
    """Field mapping for one form, by its Formstack id."""

    form: str
    # Pairs of a label or field id, folded by `normalize.fold_label`, and our field.
    fields: tuple[tuple[str, str], ...] = ()
    # Pairs of our field and the value of a submission that has none.
    defaults: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All input of a parser beside the bytes."""

    profiles: tuple[Profile, ...] = ()
    passwords: tuple[str, ...] = field(default=(), repr=False)  # to be tried on a locked workbook
    time_zone: str = "America/New_York"
    forms: tuple[FormMap, ...] = ()


DEFAULT_OPTIONS = Options()
