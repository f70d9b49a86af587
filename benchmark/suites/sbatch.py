"""The options of sbatch, as a person writes them: 'key=value'."""

import re
from collections.abc import Sequence
from typing import Any

from benchmark.errors import UsageError

MINUTES = 24 * 60  # of a task, unless `time` says otherwise


def parsed(options: Sequence[str]) -> dict[str, Any]:
    """Return 'key=value' words as sbatch's parameters; whole numbers as such, `setup` as the lines it is."""
    found: dict[str, Any] = {"time": MINUTES}
    for word in options:
        key, equals, value = word.partition("=")
        key = key.strip().removeprefix("--").replace("-", "_")
        if not equals or not key.isidentifier():
            raise UsageError(f"`options={[word]}` must be KEY=VALUE, for example `options=['partition=gpu', 'time=240']`.")
        if key == "setup":
            found.setdefault("setup", []).append(value)
        else:
            found[key] = limit(value) if key == "time" else int(value) if value.isdigit() else value
    return found


def limit(value: str) -> int:
    """Return sbatch's time (minutes, H:M:S, D-H, …) in minutes."""
    if not (found := re.fullmatch(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})", value)):
        raise UsageError(f"`options={[f'time={value}']}` must be minutes, H:M:S or D-H:M:S.")
    parts = [int(part) for part in found["parts"].split(":")]
    if found["days"]:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return max(1, int(found["days"]) * 1440 + hours * 60 + minutes + round(seconds / 60))
    hours, minutes, seconds = (0, *parts, 0)[:3] if len(parts) < 3 else parts
    return max(1, hours * 60 + minutes + round(seconds / 60))
