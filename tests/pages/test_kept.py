"""Pictures that were drawn before: drawn again where numbers, words, code or libraries are others, or where a kept one was touched."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from benchmark.pages import kept
from benchmark.pages.kept import Kept
from benchmark.recording.style import Picture

PICTURE = Picture("gap", PurePosixPath("gap.svg"), "a gap", {"series": [1.0, 2.0]})


@pytest.fixture
def pen() -> Callable[[Picture], str]:
    """Draw as plain text, numbered by how often it drew."""
    drawn: list[Picture] = []

    def draw(picture: Picture) -> str:
        drawn.append(picture)
        return f"<svg>{len(drawn)} {picture.alt} {picture.numbers}</svg>\n"

    return draw


def test_a_picture_is_drawn_once(tmp_path: Path, pen: Callable[[Picture], str]) -> None:
    first = Kept(tmp_path / "pictures").svg(PICTURE, pen)
    assert Kept(tmp_path / "pictures").svg(PICTURE, pen) == first != pen(PICTURE)
    assert Kept(tmp_path / "pictures").svg(replace(PICTURE, path=PurePosixPath("elsewhere.svg")), pen) == first  # it says not where it lies


@pytest.mark.parametrize("other", [{"numbers": {"series": [1.0, 2.1]}}, {"alt": "another"}, {"kind": "paired"}])
def test_another_picture_is_drawn(tmp_path: Path, pen: Callable[[Picture], str], other: dict[str, object]) -> None:
    first = Kept(tmp_path).svg(PICTURE, pen)
    assert Kept(tmp_path).svg(replace(PICTURE, **other), pen) != first  # type: ignore[arg-type]
    assert Kept(tmp_path).svg(PICTURE, pen) == first


def test_other_code_or_another_library_draws_again(tmp_path: Path, pen: Callable[[Picture], str], monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "benchmark" / "pages"
    code.mkdir(parents=True)
    (code / "drawing.py").write_text("wide = 1\n", encoding="utf-8")
    monkeypatch.setattr(kept, "PROJECT", tmp_path)
    first = Kept(tmp_path / "kept").svg(PICTURE, pen)
    assert Kept(tmp_path / "kept").svg(PICTURE, pen) == first
    (code / "drawing.py").write_text("wide = 2\n", encoding="utf-8")
    second = Kept(tmp_path / "kept").svg(PICTURE, pen)
    monkeypatch.setattr(kept, "version", lambda library: "0.0")
    assert len({first, second, Kept(tmp_path / "kept").svg(PICTURE, pen)}) == 3


def test_a_touched_picture_is_drawn_again(tmp_path: Path, pen: Callable[[Picture], str]) -> None:
    first = Kept(tmp_path).svg(PICTURE, pen)
    (there,) = tmp_path.iterdir()
    for content in (there.read_text(encoding="utf-8").replace("2.0", "9.0"), "", "\xff"):
        there.write_bytes(content.encode("latin-1"))
        again = Kept(tmp_path).svg(PICTURE, pen)
        assert again != first and "9.0" not in again and Kept(tmp_path).svg(PICTURE, pen) == again


def test_without_a_folder_and_on_a_full_disk_it_is_drawn(tmp_path: Path, pen: Callable[[Picture], str]) -> None:
    assert Kept().svg(PICTURE, pen) != Kept().svg(PICTURE, pen)
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    assert Kept(tmp_path / "file").svg(PICTURE, pen).startswith("<svg>3")


def test_the_longest_unused_go(tmp_path: Path, pen: Callable[[Picture], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 3)
    for number in range(6):
        Kept(tmp_path).svg(replace(PICTURE, alt=str(number)), pen)
    assert len(list(tmp_path.iterdir())) == 3
