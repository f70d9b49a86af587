"""The evidence as plain JSON: every comparison with what is printed and what was measured."""

from dataclasses import asdict
from typing import Any

from benchmark.pages.report import agreement
from benchmark.pages.report.evidence import Evidence
from benchmark.pages.report.page import Material, glance_rows
from benchmark.pages.statistics import Corrected


def as_json(material: Material) -> dict[str, Any]:
    """Return the glance, every comparison, and the agreement with denoisers in closed form."""
    return {
        "at_a_glance": [
            {
                "exhibit": exhibit.name,
                "title": exhibit.title,
                "the_paper_says": exhibit.says,
                "printed": printed,
                "paper_scale": [one._asdict() for one in at_scale],
                "stand_in": [one._asdict() for one in own],
            }
            for exhibit, printed, at_scale, own in glance_rows(material)
        ],
        "comparisons": [_comparison(one) for one in material.evidence],
        "agreement": agreement.as_json(material.analyses),
    }


def _comparison(one: Evidence) -> dict[str, Any]:
    claim, contrast = one.judged.claim, one.contrast
    printed = None
    if one.printed:
        printed = asdict(one.printed) | {"difference": one.printed.difference(contrast), "verdict": one.printed.verdict(contrast)}
    return {
        "claim": claim.name,
        "shows": claim.shows,
        "statement": claim.said,
        "scale": "paper" if claim.of_the_paper else "stand-in",
        **asdict(contrast),
        "printed": printed,
        "at_equal_steps": _paired(one.judged.equal_steps),
        "verdict_at_equal_steps": one.verdict(one.judged.equal_steps),
        "at_equal_psnr_train": _paired(one.judged.equal_fit),
        "verdict_at_equal_psnr_train": one.verdict(one.judged.equal_fit) if contrast.quantity == "psnr_gap" else None,
    }


def _paired(difference: Corrected | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    tested = {"p": difference.p, "p_holm": difference.p_holm}
    return asdict(difference.estimate) | tested | {"by_seed": {str(seed): value for seed, value in difference.differences.items()}}
