"""The paper's Tables 1 to 3 as Markdown: FID as printed, ours below it where a row was scored."""

from collections.abc import Sequence

from benchmark.pages.columns import reference_words
from benchmark.pages.comparisons import percent
from benchmark.pages.report.evidence import value_of
from benchmark.pages.report.paper import Line, paper
from benchmark.pages.report.pictures import Bank
from benchmark.pages.statistics import estimate
from benchmark.pages.text import NONE, escaped
from benchmark.recording.markdown import markdown_table
from benchmark.recording.published import Published

RECIPES = {"default": "paper", "dagger": "paper_dagger"}


def table1(bank: Bank, published: Published) -> str:
    """Return FID without -> with local attention, and the change: two DiTs, six datasets, two batch sizes."""
    columns = [(model, variant) for model in ("dit_xs1", "dit_s1") for variant in RECIPES]
    rows = []
    for dataset in paper().datasets:
        for subset in paper().fid_subsets:
            cells = [
                _lines(
                    *(
                        _change(*(_value(side, model, layout, dataset, subset, variant) for layout in ("global", "local_head")))
                        for side in (published, bank)
                    )
                )
                for model, variant in columns
            ]
            rows.append([paper().dataset(dataset), f"{subset:,}", *cells])
    titles = ["dataset", "N", *(f"{paper().models[model]}{'†' if variant == 'dagger' else ''}" for model, variant in columns)]
    return markdown_table(titles, rows, [False, True, *[False] * len(columns)]) + _against(bank, list(paper().datasets))


def table2(bank: Bank, published: Published) -> str:
    """Return FID by placement, of two layouts on two datasets."""
    return _by_layout(bank, published, paper().named("Table 2").line)


def table3(bank: Bank, published: Published) -> str:
    """Return FID before and after a change of the windows, with the change in percent."""
    return _by_layout(bank, published, paper().named("Table 3").line)


def _by_layout(bank: Bank, published: Published, lines: Sequence[Line]) -> str:
    columns = [(dataset, subset) for dataset in ("celeba", "imagenet") for subset in paper().fid_subsets]
    rows = [
        [
            line.name,
            *(
                _lines(*(_with_change(side, line.layout, line.after, dataset, subset) for side in (published, bank)))
                for dataset, subset in columns
            ),
        ]
        for line in lines
    ]
    titles = ["layout of DiT-XS/1", *(f"{paper().dataset(dataset)}, N = {subset:,}" for dataset, subset in columns)]
    return markdown_table(titles, rows, [False, *[True] * len(columns)]) + _against(bank, ("celeba", "imagenet"))


def _with_change(side: Published | Bank, layout: str, before: str | None, dataset: str, subset: int) -> str:
    value = _value(side, "dit_xs1", layout, dataset, subset, "default")
    earlier = _value(side, "dit_xs1", before, dataset, subset, "default") if before else None
    if value is None:
        return ""
    return f"{value:.4f}" + ("" if earlier is None else f" ({_percent(value, earlier)})")


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    return f"{before:.4f} → {after:.4f} ({_percent(after, before)})"


def _percent(value: float, baseline: float) -> str:
    return f"{percent(value, baseline):+.2f}%".replace("-", "−")


def _against(bank: Bank, datasets: Sequence[str]) -> str:
    """Say below a table what our FIDs are of: samples, how drawn, and how many of the reference images are trained on."""
    said: dict[str, dict[str, None]] = {}
    for record in bank.records:
        if record.row.recipe in RECIPES.values() and record.row.dataset in datasets and (score := record.scores.get("fid")):
            words = f"{score.samples:,} samples, {score.sampling}, against {reference_words(score)} ({score.version})"
            said.setdefault(paper().dataset(record.row.dataset), {})[words] = None
    lines = [f"- {name}: {escaped('; '.join(words))}" for name, words in sorted(said.items())]
    return "\n\nOur FID, by dataset:\n\n" + "\n".join(lines) if lines else ""


def _lines(theirs: str, ours: str) -> str:
    return (theirs or NONE) + (f"<br>ours: {ours}" if ours else "")


def _value(side: Published | Bank, model: str, layout: str, dataset: str, subset: int, variant: str) -> float | None:
    """Return a printed FID, or the mean of ours over seeds; none where seeds were scored in different ways."""
    if isinstance(side, Published):
        return value_of(side, variant, "fid", model, layout, dataset, subset)
    series = side.series(model, layout, dataset, subset, RECIPES[variant])
    scores = [record.scores["fid"] for record in series.runs.values() if "fid" in record.scores] if series else []
    return estimate([one.value for one in scores]).mean if len({one.terms for one in scores}) == 1 else None
