"""When two records of one configuration agree: trained again, or its weights scored again."""

from benchmark.recording.record import Psnr, Record

TOLERANCE = 0.15  # dB, of the gap of a network trained again; docs/reproduce.md says what it was measured from
RESCORED = 0.01  # dB, of every point of a curve of the same weights: rounding on another machine moves the fourth decimal
SCORES = {"psnr_gap": 1, "psnr_train": 2, "psnr_test": 2}  # in tolerances: what moves both sides cancels in the gap
READINGS = ("clipped", "unclipped", "literal")


def differences(committed: Record, fresh: Record, tolerance: float) -> list[str]:
    """Say in what two records of one configuration disagree: images, budget, or numbers beyond the tolerance."""
    found = [
        f"{name} is {theirs} there and {ours} here"
        for name, theirs, ours in (
            ("metric_version", committed.metric_version, fresh.metric_version),
            *(
                (f"data.{key}", theirs, getattr(fresh.data, key))
                for key, theirs in vars(committed.data).items()
                if key != "manifest_sha256"
            ),
            *(
                (f"training.{key}", getattr(committed.training, key), getattr(fresh.training, key))
                for key in ("steps", "parameters", "parameters_trainable")
            ),
        )
        if theirs != ours
    ]
    for name, tolerances in SCORES.items():
        theirs, ours = getattr(committed, name), getattr(fresh, name)
        if not abs(theirs - ours) <= tolerances * tolerance:
            found.append(
                f"{name} is {theirs:.4f} dB there and {ours:.4f} dB here, {abs(theirs - ours):.4f} apart, "
                f"more than {tolerances * tolerance:g}"
            )
    return found


def curve_differences(recorded: Psnr, fresh: Psnr, tolerance: float = RESCORED) -> list[str]:
    """Say where the curves of the same weights, scored twice, lie further apart than the tolerance (dB), point by point."""
    if recorded.diffusion_steps != fresh.diffusion_steps:
        return [f"the record has {len(recorded.diffusion_steps)} diffusion steps, its recipe gives {len(fresh.diffusion_steps)} others"]
    found = []
    for reading in READINGS:
        for side in ("train", "test"):
            pair = (getattr(getattr(psnr, reading), side) for psnr in (recorded, fresh))
            apart = [(abs(theirs - ours), t, theirs, ours) for t, theirs, ours in zip(recorded.diffusion_steps, *pair, strict=True)]
            worst = max(apart)
            if not worst[0] <= tolerance:
                beyond = sum(not one[0] <= tolerance for one in apart)
                found.append(
                    f"PSNR {side} ({reading}) at {beyond} of {len(apart)} diffusion steps, most at t = {worst[1]}: "
                    f"{worst[2]:.4f} dB there and {worst[3]:.4f} dB here"
                )
    return found
