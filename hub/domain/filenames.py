"""Safe names for files whose names a citizen chose.

A safe name is accepted by every common file system, says nothing to a shell or a terminal, and is unique
in its parcel whatever the case. The citizen's own name is kept as data beside it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_LONGEST = 120
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\w.()+ -]")


def safe_names(originals: Iterable[tuple[int, str]]) -> dict[int, str]:
    """For (number, original name) pairs, number → safe name. The same input gives the same names."""
    names: dict[int, str] = {}
    taken: set[str] = {"submission.json"}
    for number, original in originals:
        name = safe_name(original)
        if name.casefold() in taken:
            name = f"{number}-{name}"
        while name.casefold() in taken:
            name = f"{number}-{name}"
        taken.add(name.casefold())
        names[number] = name
    return names


def safe_name(original: str) -> str:
    """One path component: letters and digits of any script, and `.`, `_`, `-`, `(`, `)`, `+`, space."""
    last = re.split(r"[/\\]", original)[-1]
    # Composed, so that one visible name is one name on every server.
    composed = unicodedata.normalize("NFC", last)
    # Format characters (right-to-left marks, zero-width) would show another name than the one stored.
    visible = "".join(
        sign for sign in composed if unicodedata.category(sign) not in {"Cf", "Cc", "Cs", "Co", "Cn"}
    )
    name = _UNSAFE.sub("_", visible).strip(" .")
    name = _shorten(name) or "file"
    return f"_{name}" if _RESERVED.match(name) else name


def _shorten(name: str) -> str:
    """At most 120 bytes of UTF-8 (common limits are 255 bytes for a name), the extension kept."""
    if len(name.encode()) <= _LONGEST:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension.encode()) > 10:
        stem, extension = name, ""
    room = _LONGEST - len(extension.encode()) - 1
    short = stem.encode()[:room].decode("utf-8", "ignore").rstrip(" .")
    return f"{short}.{extension}" if extension else short
