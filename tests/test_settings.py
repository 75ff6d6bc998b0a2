"""Settings: what they take, and how a wrong one is named."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from app import check_port, create_app
from songs import dotenv, spotify
from tests.conftest import ROOT
from web.services import make_listeners
from web.settings import SETTINGS, SettingsError, settings_from


def test_defaults_are_safe() -> None:
    """Without settings the site watches what it finds, on the loopback address, port 5000."""
    settings = settings_from({"PATH": "/bin"})
    assert (settings["SOURCE"], settings["HOST"], settings["PORT"]) == ("auto", "127.0.0.1", 5000)


def test_settings_are_read_from_the_environment() -> None:
    """VISAGE_ variables become settings of the right type."""
    settings = settings_from({"VISAGE_SOURCE": "clip.mp4", "VISAGE_PORT": "8080", "VISAGE_HOLD": "2"})
    assert (settings["SOURCE"], settings["PORT"], settings["HOLD"]) == ("clip.mp4", 8080, 2.0)


def test_the_site_reads_the_file_that_the_refresh_script_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What .env sets holds for both, so that the page shows the lists that are refreshed; the environment wins."""
    songs = tmp_path / "my-songs"
    songs.mkdir()
    (tmp_path / ".env").write_text(f"VISAGE_SONGS={songs}\nVISAGE_PORT=5001\n")
    monkeypatch.setattr("web.settings.ROOT", tmp_path)
    monkeypatch.setenv("VISAGE_PORT", "5002")
    monkeypatch.delenv("VISAGE_SONGS", raising=False)
    app = create_app()
    assert (app.config["SONGS"], app.config["PORT"]) == (str(songs), 5002)
    assert spotify.settings_from(dotenv.environment(tmp_path / ".env")).songs == songs


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("VISAGE_PORT", "many", "VISAGE_PORT='many': it takes a whole number from 1 to 65535"),
        ("VISAGE_PORT", "70000", "from 1 to 65535"),
        ("VISAGE_PORT", "", "VISAGE_PORT=''"),
        ("VISAGE_HOLD", "-1", "VISAGE_HOLD='-1'"),
        ("VISAGE_ENTER", "nan", "VISAGE_ENTER='nan'"),
        ("VISAGE_FORGET", "inf", "VISAGE_FORGET='inf': it takes a number from 0 to 86400"),
        ("VISAGE_IDLE", "1e308", "a number from 0 to 86400"),
        ("VISAGE_ENGINE", "onnx", "one of litert, keras"),
        ("VISAGE_LEAVE", "0.5", "it takes at most VISAGE_ENTER (0.45)"),
        ("VISAGE_SOURCE", "", "VISAGE_SOURCE=''"),
        ("VISAGE_EMBED", "http://x; script-src *", "it takes something like https://open.spotify.com"),
        ("VISAGE_HOST", "0.0.0.0:8000", "an address or a name, in small letters and without the port"),
        ("VISAGE_HOST", "[::1]", "like 127.0.0.1, ::1 or localhost"),
        ("VISAGE_HOST", "LOCALHOST", "in small letters"),
        ("VISAGE_NAMES", "a b", "it takes host names with commas between them"),
        ("VISAGE_WORKERS", "-1", "a whole number from 0 to 64"),
        ("VISAGE_SUORCE", "demo", "VISAGE_SUORCE is not a setting: did you mean VISAGE_SOURCE?"),
        ("VISAGE_QQQQ", "1", "the settings are VISAGE_SOURCE"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_takes(name: str, value: str, says: str) -> None:
    """Unknown names and wrong values stop the start with a sentence."""
    with pytest.raises(SettingsError) as error:
        settings_from({name: value})
    assert says in str(error.value)


@pytest.mark.parametrize(("name", "takes"), [("TOKEN", "16 characters or more"), ("SECRET_KEY", "32 characters")])
def test_a_secret_that_is_too_short_is_refused_and_not_repeated(name: str, takes: str) -> None:
    """What the setting takes is said; the secret itself goes into no terminal and no log."""
    with pytest.raises(SettingsError, match=takes) as error:
        settings_from({f"VISAGE_{name}": "xyzzy"})
    assert "xyzzy" not in str(error.value)


@pytest.mark.parametrize("host", ["::1", "::", "fe80::1%wlp-s0", "192.168.1.20", "localhost", "annas-mbp.fritz.box"])
def test_hosts_as_they_are_written(host: str) -> None:
    """Addresses of both kinds, and names."""
    assert settings_from({"VISAGE_HOST": host})["HOST"] == host


def test_a_host_that_is_elsewhere_is_told_from_a_port_that_is_taken() -> None:
    """Another port is no remedy for an address that this computer does not have."""
    with pytest.raises(SystemExit, match=r"VISAGE_HOST=192\.0\.2\.1 is no address of this computer$"):
        check_port("192.0.2.1", 5000)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=r"choose one: VISAGE_PORT=\d+$"):
            check_port("127.0.0.1", port)


def test_a_setting_left_empty_is_one_not_given() -> None:
    """Compose files hand on what is not set as an empty text."""
    assert settings_from({"VISAGE_TOKEN": "", "VISAGE_NAMES": "", "VISAGE_SECRET_KEY": ""})["TOKEN"] == ""


def test_create_app_checks_its_config_too() -> None:
    """A config passed in is held to the same table."""
    with pytest.raises(SettingsError, match="VISAGE_PORT"):
        create_app({"PORT": "many"})


def test_a_songs_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A typo in the folder ends the start; it does not end in seven empty lists."""
    with pytest.raises(SettingsError, match=r"VISAGE_SONGS=.*nope: there is no such folder"):
        create_app({"SONGS": str(tmp_path / "nope")})
    with pytest.raises(SettingsError, match=r"VISAGE_SONGS=.*: File name too long"):
        create_app({"SONGS": str(tmp_path / ("a" * 300))})


@pytest.mark.parametrize("name", ["SONGS", "FEATURES"])
def test_a_home_that_is_not_there_is_named(name: str) -> None:
    """A path that begins with nobody's home ends the start with a sentence."""
    with pytest.raises(SettingsError, match=rf"VISAGE_{name}=~nosuch/x: there is no such home"):
        create_app({"SOURCE": "none", name: "~nosuch/x"})


def test_without_a_home_the_site_starts_unless_tokens_must_be_kept() -> None:
    """Who has no home needs none, as long as no app at Spotify is named; then a sentence says what to write."""
    homeless = {"XDG_CONFIG_HOME": "~nosuch", "APPDATA": "~nosuch"}
    assert make_listeners(homeless) is None
    with pytest.raises(SettingsError, match=r"VISAGE_TOKEN_CACHE=.*there is no such home"):
        make_listeners({**homeless, "SPOTIPY_CLIENT_ID": "app"})


def test_the_readme_names_every_setting() -> None:
    """The settings table of the README is complete."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [s.name for s in SETTINGS if f"`VISAGE_{s.name}`" not in readme]
