"""A training that is measured on its way: PSNR at the steps that the recipe names, every metric in the run's log."""

import json
import os
import time
from pathlib import Path
from typing import Any

from torch import nn

from benchmark.declaring.spec import Spec
from benchmark.images.datasets import Subset
from benchmark.networks.denoiser import noise_estimate
from benchmark.networks.numerics import recompute
from benchmark.recording.record import Point
from benchmark.running.folder import check_images
from benchmark.running.lease import Lease
from benchmark.running.place import Place, check_code
from benchmark.running.progress import Display
from benchmark.running.signals import stop_requested
from benchmark.scoring.measure import digests, measure, of_trajectory, on_device
from benchmark.scoring.partial import PARTIAL, PartialScores, depends_on, stopped
from benchmark.scoring.result import headline, sitting_in
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.loop import Hooks, start, train
from benchmark.training.state import Training
from benchmark.training.step import Labels, Work


def train_measured(spec: Spec, place: Place, display: Display, network: nn.Module, subset: Subset, lease: Lease | None) -> Training:
    """Train by the recipe, appending to metrics.jsonl and taking the trajectory on the way."""
    folder, recipe = place.folder(spec), spec.recipe.config
    images = on_device(subset, place.device)
    bar, processes = display.bar("training"), place.processes
    metrics_file = folder / "metrics.jsonl" if processes.first else Path(os.devnull)
    cut = metrics_file.exists() and not metrics_file.read_bytes().endswith(b"\n")  # by a kill in the middle of a line
    with metrics_file.open("a", encoding="utf-8") as log, stop_requested(patient=processes.size > 1) as stop:
        log.write("\n" if cut else "")

        def report(step: int, metrics: dict[str, float]) -> None:
            log.write(json.dumps({"step": step, "time": time.time(), "metrics": metrics}) + "\n")
            log.flush()
            if "loss" in metrics:
                bar(step, recipe.steps, f"{metrics['steps_per_second']:.1f} steps/s  loss {metrics['loss']:.4f}")

        def point(ema: nn.Module, step: int, loss: float) -> Point:
            steps, most, pairs = recipe.trajectory_psnr_steps, recipe.trajectory_psnr_images, recipe.trajectory_peer_images
            depends = depends_on(ema, subset, spec, steps, most, pairs if subset.peers else 0)
            partial = PartialScores(folder / PARTIAL, depends, seconds=place.checkpoint_seconds, processes=processes)

            def progress(done: int, total: int) -> None:
                if any(processes.any(stop())):
                    raise stopped(f"Stopped while step {step} was measured", partial)

            measured = measure(
                noise_estimate(ema, recipe),
                images,
                seed=spec.seed,
                steps=steps,
                most=most,
                peer_pairs=pairs if subset.peers else 0,
                progress=progress,
                processes=processes,
                partial=partial,
            )
            found = headline(measured.psnr)
            report(step, found)
            values: dict[str, Any] = found | of_trajectory(measured)
            return Point(step=step, loss=loss, **values)

        def stopping() -> bool:
            if lease:
                lease.check()  # before the step's results are written: this process may have slept while another took over
            return stop()

        def resumes(saved: Checkpoint) -> None:
            code, before = saved.state.get("code", ""), saved.state.get("images")
            check_code(f"The checkpoint of run {spec.id}", code, spec, place)
            if before:  # an older checkpoint does not say
                check_images(spec, before, digests(subset))
            if saved.state.get("sitting") and (saved.state["sitting"].get("deterministic") or False) != place.deterministic:
                training.notes.append(f"began {'without' if place.deterministic else 'with'} deterministic=True")
            if not spec.same_numbers(code):
                training.notes.append(f"began with other code ({code[:12] or 'not recorded'})")

        hooks = Hooks(
            resumes=resumes, report=report, measure=point, warn=display.note, stop=stopping, checkpoint_seconds=place.checkpoint_seconds
        )
        labels = None
        if images.train_labels is not None:
            labels = Labels(images.train_labels, spec.no_class, getattr(spec.model.config, "class_dropout", 0.0))
        work = Work(recipe, spec.seed, processes, place.micro_batch, labels=labels, warn=display.note)
        training = start(network, recipe)
        training.code, training.here, training.images = spec.code, sitting_in(place), digests(subset)
        if place.recompute:
            recompute(network)  # the EMA copy, which is only scored, keeps its own blocks
        return train(training, images.train, recipe, seed=spec.seed, folder=folder / "checkpoints", hooks=hooks, work=work)
