"""Layouts: which layer gets which window."""

from pathlib import Path

import pytest

from benchmark.contract import Attention, FieldError, Layout
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.errors import UsageError
from registry.layouts.windows import Windows

G = None
LOCAL = (3, 5, 7, 9, 11, 13)

# What each entry gives a network of 12 layers, written out by hand: the window of each layer, or G for global.
ON_TWELVE = {
    "global": (G,) * 12,
    "local_head": (3, 5, 7, 9, 11, 13, G, G, G, G, G, G),
    "local_mix": (3, G, 5, G, 7, G, 9, G, 11, G, 13, G),
    "local_tail": (G, G, G, G, G, G, 3, 5, 7, 9, 11, 13),
    "local_star_head": (3, 3, 3, 5, 5, 5, 7, 7, 7, G, G, G),
    "local_star_mix": (3, 3, 3, G, 5, 5, 5, G, 7, 7, 7, G),
    "local_star_tail": (G, G, G, 3, 3, 3, 5, 5, 5, 7, 7, 7),
    "local_5x6": (5, 5, 5, 5, 5, 5, G, G, G, G, G, G),
    "local_3x2_5x2_7x2": (3, 3, 5, 5, 7, 7, G, G, G, G, G, G),
    "local_head_smaller": (3, 3, 5, 7, 9, 11, G, G, G, G, G, G),
    "local_star_head_larger": (5, 5, 5, 7, 7, 7, 9, 9, 9, G, G, G),
    "local_3x3_head": (3, 3, 3, G, G, G, G, G, G, G, G, G),
    "local_3x3_head_shifted": (3, 3, 3, G, G, G, G, G, G, G, G, G),
    "local_head_shifted": (3, 5, 7, 9, 11, 13, G, G, G, G, G, G),
    "local_3x6_head": (3, 3, 3, 3, 3, 3, G, G, G, G, G, G),
    "local_3x6_mix": (3, G, 3, G, 3, G, 3, G, 3, G, 3, G),
    "local_3x6_tail": (G, G, G, G, G, G, 3, 3, 3, 3, 3, 3),
}

WINDOWED = {name: file for name, file in registry.entries("layout").items() if load(file).kind == "windows"}


def windows_of(layers: tuple[Attention, ...]) -> tuple[int | None, ...]:
    return tuple(layer.window for layer in layers)


@pytest.mark.parametrize("name", ON_TWELVE)
def test_every_entry_places_its_windows_on_twelve_layers(name: str) -> None:
    layout = load(registry.find("layout", name)).config
    assert isinstance(layout, Layout)
    assert windows_of(layout.place(12)) == ON_TWELVE[name]
    border = "shifted" if name.endswith("_shifted") else "truncated"
    assert {layer.border for layer in layout.place(12) if layer.window} <= {border}


def test_the_table_names_every_entry() -> None:
    assert set(ON_TWELVE) == set(WINDOWED)


def test_entries_say_what_the_text_leaves_open() -> None:
    for name, file in WINDOWED.items():
        expected = set() if name == "global" else {"border"}
        expected |= {"placement"} if name.endswith("_mix") else set()
        expected |= {"windows"} if name.endswith(("_smaller", "_larger")) else set()
        several = len(set(ON_TWELVE[name]) - {None}) > 1  # then the order of the windows is a choice, where not told
        expected |= {"windows"} if several and name.endswith(("_mix", "_tail")) else set()
        assert set(file.assumed) == expected, name


def test_the_papers_comparisons_of_window_size_hold() -> None:
    total = {name: sum(filter(None, windows)) for name, windows in ON_TWELVE.items()}
    assert total["local_5x6"] == total["local_3x2_5x2_7x2"] == 30  # "keeping the overall window size unchanged"
    assert total["local_head_smaller"] < total["local_head"]
    assert total["local_star_head_larger"] > total["local_star_head"]
    assert ON_TWELVE["local_head_smaller"] != ON_TWELVE["local_3x2_5x2_7x2"]


@pytest.mark.parametrize("depth", range(1, 30))
@pytest.mark.parametrize("placement", ["head", "mix", "tail"])
def test_any_depth_that_fits_keeps_every_window_in_order(placement: str, depth: int) -> None:
    for count in range(1, depth + 1):
        windows = tuple(range(3, 3 + 2 * count, 2))
        placed = windows_of(Windows(windows=windows, placement=placement).place(depth))
        assert len(placed) == depth
        assert tuple(filter(None, placed)) == windows
        local = [layer for layer, window in enumerate(placed) if window]
        if placement == "mix":
            assert local[0] == 0
            gaps = {b - a for a, b in zip(local, [*local[1:], depth], strict=True)}
            assert max(gaps) - min(gaps) <= 1  # as even as whole layers allow
        else:
            layers = list(range(depth))
            assert local == (layers[:count] if placement == "head" else layers[-count:])


def test_mix_sits_where_the_floor_puts_it() -> None:
    placed = Windows(windows=(3,) * 5, placement="mix").place(12)
    assert [layer for layer, spec in enumerate(placed) if spec.window] == [0, 2, 4, 7, 9]  # floor(12 k / 5)


def test_border_reaches_the_local_layers() -> None:
    first, second = Windows(windows=(5,), border="shifted").place(2)
    assert first == Attention(window=5, border="shifted")
    assert second == Attention()


def test_no_windows_is_global_at_any_depth() -> None:
    assert Windows().place(0) == ()
    assert Windows(placement="mix").place(3) == (Attention(),) * 3


def test_more_windows_than_layers_names_both_numbers() -> None:
    with pytest.raises(FieldError, match=r"asks for 3 local layers, but the backbone has 2 attention layers"):
        Windows(windows=(3, 5, 7)).place(2)
    with pytest.raises(FieldError, match=r"asks for 1 local layers, but a layout can address no layer"):
        Windows(windows=(3,)).place(0)


@pytest.mark.parametrize(
    ("line", "culprit"),
    [
        ("Windows.windows = (3, 4)", "window = 4 must be odd"),
        ("Windows.windows = (3, 0)", r"windows\[1\] = 0 must be at least 1"),
        ("Windows.windows = (3, 5.0)", r"windows\[1\] = 5.0 must be a whole number"),
        ("Windows.windows = 3", "windows = 3 must be a sequence"),
        ("Windows.placement = 'middle'", "placement = 'middle' must be one of 'head', 'mix', 'tail'"),
        ("Windows.border = 'wrapped'", "border = 'wrapped' must be one of"),
    ],
)
def test_bad_entries_are_refused_by_name(tmp_path: Path, line: str, culprit: str) -> None:
    path = tmp_path / "broken.gin"
    path.write_text(f"# Broken\nimport registry.layouts.windows\n{line}\n")
    with pytest.raises(UsageError, match=culprit):
        load(registry.read("layout", path))
