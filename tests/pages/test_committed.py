"""leaderboard/ as it is committed: every record is valid and of a declared row, and the page is what the records give."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmark.declaring.entries import load_suite
from benchmark.declaring.spec import AXES, from_record, resolve
from benchmark.pages import leaderboard
from benchmark.pages.statistics import equal_fit
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


@pytest.mark.parametrize(
    ("dataset", "subset", "quantity", "side"),
    [
        ("dead_leaves8", 32, "psnr_gap", -1),
        ("dead_leaves8", 64, "psnr_gap", -1),
        ("dead_leaves8", 32, "psnr_test", -1),
        ("dead_leaves8", 64, "psnr_test", -1),
        ("dead_leaves8_permuted", 4, "psnr_gap", -1),
        ("dead_leaves8_permuted", 4, "equal fit", 0),
        ("dead_leaves8", 4, "equal fit", 0),
        ("patches8_permuted", 16, "psnr_test", 1),
    ],
)
def test_what_the_limits_of_an_experiment_say_of_undeclared_rows_is_so(dataset: str, subset: int, quantity: str, side: int) -> None:
    """Windows of 3 against global attention: the 95% t-interval of the differences lies where registry/claims.toml says."""
    rows = [made for made in RECORDS if made.row[2:4] == (dataset, subset) and made.row[0::5] == ("dit_mini", "mini_control")]
    windows, plain = ({made.row.seed: made for made in rows if made.row.layout == name} for name in ("local_3x3_head", "global"))
    assert windows.keys() == plain.keys() == set(range(6, 12))
    if quantity == "equal fit":
        met = {seed: equal_fit(windows[seed].trajectory, plain[seed].trajectory) for seed in plain}
        found = [fit.variant - fit.baseline for fit in met.values() if fit]
    else:
        found = [getattr(windows[seed], quantity) - getattr(plain[seed], quantity) for seed in plain]
    low, high = stats.t.interval(0.95, len(found) - 1, np.mean(found), stats.sem(found))
    assert len(found) == 6 and int(low > 0) - int(high < 0) == side
