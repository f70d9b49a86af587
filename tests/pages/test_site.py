"""The site without a browser: whole, linked, escaped, and made from the records alone."""

import json
import math
import re
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from urllib.parse import unquote

import pytest

from benchmark.errors import BenchError, UsageError
from benchmark.files import PUBLISHED
from benchmark.pages import site
from benchmark.pages.site import markdown, pictures
from benchmark.pages.site.aside import aside
from benchmark.pages.statistics import holm, p_value, separated
from benchmark.pages.tables import at_equal_steps, gather, ranks
from benchmark.recording import record, style
from tests.pages.hostile import MARKUP, TEXTS, hostile
from tests.pages.test_objectives import four
from tests.record_factory import made, save, suites


class Seen(HTMLParser):
    """The tags and the links of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name in ("href", "src") and value]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


def sources(records: Path) -> site.Sources:
    return site.Sources(records, records.parent / "submissions", PUBLISHED, PUBLISHED.parent / "RULES.md")


@pytest.fixture(scope="module")
def made_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of made-up suites and of records that say all that a record must not be able to do."""
    folder = tmp_path_factory.mktemp("site")
    records = [*suites(), *four(), made(2.0, model="unet_mini", seed=0, dataset="natural8"), made(1.0, recipe="smoke", ranked=False)]
    save([*records, *(hostile(text, layout=f"odd_{place}") for place, text in enumerate(TEXTS))], folder / "leaderboard" / "records")
    site.build(sources(folder / "leaderboard" / "records"), folder / "site")
    return folder / "site"


def test_recipes_that_differ_in_their_objective_stand_in_one_table_of_the_results(made_site: Path) -> None:
    shown = (made_site / "results.html").read_text(encoding="utf-8")
    table = shown[shown.index('<article class="text" id="objectives">') :]
    assert table.index("mini_control") < table.index("mini_noise") < table.index("mini_data") < table.index("mini_flow_matching")
    assert "gap: higher than mini_noise, shown" in table and "claimed, and the verdict" in table


def test_every_link_leads_somewhere(made_site: Path) -> None:
    pages = sorted(made_site.rglob("*.html"))
    assert {page.name for page in pages} >= {"index.html", "results.html", "compare.html", "claims.html", "paper.html", "rules.html"}
    for page in pages:
        for link in Seen(page).links:
            there = unquote(link.partition("#")[0].partition("?")[0])
            if there and not link.startswith(("http://", "https://", "data:")):
                assert (page.parent / there).resolve().is_file(), f"{page.name} leads to {link}, which is not there"


def test_no_page_asks_the_network_for_anything(made_site: Path) -> None:
    for page in made_site.rglob("*.html"):
        seen = Seen(page)
        assert not [link for link in seen.links if link.startswith("//")]
        assert all(
            not re.match(r"https?:", link) for link in re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]*)"', page.read_text())
        )


def test_nothing_of_a_record_becomes_markup(made_site: Path) -> None:
    hosts = [page for page in made_site.rglob("rows/**/*.html") if "odd_" in page.name]
    assert len(hosts) == len(TEXTS)
    for page in (*hosts, made_site / "results.html", made_site / "index.html", made_site / "claims.html"):
        seen, text = Seen(page), page.read_text(encoding="utf-8")
        assert not seen.handlers
        assert not [link for link in seen.links if link.lower().startswith("javascript:")]
        assert MARKUP not in text and "<script>alert" not in text
        assert not [c for c in text if ord(c) < 32 and c not in "\n\t\r"]
        assert not set(text) & set("\u202e\u2066\u200f")
        assert len(text) < 200_000 or page.name == "claims.html"  # which says whole what an entry assumes


def test_data_scripts_are_json_in_a_call(made_site: Path) -> None:
    scripts = [*made_site.rglob("data/**/*.js"), *made_site.rglob("rows/**/*.js")]
    assert scripts
    for script in scripts:
        text = script.read_text(encoding="ascii")
        assert text.startswith("bench.put(") and text.endswith(");\n")
        json.loads(f"[{text[len('bench.put(') : -3]}]")


def test_a_record_can_be_downloaded_as_it_is(made_site: Path) -> None:
    names = {path.relative_to(made_site / "records") for path in made_site.rglob("records/**/*.json")}
    kept = made_site.parent / "leaderboard" / "records"
    assert names == {path.relative_to(kept) for path in kept.rglob("*.json")}
    for name in names:
        assert (made_site / "records" / name).read_bytes() == (kept / name).read_bytes()


def test_first_view_of_five_thousand_records_is_under_two_megabytes(made_site: Path) -> None:
    """What a page loads, counted in bytes; of the results, with a table as long as 5,000 records of five seeds make."""

    def loaded(name: str) -> int:
        page = made_site / name
        files = {unquote(link.partition("#")[0]) for link in Seen(page).links if re.search(r"\.(js|css|svg|png)(#|$)", link)}
        return page.stat().st_size + sum((made_site / file).stat().st_size for file in files)

    tables = [path.read_text() for path in (made_site / "data").glob("*/*.js")]
    rows = [json.loads(f"[{text[len('bench.put(') : -3]}]")[1]["rows"] for text in tables]
    each = max(len(text) / len(found) for text, found in zip(tables, rows, strict=True) if len(found) > 2)
    assert loaded("results.html") > 500_000  # the library of the table is among it
    assert loaded("results.html") + 1000 * each < 2_000_000
    assert loaded("index.html") < 1_000_000  # it names at most twelve rows, whatever there are


def test_site_is_replaced_whole_and_nothing_else_is(tmp_path: Path) -> None:
    records = save([made(1.0)], tmp_path / "leaderboard" / "rows")
    out = tmp_path / "site"
    site.build(sources(records), out)
    gone = out / "rows" / "stale.html"
    gone.write_text("old")
    site.build(sources(records), out)
    assert not gone.exists() and (out / "index.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leaderboard", "site"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not a site"):
        site.build(sources(records), other)
    assert (other / "thesis.tex").read_text() == "years of work"


def test_what_a_killed_building_left_is_removed_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    (tmp_path / ".site.dead.tmp").mkdir()
    (tmp_path / ".site.dead.tmp" / "index.html").write_text("half")
    with aside(tmp_path / "site") as living, aside(tmp_path / "site") as other:
        assert living.is_dir() and other.is_dir() and not (tmp_path / ".site.dead.tmp").exists()
    assert not list(tmp_path.iterdir())


def test_empty_board_has_a_site(tmp_path: Path) -> None:
    (tmp_path / "leaderboard" / "rows").mkdir(parents=True)
    site.build(sources(tmp_path / "leaderboard" / "rows"), tmp_path / "site")
    assert "No ranked record yet" in (tmp_path / "site" / "results.html").read_text()


@pytest.mark.parametrize("value", ["1e308", "1e101", "9" * 400, "-1e200", "1e999"])
def test_number_beyond_any_measurement_is_refused(tmp_path: Path, value: str) -> None:
    path = next(save([made(1.0)], tmp_path).rglob("*.json"))
    for field in ("psnr_train", "wall_seconds", "loss", "parameters"):
        text = re.sub(rf'"{field}": [-\d.e+]+', f'"{field}": {value}', path.read_text(), count=1)
        broken = path.with_name(f"{field}.json")
        broken.write_text(text)
        with pytest.raises(BenchError, match="not valid"):
            record.read(broken)


def test_record_of_a_hundred_megabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = next(save([made(1.0)], tmp_path).rglob("*.json"))
    with path.open("r+b") as file:
        file.truncate(100_000_000)
    with pytest.raises(BenchError, match="at most 8,000,000"):
        record.read(path)


def test_ranks_are_those_of_every_pair_by_itself() -> None:
    records = [
        made(0.2 * place + 0.011 * seed * (1 + place % 3), model=f"m{place}", seed=seed) for place in range(9) for seed in range(place % 5)
    ]
    records += [made(0.5 + seed, model="other_images", seed=seed, images="others") for seed in range(3)]
    records += [made(0.7, model=f"same_{place}", seed=seed) for place in range(2) for seed in range(3)]
    series = gather(records)
    pairs = {
        (i, j): difference
        for i, j in combinations(range(len(series)), 2)
        if (difference := at_equal_steps(series[i], series[j])) and difference.estimate.n > 1
    }
    corrected = dict(zip(pairs, holm([p_value(difference.estimate) for difference in pairs.values()]), strict=True))
    sides = {pair: difference.side if separated(corrected[pair]) else 0 for pair, difference in pairs.items()}
    sides |= {(j, i): -side for (i, j), side in sides.items()}
    against = [[sides[mine, other] for other in range(len(series)) if (mine, other) in sides] for mine in range(len(series))]
    ranked = sum(map(bool, against))
    found, tested = ranks(series)
    assert found == [(1 + mine.count(1), ranked - mine.count(-1)) if mine else None for mine in against]
    assert tested == len(pairs) and len(set(found)) > 3 and None in found


def test_dark_picture_has_no_ink_of_the_light_one() -> None:
    drawn = '<svg xmlns="x"><path style="fill: #ffffff"/><path style="stroke: #000000; fill: none"/><path d="glyph"/></svg>'
    dark = pictures.redrawn(drawn)
    assert "#ffffff" not in dark and "#000000" not in dark and f'fill="{pictures.INK}"' in dark


def test_series_stay_apart_on_a_dark_page() -> None:
    dark = [re.findall("#[0-9a-f]{6}", pictures.redrawn(f"<svg stroke='{one.lower()}'>"), re.IGNORECASE)[-1] for one in style.COLOURS]
    channels = [[int(one[place : place + 2], 16) for place in (1, 3, 5)] for one in dark]
    assert min(math.dist(a, b) for a, b in combinations(channels, 2)) > 60


def test_links_of_a_markdown_page_lead_to_the_sites_pages() -> None:
    html = markdown.html("[a](README.md#x) [b](gone.md) [c](https://e.org) [d](#here)\n\n## A head, b", {"README.md": "paper.html"})
    assert 'href="paper.html#x"' in html and "gone.md" not in html and 'href="https://e.org"' in html and 'href="#here"' in html
    assert '<h2 id="a-head-b">' in html
