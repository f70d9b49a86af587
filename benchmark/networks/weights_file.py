"""A file of weights from elsewhere: the one table in it that is meant, under the names that it had before it was wrapped."""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmark.errors import BenchError, UsageError, raised

# Where training scripts keep the weights: averaged, which are taken where they are there, and as the optimiser left them.
AVERAGED = ("ema", "model_ema", "state_dict_ema", "ema_model", "ema_state_dict", "params_ema")
LAST_STEP = ("model", "model_state_dict", "state_dict", "params")
# What torch.compile, data parallelism, sharding and recomputation put between the parts of a name.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")


class Read(NamedTuple):
    """A table of weights, and what was done to find it."""

    weights: dict[str, Tensor]
    said: list[str]


def read(path: Path, key: str | None = None) -> Read:
    """Read a file of plain tensors (safetensors, or what torch.save wrote); run no code from it.

    The table of weights may lie under a name that people use, the averaged ones first, or under `key`; what wrappers of a
    network put into its names is taken off. Raise UsageError where two tables may be meant and none is named.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):  # DiT's training script saves its flags: plain values
                content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except pickle.UnpicklingError as problem:
        named = re.search(r"GLOBAL ([\w.]+)", str(problem))  # that alone: the rest is torch's advice to allow the code
        reason = f"it names {named[1]}" if named else "torch cannot read it as such"
        raise BenchError(
            f"{path} is a pickle that is not plain tensors, and loading it could run code: refused ({reason}). "
            "Where it was trained, save its state_dict() alone, or as safetensors."
        ) from None
    except Exception as problem:  # what is no file of weights: the libraries raise what they like
        why = "it is empty" if path.is_file() and not path.stat().st_size else raised(problem)
        raise BenchError(f"{path} cannot be read as weights: {why}.") from None
    names: list[str] = []
    while (name := _inner(content, path, key if not names else None)) is not None:
        names.append(name)
        content = content[name]
    if not _is_table(content):
        raise BenchError(f"{path} holds no table of weights, neither at its top nor under {', '.join((*AVERAGED, *LAST_STEP))}.")
    weights, taken_off = _unwrapped(content, path)
    said = [f"of {path.name} the weights under {' / '.join(map(repr, names))} are taken"] if names else []
    return Read(weights, said + ([f"taken off the names of its weights: {', '.join(taken_off)}"] if taken_off else []))


def _inner(content: Any, path: Path, key: str | None) -> str | None:
    """Return the name of the table that is meant within another; None where this one is it."""
    if not isinstance(content, Mapping) or _is_table(content):
        if key is not None:
            raise UsageError(f"`key={key!r}`: {path} is one table of weights, with no names for others.")
        return None
    tables = [name for name, value in content.items() if isinstance(name, str) and isinstance(value, Mapping)]
    if key is not None:
        if key not in tables:
            raise UsageError(f"`key={key!r}`: {path} has no such table. It has {', '.join(tables) or 'none'}.")
        return key
    for known in (AVERAGED, LAST_STEP):
        found = [name for name in known if name in tables]
        if len(found) > 1:
            raise UsageError(f"{path} has several tables of weights: {', '.join(found)}. Say which is meant: `key={found[0]!r}`.")
        if found:
            return found[0]
    return None


def _is_table(content: Any) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _unwrapped(content: Mapping[Any, Tensor], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Return weights under the names that they had before the network was wrapped, and what was taken off them."""
    found: dict[str, Tensor] = {}
    taken_off: dict[str, None] = {}
    for whole, tensor in content.items():
        parts = str(whole).split(".")
        kept = [part for part in parts if part not in WRAPPERS]
        taken_off |= {f"{part}.": None for part in parts if part in WRAPPERS}
        while kept and kept[0] == "module":
            taken_off[f"{kept.pop(0)}."] = None
        if (name := ".".join(kept)) in found:
            raise BenchError(f"{path} holds '{name}' twice, wrapped in two ways. Save one of the two alone.")
        found[name] = tensor
    return found, list(taken_off)
