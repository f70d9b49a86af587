"""docs/: a page that shows commands is followed to the letter, in an empty folder outside the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.recording import record

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-variant.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w/]+\.(?:gin|py))`:\s*$")


def steps(text: str) -> tuple[str, list[str]]:
    """Return the page as one shell script (a file is written where the page shows it) and the outputs it promises."""
    script, promised, before = ["set -e"], [], 0
    for block in BLOCK.finditer(text):
        language, body, said = block.group(1), block.group(2), text[before : block.start()]
        before = block.end()
        if language == "shell":
            script.append(body)
        elif language == "text":
            promised += body.splitlines()
        else:
            path = FILE.search(said)
            assert path, f"the page does not say which file this is: {body}"
            script.append(f"mkdir -p {Path(path.group(1)).parent}\ncat > {path.group(1)} <<'END_OF_FILE'\n{body}END_OF_FILE")
    return "\n".join(script), promised


def follow(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in an empty folder, with `bench` on the path and one thread."""
    (folder / "bin").mkdir()
    (folder / "empty").mkdir()
    command = folder / "bin" / "bench"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m benchmark.cli "$@"\n')
    command.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BENCH_", "MLFLOW_"))}
    environment = inherited | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-c", script], cwd=folder / "empty", env=environment, capture_output=True, text=True, timeout=3000, check=False
    )


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str], list[str]]:
    folder = tmp_path_factory.mktemp("stranger")
    script, promised = steps(PAGE.read_text(encoding="utf-8"))
    return folder / "empty", follow(folder, script), promised


def test_every_command_of_the_page_succeeds(followed) -> None:
    _, done, _ = followed
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_promises_what_is_printed(followed) -> None:
    _, done, promised = followed
    printed = " ".join(done.stdout.split())
    assert len(promised) > 20
    for line in promised:
        parts = [" ".join(part.split()) for part in line.split("…")]
        if line.startswith(("dit_mini", "my_bias")) and "on" not in line.split():  # a row of the table, with its rank before it
            model, layout = line.split()
            assert re.search(rf"\b{model} +{layout}\b", printed), line
            continue
        assert re.search(".*".join(map(re.escape, parts)), printed), line


def test_the_rows_stand_beside_another_in_one_table(followed) -> None:
    folder, _, _ = followed
    rows = {(r.row.model, r.row.layout) for r in record.read_all(folder / "leaderboard" / "records")}
    assert rows == {("dit_mini", "global"), ("dit_mini", "local_3x4_tail"), ("my_bias", "global"), ("my_dit", "knights_3")}
    page = (folder / "leaderboard" / "tables.md").read_text()
    table = page[page.index("### quick on dead") :]
    assert all(name in table for name in ("my\\_bias", "dit\\_mini")) or all(name in table for name in ("my_bias", "dit_mini"))
    assert not any(path.name == "mlflow.db" for path in folder.iterdir())


def test_the_network_of_the_page_has_the_bias_that_it_claims(followed) -> None:
    import torch

    from benchmark.contract import ImageShape
    from benchmark.declaring import registry
    from benchmark.declaring.entries import load

    folder, _, _ = followed
    network = load(registry.read("model", folder / "backbones" / "my_bias.gin")).config.build(ImageShape(3, 8), ())
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 700])
    with torch.no_grad():
        torch.testing.assert_close(network(x.flip(3), t), network(x, t).flip(3))
        assert not torch.allclose(network(x.flip(2), t), network(x, t).flip(2))


def test_the_dit_of_the_page_looks_at_directions_and_at_its_pattern_only(followed) -> None:
    import torch

    from benchmark.contract import Attention, ImageShape
    from benchmark.declaring import registry
    from benchmark.declaring.entries import load

    folder, _, _ = followed
    layout = load(registry.read("layout", folder / "layouts" / "knights_3.gin")).config
    assert layout.keys(8, 0) == {0, 10, 17}  # a corner: itself, one down two right, two down one right
    assert layout.place(6)[3:] == (Attention(),) * 3 and layout.place(6)[0].pattern == layout
    network = load(registry.read("model", folder / "backbones" / "my_dit.gin")).config.build(ImageShape(3, 8), layout.place(6))
    layer, x = network.blocks[0].attn, torch.randn(1, 64, 32)
    with torch.no_grad():
        before = layer(x)
        layer.qkv.weight[:64] *= 3.0  # longer queries and keys point where they pointed
        layer.qkv.bias[:64] *= 3.0
        torch.testing.assert_close(layer(x), before)
        x[0, 1] += 1.0  # no knight's move from the corner
        torch.testing.assert_close(layer(x)[0, 0], before[0, 0])
        assert not torch.allclose(layer(x)[0, 1], before[0, 1])


def test_a_changed_expectation_would_be_noticed(tmp_path: Path) -> None:
    done = follow(tmp_path, "set -e\nbench new layout fresh --registry .\nbench check fresher --registry .\necho not reached")
    assert done.returncode == 2 and "not reached" not in done.stdout
