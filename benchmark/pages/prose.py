"""The paragraphs and lists of the page: what is claimed and what is not, how to read it, what it rests on."""

from collections import Counter
from collections.abc import Sequence

from benchmark.declaring import registry
from benchmark.declaring.spec import AXES
from benchmark.pages.claims import declared
from benchmark.pages.comparisons import Judged, Numbers, judge, of_the_board
from benchmark.pages.quantities import apart_with_interval, named
from benchmark.pages.statistics import Corrected
from benchmark.pages.tables import BASELINE
from benchmark.pages.text import NONE, escaped, plain, signed
from benchmark.pages.verdicts import RULE, agreeing, left_over, p_words, verdict
from benchmark.recording.markdown import markdown_table
from benchmark.recording.record import CAP, LABELS_VERSION, METRIC_VERSION, Record

HOW_TO_READ = f"""## How to read

- **Gap.** At each scored diffusion step t, gap(t) = max(PSNR train(t) − PSNR test(t), 0) (Eq. 2 of the paper), in dB;
  a row's gap is the mean over the steps. Lower is better generalization, *if* the training images are fitted equally
  well: a network that has learned nothing has no gap. So PSNR train and PSNR test stand beside it. The estimate of
  the image is clipped to [−1, 1].
- **Floor.** Training and test images are different images, some harder than others, and the truncation at 0 keeps one
  sign only of that difference. So a gap does not fall to 0 where nothing is memorised, and differences between small
  gaps say little; more images a side lower the floor.
- **Mean ± sd, [95% t-interval]** over seeds; sd with n − 1. A seed draws the initial weights and the images, and
  which images were drawn moves a gap too: the intervals of two rows may overlap widely while every pair agrees.
  So compare rows by the paired differences.
- **gap − {BASELINE}** is the difference against the layout {BASELINE} of the same model, seed by seed (same images,
  same noise): mean, 95% t-interval, seeds that have the sign of the mean. **Equal steps**: after the whole training,
  as in the paper. **Equal PSNR train**: at the highest PSNR train that both runs reach, where each run first reaches
  it, linear in PSNR train between the points of its trajectory; {NONE} where they share no such level. Both sides of
  it come from the trajectories, which may be scored on fewer images and diffusion steps than the final numbers (each
  section says how many). The second difference asks whether more than slower fitting lowers the gap.
- **Onsets**, in training steps, mean over seeds and their range: the point of the trajectory with the highest PSNR test, and
  where the membership gap begins to stay above a tenth of its last value (linear between points). Only of trajectories of at
  least 10 points, and known to their spacing; the last point means that the run was not seen to peak.
- **Rank**, by the gap at equal steps, is the range that the paired differences allow: from 1 + the number of rows
  that are lower by a paired difference that is separated from 0, to the number of ranked rows less those that are
  higher by such a difference; separated where Holm's correction over all pairs of rows of the table leaves the p-value of the
  pair's t-test below 0.05. So rows that nothing separates share ranks. A row that shares fewer than two seeds with
  every other row is shown and not ranked.
- **Other images.** A record whose manifest, test images or training images are not those of the other records of its
  dataset, N and seed is a row of its own: different images never share a mean.
- **Parameters** are all of the network's, trainable or not. **FLOPs** are those of one forward pass of one image, two
  per multiply-add.
- **k of n steps at {CAP:g} dB**, beside PSNR train and the gap: so many of the scored diffusion steps stand at the largest PSNR
  that is given, and the two means rest on it. The notes below the table say what they are without these steps.
- **Sample quality** is held against images of the same dataset that no declared row trains on, where 10,000 are left of them,
  else as few of the others as can be: the column says how many (from metric version .2 on; before, they were not counted).
  **Nearest training / nearest test image** has a null that moves with N: it is not 1 for images never trained on. It is shown
  over what held-out images give, with that null below it (from memorisation-2 on); without its null it tells no memorisation.
- **Metric version** {METRIC_VERSION}: numbers of different versions never share a table.
- **Again.** Every seed links to its record. `bench run --record PATH` runs a record's row again; `bench leaderboard`
  writes this page."""


def opening(records: Sequence[Record], ranked: int, paper: str = "") -> str:
    """Say what the page is, how much stands behind it, and where the paper's figures are where `paper` is that page.

    `ranked` is the number of rows that have a rank.
    """
    rows = "row has" if ranked == 1 else "rows have"
    held = f"{len(records)} records; {ranked} {rows} a rank." if records else "There is no record yet: `bench sweep mini` makes the first."
    beside = f" [The paper, figure by figure]({paper}) holds them against what the paper prints." if paper else ""
    return f"# Leaderboard\n\nGenerated from the records by `bench leaderboard`; do not edit it. {held}{beside}"


def claims(records: Sequence[Record], numbers: Numbers | None = None) -> str:
    """Return the claims that these records say something about, and the names of the others; '' where they say nothing of any."""
    judged = of_the_board(judge(records, numbers=numbers))
    run = [claim for claim in declared().own if any(one.claim == claim and one.equal_steps for one in judged)]
    if not run:
        return ""
    rows = []
    for claim in run:
        mine = [one for one in judged if one.claim == claim]
        for one in mine:
            what = f"**{escaped(claim.name)}** {escaped(claim.said)}" if one is mine[0] else ""
            differences = [escaped(difference_words(one, way)) for way in (one.equal_steps, one.equal_fit)]
            rows.append([what, _comparison(one), escaped(named(claim.statistic)), *differences])
    cautions = "\n".join(f"- {line}" for line in cautions_of(judged))
    waiting = ", ".join(escaped(claim.name) for claim in declared().own if claim not in run)
    return "\n\n".join(
        part
        for part in (
            "## Claims",
            RULE,
            left_over(judged),
            markdown_table(["claim", "comparison", "statistic", "at equal steps", "at equal PSNR train"], rows),
            f"Declared, and not run: {waiting}." if waiting else "",
            f"What is left of a difference at equal fit, and how far seeds lie apart beside it:\n\n{cautions}" if cautions else "",
        )
        if part
    )


def not_claimed(records: Sequence[Record]) -> str:
    """List what the suites of these records do not show, with the numbers where there are some; '' where they are of none."""
    judged = of_the_board(judge(records))
    suites = {one.claim.suite for one in judged if one.equal_steps}
    lines = [f"- {escaped(line)}" for line in not_claimed_lines(records, sorted(suites))]
    if not lines:
        return ""
    return "## What these suites do not show\n\nNot claimed, whatever single numbers look like:\n\n" + "\n".join(lines)


def not_claimed_lines(records: Sequence[Record], suites: Sequence[str] | None = None) -> list[str]:
    """Return what is not claimed, in plain text, one line each; of all suites or of these."""
    not_claimed = declared().not_claimed
    judged = judge(records, not_claimed)
    lines = []
    for claim in not_claimed:
        measured = [f"{one.contrast.title}: {measured_words(one)}" for one in judged if one.claim == claim]
        if suites is None or claim.suite in suites:
            lines.append(f"{claim.name}. {claim.statement}" + (f" Measured: {'; '.join(measured)}." if measured else ""))
    return lines


def difference_words(one: Judged, difference: Corrected | None) -> str:
    """Return a paired difference, its plain interval, its p-values and its verdict in one line of plain text."""
    if difference is None:
        return verdict(one, None)
    words = [
        apart_with_interval(one.contrast, difference.estimate),
        p_words(difference),
        verdict(one, difference),
    ]
    return "; ".join(filter(None, words))


def measured_words(one: Judged) -> str:
    """Return the paired difference at equal steps in one line of plain text, without a verdict: nothing was claimed."""
    difference = one.equal_steps
    if difference is None:
        return "not run"
    count = f"{one.contrast.expected} in {agreeing(one.contrast, difference)} of {difference.estimate.n} seeds"
    return f"{apart_with_interval(one.contrast, difference.estimate)}, {count}"


def cautions_of(judged: Sequence[Judged]) -> list[str]:
    """Say of every comparison of gaps with the baseline layout what is left of it at equal fit, and how far seeds lie apart."""
    lines = []
    for one in judged:
        variant, baseline = one.contrast.variant, one.contrast.baseline
        other = (
            variant.model
            or baseline.model
            or variant.recipe
            or baseline.recipe
            or one.contrast.than_on
            or one.contrast.quantity != "psnr_gap"
        )
        if baseline.layout != BASELINE or variant.subset != baseline.subset or other or not one.equal_steps:
            continue
        words = [f"{one.claim.name}: {signed(one.equal_steps.estimate.mean)} dB at equal steps"]
        fit = f"{signed(one.equal_fit.estimate.mean)} dB at equal PSNR train" if one.equal_fit else "no common level"
        words.append(fit)
        if one.baseline and one.baseline.sd is not None:
            words.append(f"sd of the gap of {BASELINE} over seeds {plain(one.baseline.sd)} dB")
        lines.append(", ".join(words) + ".")
    return lines


def how_to_read() -> str:
    """Return the definitions."""
    return HOW_TO_READ


def section(record: Record) -> str:
    """Say under which budget and evaluation the rows of a section were made, from one of its records."""
    recipe, data, psnr = record.spec["recipe"]["config"], record.spec["dataset"]["config"], record.psnr
    words = [f"Metric version {escaped(record.metric_version)}."]
    if record.metric_version == LABELS_VERSION:
        words.append("The network is given the class label of every image that it is scored on.")
    if "resolution" in data:
        words.append(f"Images of {escaped(str(data['resolution']))}x{escaped(str(data['resolution']))} pixels.")
    if "steps" in recipe:
        words.append(f"{record.training.steps:,} training steps of batch {escaped(str(recipe.get('batch', NONE)))}.")
    else:
        words.append("Trained elsewhere: the budgets of these rows are not known here, and may differ.")
    words.append(f"PSNR at {len(psnr.diffusion_steps)} diffusion steps on {psnr.images_test} test images.")
    if record.trajectory:
        steps = ", ".join(f"{point.step:,}" for point in record.trajectory)
        size = [escaped(str(recipe.get(f"trajectory_psnr_{what}", NONE))) for what in ("steps", "images")]
        words.append(f"Trajectory at the training steps {steps}: {size[0]} diffusion steps, {size[1]} images a split.")
    return " ".join(words)


def assumed(records: Sequence[Record]) -> str:
    """List what the paper leaves open and an entry had to assume: as the entry says it now, else as the record has it."""
    found: dict[tuple[str, str, str], str] = {}
    for record in records:
        for line in record.assumed:
            axis, _, rest = line.partition(".")
            field, _, why = (rest or line).partition(": ")
            found.setdefault((axis, record.spec[axis]["name"] if axis in AXES else "", field), why)
    for axis in AXES:
        entries = registry.entries(axis)
        for name in {record.spec[axis]["name"] for record in records} & entries.keys():
            found |= {(axis, name, field): why for field, why in entries[name].assumed.items()}
    if not found:
        return ""
    lines = [
        f"- {escaped(f'{axis} {name}')}: {escaped(f'{field}: {why}' if why else field)}"
        for (axis, name, field), why in sorted(found.items())
    ]
    title = "## Assumed\n\nThe paper's text leaves these open; the entries say what they take instead:\n\n"
    return title + "\n".join(lines)


def environments(records: Sequence[Record]) -> str:
    """Summarise where the records were made."""
    if not records:
        return ""
    titles = ["records", "device", "processor", "platform", "python", "torch", "benchmark"]
    seen = Counter((r.training.device, *(getattr(r.environment, name) for name in titles[2:])) for r in records)
    table = markdown_table(titles, [[str(count), *map(escaped, where)] for where, count in sorted(seen.items())])
    changed = sum(record.environment.modified is True for record in records)
    note = f"\n\n{changed} of {len(records)} records were made with changes that are not in their commit." if changed else ""
    return f"## Where it ran\n\n{table}{note}"


def _comparison(one: Judged) -> str:
    return escaped(f"{one.contrast.title}; {one.contrast.dataset}")
