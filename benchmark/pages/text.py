"""Numbers and foreign names to text. A cell is a list of lines; Markdown and terminal join them in their own way."""

import hashlib
import re

from benchmark.pages.statistics import Estimate, Paired
from benchmark.recording.said import one_line

NONE = "–"
_FOREIGN = re.compile(r"[^\w \-.,;:=()\[\]/+'%–—−±]|\](?=[(\[:])")


def short_text(text: str, most: int = 120) -> str:
    """Return foreign text on one line, cut where it is too long to be read in a table."""
    line = one_line(text[: 4 * most])
    return line if len(line) <= most and len(text) <= 4 * most else line[: most - 1] + "…"


def slug(name: str, most: int = 60) -> str:
    """Return a name as one safe path component, different for different names."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:most]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def escaped(text: str) -> str:
    """Return foreign text so that neither Markdown nor HTML finds anything in it but text."""
    safe = _FOREIGN.sub(lambda found: f"&#{ord(found.group())};", one_line(text))
    safe = re.sub(r"(?<![^\W_])_|_(?![^\W_])", "&#95;", safe)  # an underscore inside a word is only an underscore
    return safe.replace("://", "&#58;//").replace("www.", "www&#46;")


def signed(value: float) -> str:
    """Return a difference with its sign, three decimals."""
    return f"{value:+.3f}".replace("-", "−")


def plain(value: float) -> str:
    """Return a value with three decimals."""
    return f"{value:.3f}".replace("-", "−")


def rank_words(rank: tuple[int, int] | None) -> str:
    """Return a rank or a range of ranks; a dash where there is none."""
    if rank is None:
        return NONE
    return str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"


def interval(estimate: Estimate, *, sign: bool = False) -> str:
    """Return the 95% interval in brackets, or say that there is one seed, which has none."""
    if estimate.low is None or estimate.high is None:
        return "(one seed)"
    form = signed if sign else plain
    return f"[{form(estimate.low)}, {form(estimate.high)}]"


def mean_sd(estimate: Estimate) -> str:
    """Return the mean and, where there is one, the standard deviation."""
    return plain(estimate.mean) + ("" if estimate.sd is None else f" ± {estimate.sd:.3f}")


def estimate_lines(estimate: Estimate) -> list[str]:
    """Return mean ± sd, and the interval where there is one."""
    return [mean_sd(estimate)] + ([] if estimate.low is None else [interval(estimate)])


def seeds_agreeing(difference: Paired) -> str:
    """Return in how many seeds the difference has the sign of its mean."""
    if difference.estimate.mean > 0:
        return f"higher in {difference.higher} of {difference.estimate.n}"
    return f"lower in {difference.lower} of {difference.estimate.n}"


def paired_lines(difference: Paired | None) -> list[str]:
    """Return the mean difference, its interval and the seeds that agree; a dash where nothing could be paired."""
    if difference is None:
        return [NONE]
    lines = [signed(difference.estimate.mean), interval(difference.estimate, sign=True)]
    return lines + ([seeds_agreeing(difference)] if difference.estimate.n > 1 else [])


def amount(count: int) -> str:
    """Return a count with three digits and a decimal prefix: 119 k, 14.3 M, 5.04 G."""
    for factor, prefix in ((10**12, " T"), (10**9, " G"), (10**6, " M"), (10**3, " k")):
        if count >= factor:
            scaled = count / factor
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{prefix}"
    return str(count)
