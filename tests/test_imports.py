"""Who may import whom: the layout is the architecture."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What each module may import of the project, and which third-party libraries have a home in it.
RUNTIME = {
    "model.emotions": (set(), set()),
    "model.faces": ({"model.emotions"}, {"cv2", "numpy"}),
    "model.demo": ({"model.emotions", "model.litert"}, {"cv2", "numpy"}),
    "model.litert": (set(), {"numpy", "ai_edge_litert"}),
    "model.detector": ({"model.faces", "model.litert"}, {"cv2", "numpy"}),
    "model.recognizer": ({"model.detector", "model.emotions", "model.faces", "model.litert"}, {"numpy", "keras"}),
    "pictures.sources": ({"model.demo", "model.faces"}, {"cv2"}),
    "pictures.stills": ({"model.faces", "pictures", "pictures.sources"}, {"cv2", "numpy"}),
    "pictures.following": ({"model.demo", "model.emotions", "model.faces", "model.recognizer"}, {"cv2"}),
    "pictures.drawing": (
        {"model.faces", "pictures.following", "pictures.sources", "pictures.stills"},
        {"cv2", "numpy"},
    ),
    "pictures.recording": ({"model.faces"}, {"cv2", "numpy"}),
    "camera": (
        {
            "model.emotions",
            "model.faces",
            "model.recognizer",
            "pictures",
            "pictures.drawing",
            "pictures.following",
            "pictures.sources",
        },
        set(),
    ),
    "model.song_moods": ({"model.emotions"}, {"numpy", "snowballstemmer"}),
    "model.files": (set(), set()),
    "model.song_table": ({"model.files", "model.song_moods"}, {"numpy"}),
    "terminal.stdio": (set(), set()),
    "songs.synced": ({"model.emotions", "model.files"}, set()),
    "songs.catalog": ({"model.emotions", "model.files", "songs.synced"}, {"pandas"}),
    "songs.lift": ({"model.emotions", "songs.catalog"}, set()),
    "songs.features": ({"model.files", "model.song_moods", "songs.catalog"}, set()),
    "songs.lookup": ({"model.song_moods", "songs.catalog", "songs.features"}, {"requests", "urllib3"}),
    "songs.moods": (
        {
            "model.emotions",
            "model.files",
            "model.song_moods",
            "model.song_table",
            "songs.catalog",
            "songs.dotenv",
            "songs.features",
            "terminal.stdio",
            "songs.synced",
        },
        set(),
    ),
    "songs.paste": ({"songs.catalog", "songs.features"}, set()),
    "songs.split": (
        {
            "model.emotions",
            "model.files",
            "model.song_moods",
            "model.song_table",
            "songs.catalog",
            "songs.features",
            "songs.lift",
            "songs.lookup",
            "songs.moods",
            "songs.paste",
            "terminal.stdio",
            "songs.synced",
        },
        {"numpy"},
    ),
    "songs.dotenv": (set(), set()),
    "songs.spotify": (set(), {"spotipy", "requests"}),
    "songs.player": ({"songs.catalog", "songs.spotify"}, {"spotipy"}),
    "terminal.report": ({"model.emotions", "pictures.following", "songs.catalog"}, {"tqdm"}),
    "terminal.saving": ({"pictures", "pictures.recording", "pictures.sources"}, set()),
    "terminal.watch": (
        {
            "model.demo",
            "model.emotions",
            "model.faces",
            "model.files",
            "model.recognizer",
            "pictures",
            "pictures.drawing",
            "pictures.following",
            "pictures.recording",
            "pictures.sources",
            "pictures.stills",
            "songs.catalog",
            "songs.dotenv",
            "terminal.report",
            "terminal.saving",
            "terminal.stdio",
        },
        set(),
    ),
    "spotify_sync": (
        {
            "model.emotions",
            "model.files",
            "songs.catalog",
            "songs.dotenv",
            "songs.spotify",
            "terminal.stdio",
            "songs.synced",
        },
        set(),
    ),
    "web.lanes": (set(), set()),
    "web.settings": ({"model.emotions", "songs.dotenv"}, set()),
    "web.shared_camera": ({"camera"}, set()),
    "web.services": (
        {
            "camera",
            "model.files",
            "model.recognizer",
            "songs.catalog",
            "songs.features",
            "songs.lookup",
            "songs.player",
            "songs.split",
            "songs.spotify",
            "web.settings",
            "web.shared_camera",
        },
        {"flask"},
    ),
    "web.safety": ({"web.settings"}, {"flask", "werkzeug"}),
    "web.access": (
        {
            "camera",
            "model.emotions",
            "pictures.sources",
            "web.safety",
            "web.services",
            "web.settings",
            "web.shared_camera",
        },
        {"flask"},
    ),
    "web.pages": (
        {
            "model.emotions",
            "songs.catalog",
            "songs.lift",
            "songs.paste",
            "songs.split",
            "web.access",
            "web.services",
        },
        {"flask"},
    ),
    "web.uploads": (
        {
            "model.emotions",
            "pictures.drawing",
            "pictures.following",
            "pictures.stills",
            "web.lanes",
            "web.services",
        },
        {"flask", "werkzeug"},
    ),
    "web.readings": ({"pictures.following", "web.settings"}, {"flask", "itsdangerous"}),
    "web.own_spotify": (
        {"model.emotions", "songs.player", "songs.spotify", "web.pages", "web.safety", "web.services"},
        {"flask"},
    ),
    "app": (
        {
            "model.emotions",
            "model.recognizer",
            "pictures",
            "pictures.following",
            "pictures.stills",
            "camera",
            "songs.catalog",
            "songs.paste",
            "songs.split",
            "terminal.stdio",
            "web.access",
            "web.lanes",
            "web.own_spotify",
            "web.pages",
            "web.readings",
            "web.safety",
            "web.services",
            "web.settings",
            "web.uploads",
        },
        {"flask", "werkzeug"},
    ),
}
ASIDE = {
    "augment",
    "corruptions",
    "detector_crops",
    "detector_figures",
    "detector_motion",
    "detector_network",
    "detector_scenes",
    "detector_set",
    "detector_targets",
    "evaluate",
    "evaluate_detector",
    "explore",
    "export",
    "export_detector",
    "fer2013",
    "ferplus",
    "figures",
    "fused_norm",
    "make_demo",
    "mine_detector",
    "mirror",
    "network",
    "plots",
    "robustness",
    "song_figures",
    "song_plots",
    "train",
    "train_detector",
    "train_song_moods",
}
OURS = {"app", "camera", "model", "pictures", "songs", "spotify_sync", "terminal", "web"}
PACKAGES = {"model", "pictures", "songs", "terminal", "web"}


def imports(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it; `from package import module` counts as the module.

    What stands under `if __name__ == "__main__"` is left out: importing the file does not import it.
    """
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not is_door(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" for a in node.names} if node.module in PACKAGES else {node.module}
    return found


def is_door(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def path_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


@pytest.mark.parametrize("module", RUNTIME)
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    """Each running module imports no more of the project, and of libraries, than its place allows."""
    allowed, libraries = RUNTIME[module]
    ours = {name for name in imports(path_of(module)) if name.partition(".")[0] in OURS}
    assert ours <= allowed
    others = {name.partition(".")[0] for name in imports(path_of(module))} - OURS - {"__future__"}
    assert {name for name in others if name not in sys.stdlib_module_names} <= libraries


def test_training_stands_to_the_side() -> None:
    """Nothing that runs the site imports what trains, measures or exports its networks."""
    for module in RUNTIME:
        assert not {name for name in imports(path_of(module)) if name.removeprefix("model.") in ASIDE}


def test_doors_open_to_the_commands_only() -> None:
    """A file that imports more when it is run than when it is imported is one of three doors to the commands."""
    doors = {}
    for module in RUNTIME:
        tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
        inside = [node for door in tree.body if is_door(door) for node in ast.walk(door)]
        if found := {node.module for node in inside if isinstance(node, ast.ImportFrom)}:
            doors[module] = found
    assert doors == {
        "camera": {"terminal.watch"},
        "model.song_moods": {"songs.moods"},
        "songs.catalog": {"songs.moods"},
    }


def test_every_module_has_a_place() -> None:
    """A new file in a package must be given its place in this test, and a place is that of a file."""
    files = {path for package in PACKAGES for path in (ROOT / package).glob("*.py") if path.stem != "__init__"}
    found = {f"{path.parent.name}.{path.stem}" for path in files}
    assert found <= {f"model.{name}" for name in ASIDE} | set(RUNTIME)
    assert {name for name in RUNTIME if "." in name} <= found


@pytest.mark.parametrize("module", ["app, model.recognizer", "camera", "terminal.watch"])
def test_opencv_is_loaded_with_its_settings(module: str) -> None:
    """Whatever is run sets what OpenCV reads from the environment when it is loaded, and then loads it."""
    script = (
        "import os, sys\n"
        "class Watching:\n"
        "    def find_spec(name, *about):\n"
        "        if name == 'cv2': print('OPENCV_IO_MAX_IMAGE_PIXELS' in os.environ)\n"
        f"sys.meta_path.insert(0, Watching)\nimport {module}"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=bare, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, set(done.stdout.split())) == (0, {"True"}), done.stderr


def test_importing_the_site_does_nothing() -> None:
    """`import app` prints nothing, starts no thread, and loads neither TensorFlow nor OpenCV nor pandas."""
    script = (
        "import app, sys, threading;"
        "heavy = {'tensorflow', 'keras', 'cv2', 'pandas', 'ai_edge_litert', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy; assert threading.active_count() == 1"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
