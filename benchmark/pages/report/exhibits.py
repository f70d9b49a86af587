"""The paper's figures and tables as they are drawn here, and where the printed values are doubtful."""

from collections.abc import Callable

from benchmark.pages.report import pictures, tables
from benchmark.pages.report.paper import Exhibit, paper
from benchmark.pages.report.pictures import Bank
from benchmark.recording.published import Published
from benchmark.recording.style import Picture

DRAW: dict[str, Callable[[Bank, Published], list[Picture]]] = {
    "Fig. 2": pictures.figure2,
    "Fig. 6": pictures.figure6,
    "Fig. 7": pictures.figure7,
    "Fig. 8": pictures.figure8,
}
TABLE: dict[str, Callable[[Bank, Published], str]] = {"Table 1": tables.table1, "Table 2": tables.table2, "Table 3": tables.table3}


def doubt(exhibit: Exhibit, published: Published) -> str:
    """Say where the printed values of different layouts coincide at the largest N; '' where they do not."""
    if exhibit.doubt is None:
        return ""
    (source, metric), largest = exhibit.doubt, max(paper().subsets)
    rows = [row for row in published.rows if (row.source, row.metric) == (source, metric)]
    found = {}
    for n in sorted({row.n for row in rows}):
        keys = dict.fromkeys((row.model, row.dataset) for row in rows if row.n == n)
        values = [{row.value for row in rows if (row.n, row.model, row.dataset) == (n, *key)} for key in keys]
        found[n] = sum(len(one) == 1 for one in values), len(values)
    equal, of = found.get(largest, (0, 0))
    below = sum(count for n, (count, _) in found.items() if n < largest)
    if not equal or equal < of:
        return ""
    return (
        f"**Doubtful.** At N = {largest:,} the printed gaps are the same for every layout, to two decimals, in {equal} of {of} pairs of "
        f"model and dataset; at smaller N in {below}. They are shown as printed and count for neither side; so small a gap may "
        "simply not show the difference, or one set of values may stand in the figure twice."
    )
