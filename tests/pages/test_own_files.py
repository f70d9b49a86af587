"""What a generator writes over or removes carries its own mark; nothing else is touched."""

from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.files import PUBLISHED
from benchmark.pages import leaderboard
from tests.record_factory import made, save


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save([made(1.0, seed=s) for s in (0, 1)], tmp_path / "records")
    return tmp_path


def test_a_page_of_someone_else_is_not_overwritten(root: Path) -> None:
    (root / "README.md").write_text("# My project\n")
    with pytest.raises(UsageError, match="not a page of this leaderboard"):
        leaderboard.build(root / "records", root, PUBLISHED)
    assert (root / "README.md").read_text() == "# My project\n" and not (root / "figures").exists()
    assert leaderboard.build(root / "records", root / "board", PUBLISHED)


def test_a_picture_that_it_did_not_make_stays_and_its_own_goes(root: Path) -> None:
    written = leaderboard.build(root / "records", root, PUBLISHED)
    mine = next(path for path in written if path.suffix == ".svg")
    foreign, old = mine.parent / "logo.svg", mine.parent / "old.svg"
    foreign.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    old.write_bytes(mine.read_bytes())
    leaderboard.build(root / "records", root, PUBLISHED)
    assert foreign.exists() and not old.exists()
    assert leaderboard.stale(root / "records", root, PUBLISHED) == []
    mine.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(UsageError, match="not a picture of this leaderboard"):
        leaderboard.build(root / "records", root, PUBLISHED)


def test_files_of_an_editor_or_a_mac_are_skipped(root: Path) -> None:
    (root / "records" / "._x.json").write_bytes(b"\x00\x05\x16\x07")
    assert leaderboard.build(root / "records", root, PUBLISHED)
