"""Text on its way out: to a terminal, a log, a message. Foreign text moves no cursor, and no secret goes with it."""

import os
import re
import unicodedata
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
_USER = re.compile(r"(?<!/)//(?!/)\S*@")  # up to the last @ of a word: one that is not escaped is part of the password
_NAMED = re.compile(
    r"(?i)((?:[\w-]*(?:token|password|passwd|pwd|secret|api[_-]?key|access[_-]?key|signature|credential)[\w-]*|sig|auth)=)[^&\s\"']+"
)
_HEADER = re.compile(r"(?i)\b(authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+)[^\s'\"]+")
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def one_line(text: str) -> str:
    """Return foreign text on one line, without control, format or direction characters."""
    return " ".join(_plain(text).split())


def duration(seconds: float) -> str:
    """Return a duration as a person says it: two figures of the unit that fits, from seconds to years."""
    for limit, unit, size in ((120, "s", 1), (120 * 60, "min", 60), (72 * 3600, "h", 3600), (2 * 365 * 86400, "days", 86400)):
        if seconds < limit:
            digits = 1 if unit == "h" and seconds < 36_000 else 0
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / (365 * 86400):,.0f} years"


def visible(text: str) -> str:
    """Return text with its own lines, and without what a terminal would obey or a reader would not see; no secret."""
    return "\n".join(_plain(line) for line in scrubbed(text).split("\n"))


def scrubbed(text: str, *addresses: str) -> str:
    """Return text without the passwords and tokens of addresses in it, and of those that are named or set for MLflow."""
    for secret in _known(addresses):
        text = text.replace(secret, HIDDEN)
    return _HEADER.sub(rf"\g<1>{HIDDEN}", _NAMED.sub(rf"\g<1>{HIDDEN}", _USER.sub("//", text)))


def scrubbed_json(value: Any) -> Any:
    """Return plain JSON with every text scrubbed."""
    if isinstance(value, dict):
        return {scrubbed_json(key): scrubbed_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed_json(item) for item in value]
    return scrubbed(value) if isinstance(value, str) else value


def _plain(text: str) -> str:
    return "".join(" " if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c for c in text)


def _known(addresses: tuple[str, ...]) -> list[str]:
    """Return the secrets themselves, the longest first, as written and unescaped; what is shorter than 3 letters hides nothing."""
    found = [os.environ.get(name, "") for name in _SECRETS]
    for address in (*addresses, os.environ.get("MLFLOW_TRACKING_URI", "")):
        user, at, _ = address.partition("://")[2].rpartition("@")
        password = user.partition(":")[2] if at else ""
        found += [password, unquote(password)]
        found += [value[0].partition("=")[2] for value in _NAMED.finditer(address)]
    return sorted({secret for secret in found if len(secret) >= 3}, key=len, reverse=True)
