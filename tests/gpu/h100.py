"""An H100 that is not there: enough of one for torch's compiler to write kernels for it and for Triton to assemble them (sm_90).

Tensors are fake, the driver is never asked, and nothing runs: what comes out is machine code and what it needs of the card.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, fx
from torch._dynamo.backends.common import aot_autograd
from torch._higher_order_ops.flex_attention import create_fw_bw_graph, flex_attention, flex_attention_backward
from torch._inductor import compile_fx, config
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
from torch.fx.experimental.proxy_tensor import make_fx

CUDA = torch.device("cuda", 0)
SHARED_MEMORY = 232_448  # bytes of one block, at most
# As torch.cuda.get_device_properties gives them on an H100 with 80 GB.
PROPERTIES = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    regs_per_multiprocessor=65_536,
    warp_size=32,
    total_memory=80 << 30,
    shared_memory_per_block=49_152,
    shared_memory_per_block_optin=SHARED_MEMORY,
    shared_memory_per_multiprocessor=233_472,
    L2_cache_size=50 << 20,
    is_integrated=0,
)


class Machine(NamedTuple):
    """A kernel as it was assembled: its name and size, the shared memory of a block; of a thread its registers and its stack."""

    name: str
    code_bytes: int
    shared_bytes: int
    registers: int
    stack_bytes: int


class Driver:
    """What Triton asks of a driver before anything runs."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        return CUDA

    def get_current_device(self) -> int:
        return CUDA.index


def compiled(function: Callable[..., Tensor], *inputs: Any) -> list[Machine]:
    """Return the kernels of a function with one FlexAttention in it and of its backward pass; call it under FakeTensorMode."""
    made: list[Machine] = []

    def compiler(graph: fx.GraphModule, given: list[Tensor]) -> Callable[..., Any]:
        passes = WithBackward(graph)
        both = make_fx(lambda *tensors: passes.all_of(*tensors), decomposition_table=select_decomp_table())(*given)
        with present(made):
            compile_fx.compile_fx_inner(both, given)
        return graph

    backend = aot_autograd(fw_compiler=compiler, inference_compiler=compiler, decompositions=select_decomp_table())
    with torch.no_grad():  # autograd's engine takes no fake GPU: the backward pass is written out
        torch.compile(function, backend=backend, dynamic=False)(*inputs)
    return made


class WithBackward(fx.Interpreter):
    """A graph with one FlexAttention, run together with the backward pass that its autograd would take."""

    gradients: tuple[Tensor, ...]

    def all_of(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the results of the graph and the gradients of the queries, keys and values."""
        return *self.run(*tensors), *self.gradients

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is not flex_attention:
            return super().call_function(target, args, kwargs)
        q, k, v, score, mask, scale, options, *captured = args
        options = options | {"OUTPUT_LOGSUMEXP": True}
        out, logsumexp, most = flex_attention(q, k, v, score, mask, scale, options, *captured)
        numbers = (torch.zeros((), requires_grad=True), *(torch.zeros((), dtype=torch.int) for _ in range(4)))
        forward, joint = create_fw_bw_graph(score, numbers, ())
        ones = torch.ones_like(out)
        self.gradients = flex_attention_backward(q, k, v, out, logsumexp, ones, None, forward, joint, mask, scale, options, *captured)[:3]
        return out, logsumexp, most


@contextmanager
def present(made: list[Machine]) -> Iterator[None]:
    """Let torch and Triton believe in an H100 for the time of the block; what is assembled goes into `made`."""
    import triton

    assemble, precompile = triton.compile, CachingAutotuner.precompile

    def assembled(source: Any, target: Any = None, options: Any = None, **more: Any) -> Any:
        kernel = assemble(source, target=Driver().get_current_target(), options=options, **more)
        made.append(machine(kernel.metadata.name, kernel.asm["cubin"], kernel.metadata.shared))
        return kernel

    stand_ins = {
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda.current_device": lambda: CUDA.index,
        "torch.cuda.set_device": lambda device: None,
        "torch.cuda.get_device_properties": lambda device=None: PROPERTIES,
        "torch.cuda._get_device_properties": lambda device: PROPERTIES,
        "torch.cuda.get_device_capability": lambda device=None: (9, 0),
        "torch.cuda.is_bf16_supported": lambda *given, **more: True,
        "torch.cuda.get_rng_state": lambda *given: torch.zeros(16, dtype=torch.uint8),
        "torch.cuda.set_rng_state": lambda *given: None,
        "torch.cuda._lazy_init": lambda: None,
        "torch.cuda._exchange_device": lambda device: CUDA.index,
        "torch.cuda._maybe_exchange_device": lambda device: CUDA.index,
        "torch._subclasses.fake_tensor.init_gpu_context": lambda device: None,
        "torch._inductor.runtime.triton_helpers.set_driver_to_gpu": lambda: None,
        "triton.compile": assembled,
    }
    with ExitStack() as stack:
        for name, stand_in in stand_ins.items():
            stack.enter_context(mock.patch(name, stand_in, create=name == "torch.cuda._get_device_properties"))
        stack.enter_context(mock.patch.object(type(triton.runtime.driver), "active", property(lambda self: Driver()), create=True))
        # No launcher is made: that takes a driver.
        only = {"precompile": lambda self, *given, **more: precompile(self, warm_cache_only=True)}
        stack.enter_context(mock.patch.multiple(CachingAutotuner, **only))
        stack.enter_context(config.patch(compile_threads=1, force_disable_caches=True))
        yield


def machine(name: str, cubin: bytes, shared: int) -> Machine:
    """Return what a kernel needs of a thread, as cuobjdump reads it from the machine code."""
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    with TemporaryDirectory() as folder:
        (file := Path(folder) / "kernel.cubin").write_bytes(cubin)
        said = subprocess.run([tool, "--dump-resource-usage", file], capture_output=True, text=True, check=True).stdout
    usage = dict(part.split(":") for part in said.split() if part.startswith(("REG:", "STACK:", "LOCAL:")))
    return Machine(name, len(cubin), shared, int(usage["REG"]), int(usage["STACK"]) + int(usage["LOCAL"]))
