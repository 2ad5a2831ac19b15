"""Values of an enmasse file that stand for something outside of it, so that no secret has to be in it.

======================================  ==========================================================
``$NAME``, ``${NAME}``                  the environment variable NAME
``ZatoEnmasseEnv.NAME``                 the same, as Zato writes it; ``Zato_Enmasse_Env.NAME``, too
``file:PATH``                           the only line of a file, for secrets; PATH is relative to the enmasse file
``$$...``                               a text that begins with one $
======================================  ==========================================================

A value is a reference as a whole or not at all.  What a reference stands for is taken as it is, never resolved again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = re.compile(
    r"\$(?P<bare>[A-Za-z_]\w*)|\$\{(?P<braced>[A-Za-z_]\w*)\}|Zato_?Enmasse_?Env\.(?P<zato>[A-Za-z_]\w*)",
    re.ASCII,
)
FILE = "file:"
MAX_SECRET_FILE = 65_536  # bytes


def resolve(value: Any, environ: Mapping[str, str], directory: Path, *, is_secret: bool) -> Any:
    """What ``value`` stands for; anything that is not a reference is returned as it is.

    Raises ``ValueError``, whose message is the end of a sentence about the value, when a variable or a file does not exist.
    """
    if not isinstance(value, str):
        return value
    if value.startswith("$$"):
        return value[1:]
    if found := VARIABLE.fullmatch(value):
        name = next(group for group in found.groups() if group)
        if name not in environ:
            raise ValueError(f"refers to the environment variable {name}, which is not set.")
        return environ[name]
    if is_secret and value.startswith(FILE):
        return _from_file(directory / value.removeprefix(FILE))
    return value


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_FILE + 1)
        lines = content.decode().splitlines()
    except OSError as error:
        raise ValueError(f"refers to the file {path}, which cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise ValueError(f"refers to the file {path}, which is not text.") from None
    if len(content) > MAX_SECRET_FILE or len(lines) != 1 or not lines[0]:
        raise ValueError(f"refers to the file {path}, which must hold exactly one line.")
    return lines[0]
