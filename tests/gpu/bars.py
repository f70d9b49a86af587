"""The bars of a step on a GPU: each met, missed by a measurement that says why, or not run."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.gpu.speed import BARRED, PRODUCTS, Way
from tests.perf.verdicts import bounded

LEAST = {"dit_xs1": 4_000, "dit_s1": 2_100}  # images a second with global attention on an H100: arithmetic, not seen


def bars(steps: Mapping[str, Any], profiles: Mapping[str, Any]) -> Iterator[str]:
    """Yield the row of each bar, from the steps and the profiles as they are kept: of global attention arithmetic, of windows global's."""
    for way in BARRED:
        step, least = steps.get(" ".join(way)), _least(way, steps)
        if step is None or least is None:
            seen, said = "" if step is None else f"{step['images_per_second']:,.0f}", "not run"
        else:
            seen = f"{step['images_per_second']:,.0f}"
            said = "met" if step["images_per_second"] >= least else f"missed: {_reason(step, least, profiles)}"
        yield f"| {way.model}, {way.layout} | {seen} | {'as global' if least is None else f'{least:,.0f}'} | {said} |"


def _least(way: Way, steps: Mapping[str, Any]) -> float | None:
    if way.layout == "global":
        return LEAST[way.model]
    there = steps.get(" ".join(way._replace(layout="global")))
    return there["images_per_second"] or None if there else None


def _reason(step: Mapping[str, Any], least: float, profiles: Mapping[str, Any]) -> str:
    """Say what bounds a step: an error, or the time of what nothing beside it can shorten."""
    if not step["images_per_second"]:
        return f"it fails ({step['compiled']})"
    profile = profiles.get(f"{step['model']} {step['layout']}")
    if profile is None:
        return "where it goes was not looked at"
    products, seconds = sum(profile["groups"][name] for name in PRODUCTS) / 1000, step["batch"] / step["images_per_second"]
    return bounded(least, step["batch"], products, seconds, "its linear layers, attention and GELU")
