"""docs/tour.ipynb: committed as it was executed, and it runs from top to bottom in a home that has the committed records."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PROJECT = Path(__file__).parents[1]
TOUR = PROJECT / "docs" / "tour.ipynb"


def shown(notebook: nbformat.NotebookNode) -> list[list[tuple[str, ...]]]:
    """Return, for each code cell, what kinds of output it has: the numbers differ between machines in their last digits.

    What one cell prints may come in one piece or in several.
    """
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    kinds = [[(one.output_type, one.get("name", ""), *sorted(one.get("data", {}))) for one in cell.outputs] for cell in cells]
    return [list(dict.fromkeys(of_cell)) for of_cell in kinds]


def test_the_tour_runs_from_top_to_bottom_and_shows_what_is_committed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):  # none of this user's
        monkeypatch.setenv(name, str(home / name.lower()))
    shutil.copytree(PROJECT / "leaderboard" / "records", home / "leaderboard" / "records")
    committed = nbformat.read(TOUR, as_version=4)
    nbformat.validate(committed)
    patience = {"timeout": 1800, "startup_timeout": 600}
    executed = NotebookClient(nbformat.read(TOUR, as_version=4), resources={"metadata": {"path": str(home)}}, **patience).execute()
    assert shown(executed) == shown(committed)
    assert all(cell.execution_count for cell in committed.cells if cell.cell_type == "code")
    said = [out.text for cell in committed.cells if cell.cell_type == "code" for out in cell.outputs if out.output_type == "stream"]
    assert len(Path.home().parts) == 1 or str(Path.home()) not in "".join(said)  # the root is in every path
