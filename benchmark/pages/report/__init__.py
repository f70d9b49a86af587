"""Records to the paper's figures and tables, ours beside theirs: one page, its pictures, and its short form."""

from benchmark.pages.report.agreement import tables as agreement_tables
from benchmark.pages.report.page import COMPARISONS, glance_rows
from benchmark.pages.report.summary import as_json
from benchmark.pages.report.writing import HTML, PAGE, build, compose, gather, stale

__all__ = ["COMPARISONS", "HTML", "PAGE", "agreement_tables", "as_json", "build", "compose", "gather", "glance_rows", "stale"]
