"""DiverseDiT (Yang et al. 2026): long residuals across the depth of a DiT, and a loss that tells its blocks apart.

What the paper's text leaves open, and the names of the parameters (skip_norms, skip_linears), follow the authors'
published code as it trains without an alignment loss; such choices are marked.
"""

from collections.abc import Sequence
from itertools import combinations, islice
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.contract import Attention, FieldError, ImageShape, Positive, Range, added, entry
from registry.backbones.dit import DiffusionTransformer, DiT

LARGEST_LOSS = 5.0
LARGEST_VARIANCE = 0.25  # of numbers between 0 and 1: half of them 0, half of them 1
WHOLE_ABOVE, RISES_FROM = 0.5, 0.1  # of the coefficient as first released
SMALLEST = 1e-8  # what a norm below it counts as

Pairs = Sequence[tuple[int, int]]


@entry(kind="dit_diverse")
class DiverseDiT(DiT):
    """A DiT with long residuals, a diversity loss of weight `diversity` (0: none) over at most `pairs` block pairs.

    `coefficient` says what multiplies the loss: the `constant` diversity, or the rule of the training code `as_first_released`,
    which declared that number and ignored it. The pairs begin at block `first_block`, counted from 0.
    """

    long_residuals: bool = True
    diversity: Annotated[float, Range(least=0)] = 0.001
    pairs: Positive = 10
    coefficient: Literal["constant", "as_first_released"] = added("constant")
    first_block: Literal[0, 1] = added(0)

    def validate(self) -> None:
        """Check what no single field can."""
        super().validate()
        if self.depth < 2 + self.first_block:
            raise FieldError(f"depth = {self.depth} leaves no two blocks to connect or to tell apart, from block {self.first_block} on")
        if self.coefficient == "as_first_released" and not self.diversity:
            raise FieldError("diversity = 0.0 is no diversity loss, but coefficient = 'as_first_released' asks for one")

    def build(self, images: ImageShape, attention: tuple[Attention, ...]) -> nn.Module:
        """Build the freshly initialised network; raise FieldError where images or attention do not fit."""
        self.check_fit(images, attention)
        return DiverseTransformer(self, images, attention)


class DiverseTransformer(DiffusionTransformer):
    """The network of a DiverseDiT; what it shares with the plain DiT of the same seed starts with the same weights."""

    def __init__(self, spec: DiverseDiT, images: ImageShape, attention: tuple[Attention, ...]) -> None:
        super().__init__(spec, images, attention)
        self.diversity, self.coefficient = spec.diversity, spec.coefficient
        # assumed: the first pairs in lexicographic order (source: the code): at depth 12, block 0 with blocks 1 to 10
        self.pairs = tuple(islice(combinations(range(spec.first_block, spec.depth), 2), spec.pairs))
        mirrored = spec.depth // 2 if spec.long_residuals else 0
        self.skip_norms = nn.ModuleList(nn.LayerNorm(2 * spec.hidden, eps=1e-6) for _ in range(mirrored))
        self.skip_linears = nn.ModuleList(projection(2 * spec.hidden, spec.hidden) for _ in range(mirrored))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the estimated noise (N, C, R, R) in x: (N, C, R, R) at steps t: (N,), of classes y: (N,) or None."""
        tokens, condition = self.embed(x, t, y)
        return self.estimate(self.through_blocks(tokens, condition), condition)

    def estimate_with_loss(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the estimated noise, and the weighted diversity loss of what the blocks put out."""
        if not self.diversity:
            return self(x, t, y), torch.zeros((), device=x.device)
        outputs: list[Tensor] = []
        tokens, condition = self.embed(x, t, y)
        estimate = self.estimate(self.through_blocks(tokens, condition, outputs), condition)
        loss = diversity_loss(outputs, self.pairs)
        return estimate, loss * (first_coefficient(loss) if self.coefficient == "as_first_released" else self.diversity)

    def through_blocks(self, tokens: Tensor, condition: Tensor, outputs: list[Tensor] | None = None) -> Tensor:
        """Return the tokens (N, tokens, hidden) after the last block; append those after each block to `outputs`.

        After each block of the second half, the tokens are joined with those of its mirror image in the first half:
        last in, first out. What counts as the output of a block includes that join (source: the code).
        """
        mirrored, waiting = len(self.skip_linears), []
        second = len(self.blocks) - mirrored  # assumed: the middle block of an odd depth has no mirror image
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, condition)
            if i < mirrored:
                waiting.append(tokens)
            elif mirrored and i >= second:
                tokens = self.join(i - second, tokens, waiting.pop())
            if outputs is not None:
                outputs.append(tokens)
        return tokens

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the modules whose outputs are the stages of the network: of a block with a join, the join."""
        blocks = super().stages()
        mirrored = len(self.skip_linears)
        joins = [(name, join) for (name, _), join in zip(blocks[len(blocks) - mirrored :], self.skip_linears, strict=True)]
        return blocks[: len(blocks) - mirrored] + joins

    def join(self, place: int, tokens: Tensor, earlier: Tensor) -> Tensor:
        """Return the tokens of two blocks, (N, tokens, hidden) each: concatenated, normalised in fp32, projected."""
        norm = self.skip_norms[place]
        both = norm(torch.cat([tokens, earlier], dim=2).to(next(norm.parameters()).dtype))  # fp32 under autocast, which leaves it so
        return self.skip_linears[place](both).to(tokens.dtype)


def projection(size: int, out: int) -> nn.Module:
    """Build the linear layer behind a join, drawn as the DiT's are (source: the code)."""
    linear = nn.Linear(size, out)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    layer = nn.Sequential()
    layer.add_module("linear", linear)
    return layer


def diversity_loss(outputs: Sequence[Tensor], pairs: Pairs) -> Tensor:
    """Return the diversity loss of the blocks' outputs, (N, tokens, hidden) each: a third each of three measures.

    In fp32, by sums of products, which autocast leaves alone. One block after the other, and never all of them in one
    tensor: what stays in the cache costs a quarter.
    """
    features = [output.float().flatten(0, 1) for output in outputs]  # each (samples, hidden), samples = N * tokens
    total = mean_similarity(features, pairs) + token_similarity(features, pairs) - usage_variance(features)
    return (total / 3).clamp(max=LARGEST_LOSS)


def first_coefficient(loss: Tensor) -> Tensor:
    """Return what the training code as first released multiplied the loss by: 1 above 0.5, (loss - 0.1) / 0.5 above 0.1, else 0.

    The gradient goes through it (source: the code).
    """
    rising = torch.where(loss > RISES_FROM, (loss - RISES_FROM) / WHOLE_ABOVE, torch.zeros_like(loss))
    return torch.where(loss > WHOLE_ABOVE, torch.ones_like(loss), rising)


def mean_similarity(features: Sequence[Tensor], pairs: Pairs) -> Tensor:
    """Return the mean over the pairs of the cosine between two blocks' mean features, of (samples, hidden) each."""
    pooled = F.normalize(torch.stack([block.mean(dim=0) for block in features]), dim=1, eps=SMALLEST)
    return torch.stack([(pooled[i] * pooled[j]).sum() for i, j in pairs]).mean()


def token_similarity(features: Sequence[Tensor], pairs: Pairs) -> Tensor:
    """Return the mean over the pairs of |the mean over the samples of the cosine between two blocks' features|.

    assumed: the absolute value is taken of the average and not before it (source: the code).
    """
    units = [F.normalize(block, dim=1, eps=SMALLEST) for block in features]
    return torch.stack([(units[i] * units[j]).sum(dim=1).mean().abs() for i, j in pairs]).mean()


def usage_variance(features: Sequence[Tensor]) -> Tensor:
    """Return the variance over the channels of how much they are used, as a fraction of the largest possible.

    The use of a channel is its mean absolute activation, in units of its norm over the samples (assumed: what the text
    calls normalised by sample; source: the code), averaged over the blocks, over that of the most used channel.
    """
    lengths = [block.square().sum(dim=0).clamp_min(SMALLEST**2).sqrt() for block in features]
    usage = torch.stack([block.abs().mean(dim=0) / length for block, length in zip(features, lengths, strict=True)])
    usage = usage.mean(dim=0)  # (hidden,)
    usage = usage / (usage.max() + SMALLEST)
    return (usage.var(correction=0) / LARGEST_VARIANCE).clamp(0, 1)
