"""Where and on what a run happens."""

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.declaring.equivalence import OtherCode
from benchmark.declaring.spec import Spec
from benchmark.files import home
from benchmark.running.environment import choose_device
from benchmark.running.processes import ALONE, Processes


@dataclass(frozen=True)
class Place:
    """Where a run happens and where its results go; none of it changes the numbers but the device."""

    home: Path  # holds runs/, packed/ and data/
    records: Path
    device: torch.device
    suite: str | None = None
    checkpoint_seconds: float = 60.0
    processes: Processes = ALONE
    micro_batch: int | None = None  # images at a time in each process; None: all of its share, while memory lasts
    recompute: bool = False  # activations in the backward pass, to save memory
    attention_kernel: str = "auto"
    accept_old_code: bool = False  # resume or return what other code made
    deterministic: bool = True  # what torch cannot compute deterministically is an error; else it is computed another way
    wait: bool = False  # for another process that works on the run, instead of refusing

    def folder(self, spec: Spec) -> Path:
        """Return the folder of a run."""
        return self.home / "runs" / spec.id


def here(device: str = "auto", records: Path | None = None, deterministic: bool | None = None) -> Place:
    """Return the place of a single process that a person has not described further."""
    on = choose_device(device)
    return Place(
        home=home(),
        records=records or home() / "leaderboard" / "records",
        device=on,
        deterministic=strict_on(on) if deterministic is None else deterministic,
    )


def strict_on(device: torch.device) -> bool:
    """Tell whether a run is deterministic where nobody says so: on a CPU, where it costs nothing; on a GPU it does."""
    return device.type == "cpu"


def check_code(what: str, code: str, spec: Spec, place: Place) -> None:
    """Raise OtherCode where `what` was made by code that is not known to give the numbers of this code."""
    if not place.accept_old_code and not spec.same_numbers(code):
        raise OtherCode(what, code, spec.code)
