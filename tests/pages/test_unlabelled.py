"""Rows with class labels on the page: a table of their own, and beside it what they score given no class."""

from dataclasses import replace

from benchmark.pages import page, prose
from benchmark.pages.tables import tabulate
from benchmark.pages.unlabelled import unlabelled_note
from benchmark.recording.record import LABELS_VERSION, METRIC_VERSION, NO_CLASS_VERSION, Record, Unlabelled
from tests.records import make_record


def labelled(seed: int, version: str = NO_CLASS_VERSION) -> Record:
    """Gap 1 dB with labels; PSNR train 20 + seed, test 18 and a gap of 2 + seed dB without."""
    without = make_record(train=(20.0 + seed, 20.0 + seed), test=(18.0, 18.0))
    found = Unlabelled(metric_version=version, psnr_train=without.psnr_train, psnr_test=18.0, psnr_gap=without.psnr_gap, psnr=without.psnr)
    made = make_record(model="dit_mini_labels", seed=seed, train=(20.0, 20.0), test=(19.0, 19.0), metric_version=LABELS_VERSION)
    return replace(made, unlabelled=found)


def test_a_row_with_labels_has_a_table_of_its_own_and_says_what_it_is_without() -> None:
    records = [labelled(seed) for seed in (0, 1, 2)] + [make_record(seed=0)]
    tables = {table.metric_version: table for table in tabulate(records)}
    assert [table.rows[0].series.model for table in (tables[LABELS_VERSION], tables[METRIC_VERSION])] == ["dit_mini_labels", "dit_mini"]
    (notes,) = page._notes(tables[LABELS_VERSION])
    # 2, 3, 4: mean 3, sd 1; t(0.975, 2) = 4.3027, over the root of 3
    assert "dit_mini_labels global: given no class in place of the label (metric psnr-1-no_class)" in notes.replace("\\", "")
    assert "gap 3.000 dB [0.516, 5.484] over 3 seeds, PSNR train 21.00 dB, test 18.00 dB" in notes.replace("\\", "")
    assert "no class" not in "".join(page._notes(tables[METRIC_VERSION]))
    assert "given the class label of every image" in prose.section(records[0]) and "label" not in prose.section(records[3])


def test_what_a_record_says_of_its_metric_is_one_short_line() -> None:
    (table,) = tabulate([labelled(0, "x\n# y" + "z" * 5000)])
    said = unlabelled_note(table.rows[0].series)
    assert "\n" not in said and len(said) < 400 and "(one seed)" in said
