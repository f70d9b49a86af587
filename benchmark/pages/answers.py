"""The questions that a reader comes with, each with the comparisons that answer it: first on the page, by the verdicts alone."""

from collections import Counter
from collections.abc import Sequence

from benchmark.pages.claims import Question, declared
from benchmark.pages.comparisons import Judged, Numbers, judge, of_the_board
from benchmark.pages.quantities import apart_with_interval, named
from benchmark.pages.statistics import Estimate
from benchmark.pages.text import NONE, escaped
from benchmark.pages.verdicts import NO_LEVEL, verdict_word, word_of
from benchmark.recording.markdown import markdown_table
from benchmark.recording.record import Record

TITLES = ("what was compared", "statistic", "difference, 95% interval", "seeds", "verdict", "at equal PSNR train")
ORDER = ("shown", "contradicted", "not separated", "unfinished", "one seed", NO_LEVEL, "not run")


def in_short(records: Sequence[Record], numbers: Numbers | None = None) -> str:
    """Return the section of questions and answers; '' where these records answer none."""
    judged = of_the_board(judge(records, numbers=numbers))
    parts = [part for question in declared().question if (part := _answer(question, _of(question, judged)))]
    if not parts:
        return ""
    said = (
        "Each verdict is by the rule below *Claims*, corrected for every comparison of its suite; the intervals are not. *Unseen* are "
        "the seeds of a claim that was declared before a row of theirs was looked at; seeds without the word may have been seen before. "
        "A number holds at its own scale: 8×8 pixels and six or twelve layers, 16×16 pixels for the datasets called 16."
    )
    return "\n\n".join(["## In short", said, *parts])


def counted(judged: Sequence[Judged]) -> str:
    """Return how many comparisons ended how, as "shown in 2 of 3 comparisons, not separated in 1"."""
    return _counts([verdict_word(one) for one in judged])


def at_fit(judged: Sequence[Judged]) -> str:
    """Return the same of the gaps at equal PSNR train, a sentence of its own; '' where no gap was compared."""
    gaps = [one for one in judged if one.equal_steps and one.contrast.quantity == "psnr_gap"]
    return f" At equal PSNR train, of the gaps: {_counts([word_of(one, one.equal_fit) for one in gaps])}." if gaps else ""


def _counts(words: Sequence[str]) -> str:
    counts = Counter(words)
    first, *others = [(word, counts[word]) for word in ORDER if counts[word]]
    many = "comparison" if len(words) == 1 else "comparisons"
    return ", ".join([f"{first[0]} in {first[1]} of {len(words)} {many}", *(f"{word} in {count}" for word, count in others)])


def _of(question: Question, judged: Sequence[Judged]) -> list[Judged]:
    return [one for name in question.answered_by for one in judged if one.claim.name == name]


def _answer(question: Question, judged: Sequence[Judged]) -> str:
    """Return a question, how many comparisons answer it how, and those that were run; '' where none was."""
    rows = [[*map(escaped, _cells(one, one.equal_steps.estimate))] for one in judged if one.equal_steps]
    if not rows:
        return ""
    return f"**{escaped(question.asks)}** {counted(judged).capitalize()}.{at_fit(judged)}\n\n{markdown_table(TITLES, rows)}"


def _cells(one: Judged, found: Estimate) -> list[str]:
    of = f" of {len(one.contrast.seeds)}" if found.n < len(one.contrast.seeds) else ""
    what = f"{one.contrast.title}; {one.contrast.dataset}"
    fit = apart_with_interval(one.contrast, one.equal_fit.estimate) if one.equal_fit else NONE
    seeds = f"{found.n}{of}{' unseen' if one.contrast.seeds else ''}"
    return [what, named(one.contrast.quantity), apart_with_interval(one.contrast, found), seeds, verdict_word(one), fit]
