"""What this house tells its parsers beside the bytes.

From the settings, and from what staff have saved.
"""

from collections.abc import Sequence

from ingest.form_maps import build_form_maps
from parsers.item import Format
from parsers.options import Options, Profile
from parsers.text import normalize
from workflow.context import AppContext
from workflow.filing import column_profiles
from workflow.filing.column_profiles import SavedProfile
from workflow.settings import settings


def load_parser_options(context: AppContext, form: Format) -> Options:
    """Return how the house's own sources of this format are meant.

    Saved profiles are read each time, so that one saved on any host holds for the next file. Holds
    passwords: hand it on by memory or pipe, never by a command line. Raises one of `store.AWAY`
    when the database does not answer.
    """
    if form is not Format.SECURE_MESSAGE:
        return Options(
            time_zone=context.settings.time_zone, forms=build_form_maps(context.settings)
        )
    with context.store.read_only() as session:
        saved = [_saved(one) for one in column_profiles.list_profiles(session)]
    return build_options(context.settings, saved)


def build_options(given: settings.Settings, saved: Sequence[Profile] = ()) -> Options:
    """Return how workbooks are meant: by these saved profiles, then by what the settings say."""
    secrets = (given.workbook_password, *(one.password for one in given.profile.values()))
    passwords = (one.get_secret_value() for one in secrets)
    return Options(
        profiles=(*saved, *list_configured_profiles(given).values()),
        passwords=tuple(dict.fromkeys(word for word in passwords if word)),
        time_zone=given.time_zone,
    )


def list_configured_profiles(given: settings.Settings) -> dict[str, Profile]:
    """The profiles of intake.toml, by name."""
    return {name: _told(name, one) for name, one in given.profile.items()}


def _saved(one: SavedProfile) -> Profile:
    return Profile(
        name=one.name,
        columns=tuple((str(heading), str(field)) for heading, field in one.columns),
        fingerprint=one.fingerprint or "",
        date_order=one.date_order,
        time_zone=one.time_zone,
        defaults=tuple((str(field), str(value)) for field, value in one.defaults),
    )


def _told(name: str, one: settings.WorkbookProfile) -> Profile:
    columns = (
        (normalize.fold_label(text), field)
        for field, listed in one.synonyms.items()
        for text in listed
    )
    return Profile(
        name=name,
        columns=tuple(columns),
        fingerprint=one.fingerprint,
        date_order=one.date_order,
        time_zone=one.time_zone,
        defaults=tuple(one.defaults.items()),
    )
