"""Run to reasons: what a trained network does inside, as numbers, arrays and pictures.

Each analysis is a module with a VERSION, raised when the same run gives other numbers, and a function
`analyse(network, images, request, progress, parts) -> study.Result`, with the training images behind them where the table
says so. benchmark/analysis/study.py calls it and writes:

    runs/<id>/analysis/<what>.json                              what was analysed, how, and the numbers
    runs/<id>/analysis/<what>.npz                               the arrays
    runs/<id>/analysis/<what>-<figure>.svg, .png                the pictures
    leaderboard/analysis/<recipe>/<dataset>/<record>/<what>.*   with --publish: the JSON; of a row's first seed the first picture as SVG
"""

from typing import NamedTuple


class What(NamedTuple):
    """One analysis: where its code is, how many images it takes unless told, what it asks."""

    module: str
    images: int
    question: str
    of_large: int | None = None  # images, where one has more than LARGE numbers
    of_training: bool = False  # it takes the training images too


# Nothing here imports torch: the command line reads this table.
WHATS = {
    "attention": What("benchmark.analysis.attention", 16, "which tokens does every layer look at?"),
    "jacobian": What("benchmark.analysis.jacobian", 8, "which directions of the noisy image does the estimate keep?", 1),
    "representations": What("benchmark.analysis.representations", 64, "how alike are the features of its stages?"),
    "receptive-field": What("benchmark.analysis.receptive_field", 8, "how far does a pixel's output reach?", 2),
    "theory": What("benchmark.analysis.theory", 16, "how near does it come to denoisers in closed form?", 2, of_training=True),
}
TIMESTEPS = (50, 200, 500, 950)
LARGE = 1024  # numbers in an image
