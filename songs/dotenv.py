"""The .env file, in which settings stand that the site and the refresh script share."""

from __future__ import annotations

import os
from pathlib import Path


class DotenvError(Exception):
    """The file cannot be used; the message says why and what to do."""


def environment(dotenv: Path) -> dict[str, str]:
    """What is set: in the environment, else in the file. DotenvError when that cannot be read."""
    return {**dotenv_values(dotenv), **os.environ}


def own_lists() -> Path:
    """The folder of the site's song lists: VISAGE_SONGS, else this one. DotenvError when .env cannot be read."""
    here = Path(__file__).resolve().parent
    return Path(os.path.expanduser(environment(here.parent / ".env").get("VISAGE_SONGS") or here))


def dotenv_values(path: Path) -> dict[str, str]:
    """The NAME=value lines of a file, with or without quotes, `export` and a comment behind; none without it.

    DotenvError when it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DotenvError(f"{path} cannot be read ({error.strerror}): let whoever runs this read it") from None
    except UnicodeDecodeError:
        raise DotenvError(f"{path} is not text in UTF-8: save it again as UTF-8") from None
    values = {}
    for line in lines:
        name, _, value = line.strip().removeprefix("export ").partition("=")
        value = value.strip()
        quoted = value[:1] in ("'", '"')
        values[name.strip()] = value[1:].partition(value[0])[0] if quoted else value.partition(" #")[0].strip()
    return values
