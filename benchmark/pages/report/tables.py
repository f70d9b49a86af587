"""The paper's Tables 1 to 3 as Markdown: FID as printed, ours below it where a row was scored."""

from collections.abc import Sequence

from benchmark.pages.columns import reference_words
from benchmark.pages.report.evidence import value_of
from benchmark.pages.report.pictures import DATASETS, MODELS, Bank, dataset_name
from benchmark.pages.statistics import estimate
from benchmark.pages.text import NONE, escaped
from benchmark.pages.verdicts import percent
from benchmark.recording.markdown import markdown_table
from benchmark.recording.published import Published

SUBSETS = (10_000, 100_000)
RECIPES = {"default": "paper", "dagger": "paper_dagger"}


def table1(bank: Bank, published: Published) -> str:
    """Return FID without -> with local attention, and the change: two DiTs, six datasets, two batch sizes."""
    columns = [(model, variant) for model in ("dit_xs1", "dit_s1") for variant in RECIPES]
    rows = []
    for dataset in list(DATASETS)[:6]:
        for subset in SUBSETS:
            cells = [
                _lines(
                    *(
                        _change(*(_value(side, model, layout, dataset, subset, variant) for layout in ("global", "local_head")))
                        for side in (published, bank)
                    )
                )
                for model, variant in columns
            ]
            rows.append([dataset_name(dataset), f"{subset:,}", *cells])
    titles = ["dataset", "N", *(f"{MODELS[model]}{'†' if variant == 'dagger' else ''}" for model, variant in columns)]
    return markdown_table(titles, rows, [False, True, *[False] * len(columns)]) + _against(bank, list(DATASETS)[:6])


def table2(bank: Bank, published: Published) -> str:
    """Return FID by placement, of two layouts on two datasets."""
    layouts = (
        ("DiT-XS/1", "global"),
        ("Local, head", "local_head"),
        ("Local, mix", "local_mix"),
        ("Local, tail", "local_tail"),
        ("Local*, head", "local_star_head"),
        ("Local*, mix", "local_star_mix"),
        ("Local*, tail", "local_star_tail"),
    )
    return _by_layout(bank, published, [(name, layout, None) for name, layout in layouts])


def table3(bank: Bank, published: Published) -> str:
    """Return FID before and after a change of the windows, with the change in percent."""
    layouts = (
        ("(5,5,5,5,5,5)", "local_5x6", None),
        ("(3,3,5,5,7,7)", "local_3x2_5x2_7x2", "local_5x6"),
        ("Local", "local_head", None),
        ("Local, smaller windows", "local_head_smaller", "local_head"),
        ("Local*", "local_star_head", None),
        ("Local*, larger windows", "local_star_head_larger", "local_star_head"),
    )
    return _by_layout(bank, published, layouts)


def _by_layout(bank: Bank, published: Published, layouts: Sequence[tuple[str, str, str | None]]) -> str:
    columns = [(dataset, subset) for dataset in ("celeba", "imagenet") for subset in SUBSETS]
    rows = [
        [
            name,
            *(_lines(*(_with_change(side, layout, before, dataset, subset) for side in (published, bank))) for dataset, subset in columns),
        ]
        for name, layout, before in layouts
    ]
    titles = ["layout of DiT-XS/1", *(f"{dataset_name(dataset)}, N = {subset:,}" for dataset, subset in columns)]
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
            said.setdefault(dataset_name(record.row.dataset), {})[words] = None
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
