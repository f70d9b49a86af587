"""leaderboard/ as it is committed: every record is valid and of a declared row, and the page is what the records give."""

from pathlib import Path

import pytest

from benchmark.declaring.entries import load_suite
from benchmark.declaring.spec import AXES, from_record, resolve
from benchmark.pages import leaderboard
from benchmark.recording import errors, record

ROOT = Path(__file__).parents[2] / "leaderboard"
RECORDS = record.read_all(ROOT / "records")


def test_page_is_what_the_records_give() -> None:
    assert leaderboard.stale(ROOT / "records", ROOT, ROOT / "published") == []


@pytest.mark.parametrize("made", RECORDS, ids=lambda made: f"{made.row.recipe}-{made.id}")
def test_record_is_of_what_the_registry_declares(made: record.Record) -> None:
    """The row resolves, and to the very spec that was run: nobody changed an entry under a committed number."""
    row = made.row
    spec = resolve({axis: getattr(row, axis) for axis in AXES}, subset=row.subset, seed=row.seed)
    assert spec.describes(made.spec)
    assert from_record(made.spec).id == made.id  # a field that a class gained since then is no part of it
    assert made.overrides == ()
    assert made.environment.modified is False


def test_the_errors_beside_a_record_give_its_curves() -> None:
    kept = {errors.beside(record.path_of(ROOT / "records", made.row, made.half)): made for made in RECORDS}
    there = set((ROOT / "records").rglob("*.safetensors"))
    assert there <= kept.keys()  # none without a record
    assert [found for path in sorted(there) for found in errors.disagreements(kept[path], errors.read(path))] == []


@pytest.mark.parametrize("suite", ["mini", "small", "natural8", "mini_biases", "mini_scale"])
def test_suite_is_complete(suite: str) -> None:
    assert set(load_suite(suite).rows()) <= {made.row for made in RECORDS}
