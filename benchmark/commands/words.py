"""What the instrument says of parameters and functions, as a person types it.

An error or a note raised below says in backticks what Python takes: `force=True`, `benchmark.run(..., force=True)`.
On a terminal those are flags and commands: --force, `bench run --force`.
"""

import ast
import re
import shlex

SPAN = re.compile(r"`([^`\n]+)`")
FLAGS_ONLY = ""  # of a function that no command of its own stands for

# A function and the command that calls it; '{}' takes the first argument.
COMMANDS = {
    "benchmark.analysis.pca.attention_components": "pca",
    "benchmark.analysis.study.analyse": "analyze",
    "benchmark.analysis.study.publish": "analyze --all-of SUITE --what all --publish",
    "benchmark.contributing.check.check": "check",
    "benchmark.contributing.new.write": "new",
    "benchmark.declaring.registry.entries": "list {}s",
    "benchmark.images.datasets.add": "data add",
    "benchmark.images.datasets.facts": "data show",
    "benchmark.images.datasets.load": "data pack",
    "benchmark.images.datasets.packed_names": "data list",
    "benchmark.images.datasets.verify": "data verify",
    "benchmark.images.distributions.where": "data where",
    "benchmark.networks.weights.unlabelled": "evaluate",
    "benchmark.pages.leaderboard.build": "leaderboard",
    "benchmark.pages.report.build": "report paper",
    "benchmark.quality.inception.setup": "quality setup",
    "benchmark.records": "list runs",
    "benchmark.recording.tracking.sync": "track sync",
    "benchmark.resolve": FLAGS_ONLY,
    "benchmark.run": "run",
    "benchmark.run.evaluate": "evaluate",
    "benchmark.sample": "sample",
    "benchmark.sampling.Request": FLAGS_ONLY,
    "benchmark.suites.cluster.Cluster": "sweep --engine ray",
    "benchmark.suites.reproduce.reproduce": "reproduce",
    "benchmark.suites.sweep.sweep": "sweep mini",
}
# The parameters that messages speak of, and their flags.
FLAGS = {
    "accept": "accept",
    "address": "address",
    "allow_other_weights": "allow-other-weights",
    "allow_small": "allow-small",
    "compiled": "compile",
    "cpus": "cpus",
    "dataset": "dataset",
    "deterministic": "deterministic",
    "device": "device",
    "dry_run": "dry-run",
    "force": "force",
    "function": "denoiser",
    "gpus": "gpus",
    "guidance": "guidance",
    "half": "half",
    "images": "images",
    "jobs": "jobs",
    "key": "key",
    "keep": "force",  # None: whatever was pinned before
    "label": "label",
    "layout": "layout",
    "leading": "leading",
    "limit": "limit",
    "metrics": "metrics",
    "micro_batch": "micro-batch",
    "minutes": "minutes",
    "name": "name",
    "store": "store",
    "up_to": "level",
    "weights_file": "weights",
    "model": "model",
    "options": "slurm",
    "out": "out",
    "overlap": "overlap",
    "overrides": "set",
    "port": "port",
    "precision": "precision",
    "prediction": "prediction",
    "publish": "publish",
    "recipe": "recipe",
    "recompute": "recompute",
    "registry": "registry",
    "resolution": "resolution",
    "retries": "retries",
    "root": "root",
    "seed": "seed",
    "shown": "count",
    "skip_corrupt": "skip-corrupt",
    "steps": "steps",
    "subset": "subset",
    "timesteps": "t",
    "weights": "inception-weights",
    "what": "what",
}
# Of a function whose parameter has another flag; NAMED: the value is the flag.
NAMED = ""
FLAGS_OF = {
    "benchmark.analysis.pca.attention_components": {"count": "components", "network": "run"},
    "benchmark.contributing.new.write": {"root": "registry", "template": NAMED},
    "benchmark.networks.weights.unlabelled": {"form": "format", "path": "weights"},
    "benchmark.sampling.Request": {"count": "samples", "seed": "noise-seed", "steps": "sampling-steps"},
    "benchmark.suites.cluster.Cluster": {"store": "runs"},
}


def typed(text: str) -> str:
    """Return a message with its parameters as flags and its calls as commands; other code in backticks stays as it is."""
    return SPAN.sub(lambda found: _typed(found[1]) or found[0], text)


def _typed(code: str) -> str | None:
    """Return what to type for a piece of Python; None where nothing is, as for a line of an entry (`held_out = 50`)."""
    if " = " in code:
        return None
    try:
        outer = ast.parse(f"_({code})", mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(outer, ast.Call):
        return None
    if outer.keywords and not outer.args:
        return _flags(outer.keywords, FLAGS)
    if len(outer.args) != 1 or outer.keywords or not isinstance(call := outer.args[0], ast.Call):
        return None
    return _command(call)


def _command(call: ast.Call) -> str | None:
    """Return the command of a call, in backticks; the flags alone of one that has no command."""
    name = ast.unparse(call.func)
    if name not in COMMANDS:
        return None
    command, flags = COMMANDS[name], _flags(call.keywords, FLAGS | FLAGS_OF.get(name, {}))
    if command == FLAGS_ONLY or flags is None:
        return flags
    values = [word for argument in call.args for word in _values(argument)]
    if "{}" in command:
        command = command.format(values.pop(0))
    return f"`{' '.join(filter(None, ['bench', command, *values, flags]))}`"


def _flags(keywords: list[ast.keyword], flags: dict[str, str]) -> str | None:
    """Return the words of keyword arguments: a switch for True and None, --no- and it for False, a flag for each item of a list.

    None where one has no flag.
    """
    if any(keyword.arg not in flags for keyword in keywords):
        return None
    words = []
    for keyword in keywords:
        flag = f"--{flags[keyword.arg or ''] or ast.unparse(keyword.value).lower()}"
        switch = flags[keyword.arg or ""] == NAMED or ast.unparse(keyword.value) in ("True", "None")
        if ast.unparse(keyword.value) == "False":
            flag, switch = f"--no-{flags[keyword.arg or '']}", True
        values = _values(keyword.value) if not switch else []
        words += [word for value in values for word in (flag, value)] or [flag]
    return " ".join(words)


def _values(node: ast.expr) -> list[str]:
    """Return what is typed for a value: literals as words of a shell, a placeholder by its name, flags of a call, nothing for '...'."""
    if isinstance(node, ast.List | ast.Tuple):
        return [word for item in node.elts for word in _values(item)]
    if isinstance(node, ast.Constant) and node.value is ...:
        return []
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Call):
        return [_command(node) or ast.unparse(node)]
    return [shlex.quote(str(ast.literal_eval(node)))]
