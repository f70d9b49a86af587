"""benchmark/pages/capped.py: a number that rests on the largest PSNR says so beside itself, and what it is without."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.pages import leaderboard
from benchmark.pages.capped import capped_note, without_capped
from benchmark.pages.tables import tabulate
from benchmark.recording.record import Curves, Record
from tests.record_factory import made, save

PUBLISHED = Path(__file__).parents[2] / "leaderboard" / "published"


def capped(train: tuple[float, ...], test: tuple[float, ...], seed: int = 0, model: str = "reference") -> Record:
    """A record with these curves in the clipped reading."""
    one = made(1.0, model=model, seed=seed)
    steps, curves = tuple(range(len(train))), Curves(train=train, test=test)
    psnr = replace(one.psnr, diffusion_steps=steps, clipped=curves, unclipped=curves, literal=curves, noise_mse=curves)
    return replace(one, psnr=psnr, psnr_train=psnr.psnr_train, psnr_test=psnr.psnr_test, psnr_gap=psnr.psnr_gap)


ROWS = [
    capped((100.0, 100.0, 30.0, 20.0), (40.0, 30.0, 20.0, 21.0)),
    capped((100.0, 80.0, 32.0, 20.0), (40.0, 30.0, 20.0, 19.0), seed=1),
    *(capped((60.0, 40.0, 30.0, 20.0), (50.0, 30.0, 20.0, 19.0), seed=seed, model="trained") for seed in (0, 1)),
]


def test_what_is_left_without_the_capped_steps() -> None:
    found = [without_capped(one.psnr) for one in ROWS]
    assert found[0] == pytest.approx(((30 + 20) / 2, (10 + 0) / 2))
    assert found[1] == pytest.approx(((80 + 32 + 20) / 3, (50 + 12 + 1) / 3))
    assert found[2] == pytest.approx((37.5, 7.75))  # none of them
    assert without_capped(capped((100.0,), (100.0,)).psnr) is None


def test_pages_and_terminal_say_how_many_steps_are_capped(tmp_path: Path) -> None:
    records = save(ROWS, tmp_path / "records")
    leaderboard.build(records, tmp_path, PUBLISHED)
    words = "1–2 of 4 steps at 100 dB"
    for name, times in (("README.md", 1), ("tables.md", 3)):  # beside the gap; beside PSNR train and the gap, and in the note
        text = (tmp_path / name).read_text()
        assert text.count(words) == times, name
        assert not any(words in line and "trained" in line for line in text.splitlines())
    assert "Without these steps PSNR train is 34.500 dB and the gap 13.000 dB." in (tmp_path / "tables.md").read_text()
    console = Console(file=io.StringIO(), width=120)
    console.print(*leaderboard.summary(records, width=120), sep="\n")
    assert words in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_row_at_the_cap_alone_says_that_nothing_else_was_scored() -> None:
    (table,) = tabulate([capped((100.0,), (90.0,), seed=seed) for seed in (0, 1)])
    assert capped_note(table.rows[0]).startswith("1 of 1 steps at 100 dB, the largest PSNR that is given: nothing else")
