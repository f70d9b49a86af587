"""Names to files: the folder is the axis, the file's stem is the name. Reads text only; configures nothing."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.errors import UsageError, unknown
from benchmark.files import PROJECT

FOLDERS = {"model": "backbones", "layout": "layouts", "dataset": "datasets", "recipe": "recipes", "suite": "suites"}
STOCK = PROJECT / "registry"

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # names become paths, and words of a command
LONGEST_NAME = 80  # four of them, a subset and a seed make the name of a file
_ASSUMED = re.compile(r"#\s*assumed:\s*(\w+):\s*(.+)")
_SUBSET = re.compile(r"#\s*subset:\s*(\d{1,12}|\d{1,3}(?:_\d{3}){1,3})", re.ASCII)
LARGEST_ENTRY = 1_000_000  # bytes: it is read by whoever lists the entries


@dataclass(frozen=True)
class EntryFile:
    """One named entry as it lies on disk; `assumed` maps a field to why its value is not the paper's own word.

    `subset` is the number of training images that a recipe is made for, where no one says another.
    """

    axis: str
    name: str
    path: Path
    description: str
    assumed: dict[str, str] = field(default_factory=dict)
    subset: int | None = None
    unreadable: str = ""  # why, where its text cannot be read; such an entry hides no other
    misnamed: str = ""  # why, where no record could hold its name


def roots(extra: list[Path] | tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """Return the registry folders to search: the project's own, then those the user names."""
    for root in extra:
        if not root.is_dir():
            raise UsageError(f"The registry {root} is not a folder. Give a folder that holds one of {_folder_list()}.")
        if not any((root / folder).is_dir() for folder in FOLDERS.values()):
            raise UsageError(f"The registry {root} holds no entries: none of its folders is {_folder_list()}.")
    return (STOCK, *(root.resolve() for root in extra if root.resolve() != STOCK))


def entries(axis: str, search: tuple[Path, ...] = (STOCK,)) -> dict[str, EntryFile]:
    """Return the entries of one axis by name; a name that two folders claim is an error, never a silent choice."""
    found: dict[str, EntryFile] = {}
    for root in search:
        for path in sorted((root / FOLDERS[axis]).glob("[!.]*.gin")):  # what begins with a dot is an editor's or a Mac's
            if path.stem in found:
                raise UsageError(f"Two files claim the {axis} '{path.stem}': {found[path.stem].path} and {path}. Rename one.")
            found[path.stem] = read(axis, path)
    return found


def find(axis: str, name: str, search: tuple[Path, ...] = (STOCK,)) -> EntryFile:
    """Return the entry of that name, or say what is nearest and what exists."""
    found = entries(axis, search)
    if name not in found:
        raise unknown(axis, name, found, f"`benchmark.declaring.registry.entries({axis!r})` describes them.")
    return found[name]


def read(axis: str, path: Path) -> EntryFile:
    """Read an entry's comment lines: the first is its description, `# assumed: field: reason` marks a field, `# subset: 16` is its N."""
    try:
        lines = _text(path).splitlines()
    except (OSError, ValueError) as problem:
        return EntryFile(axis, path.stem, path, "", unreadable=f"it cannot be read: {problem}", misnamed=misnamed(path.stem))
    comments = [line.strip() for line in lines if line.strip().startswith("#")]
    assumed = {m.group(1): m.group(2).strip() for line in comments if (m := _ASSUMED.fullmatch(line))}
    sizes = [int(m.group(1)) for line in comments if (m := _SUBSET.fullmatch(line))]
    first = lines[0].lstrip("# ").strip() if lines and lines[0].startswith("#") else ""
    return EntryFile(axis, path.stem, path, first, assumed, sizes[0] if sizes else None, misnamed=misnamed(path.stem))


def _text(path: Path) -> str:
    """Return the text of an entry, without the mark of an editor; raise ValueError where it is none."""
    if path.exists() and not path.is_file():  # a pipe or a device would be read for ever
        raise ValueError("it is no file")
    if path.stat().st_size > LARGEST_ENTRY:
        raise ValueError(f"it has more than {LARGEST_ENTRY:,} bytes")
    return path.read_text(encoding="utf-8-sig")


def misnamed(name: str) -> str:
    """Say why no record could hold a name; '' where one can."""
    if not NAME.fullmatch(name):
        return f"its name {name!r} must be letters of the English alphabet, digits, '_', '.' and '-', and begin with no '.' or '-'"
    return f"its name has {len(name)} characters, at most {LONGEST_NAME} fit into the name of a record" if len(name) > LONGEST_NAME else ""


def _folder_list() -> str:
    return ", ".join(f"{folder}/" for folder in FOLDERS.values())
