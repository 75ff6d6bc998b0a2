"""The settings of the site: one table of them, read from the environment."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from model.emotions import Smoothing
from songs import dotenv

ROOT = Path(__file__).parent.parent
PREFIX = "VISAGE_"
DAY = 86_400.0  # seconds


class SettingsError(Exception):
    """A setting is wrong; the message names it and says what it takes."""


@dataclass(frozen=True)
class Setting:
    """One line of the table: VISAGE_<name>, what it is without one, and what it takes.

    A text takes what the expression `form` matches, which a refusal describes as `like`; a number lies between `least`
    and `most`. What is `secret` is repeated nowhere.
    """

    name: str
    default: str | int | float
    help: str
    choices: tuple[str, ...] = ()
    form: str = ""
    like: str = ""
    least: float = 0.0
    most: float = float("inf")
    secret: bool = False

    def parsed(self, text: str | float) -> str | int | float:
        """`text` as this setting's type, or SettingsError."""
        try:
            value = type(self.default)(text)
        except ValueError:
            raise self._wrong(text) from None
        if value == self.default == "":
            return value
        if self.choices and value not in self.choices:
            raise self._wrong(text)
        if not isinstance(value, str) and not self.least <= value <= self.most:
            raise self._wrong(text)
        if value == "" or (self.form and not re.fullmatch(self.form, str(value))):
            raise self._wrong(text)
        return value

    def _wrong(self, text: object) -> SettingsError:
        kind = {str: "a text", int: "a whole number", float: "a number"}[type(self.default)]
        takes = f"one of {', '.join(self.choices)}" if self.choices else kind
        if self.form:
            takes = self.like or f"something like {self.default}"
        if not self.choices and kind != "a text" and (self.least or self.most < float("inf")):
            takes += f" from {self.least:g} to {self.most:g}"
        given = "..." if self.secret else repr(text)
        return SettingsError(f"{PREFIX}{self.name}={given}: it takes {takes} ({self.help})")


ORIGIN = r"https?://[\w.-]+(:\d+)?"
SETTINGS = (
    Setting(
        "SOURCE", "auto", "what the site watches: auto, a device number, a file, an http or rtsp URL, demo, or none"
    ),
    Setting(
        "HOST",
        "127.0.0.1",
        "the address it listens on; at anything but 127.0.0.1 your network can reach it",
        form=r"[a-z0-9._-]+|(?=.*:.*:)[0-9a-f:.]+(%[\w.-]+)?",
        like="an address or a name, in small letters and without the port, like 127.0.0.1, ::1 or localhost",
    ),
    Setting("PORT", 5000, "the port it listens on", least=1, most=65535),
    Setting(
        "NAMES",
        "",
        "the names under which it is reached from elsewhere",
        form=r"\s*[\w.-]+(\s*,\s*[\w.-]+)*\s*",
        like="host names with commas between them, like visage.example.org",
    ),
    Setting(
        "TOKEN",
        "",
        "what somebody elsewhere shows to see the site's camera",
        form=r"[!-~]{16,}",
        like="16 characters or more, without spaces",
        secret=True,
    ),
    Setting(
        "SECRET_KEY",
        "",
        "what cookies are signed with; the same on all machines that serve one site",
        form=r"[!-~]{32,}",
        like="32 characters or more, without spaces",
        secret=True,
    ),
    Setting("PROXIES", 0, "how many proxies stand in front of it and say who asks", most=8),
    Setting("WORKERS", 1, "how many processes serve; 0 is one for each core", most=64),
    Setting("RATE", 40, "pictures a second that one address may send to one process; 0 is any number", most=100_000),
    Setting("SONGS", str(ROOT / "songs"), "the folder with the song lists"),
    Setting(
        "FEATURES", "off", "a table (CSV) of songs and their audio features, or off: what playlists are split with"
    ),
    Setting(
        "LOOKUP",
        "off",
        "a public service of audio features to ask as well, such as https://api.reccobeats.com/v1; off is none",
        form=rf"off|{ORIGIN}(/[\w./-]*)?",
    ),
    Setting("EMBED", "https://open.spotify.com", "where the player of songs comes from", form=ORIGIN),
    Setting("ENGINE", "litert", "what runs the network", choices=("litert", "keras")),
    Setting("VIEWERS", 24, "how many may watch the stream at once", least=1, most=56),
    Setting(
        "STALL",
        10,
        "seconds that a viewer may leave a picture unread, or that a request may stop coming",
        least=1,
        most=600,
    ),
    Setting("IDLE", 10.0, "seconds from the last viewer until the camera is released", most=DAY),
    Setting("TIME_CONSTANT", 1.0, "seconds over which the reading follows the face", least=0.01, most=DAY),
    Setting("ENTER", 0.45, "probability at which a mood may take over", most=1),
    Setting("LEAVE", 0.30, "probability under which the mood shown gives way", most=1),
    Setting("MARGIN", 0.15, "lead in probability that a new mood needs", most=1),
    Setting("HOLD", 1.5, "seconds that a new mood must last before it is shown", most=DAY),
    Setting("DWELL", 8.0, "seconds that a song table stays at least", most=DAY),
    Setting("FORGET", 3.0, "seconds that the mood outlasts the face", most=DAY),
)


def environment() -> dict[str, str]:
    """What is set: in the environment, else in the .env file, in which the refresh script looks too.

    Raises SettingsError when that cannot be read.
    """
    try:
        return dotenv.environment(ROOT / ".env")
    except dotenv.DotenvError as error:
        raise SettingsError(str(error)) from None


def settings_from(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings in force, by name. Raises SettingsError on an unknown name or a wrong value."""
    known = {setting.name: setting for setting in SETTINGS}
    given = {name.removeprefix(PREFIX): text for name, text in environment.items() if name.startswith(PREFIX)}
    given.pop("TOKEN_CACHE", None)  # songs/spotify.py reads it, from .env too
    for name in given.keys() - known.keys():
        near = difflib.get_close_matches(name, known, n=1)
        every = ", ".join(PREFIX + known_name for known_name in known)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else f"the settings are {every}"
        raise SettingsError(f"{PREFIX}{name} is not a setting: {hint}")
    settings: dict[str, Any] = {name: s.parsed(given.get(name, s.default)) for name, s in known.items()}
    if settings["LEAVE"] > settings["ENTER"]:
        raise SettingsError(f"{PREFIX}LEAVE={settings['LEAVE']}: it takes at most {PREFIX}ENTER ({settings['ENTER']})")
    return settings


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is given in place of the environment, its settings as the table has them. Raises SettingsError."""
    known = {setting.name: setting for setting in SETTINGS}
    return {name: known[name].parsed(value) if name in known else value for name, value in config.items()}


def check_settings() -> dict[str, Any]:
    """The settings in force; SystemExit says what is wrong with them."""
    try:
        return settings_from(environment())
    except SettingsError as error:
        raise SystemExit(f"Visage FM cannot start: {error}") from None


def smoothing(config: Mapping[str, Any]) -> Smoothing:
    """How the reading follows a face."""
    return Smoothing(**{field.name: config[field.name.upper()] for field in fields(Smoothing)})
