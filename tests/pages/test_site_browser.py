"""The site in a real browser, from a file and from a server: what a visitor does, and that nothing leaves the machine.

`make test` skips these where there is no browser; CI installs one and does not.
"""

import csv
import functools
import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmark.declaring.spec import from_record
from benchmark.files import PUBLISHED
from benchmark.pages import site
from benchmark.pages.tables import Series, at_equal_fit, at_equal_steps, tabulate
from benchmark.recording import record
from benchmark.recording.record import Record
from tests.pages.hostile import TEXTS, hostile
from tests.record_factory import made, save, suites

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
if not CHROMIUM and not os.environ.get("CI"):
    pytest.skip("no browser: `apt-get install chromium` brings one", allow_module_level=True)

ROW = "rows/mini/dead_leaves8/dit_mini-local_3x3_head-n16.html"
PAGES = ("index.html", "results.html", "compare.html", ROW, "claims.html", "paper.html", "comparisons.html", "rules.html")
WIDTHS = (390, 1280, 1920, 3840)


def board() -> list[Record]:
    """The suites, further models to be filtered, and rows that say all that a record must not be able to do."""
    others = [made(0.4 + place / 10 + seed / 5, model=f"other_{place}", seed=seed) for place in range(4) for seed in range(3)]
    return [*suites(), *others, *(hostile(text, layout=f"odd_{place}") for place, text in enumerate(TEXTS))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made_in = tmp_path_factory.mktemp("browser")
    records = save(board(), made_in / "leaderboard" / "records")
    sources = site.Sources(records, made_in / "submissions", PUBLISHED, PUBLISHED.parent / "RULES.md")
    site.build(sources, made_in / "site")
    return made_in / "site"


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Visit:
    """A page, and all that went wrong on it or left it."""

    def __init__(self, browser: Any, base: str, width: int = 1280, ground: str = "light") -> None:
        self.base, self.problems = base, []
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=ground, accept_downloads=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.page.on("console", lambda message: self.problems.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda problem: self.problems.append(str(problem)))
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        self.page.on("dialog", lambda dialog: (self.problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _asked(self, url: str) -> None:
        if not url.startswith((self.base, "data:", "blob:")):
            self.problems.append(f"asked for {url}")

    def open(self, path: str) -> Any:
        """Open a page and wait until its scripts have drawn it."""
        self.page.goto("about:blank")  # another hash alone would leave the old page, drawn as it was, until the new one comes
        self.page.goto(self.base + path)
        if path.startswith("results"):
            self.page.wait_for_selector("#board tbody tr td")
        elif path.startswith(("compare", "rows")):
            self.page.wait_for_selector("#curves .main-svg")
        return self.page

    def close(self) -> None:
        """End the visit; nothing may have gone wrong."""
        self.context.close()
        assert self.problems == []


@pytest.fixture(params=["file", "server"])
def base(request: pytest.FixtureRequest, folder: Path) -> str:
    return f"{folder.as_uri()}/" if request.param == "file" else request.getfixturevalue("served")


@pytest.fixture
def visit(browser: Any, base: str) -> Iterator[Visit]:
    one = Visit(browser, base)
    yield one
    one.close()


def column(page: Any, name: str) -> list[str]:
    """Return the first lines of a column of the results, as they are shown."""
    heads = [text.strip() for text in page.locator("#board thead th").all_inner_texts()]
    return [text.split("\n")[0] for text in page.locator(f"#board tbody td:nth-child({heads.index(name) + 1})").all_inner_texts()]


def drawn_by(page: Any, sort: Callable[[], None]) -> None:
    """Sort the results and wait until they are drawn: the library draws in a later task than the one it is asked in."""
    page.evaluate("{ window.drawn = false; new DataTable.Api('#board table').one('draw', () => { window.drawn = true; }); }")
    sort()
    page.wait_for_function("window.drawn")


@pytest.mark.parametrize("ground", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_page_is_accessible_and_quiet(browser: Any, served: str, path: str, ground: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    visit = Visit(browser, served, ground=ground)
    page = visit.open(path)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found] == []
    visit.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_page_never_scrolls_sideways_and_no_picture_is_clipped(browser: Any, folder: Path, width: int) -> None:
    visit = Visit(browser, f"{folder.as_uri()}/", width=width)
    for path in PAGES:
        page = visit.open(path)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{path} at {width}"
        wide = "[...document.querySelectorAll('img,svg.main-svg')].filter(i => i.getBoundingClientRect().right > innerWidth + 1).length"
        assert page.evaluate(wide) == 0, f"{path} at {width}"
    visit.close()


def test_every_page_of_the_site_opens_without_a_word(browser: Any, served: str, folder: Path) -> None:
    visit = Visit(browser, served)
    for path in sorted(folder.rglob("*.html")):
        visit.open(path.relative_to(folder).as_posix())
    visit.close()


def test_nothing_of_a_record_runs(visit: Visit, folder: Path) -> None:
    visit.page.add_init_script("window.alert = (text) => { throw new Error('ran: ' + text); }")
    page = visit.open("results.html")
    for key in [one["value"] for one in _options(page, "board")]:
        page = visit.open(f"results.html#board={key}&n=16&more=1")
        assert page.evaluate("bench.state().get('board')") == key and page.locator("#board tbody tr td").count() > 0
        assert page.locator("#board img, #board script, #about img").count() == 0
    for path in folder.rglob("rows/**/*odd_*.html"):
        page = visit.open(path.relative_to(folder).as_posix())
        assert page.locator("main script, main img[src=x], main svg[onload]").count() == 0


def _options(page: Any, name: str) -> list[dict[str, str]]:
    return page.eval_on_selector_all(f"select[name={name}] option", "all => all.map(o => ({value: o.value, text: o.textContent}))")


def test_visitor_finds_the_best_layout_and_the_command_that_runs_it(visit: Visit) -> None:
    page = visit.open("index.html")
    page.get_by_role("link", name="Results").first.click()
    page.wait_for_selector("#board tbody tr")
    assert page.get_by_role("radio", name="16", exact=True).is_checked()
    assert column(page, "rank")[0].startswith("1")
    page.locator("#board tbody a").first.click()
    page.wait_for_selector("#curves .main-svg")
    assert page.locator("#command").inner_text().startswith("bench run --model ")


def test_sort_by_mouse_and_by_keyboard(visit: Visit) -> None:
    page = visit.open("results.html")
    drawn_by(page, lambda: page.locator("#board th", has_text="test PSNR").click())
    ascending = [float(text) for text in column(page, "test PSNR")]
    assert ascending == sorted(ascending) and len(set(ascending)) > 2
    head = page.locator("#board th", has_text="gap, dB").locator("[tabindex='0']").first
    head.focus()
    assert "PSNR on training images less" in page.locator("#explained").inner_text()
    drawn_by(page, lambda: page.keyboard.press("Enter"))
    gaps = [float(text.split()[0]) for text in column(page, "gap, dB")]
    assert gaps == sorted(gaps)
    assert "order=gap.asc" in page.evaluate("location.href")


def test_filter_by_model_layout_parameters_and_words(visit: Visit) -> None:
    page = visit.open("results.html")
    everything = len(column(page, "model"))
    page.select_option("select[name=model]", "dit_mini")
    assert set(column(page, "model")) == {"dit_mini"}
    page.select_option("select[name=layout]", "local_3x3_head")
    assert column(page, "layout") == ["local_3x3_head"]
    page.select_option("select[name=model]", "")
    page.select_option("select[name=layout]", "")
    page.fill("input[name=q]", "other_2")
    assert column(page, "model") == ["other_2"]
    page.fill("input[name=q]", "")
    page.fill("input[name=parameters]", "1,000")
    assert "No row is like that" in page.locator("#board tbody").inner_text()
    page.fill("input[name=parameters]", "200000")
    assert len(column(page, "model")) == everything


def test_link_restores_the_view(visit: Visit, browser: Any) -> None:
    page = visit.open("results.html")
    page.get_by_role("radio", name="64", exact=True).check()
    page.wait_for_function("location.hash.includes('n=64')")
    page.select_option("select[name=layout]", "global")
    for _ in range(2):
        drawn_by(page, lambda: page.locator("#board th", has_text="gap, dB").click())
    before, link = column(page, "model"), page.evaluate("location.href")
    again = Visit(browser, visit.base)
    page = again.open(link.removeprefix(visit.base))
    page.wait_for_function("document.querySelector('select[name=layout]').value === 'global'")
    assert page.get_by_role("radio", name="64", exact=True).is_checked()
    assert column(page, "model") == before
    assert "order=gap.desc" in page.evaluate("location.href")
    again.close()


def test_a_link_pasted_while_the_page_is_open_brings_its_filters(visit: Visit) -> None:
    page = visit.open("results.html#n=16")
    everything = len(column(page, "model"))
    link = page.evaluate("location.href.replace(/#.*/, '') + '#' + new URLSearchParams({ n: '16', layout: 'global', order: 'gap.desc' })")
    page.goto(link)  # the same page, the same board and N: nothing but the part after #
    page.wait_for_function("document.querySelector('select[name=layout]').value === 'global'")
    assert 0 < len(column(page, "model")) < everything and set(column(page, "layout")) == {"global"}
    assert "order=gap.desc" in page.evaluate("location.href")
    page.fill("input[name=q]", "other_2")  # what the page writes itself is no link: nothing is reset by it
    page.wait_for_function("location.hash.includes('q=other_2')")
    page.wait_for_timeout(200)
    assert page.input_value("input[name=q]") == "other_2" and column(page, "model") == ["other_2"]


LATE = "end => document.querySelector(`script[src$='${end}']`).addEventListener('load', () => { window.late = true; })"


def test_what_was_asked_for_last_is_shown_whatever_comes_last(browser: Any, served: str) -> None:
    """The data of one N, of one row, are held back until others were asked for and are shown."""
    visit, held = Visit(browser, served), list[Any]()
    page = visit.open("results.html#n=16")
    shown = column(page, "gap, dB")
    page.route("**/data/**/n64.js", lambda route: held.append(route))
    page.get_by_role("radio", name="64", exact=True).check()
    page.wait_for_selector("script[src$='/n64.js']", state="attached")
    page.get_by_role("radio", name="16", exact=True).check()
    page.evaluate(LATE, "/n64.js")
    held.pop().continue_()
    page.wait_for_function("window.late")
    assert page.get_by_role("radio", name="16", exact=True).is_checked()
    assert column(page, "gap, dB") == shown and "n=16" in page.evaluate("location.href")
    stem = "rows/mini/dead_leaves8/dit_mini-"
    page = visit.open(f"compare.html#a={stem}local_3x3_head-n16&b={stem}global-n16")
    said = page.locator("#said").inner_text()
    page.route("**/dit_mini-global-n64.js", lambda route: held.append(route))
    page.select_option("select[name=a]", f"{stem}global-n64")
    page.wait_for_selector("script[src$='-n64.js']", state="attached")
    page.select_option("select[name=a]", f"{stem}local_3x3_head-n16")
    page.evaluate(LATE, "-n64.js")
    held.pop().continue_()
    page.wait_for_function("window.late")
    assert page.locator("#said").inner_text() == said
    visit.close()


def test_csv_and_json_hold_what_is_shown(visit: Visit) -> None:
    page = visit.open("results.html")
    page.select_option("select[name=model]", "dit_mini")
    with page.expect_download() as waiting:
        page.click("#csv")
    rows = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_bytes().decode())))
    with page.expect_download() as waiting:
        page.click("#json")
    objects = json.loads(Path(waiting.value.path()).read_text())["rows"]
    table = next(
        one
        for one in tabulate(board())
        if (one.metric_version, one.recipe, one.dataset, one.subset) == ("psnr-1", "mini", "dead_leaves8", 16)
    )
    wanted = {(row.series.model, row.series.layout): row for row in table.rows if row.series.model == "dit_mini"}
    assert len(rows) == len(objects) == len(wanted) == 2
    for flat, one in zip(rows, objects, strict=True):
        row = wanted[flat["model"], flat["layout"]]
        assert float(flat["gap_mean"]) == pytest.approx(row.psnr_gap.mean, abs=1e-4)
        assert float(flat["gap_low"]) == pytest.approx(row.psnr_gap.low, abs=1e-4)
        assert one["gap"]["high"] == pytest.approx(row.psnr_gap.high, abs=1e-4)
        assert (one["rank"]["best"], one["rank"]["worst"]) == row.rank == (int(flat["rank_best"]), int(flat["rank_worst"]))


@pytest.mark.parametrize(
    ("a", "b"), [("local_3x3_head-n16", "global-n16"), ("global-n64", "global-n16"), ("global-n512", "local_3x3_head-n512")]
)
def test_two_rows_compared_are_what_the_statistics_say(visit: Visit, a: str, b: str) -> None:
    stem = "rows/mini/dead_leaves8/dit_mini-"
    page = visit.open(f"compare.html#a={stem}{a}&b={stem}{b}")
    page.wait_for_selector("#differences tbody tr")
    lines = [[text.strip() for text in line.locator("th, td").all_inner_texts()] for line in page.locator("#differences tbody tr").all()]
    one, other = (_series(name) for name in (a, b))
    for line, wanted in zip(lines, (at_equal_steps(one, other), at_equal_fit(one, other)), strict=False):
        assert wanted is not None
        assert float(line[1].removesuffix(" dB").replace("−", "-")) == pytest.approx(wanted.estimate.mean, abs=5.1e-4)
        assert int(line[3]) == wanted.estimate.n
        if wanted.estimate.low is not None:
            ends = [float(end) for end in line[2].strip("[]").replace("−", "-").split(", ")]
            assert ends == pytest.approx([wanted.estimate.low, wanted.estimate.high], abs=5.1e-4)
    assert page.locator("#specs tbody tr").count() >= 1
    assert "carries no digest of its code" in page.locator("#codesaid").inner_text()


def test_what_differs_in_the_code_is_told_as_far_as_it_is_known(browser: Any, tmp_path: Path) -> None:
    """Of two committed rows whose code is here, the files; of one whose code is not, that nobody can tell."""
    kept = PUBLISHED.parent / "records" / "mini" / "dead_leaves8"
    records = [record.read(kept / f"{name}-global-n16-s0.json") for name in ("dit_mini", "unet_mini", "dit_mini_gpsa")]
    today = [replace(one, code=from_record(one.spec).code) for one in records[:2]]
    folder = save([*today, replace(records[2], code="0" * 64)], tmp_path / "leaderboard" / "records")
    site.build(site.Sources(folder, tmp_path / "submissions", PUBLISHED, PUBLISHED.parent / "RULES.md"), tmp_path / "site")
    visit, stem = Visit(browser, f"{(tmp_path / 'site').as_uri()}/"), "rows/mini/dead_leaves8/"
    page = visit.open(f"compare.html#a={stem}dit_mini-global-n16&b={stem}unet_mini-global-n16")
    page.wait_for_selector("#code tbody tr")
    files = {line.locator("th").inner_text() for line in page.locator("#code tbody tr").all()}
    assert files >= {"registry/backbones/dit.py", "registry/backbones/unet.py"} and "registry/datasets/dead_leaves.py" not in files
    page.goto(f"{visit.base}compare.html#a={stem}dit_mini-global-n16&b={stem}dit_mini_gpsa-global-n16")
    page.wait_for_function("document.getElementById('said').textContent.includes('dit_mini_gpsa')")  # no page is loaded anew
    assert "Which files differ is not known: the code that made dit_mini_gpsa" in page.locator("#codesaid").inner_text()
    visit.close()


def _series(name: str) -> Series:
    layout, _, subset = name.rpartition("-n")
    runs = {r.row.seed: r for r in suites() if (r.row.model, r.row.layout, r.row.subset) == ("dit_mini", layout, int(subset))}
    return Series("dit_mini", layout, runs)


def test_two_chosen_rows_lead_to_their_comparison(visit: Visit) -> None:
    page = visit.open("results.html")
    boxes = page.locator("#board tbody input[type=checkbox]")
    for place in (0, 1, 2):
        boxes.nth(place).check()
    assert page.locator("#board tbody input:checked").count() == 2
    page.get_by_role("link", name="Compare the two chosen rows").click()
    page.wait_for_selector("#differences tbody tr")
    assert len({page.locator("select[name=a]").input_value(), page.locator("select[name=b]").input_value()}) == 2


def test_dark_follows_the_system_and_the_button(browser: Any, folder: Path) -> None:
    visit = Visit(browser, f"{folder.as_uri()}/", ground="dark")
    page = visit.open("paper.html")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(21, 24, 29)"
    shown = page.eval_on_selector_all("main img", "all => all.filter(i => i.offsetParent).map(i => i.className)")
    assert shown and set(shown) == {"on-dark"}
    page.locator("#ground").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert page.locator("#ground").get_attribute("aria-label") == "Light or dark: light"
    visit.open("index.html")
    assert visit.page.evaluate(ground) == "rgb(255, 255, 255)"
    visit.close()


def test_keyboard_alone_reaches_everything(visit: Visit) -> None:
    page = visit.open("results.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("(e => e.id || e.name || e.closest('th')?.innerText.trim() || e.type || e.tagName)(document.activeElement)")
        )
    assert {"board", "n", "model", "layout", "parameters", "hours", "q", "more", "rank", "gap, dB", "checkbox"} <= reached
