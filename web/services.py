"""What the routes need: made once, when the site starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import current_app

from web.settings import PREFIX, SettingsError, smoothing

if TYPE_CHECKING:
    from camera import Camera
    from model.recognizer import Recognizer
    from songs.catalog import Catalog
    from songs.player import Listeners
    from songs.split import Splitter
    from web.shared_camera import SharedCamera


def _without_features() -> Splitter:
    from songs.split import Splitter

    return Splitter()


@dataclass(frozen=True)
class Services:
    """What the routes need; in `app.extensions["visage"]`."""

    recognizer: Recognizer
    camera: Camera | SharedCamera | None  # None with VISAGE_SOURCE=none
    catalog: Catalog
    listeners: Listeners | None = None  # None without an app at Spotify
    splitter: Splitter = field(default_factory=_without_features)

    def close(self) -> None:
        if self.camera:
            self.camera.close()


def current_services() -> Services:
    """Those of the site that answers."""
    services: Services = current_app.extensions["visage"]
    return services


def make_services(config: Mapping[str, Any], given: Mapping[str, str], shared: Path | None = None) -> Services:
    """The recognizer, the camera (asleep; one for all that serve, in a `shared` folder) and the catalog.

    `given` is the environment, in which Spotify's settings stand.
    """
    from camera import Camera
    from model.files import folder_fault
    from model.recognizer import load_recognizer
    from songs.catalog import Catalog
    from web.shared_camera import SharedCamera

    songs = _path(config, "SONGS")
    if fault := folder_fault(songs):
        raise SettingsError(f"{PREFIX}SONGS={songs}: {fault}")
    recognizer = load_recognizer(config["ENGINE"])
    camera: Camera | SharedCamera | None = None
    if config["SOURCE"] != "none":
        camera = Camera(config["SOURCE"], recognizer, smoothing(config), config["IDLE"], config["VIEWERS"])
        camera = SharedCamera(camera, shared, config["SECRET_KEY"].encode()) if shared else camera
    return Services(recognizer, camera, Catalog(songs), make_listeners(given), make_splitter(config))


def make_listeners(given: Mapping[str, str]) -> Listeners | None:
    """People's own Spotify, if an app at Spotify is named."""
    from songs import spotify
    from songs.player import Listeners

    try:
        settings = spotify.settings_from(given)
    except spotify.CannotRunError as error:
        raise SettingsError(str(error)) from None
    return Listeners(settings) if settings.client_id else None


def make_splitter(config: Mapping[str, Any]) -> Splitter:
    """What splits playlists by mood, with the table and the service that the settings name."""
    from songs.features import FeaturesError, FeatureTable
    from songs.lookup import Lookup, LookupFailedError
    from songs.split import Splitter

    features, lookup = config["FEATURES"], config["LOOKUP"]
    table = None if features == "off" else FeatureTable(_path(config, "FEATURES"))
    try:
        if table:
            table.check()
    except FeaturesError as error:
        raise SettingsError(f"{PREFIX}FEATURES={error}") from None
    try:
        return Splitter(table, None if lookup == "off" else Lookup(lookup))
    except LookupFailedError as error:
        raise SettingsError(f"{PREFIX}LOOKUP={lookup}: {error}") from None


def _path(config: Mapping[str, Any], name: str) -> Path:
    """The path that a setting names, whoever's home it begins with."""
    try:
        return Path(config[name]).expanduser()
    except RuntimeError:
        raise SettingsError(f"{PREFIX}{name}={config[name]}: there is no such home; write the whole path") from None
