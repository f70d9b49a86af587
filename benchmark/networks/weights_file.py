"""A file of weights from elsewhere: the one table in it that is meant, under the names that it had before it was wrapped."""

import argparse
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmark.errors import BenchError, UsageError, raised

# Where training scripts keep the weights: averaged, which are taken where they are there, and as the optimiser left them.
AVERAGED = ("ema", "model_ema", "state_dict_ema", "ema_model", "ema_state_dict", "params_ema")
LAST_STEP = ("model", "model_state_dict", "state_dict", "params", "module")
# What torch.compile, data parallelism, sharding and recomputation put between the parts of a name.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")


WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
JOIN = (
    "Join its parts: `from safetensors.torch import load_file, save_file`, then "
    "`save_file({name: value for part in parts for name, value in load_file(part).items()}, 'joined.safetensors')`."
)
SHARD = re.compile(r"-\d+-of-(\d+)\.")  # in the name of one part of a network that was saved in several files


class Read(NamedTuple):
    """A table of weights, and what was done to find it."""

    weights: dict[str, Tensor]
    said: list[str]


def read(path: Path, key: str | None = None) -> Read:
    """Read a file of plain tensors (safetensors, or what torch.save wrote); run no code from it.

    The table of weights may lie under a name that people use, the averaged ones first, or under `key`: as a table within
    another, or as names of one table that begin so. What wrappers of a network put into its names is taken off. Raise UsageError
    where two tables may be meant and none is named.
    """
    content, names, seen = _within(_content(path), path, key)
    if not _is_table(content):
        if key is not None and key not in names:
            raise UsageError(f"`key={key!r}`: {path} has no such table. It has {', '.join(seen) or 'none'}.")
        raise BenchError(f"{path} holds no table of weights, neither at its top nor under {', '.join((*AVERAGED, *LAST_STEP))}.")
    weights, taken_off = _unwrapped(content, path)
    heads = list(dict.fromkeys(name.partition(".")[0] for name in weights if "." in name))
    if (head := _meant(heads, None if key in names else key, path, (AVERAGED,))) is not None:
        names.append(head)
        inside = {name.partition(".")[2]: value for name, value in weights.items() if name.startswith(f"{head}.")}
        weights, more = _unwrapped(inside, path)
        taken_off = list(dict.fromkeys([*taken_off, *more]))
    if key is not None and key not in names:
        others = [*seen, *(name for name in heads if name in AVERAGED)]
        there = f"It has {', '.join(others)}" if others else "It is one table of weights, with no names for others"
        raise UsageError(f"`key={key!r}`: {path} has no such table. {there}.")
    said = [f"of {path.name} the weights under {' / '.join(map(repr, names))} are taken"] if names else []
    return Read(weights, said + ([f"taken off the names of its weights: {', '.join(taken_off)}"] if taken_off else []))


def _within(content: Any, path: Path, key: str | None) -> tuple[Any, list[str], list[str]]:
    """Return the table that is meant within others, the names on the way to it, and all the names that were met."""
    names: list[str] = []
    seen: list[str] = []
    while isinstance(content, Mapping) and not _is_table(content):
        tables = [name for name, value in content.items() if isinstance(name, str) and isinstance(value, Mapping)]
        seen += tables
        chosen = _meant(tables, None if key in names else key, path, (AVERAGED, LAST_STEP))
        if chosen is None:
            break
        names.append(chosen)
        content = content[chosen]
    return content, names, seen


def _content(path: Path) -> Any:
    """Return what a file holds, as plain values and tensors."""
    _check_whole(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # DiT's training script saves its flags: plain values
            return torch.load(path, map_location="cpu", weights_only=True)
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


def _check_whole(path: Path) -> None:
    """Raise UsageError where a path is a folder, or names one of several files that only together are a network."""
    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.suffix in WEIGHTS)
        shards = [name for name in inside if SHARD.search(name)]
        there = (
            f"Of weights it holds {', '.join(inside[:3])}{', …' if len(inside) > 3 else ''}." if inside else "It holds no file of weights."
        )
        raise UsageError(f"{path} is a folder, and weights are read from one file. {there}{' ' + JOIN if shards else ''}")
    if parts := SHARD.search(path.name):
        raise UsageError(f"{path} is one of {int(parts[1])} files that only together are a network. {JOIN}")
    if path.name.endswith(".index.json"):
        raise UsageError(f"{path} lists the files that a network was saved in, and weights are read from one file. {JOIN}")


def _meant(names: Sequence[str], key: str | None, path: Path, known: Sequence[Sequence[str]]) -> str | None:
    """Return which of several tables is meant: the one of that key, else one whose name people use, the first kind first."""
    if key is not None and key in names:
        return key
    for kind in known:
        found = [name for name in kind if name in names]
        if len(found) > 1:
            if key is not None:  # one that is not there
                return None
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
