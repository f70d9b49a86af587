"""A finished run and a request to a finished analysis: the frame that every analysis stands in."""

import importlib
import io
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from benchmark import run
from benchmark.analysis import LARGE, TIMESTEPS, WHATS
from benchmark.analysis.compacting import compact
from benchmark.contract import Count, FieldError, Positive, Range, checked
from benchmark.declaring.spec import from_record
from benchmark.errors import BenchError, UsageError
from benchmark.files import write_bytes, write_text
from benchmark.networks.denoiser import without_labels
from benchmark.networks.diffusion import (
    STEPS,
    alphas_cumprod,
    levels,
    noised,
    random_key,
    scaled,
)
from benchmark.networks.objective import Levels
from benchmark.recording import analyses, record, style
from benchmark.recording.record import Record
from benchmark.running.hold import exclusive
from benchmark.running.progress import Display

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Progress = Callable[..., None]  # (done, total, detail='')
Step = Annotated[int, Range(least=0, most=STEPS - 1)]
DOTS_PER_INCH = 150  # of the PNG


@checked
class Request:
    """Which images at which noise levels; `leading` is of the Jacobian alone (None: as its size allows)."""

    images: Positive
    timesteps: tuple[Step, ...] = TIMESTEPS
    seed: Count = 0  # of the noise
    split: Literal["test", "train"] = "test"
    leading: Positive | None = None

    def validate(self) -> None:
        if not self.timesteps or len(set(self.timesteps)) != len(self.timesteps):
            raise FieldError(f"timesteps = {self.timesteps} must name at least one step, each once")


@dataclass(frozen=True)
class Result:
    """What an analysis returns. A figure is drawn by a function onto an empty one; the first is the one to publish."""

    numbers: dict[str, float]
    arrays: dict[str, np.ndarray]
    figures: "Mapping[str, Callable[[Figure], None]]"
    settings: dict[str, Any] = field(default_factory=dict)  # what it chose by itself


class Parts:
    """Arrays that are kept on the way, so that an interrupted analysis goes on where it stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors called `name`, made now or in an earlier attempt."""
        path = self.folder / f"{name}.npz"
        if path.exists():
            with np.load(path) as stored:
                return {key: torch.from_numpy(stored[key]) for key in stored.files}
        made = {key: value.cpu() for key, value in make().items()}
        write_bytes(path, _npz({key: value.numpy() for key, value in made.items()}))
        return made


@dataclass(frozen=True)
class Work:
    """Where an analysis is made and what of earlier attempts counts."""

    place: run.Place
    display: Display
    search: tuple[Path, ...]
    force: bool = False


def noisy(images: Tensor, timestep: int, request: Request) -> tuple[Tensor, Levels]:
    """Return x_t (K, C, R, R) of images (uint8, that shape) at one step, and its noise level.

    The noise of (image, step) is a function of the request's seed, the same for every run and every analysis.
    """
    noise = torch.stack(
        [
            torch.randn(
                images.shape[1:], generator=torch.Generator().manual_seed(random_key("analysis", request.seed, request.split, k, timestep))
            )
            for k in range(len(images))
        ]
    )
    t = torch.full((len(images),), timestep, device=images.device)
    level = levels(alphas_cumprod().to(images.device), t)
    return noised(scaled(images), noise.to(images.device), level), level


def analyse(folder: Path, what: str, request: Request, work: Work) -> analyses.Analysis:
    """Return one analysis of a finished run, made now unless the same one is there."""
    of, module = _record_of(folder), importlib.import_module(WHATS[what].module)
    settings = json.loads(json.dumps({"version": module.VERSION} | asdict(request)))
    target = folder / analyses.FOLDER
    with _alone(target, what):
        if not work.force and (done := _finished(target / f"{what}.json", of, settings)):
            return done
        began = time.monotonic()
        parts = Parts(target / f"{what}.parts" / f"{random_key(of.weights_sha256, json.dumps(settings, sort_keys=True)):016x}")
        if work.force and parts.folder.exists():
            shutil.rmtree(parts.folder)
        network, images, train = _subject(of, request, work)
        more = (train,) if WHATS[what].of_training else ()
        result = module.analyse(network, images, request, work.display.bar(f"{what} of {folder.name}"), parts, *more)
        found = analyses.Analysis(
            what=what,
            schema=1,
            run=of.id,
            spec=of.row._asdict(),
            weights_sha256=of.weights_sha256,
            settings=settings | result.settings | {"figures": list(result.figures)},
            numbers=_rounded(what, result.numbers),
            seconds=round(time.monotonic() - began, 2),
        )
        _write(target, found, result)
        shutil.rmtree(target / f"{what}.parts", ignore_errors=True)
    return found


def default_images(folder: Path, what: str, search: tuple[Path, ...]) -> int:
    """Return how many images an analysis of a run takes unless told: fewer where they are large."""
    of, analysis = _record_of(folder), WHATS[what]
    shape = from_record(of.spec, overrides=of.overrides, assumed=of.assumed, search=search).images
    large = shape.channels * shape.resolution**2 > LARGE
    return analysis.of_large if large and analysis.of_large else analysis.images


def _record_of(folder: Path) -> Record:
    if not (folder / "record.json").exists():
        raise UsageError(f"The run {folder.name} is not finished, so there is nothing to analyse. `benchmark.run(...)` finishes it.")
    return record.read(folder / "record.json")


def publish(folder: Path, what: str, of: Record, leaderboard: Path) -> list[Path]:
    """Put the JSON of a finished analysis beside the records, and its first picture where no lower seed has it; return the paths.

    One picture of a row is enough for a page, as with the samples: that of its first seed. One of a higher seed is taken away.
    """
    found = analyses.read(folder / analyses.FOLDER / f"{what}.json")
    target, first = analyses.published_folder(leaderboard, of.row), found.settings["figures"][0]
    sources = {target / f"{what}.json": f"{what}.json"}
    others = analyses.published_seeds(leaderboard, of.row, what) - {of.row.seed}
    if of.row.seed < min(others, default=of.row.seed + 1):
        sources[target / f"{what}.svg"] = f"{what}-{first}.svg"
    contents = {path: (folder / analyses.FOLDER / source).read_bytes() for path, source in sources.items()}
    for path, content in contents.items():
        analyses.check_size(path, len(content))
    for path, content in contents.items():
        write_bytes(path, content)
    if target / f"{what}.svg" in contents:
        for seed in others:
            (analyses.published_folder(leaderboard, of.row._replace(seed=seed)) / f"{what}.svg").unlink(missing_ok=True)
    return list(contents)


def _finished(path: Path, of: Record, settings: dict[str, Any]) -> analyses.Analysis | None:
    """Return the analysis in `path` where it is of these weights and these settings."""
    if not path.exists():
        return None
    before = analyses.read(path)
    same = before.weights_sha256 == of.weights_sha256 and all(before.settings.get(key) == value for key, value in settings.items())
    return before if same else None


def _subject(of: Record, request: Request, work: Work) -> tuple[torch.nn.Module, Tensor, Tensor]:
    """Return the network of a run (no class is given to it), the first images (uint8) of the split asked for, and its training images."""
    spec = from_record(of.spec, overrides=of.overrides, assumed=of.assumed, search=work.search)
    subset = run.load_subset(spec, work.place, work.display)
    images = subset.train if request.split == "train" else subset.test
    if len(images) < request.images:
        raise UsageError(f"`images={request.images}` must be at most {len(images)}, the {request.split} images of run {of.id}.")
    network = run.trained_network(spec, work.place, work.display, subset, of.weights_sha256)
    network = without_labels(network, spec)
    asked, train = (torch.from_numpy(some).to(work.place.device) for some in (images[: request.images], subset.train))
    return network.requires_grad_(False), asked, train


def _rounded(what: str, numbers: dict[str, float]) -> dict[str, float]:
    """Return the numbers with six digits, which is what fp32 gives; raise where one is not finite."""
    if bad := [name for name, value in numbers.items() if not np.isfinite(value)]:
        raise BenchError(
            f"The {what} analysis found no finite {bad[0]}: the network returned NaN or inf. Nothing was written; "
            "score the run with `benchmark.run.evaluate(...)` to see at which steps it fails."
        )
    return {name: float(f"{value:.6g}") for name, value in numbers.items()}


def _write(target: Path, found: analyses.Analysis, result: Result) -> None:
    """Write arrays, pictures and, last, the JSON that says that all is there."""
    write_bytes(target / f"{found.what}.npz", _npz(result.arrays))
    row = " ".join(f"{value}" for value in found.spec.values())
    for name, draw in result.figures.items():
        svg, png = pictures(draw, f"{found.what}, {name}: {row}")
        write_text(target / f"{found.what}-{name}.svg", svg)
        write_bytes(target / f"{found.what}-{name}.png", png)
    write_text(target / f"{found.what}.json", analyses.text(found))


def pictures(draw: "Callable[[Figure], None]", title: str) -> tuple[str, bytes]:
    """Return a figure as SVG and as PNG, in the style of the leaderboard's style."""
    with style.styled(title) as figure:
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor="white", dpi=DOTS_PER_INCH)
        return compact(style.as_svg(figure, {"Title": title})), buffer.getvalue()


def _npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _alone(target: Path, what: str) -> AbstractContextManager[None]:
    """Hold one analysis of a run; a second process is told so instead of writing beside it."""
    return exclusive(
        target / f".{what}.lock",
        "The analysis",
        f"The {what} analysis of run {target.parent.name} is in progress in another process. Wait for it, or stop it first.",
    )
