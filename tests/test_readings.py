"""The key that visitors' readings are signed with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from web.readings import signing_key
from web.settings import SettingsError


def test_a_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    """The first start makes it, outside the folder of the site; the next ones find it; nobody else may read it."""
    key = signing_key({"XDG_STATE_HOME": str(tmp_path)})
    file = tmp_path / "visage-fm" / "secret-key"
    assert len(key) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    assert signing_key({"XDG_STATE_HOME": str(tmp_path)}) == key
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["secret-key"]


def test_processes_that_start_at_once_agree_on_a_key(tmp_path: Path) -> None:
    """Four processes without a key come out with the same one."""
    script = "import os; from web.readings import signing_key; print(signing_key(os.environ))"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    keys = {process.communicate(timeout=60)[0] for process in started}
    assert len(keys) == 1
    assert len(keys.pop()) > 32


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The site starts with a key for this run, and says what to set."""
    (tmp_path / "file").write_text("")
    one, other = (signing_key({"XDG_STATE_HOME": str(tmp_path / "file")}) for _ in range(2))
    assert one != other
    said = capsys.readouterr().err
    assert "for this run only" in said
    assert "VISAGE_SECRET_KEY" in said


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    """A key file that somebody emptied ends the start with what to do."""
    (tmp_path / "visage-fm").mkdir()
    (tmp_path / "visage-fm" / "secret-key").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="secret-key holds no key: delete it"):
        signing_key({"XDG_STATE_HOME": str(tmp_path)})
