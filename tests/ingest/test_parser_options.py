"""Options of the parsers: profiles of the settings and saved ones."""

import pytest

from ingest.parser_options import load_parser_options
from parsers.item import Format
from parsers.options import Options, Profile
from parsers.secure_message import headings
from tests.support.context import HandClock
from workflow.context import AppContext, open_context
from workflow.filing.column_profiles import (
    ProfileConflictError,
    SavedProfile,
    delete_profile,
    save_profile,
)
from workflow.settings import settings as settings_module
from workflow.settings.settings import Settings, SettingsError, load_settings


def make_profile(name: str = "north", fingerprint: str | None = "f1") -> SavedProfile:
    columns = [["klinik", "company"], ["nr", ""]]
    defaults = [["category", "Billing"]]
    return SavedProfile(
        name=name,
        fingerprint=fingerprint,
        columns=columns,
        defaults=defaults,
        date_order="dmy",
        time_zone="America/Chicago",
        saved_by="Ann",
    )


def store_profile(context: AppContext, one: SavedProfile) -> None:
    with context.store.transaction() as session:
        save_profile(session, one, now=context.clock())


def test_what_was_saved_holds_for_the_next_file_on_every_host(any_context: AppContext) -> None:
    assert load_parser_options(any_context, Format.SECURE_MESSAGE) == Options()
    store_profile(any_context, make_profile())
    other = open_context(any_context.settings)  # another process
    [profile] = load_parser_options(other, Format.SECURE_MESSAGE).profiles
    other.close()
    expected = Profile(
        name="north",
        columns=(("klinik", "company"), ("nr", "")),
        fingerprint="f1",
        date_order="dmy",
        time_zone="America/Chicago",
        defaults=(("category", "Billing"),),
    )
    assert profile == expected
    assert load_parser_options(any_context, Format.MAIL) == Options()


def test_a_profile_is_replaced_under_its_name_and_undone(
    any_context: AppContext, clock: HandClock
) -> None:
    store_profile(any_context, make_profile())
    again = make_profile()
    again.date_order = "mdy"
    store_profile(any_context, again)
    [profile] = load_parser_options(any_context, Format.SECURE_MESSAGE).profiles
    assert profile.date_order == "mdy"
    with any_context.store.transaction() as session:
        assert delete_profile(session, "north", by="Ann", now=clock())
        assert not delete_profile(session, "south", by="Ann", now=clock())
    assert load_parser_options(any_context, Format.SECURE_MESSAGE).profiles == ()


@pytest.mark.parametrize(("name", "fingerprint"), [("north", "f2"), ("south", "f1")])
def test_no_two_profiles_for_one_name_or_for_the_same_headings(
    any_context: AppContext, name: str, fingerprint: str
) -> None:
    store_profile(any_context, make_profile())
    with pytest.raises(ProfileConflictError):
        store_profile(any_context, make_profile(name, fingerprint))
    store_profile(any_context, make_profile("east", None))
    store_profile(any_context, make_profile("west", None))


def test_profiles_of_the_settings_come_after_the_saved_ones(context: AppContext) -> None:
    store_profile(context, make_profile())
    profile_class = settings_module.WorkbookProfile.model_validate(
        {
            "synonyms": {"body": ["Das Anliegen:"]},
            "password": "open sesame",
            "defaults": {"phone": "555"},
        }
    )
    there = AppContext(
        context.settings.model_copy(update={"profile": {"mine": profile_class}}),
        context.store,
        context.sealer,
        context.blob_store,
        context.signer,
        context.clock,
    )
    options = load_parser_options(there, Format.SECURE_MESSAGE)
    assert [one.name for one in options.profiles] == ["north", "mine"]
    assert options.profiles[1].columns == (("das anliegen", "body"),)
    assert options.passwords == ("open sesame",)
    assert "sesame" not in repr(options)


def test_every_parser_gets_the_time_zone_of_the_settings(context: AppContext) -> None:
    there = AppContext(
        context.settings.model_copy(update={"time_zone": "America/Denver"}),
        context.store,
        context.sealer,
        context.blob_store,
        context.signer,
        context.clock,
    )
    assert {load_parser_options(there, form).time_zone for form in Format} == {"America/Denver"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_zone": "Mars"},
        {"date_order": "ydm"},
        {"synonyms": {"bodi": ["x"]}},
        {"defaults": {"body": "x"}},
    ],
)
def test_a_profile_that_means_nothing_is_refused_at_the_start(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="INTAKE_PROFILE__NORTH__"):
        load_settings(profile={"north": wrong})


def test_the_fields_of_the_settings_are_those_of_the_parser() -> None:
    fields = settings_module.WorkbookProfile.model_json_schema()["properties"]["synonyms"][
        "propertyNames"
    ]["enum"]
    assert set(fields) == set(headings.HEADINGS_BY_FIELD)
    assert Settings().profile == {}
