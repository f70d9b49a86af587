"""The browser's libraries, taken at build time out of the Python packages that carry them, each with its licence."""

import re
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path

from benchmark.errors import BenchError

FOLDER = Path("libraries")
TABLES, TABLES_STYLE, CHARTS = FOLDER / "datatables.js", FOLDER / "datatables.css", FOLDER / "plotly.js"
_EXPORTS = re.compile(r"export\s*\{([^}]*)\}\s*;?")


def copy(out: Path) -> None:
    """Write DataTables (from itables) and plotly.js (from plotly) under `out`, as classic scripts, with their licences."""
    bundle = _package("itables") / "html"
    files = {
        TABLES: _classic((bundle / "dt_bundle.js").read_text(encoding="utf-8")).encode(),
        TABLES_STYLE: (bundle / "dt_bundle.css").read_bytes(),
        CHARTS: (_package("plotly") / "package_data" / "plotly.min.js").read_bytes(),
    }
    files |= {FOLDER / f"{name}-LICENSE.txt": _licence(name) for name in ("itables", "plotly")}
    for path, content in files.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(content)


def _classic(module: str) -> str:
    """Turn a bundled module into a classic script that sets window.DataTable: modules are not loaded from file://."""
    found = _EXPORTS.search(module)
    pairs = [pair.split(" as ") for pair in found.group(1).split(",") if " as " in pair] if found else []
    exported = {name: own for own, name in pairs}
    if not found or "default" not in exported:
        raise BenchError(
            "The table bundle of the installed itables exports no default: `make setup` installs the version that is known to."
        )
    body = module[: found.start()] + f"window.DataTable={exported['default']};" + module[found.end() :]
    return f"(function(){{{body}\n}})();\n"


def _package(name: str) -> Traversable:
    try:
        return resources.files(name)
    except ModuleNotFoundError:
        raise BenchError(
            f"The site needs {name}, which is not installed here. `make setup` installs everything; "
            "`pip install 'dit-generalization-bench[leaderboard]'` only what the pages need."
        ) from None


def _licence(name: str) -> bytes:
    for file in metadata.files(name) or ():
        if file.name.upper().startswith("LICENSE"):
            return Path(str(file.locate())).read_bytes()
    raise BenchError(f"The installed package {name} carries no licence file, so its script is not copied. Install it anew.")
