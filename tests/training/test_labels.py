"""Class labels in training: whose they are, how many are dropped, and what no label changes."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.contract import Attention, ImageShape
from benchmark.declaring.spec import resolve
from benchmark.errors import UsageError
from benchmark.networks import diffusion
from benchmark.running.processes import Processes
from benchmark.training.beforehand import check_trainable
from benchmark.training.loop import Interrupted, start, train
from benchmark.training.step import Labels, Work, draw, gradient
from registry.backbones.dit import DiT
from tests.training.test_loop import hooks, recipe, state
from tests.training.test_step import IMAGES, work

CLASSES = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])  # of the nine images
NO_CLASS = 3


def labelled(dropout: float = 0.1, no_class: int | None = NO_CLASS, **changes: object) -> Work:
    return replace(work(**changes), labels=Labels(CLASSES, no_class, dropout))


def dit(dropout: float = 0.1) -> nn.Module:
    torch.manual_seed(3)
    network = DiT(hidden=16, depth=1, heads=2, patch=2, num_classes=3, class_dropout=dropout).build(ImageShape(3, 8), (Attention(),))
    for weight in network.parameters():
        if weight.requires_grad:
            nn.init.normal_(weight, std=0.2)
    return network.train()


def gradients(network: nn.Module, at_work: Work, step: int = 4) -> dict[str, Tensor]:
    network.zero_grad(set_to_none=True)
    gradient(network, [], IMAGES, step, at_work, lambda part: None)
    return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}


def test_labels_are_those_of_the_images_drawn_and_a_tenth_is_dropped() -> None:
    count = dropped = 0
    for step in range(400):
        plain, batch = draw(IMAGES, step, work(flips=True)), draw(IMAGES, step, labelled(flips=True))
        assert plain.y is None and batch.y is not None
        assert all(torch.equal(one, other) for one, other in zip(plain[:3], batch[:3], strict=True))  # images, steps and noise
        for image, label in zip(batch.x0, batch.y.tolist(), strict=True):
            place = next(
                i for i, known in enumerate(diffusion.scaled(IMAGES)) if any(torch.equal(image, k) for k in (known, known.flip(2)))
            )
            assert label in (CLASSES[place], NO_CLASS)
            count, dropped = count + 1, dropped + (label == NO_CLASS)
    assert abs(dropped - 0.1 * count) < 4 * math.sqrt(0.09 * count)  # of 2,800
    for network_has_none in (labelled(no_class=None), labelled(dropout=0.0)):
        found = draw(IMAGES, 7, network_has_none)
        assert found.y is not None and set(found.y.tolist()) <= {0, 1, 2}


def test_shares_of_a_batch_have_the_labels_of_the_batch() -> None:
    whole = draw(IMAGES, 7, labelled(dropout=0.5))
    for rank in range(3):
        part = draw(IMAGES, 7, labelled(dropout=0.5, processes=Processes(rank, 3)))
        assert part.y is not None and torch.equal(part.y, whole.y[part.first : part.first + len(part.t)])


def test_a_gradient_in_parts_is_that_of_the_whole_with_labels_dropped() -> None:
    network, batch = dit(), draw(IMAGES, 4, labelled(dropout=0.5))
    assert NO_CLASS in batch.y and len(set(batch.y.tolist())) > 1
    level = diffusion.levels(diffusion.alphas_cumprod(), batch.t)
    network.zero_grad()
    for i in range(7):  # one image after the other, from the definition of the loss
        part = slice(i, i + 1)
        xt = level.signal[part] * batch.x0[part] + level.sigma[part] * batch.noise[part]
        ((network(xt, batch.t[part], batch.y[part]) - batch.noise[part]).square().mean() / 7).backward()
    want = {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}
    for micro in (None, 1, 3):
        for name, got in gradients(network, labelled(dropout=0.5, micro_batch=micro)).items():
            assert float((got - want[name]).norm() / want[name].norm()) < 2e-5, (micro, name)


def test_the_row_of_no_class_learns_from_dropped_labels_alone() -> None:
    name = "y_embedder.embedding_table.weight"
    kept, all_dropped = gradients(dit(), labelled(dropout=0.0))[name], gradients(dit(), labelled(dropout=1.0))[name]
    drawn = draw(IMAGES, 4, labelled(dropout=0.0)).y
    assert [bool(row.any()) for row in kept] == [label in drawn.tolist() for label in range(4)] and not kept[NO_CLASS].any()
    assert [bool(row.any()) for row in all_dropped] == [False, False, False, True]


@pytest.mark.parametrize("stop_at", [1, 7])
def test_a_training_with_labels_resumes_bit_for_bit(tmp_path: Path, stop_at: int) -> None:
    plan = recipe(trajectory=(), steps=12)

    def live(folder: Path, stop_at: int | None = None) -> tuple[str, str, str]:
        at_work = Work(plan, 0, warn=pytest.fail, labels=Labels(CLASSES, NO_CLASS, 0.3))
        return state(train(start(dit(), plan), IMAGES, plan, seed=0, folder=folder, hooks=hooks(stop_at), work=at_work))

    with pytest.raises(Interrupted):
        live(tmp_path / "parts", stop_at)
    torch.manual_seed(12345)
    assert live(tmp_path / "parts") == live(tmp_path / "whole")


def test_labels_of_other_classes_than_the_dataset_has_are_refused() -> None:
    names = {"model": "dit_mini_labels", "layout": "global", "dataset": "digits8", "recipe": "mini_flow"}
    check_trainable(spec := resolve(names, subset=16, seed=0))
    assert (spec.classes, spec.no_class) == (10, 10)
    with pytest.raises(UsageError, match=r"takes labels of 3 classes, and those of 'digits8' tell 10 apart"):
        check_trainable(resolve(names, subset=16, seed=0, overrides=["model.num_classes=3"]))
    with pytest.raises(UsageError, match=r"the images of 'dead_leaves8' have none.*num_classes=0"):
        check_trainable(resolve(names | {"dataset": "dead_leaves8"}, subset=16, seed=0))
    without = resolve(names, subset=16, seed=0, overrides=["model.class_dropout=0"])
    assert (without.classes, without.no_class) == (10, None)
