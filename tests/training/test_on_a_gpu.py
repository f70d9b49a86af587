"""Steps, scores and samples traced on fake CUDA tensors: every tensor is where it must be, without a GPU. Nothing is computed."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from benchmark.contract import ClosedForm
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.declaring.spec import resolve
from benchmark.sampling import Request
from benchmark.sampling.drawing import in_precision, passes
from benchmark.sampling.samplers import kept_steps, predictor, signal_levels, trajectory
from benchmark.scoring.psnr import splits, squared_errors
from benchmark.training.loop import start
from benchmark.training.step import Work, prepare, take_step

LAYOUTS = ("global", "local_3x3_head", "scattered_3x3_head")
CUDA = torch.device("cuda")
ROWS = [
    *((model, layout, "mini") for model in ("dit_mini", "dit_mini_diverse", "dit_mini_shared") for layout in LAYOUTS),
    *((model, "global", "mini") for model in ("dit_mini_gpsa", "dit_mini_pca", "dit_mini_longres", "unet_mini", "unet_simple", "bf_cnn")),
    *(("dit_mini", "global", recipe) for recipe in ("mini_data", "mini_velocity", "mini_flow", "mini_flow_matching")),
]

FITTED = ("empirical_optimal", "wiener")  # in closed form: no step is taken
READS_STEPS = ("local_score", "pca_locality")  # fitted too; what they do depends on the values of t, and a fake tensor has none


def sampled(network: torch.nn.Module) -> torch.Tensor:
    """Sample as draw_samples does, but for its noise, which the CPU draws, and for a look at the result."""
    request, x = Request(count=4, sampler="ancestral", steps=2, precision="tf32"), torch.randn(4, 3, 8, 8, device=CUDA)
    with unset_fake_temporarily():  # the host knows the steps and their levels
        steps = kept_steps(request.sampler, request.steps)
        predict = predictor(in_precision(passes(network, request, 3), request.precision, CUDA), steps)
        levels = signal_levels(steps)
    with torch.no_grad():
        *_, last = trajectory(request.sampler, x, predict, levels, lambda: torch.randn_like(x), 0.0)
    return last


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("model", "layout", "recipe"), ROWS)
def test_steps_scores_and_samples_stay_on_the_gpu(model: str, layout: str, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = resolve({"model": model, "layout": layout, "dataset": "dead_leaves8", "recipe": recipe}, subset=16, seed=0)
    work = Work(replace(spec.recipe.config, clip=1.0), seed=0, warn=pytest.fail)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with CUDA:
            network = spec.model.config.build(spec.images, spec.attention)
        for module in network.modules():  # what was read from a file; Module.to does not know fake tensors
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(CUDA))
        images = torch.zeros(9, 3, 8, 8, dtype=torch.uint8, device=CUDA)

        def backward(loss: torch.Tensor) -> None:
            """Stand in for autograd's engine, which takes no fake GPU."""
            for weight in network.parameters():
                weight.grad = torch.zeros_like(weight)

        monkeypatch.setattr(torch.Tensor, "backward", backward)
        prepare(network, work, CUDA)
        training = start(network, work.recipe)
        loss = take_step(training, images, work)
        network.eval()
        errors = squared_errors(network, splits(images, images, 4, 0), steps=3)
        sample = sampled(network)
    assert (sample.device.type, sample.shape) == ("cuda", (4, 3, 8, 8))
    assert loss.device.type == "cuda"
    assert {p.device.type for p in network.parameters()} == {"cuda"}
    assert errors[0].shape == (4, 4, 1, 3)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("model", FITTED)
def test_scores_and_samples_of_what_is_fitted_stay_on_the_gpu(model: str) -> None:
    spec = resolve({"model": model, "layout": "global", "dataset": "dead_leaves8", "recipe": "mini"}, subset=9, seed=0)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = spec.model.config.build(spec.images, spec.attention).eval()
        for module in network.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(CUDA))
        images = torch.zeros(9, 3, 8, 8, dtype=torch.uint8, device=CUDA)
        assert isinstance(network, ClosedForm)
        network.fit(images)
        errors = squared_errors(network, splits(images, images, 4, 0), steps=3)
        sample = sampled(network)
    assert (sample.device.type, sample.shape) == ("cuda", (4, 3, 8, 8))
    assert {buffer.device.type for buffer in network.buffers()} == {"cuda"}
    assert errors[0].shape == (4, 4, 1, 3)


def test_every_family_of_the_registry_is_traced() -> None:
    kinds = {name: load(file).kind for name, file in registry.entries("model").items()}
    assert set(kinds.values()) == {kinds[name] for name in (*(row[0] for row in ROWS), *FITTED, *READS_STEPS)}
