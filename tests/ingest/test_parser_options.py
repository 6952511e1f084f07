"""What a house tells its parsers.

The settings' profiles and the saved ones, to whoever reads workbooks.
"""

import pytest

from ingest.parser_options import options
from parsers.item import Format
from parsers.options import Options, Profile
from parsers.secure_message import columns as secure_message_columns
from tests.support.context import HandClock
from workflow.context import House, open_house
from workflow.filing.column_profiles import SavedProfile, TakenError, forget, save
from workflow.settings import settings as told
from workflow.settings.settings import Settings, SettingsError, load


def given(name: str = "north", fingerprint: str | None = "f1") -> SavedProfile:
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


def keep(house: House, one: SavedProfile) -> None:
    with house.store.transaction() as session:
        save(session, one, now=house.clock())


def test_what_was_saved_holds_for_the_next_file_on_every_host(any_house: House) -> None:
    assert options(any_house, Format.SECURE_MESSAGE) == Options()
    keep(any_house, given())
    other = open_house(any_house.settings)  # another process
    [profile] = options(other, Format.SECURE_MESSAGE).profiles
    other.close()
    wanted = Profile(
        name="north",
        columns=(("klinik", "company"), ("nr", "")),
        fingerprint="f1",
        date_order="dmy",
        time_zone="America/Chicago",
        defaults=(("category", "Billing"),),
    )
    assert profile == wanted
    assert options(any_house, Format.MAIL) == Options()


def test_a_profile_is_replaced_under_its_name_and_taken_back(
    any_house: House, clock: HandClock
) -> None:
    keep(any_house, given())
    again = given()
    again.date_order = "mdy"
    keep(any_house, again)
    [profile] = options(any_house, Format.SECURE_MESSAGE).profiles
    assert profile.date_order == "mdy"
    with any_house.store.transaction() as session:
        assert forget(session, "north", by="Ann", now=clock())
        assert not forget(session, "south", by="Ann", now=clock())
    assert options(any_house, Format.SECURE_MESSAGE).profiles == ()


@pytest.mark.parametrize(("name", "fingerprint"), [("north", "f2"), ("south", "f1")])
def test_no_two_profiles_for_one_name_or_for_the_same_headings(
    any_house: House, name: str, fingerprint: str
) -> None:
    keep(any_house, given())
    with pytest.raises(TakenError):
        keep(any_house, given(name, fingerprint))
    keep(any_house, given("east", None))
    keep(any_house, given("west", None))


def test_profiles_of_the_settings_come_after_the_saved_ones(house: House) -> None:
    keep(house, given())
    mine = told.Profile.model_validate(
        {
            "synonyms": {"body": ["Das Anliegen:"]},
            "password": "open sesame",
            "defaults": {"phone": "555"},
        }
    )
    there = House(
        house.settings.model_copy(update={"profile": {"mine": mine}}),
        house.store,
        house.sealer,
        house.vault,
        house.signer,
        house.clock,
    )
    found = options(there, Format.SECURE_MESSAGE)
    assert [one.name for one in found.profiles] == ["north", "mine"]
    assert found.profiles[1].columns == (("das anliegen", "body"),)
    assert found.passwords == ("open sesame",)
    assert "sesame" not in repr(found)


def test_the_house_says_its_time_zone_to_every_parser(house: House) -> None:
    there = House(
        house.settings.model_copy(update={"time_zone": "America/Denver"}),
        house.store,
        house.sealer,
        house.vault,
        house.signer,
        house.clock,
    )
    assert {options(there, form).time_zone for form in Format} == {"America/Denver"}


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
        load(profile={"north": wrong})


def test_the_fields_of_the_settings_are_those_of_the_parser() -> None:
    fields = told.Profile.model_json_schema()["properties"]["synonyms"]["propertyNames"]["enum"]
    assert set(fields) == set(secure_message_columns.FIELDS)
    assert Settings().profile == {}
