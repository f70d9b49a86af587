"""Rows whose PSNR stands at the largest value that is given: how many steps, and what the row is without them."""

from benchmark.pages.statistics import estimate
from benchmark.pages.tables import Row
from benchmark.pages.text import plain
from benchmark.recording.record import CAP, Psnr, mean


def capped_words(row: Row) -> str:
    """Say how many of the scored diffusion steps of a row stand at the largest PSNR; '' where none does."""
    found = sorted({len(run.psnr.capped) for run in row.series.runs.values()})
    if found == [0]:
        return ""
    scored = max(len(run.psnr.diffusion_steps) for run in row.series.runs.values())
    return f"{found[0]}–{found[-1]} of {scored} steps at {CAP:g} dB" if len(found) > 1 else f"{found[0]} of {scored} steps at {CAP:g} dB"


def capped_note(row: Row) -> str:
    """Return what a reader must know of such a row, '' where there is nothing."""
    if not (words := capped_words(row)):
        return ""
    rest = [without_capped(run.psnr) for run in row.series.runs.values()]
    if None in rest:
        return f"{words}, the largest PSNR that is given: nothing else was scored, and the row says no more than that."
    train, gap = (estimate([pair[place] for pair in rest if pair]).mean for place in (0, 1))
    return (
        f"{words}, the largest PSNR that is given: PSNR train and the gap rest on that bound, and at the steps beside it on the noise "
        f"that is drawn. Without these steps PSNR train is {plain(train)} dB and the gap {plain(gap)} dB."
    )


def without_capped(psnr: Psnr) -> tuple[float, float] | None:
    """Return PSNR train and the gap as means over the other steps, None where there are none."""
    kept = [place for place in range(len(psnr.diffusion_steps)) if place not in psnr.capped]
    if not kept:
        return None
    train, gap = (mean(tuple(values[place] for place in kept)) for values in (psnr.clipped.train, psnr.clipped.gap))
    return train, gap
