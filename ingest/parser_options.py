"""Options of the parsers: from the settings and from the profiles that staff have saved."""

from collections.abc import Sequence

from parsers.item import Format
from parsers.options import FormMap, Options, Profile
from parsers.text import normalize
from workflow.context import AppContext
from workflow.filing import column_profiles
from workflow.filing.column_profiles import SavedProfile
from workflow.settings import settings


def load_parser_options(context: AppContext, form: Format) -> Options:
    """Return the options with which deliveries of this format are parsed.

    Saved profiles are read from the database each time, so that one saved on any host holds for the
    next file. The result holds passwords: hand it on by memory or pipe, never by a command line.
    Raises one of `engine.DATABASE_UNAVAILABLE` when the database does not answer.
    """
    if form is not Format.SECURE_MESSAGE:
        return Options(
            time_zone=context.settings.time_zone, forms=build_form_maps(context.settings)
        )
    with context.store.read_only() as session:
        saved = [_to_parser_profile(one) for one in column_profiles.list_profiles(session)]
    return build_options(context.settings, saved)


def build_options(
    configuration: settings.Settings, saved_profiles: Sequence[Profile] = ()
) -> Options:
    """Return the options for workbooks: saved profiles first, then what the settings say."""
    secrets = (
        configuration.workbook_password,
        *(one.password for one in configuration.profile.values()),
    )
    passwords = (one.get_secret_value() for one in secrets)
    return Options(
        profiles=(*saved_profiles, *list_configured_profiles(configuration).values()),
        passwords=tuple(dict.fromkeys(password for password in passwords if password)),
        time_zone=configuration.time_zone,
    )


def build_form_maps(configuration: settings.Settings) -> tuple[FormMap, ...]:
    """Return a field map for every form in the settings.

    Forms without settings of their fields have one, too: they count as known.
    """
    return tuple(
        FormMap(
            form=number,
            fields=tuple(
                (normalize.fold_label(name), meaning.value) for name, meaning in form.fields.items()
            ),
            defaults=tuple((ours.value, value) for ours, value in form.defaults.items()),
        )
        for number, form in configuration.form.items()
    )


def list_configured_profiles(configuration: settings.Settings) -> dict[str, Profile]:
    """Return the column profiles of intake.toml by name."""
    return {name: _to_profile(name, one) for name, one in configuration.profile.items()}


def _to_parser_profile(saved_profile: SavedProfile) -> Profile:
    """Convert a saved profile to the parser's type."""
    return Profile(
        name=saved_profile.name,
        columns=tuple((str(heading), str(field)) for heading, field in saved_profile.columns),
        fingerprint=saved_profile.fingerprint or "",
        date_order=saved_profile.date_order,
        time_zone=saved_profile.time_zone,
        defaults=tuple((str(field), str(value)) for field, value in saved_profile.defaults),
    )


def _to_profile(name: str, configured_profile: settings.WorkbookProfile) -> Profile:
    """Convert a profile of intake.toml to the parser's type."""
    columns = (
        (normalize.fold_label(text), field)
        for field, texts in configured_profile.synonyms.items()
        for text in texts
    )
    return Profile(
        name=name,
        columns=tuple(columns),
        fingerprint=configured_profile.fingerprint,
        date_order=configured_profile.date_order,
        time_zone=configured_profile.time_zone,
        defaults=tuple(configured_profile.defaults.items()),
    )
