"""Sealing, signing, the key file, blobs, and the settings they come from."""

import os
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from tests.support.context import run_in_threads
from workflow.runtime import crypto
from workflow.runtime.blobs import BlobStore
from workflow.runtime.crypto import Sealer, Signer
from workflow.settings.settings import Settings, SettingsError, load_settings

ONE, TWO = Fernet.generate_key(), Fernet.generate_key()


def test_sealed_bytes_open_with_any_of_our_keys_and_with_no_other() -> None:
    sealed_bytes = Sealer([ONE]).seal(b"words")
    assert b"words" not in sealed_bytes
    assert Sealer([TWO, ONE]).unseal(sealed_bytes) == b"words"
    with pytest.raises(ValueError, match="a key we do not have"):
        Sealer([TWO]).unseal(sealed_bytes)


def test_bytes_of_the_release_before_open_with_any_of_our_keys() -> None:
    sealed = Fernet(ONE).encrypt(b"words")
    assert Sealer([TWO, ONE]).unseal(sealed) == b"words"
    with pytest.raises(ValueError, match="a key we do not have"):
        Sealer([TWO]).unseal(sealed)


def test_sealing_adds_33_bytes_and_never_gives_the_same_twice() -> None:
    sealer = Sealer([ONE])
    for plain in (b"", b"words", os.urandom(100_000)):
        sealed = sealer.seal(plain)
        assert len(sealed) == len(plain) + 33
        assert sealer.unseal(sealed) == plain
        assert sealer.seal(plain) != sealed


@pytest.mark.parametrize("length", range(34))  # the whole is 34 bytes
def test_bytes_that_were_cut_do_not_open(length: int) -> None:
    sealed = Sealer([ONE]).seal(b"w")[:length]
    with pytest.raises(ValueError, match="damaged"):
        Sealer([ONE]).unseal(sealed)


@pytest.mark.parametrize("at", [0, 2, 7, 20, -1])
def test_a_changed_byte_does_not_open(at: int) -> None:
    sealed = bytearray(Sealer([ONE]).seal(b"words"))
    sealed[at] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        Sealer([ONE]).unseal(bytes(sealed))


def test_a_token_stands_for_one_number_and_one_purpose() -> None:
    signer = Signer([ONE])
    token = signer.make_token("t", 42)
    assert signer.verify_token("t", token) == 42
    assert (
        signer.verify_token("t", token.upper()) == 42
    )  # mail systems change the case of addresses
    for other in (signer.verify_token("bounce", token), Signer([TWO]).verify_token("t", token)):
        assert other is None


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "-",
        "42",
        "42-",
        "x-" + "0" * 24,
        "٤٢-" + "0" * 24,
        "1" * 30 + "-" + "0" * 24,
        "42-" + "é" * 24,
    ],
)
def test_nonsense_is_no_token(bad: str) -> None:
    assert Signer([ONE]).verify_token("t", bad) is None


def test_the_key_file_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    settings, made = Settings(home=tmp_path), list[list[bytes]]()
    assert run_in_threads(*[lambda: made.append(crypto.load_keys(settings))] * 8) == []
    assert len({tuple(k) for k in made}) == 1
    assert stat.S_IMODE((tmp_path / crypto.KEY_FILE).stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [crypto.KEY_FILE]  # noqa: PTH208  # nothing left over


@pytest.mark.parametrize(
    "key",
    ["short", "x" * 44, f"{ONE.decode()} nonsense"],
    ids=["short", "not base64", "a key and nonsense"],
)
def test_a_key_that_is_none_is_refused_without_being_shown(tmp_path: Path, key: str) -> None:
    with pytest.raises(SettingsError) as raised:
        crypto.load_keys(Settings(home=tmp_path, secret_keys=SecretStr(key)))
    assert key not in str(raised.value)


def test_the_setting_counts_more_than_the_file_and_takes_several_keys(tmp_path: Path) -> None:
    keys = SecretStr(f"{ONE.decode()}, {TWO.decode()}")
    assert crypto.load_keys(Settings(home=tmp_path, secret_keys=keys)) == [ONE, TWO]
    assert not (tmp_path / crypto.KEY_FILE).exists()


@pytest.mark.parametrize("url", ["folder", "memory://blobs"])
def test_a_blob_store_of_either_kind_gives_back_what_it_took(tmp_path: Path, url: str) -> None:
    blobs = BlobStore(
        str(tmp_path / url) if url == "folder" else url, Sealer([ONE]), inline_limit=10
    )
    assert blobs.store(b"small")[1] is None
    content, blob = blobs.store(b"large" * 10)
    assert content is None
    assert blobs.store(b"large" * 10) == (None, blob)  # the same bytes are the same blob
    assert blobs.read(None, blob) == b"large" * 10


def test_a_blob_that_is_gone_or_damaged_says_so(tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path), Sealer([ONE]), inline_limit=0)
    _, blob = blobs.store(b"words")
    (path,) = (p for p in tmp_path.rglob("*") if p.is_file())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged"):
        blobs.read(None, blob)
    path.unlink()
    with pytest.raises(OSError, match=r"."):
        blobs.read(None, blob)
    with pytest.raises(ValueError, match="neither"):
        blobs.read(None, None)


def test_threads_that_keep_the_same_bytes_at_once_leave_one_file(tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path), Sealer([ONE]), inline_limit=0)
    assert run_in_threads(*[lambda: blobs.store(b"words")] * 8) == []
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


def test_every_fault_of_the_settings_is_told_at_once_and_no_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INTAKE_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("INTAKE_SMTP_LISTEN", "hunter2")
    monkeypatch.setenv("INTAKE_SURVEY_BY", "hunter3")
    monkeypatch.setenv("INTAKE_MAIL_LIMIT", "hunter4")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    text = str(raised.value)
    assert len(text.splitlines()) == 3
    for name in ("INTAKE_SMTP_LISTEN", "INTAKE_SURVEY_BY", "INTAKE_MAIL_LIMIT"):
        assert name in text
    assert "hunter" not in text


def test_the_environment_counts_more_than_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "intake.toml"
    file.write_text('reopen_days = 3\nsurvey_days = 5\n[form.77]\nkey = "k"\n')
    monkeypatch.setenv("INTAKE_CONFIG", str(file))
    monkeypatch.setenv("INTAKE_REOPEN_DAYS", "7")
    monkeypatch.setenv("INTAKE_ADDRESSES", "Support@X.example, @desk.example")
    settings = load_settings()
    assert (settings.reopen_days, settings.survey_days) == (7, 5)
    assert settings.addresses == ("support@x.example", "@desk.example")
    assert settings.sender == "support@x.example"
    assert settings.form["77"].list_keys(("common",)) == ("k",)


def test_secrets_are_not_in_what_settings_print(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, relay_url=SecretStr("smtp://u:hunter2@x"), secret_keys=SecretStr("hunter2")
    )
    assert "hunter2" not in repr(settings) + str(settings)
