"""The baseline of the measurements: a DiT as anyone writes it in stock PyTorch, and its training step.

Attention is scaled_dot_product_attention over heads of 252 / 4 = 63 numbers, the optimizer AdamW tensor by tensor, the EMA
a loop. Parameter names are those of the benchmark's DiT, so that its weights load.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.networks import diffusion
from registry.backbones.dit import Block, DiffusionTransformer, DiT, modulate


class PlainAttention(nn.Module):
    """Global multi-head self-attention."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)

    def initialise(self) -> None:
        """Draw nothing of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended tokens (N, tokens, hidden) of x of that shape."""
        n, tokens, hidden = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, hidden))


class PlainBlock(nn.Module):
    """A block with adaLN-Zero."""

    def __init__(self, block: Block, hidden: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mlp, self.adaLN_modulation = block.norm1, block.norm2, block.mlp, block.adaLN_modulation
        self.attn = PlainAttention(hidden, heads)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the tokens (N, tokens, hidden) after this block, given the condition (N, hidden)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition).unsqueeze(1).chunk(6, dim=2)
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1))
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))


def plain(network: DiffusionTransformer, spec: DiT) -> DiffusionTransformer:
    """Give a freshly built network plain blocks in place of its own, with the same weights."""
    weights = network.state_dict()
    network.blocks = nn.ModuleList(PlainBlock(block, spec.hidden, spec.heads) for block in network.blocks)
    network.load_state_dict(weights)
    return network


class PlainStep:
    """A training step as a tutorial has it."""

    def __init__(self, network: nn.Module, ema: nn.Module, precision: str) -> None:
        self.network, self.ema, self.precision = network, ema, precision
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=1e-4, weight_decay=0, foreach=False, fused=False)
        self.abar = diffusion.alphas_cumprod()

    def __call__(self, images: Tensor, batch: int) -> None:
        """Take one step on a batch drawn from images: (N, C, R, R) uint8."""
        x0 = diffusion.scaled(images[torch.randint(len(images), (batch,))])
        t, noise = torch.randint(diffusion.STEPS, (batch,)), torch.randn(x0.shape)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            loss = diffusion.loss(self.network, x0, t, noise, self.abar)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for own, theirs in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                own.mul_(0.9999).add_(theirs, alpha=1 - 0.9999)
