"""A comparison read back: groups, records, and the page that draws them."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from harp.cli.compare_console import table_of
from harp.report import write_compare_report
from harp.report.compare import CLEAN, CompareResults, Entry, read_compare_results, records
from harp.report.results import Test as Attack

DATE = datetime.date(2026, 3, 1)
PGD = Attack("pgd-20", "linf", 0.1)
KEPT = {0.1: (60, 80, 60), 0.01: (10, 5, 5)}


@pytest.fixture
def results(fake, evaluation) -> Callable[..., CompareResults]:
    """A results of made-up runs: accuracies in per mille by (method, keep), one a seed."""

    def make(reached: dict[tuple[str, float], list[tuple[int, int]]], **more) -> CompareResults:
        entries = []
        for (method, keep), seeds in reached.items():
            for seed, (clean, robust) in enumerate(seeds):
                bare = None if method == "dense" else method.partition("+")[0]
                run = fake(f"{method}-{keep}-{seed}", bare, KEPT.get(keep, (100, 900, 1000)), seed=seed)
                clean_one = evaluation("clean", clean, chance=0.34, step_size=None, random_start=True, restarts=1)
                run.card["evaluations"] = [clean_one, evaluation("pgd-20", robust, eps=0.1)]
                entries.append(Entry(method, keep, "weight", seed, 240, run.write()))
        settings = {"images": 1000, "baseline": "hydra", "seeds": (0, 1, 2)} | more
        return read_compare_results(entries, PGD, **settings)

    return make


REACHED = {
    ("dense", 1.0): [(900, 300), (910, 310), (890, 305)],
    ("harp", 0.1): [(880, 320), (890, 310), (870, 330)],
    ("hydra", 0.1): [(780, 310), (780, 300), (780, 320)],
    ("harp", 0.01): [(700, 250), (720, 240), (710, 245)],
    ("hydra", 0.01): [(500, 260), (530, 240), (510, 250)],
    ("harp+awp", 0.01): [(650, 290), (671, 281), (662, 289)],
}


def groups(results: CompareResults) -> dict:
    return {(group.method, group.keep): group for group in results.groups}


def test_dense_comes_first_and_then_much_before_little(results):
    assert [(g.method, g.keep) for g in results(REACHED).groups] == list(REACHED)


def test_a_difference_is_to_the_baseline_at_the_same_keep_paired_by_seed(results):
    found = groups(results(REACHED))[("harp", 0.01)].differences[CLEAN]
    assert found.n == 3
    assert found.mean == pytest.approx((0.200 + 0.190 + 0.200) / 3)


def test_the_baseline_and_the_dense_parents_differ_from_nothing(results):
    found = groups(results(REACHED))
    assert found[("hydra", 0.1)].differences == {}
    assert found[("dense", 1.0)].differences == {}
    assert found[("dense", 1.0)].verdict == ""


def test_a_group_says_what_it_is_better_at(results):
    found = groups(results(REACHED))
    assert found[("harp", 0.1)].verdict == "better: clean and PGD-20"
    assert found[("harp", 0.01)].verdict == "better: clean"


def test_networks_at_chance_are_counted_below_the_table(results):
    found = results({("hydra", 0.01): [(333, 333), (700, 300), (350, 300)]})
    (caveat,) = found.caveats
    assert caveat.startswith("HYDRA at keep 0.01: 2 of 3 not separably above chance")


def test_missed_budgets_and_runaway_layers_are_counted_below_the_table(fake, evaluation):
    entries = []
    for seed, (missed, layers) in enumerate([(True, []), (True, ["fc.weight", "conv1.weight"]), (False, [])]):
        fractions = {"missed_budget": missed, "runaway_layers": layers}
        run = fake(f"published-{seed}", "harp-published", KEPT[0.01], seed=seed, fractions=fractions)
        run.card["evaluations"] = [evaluation("clean", 800)]
        entries.append(Entry("harp-published", 0.01, "weight", seed, 240, run.write()))
    (caveat,) = read_compare_results(entries, None, images=1000, baseline="hydra", seeds=(0, 1, 2)).caveats
    assert caveat == (
        "HARP as published at keep 0.01: 2 of 3 missed the budget before the exact cut, and two layers rose by more than half "
        "of itself within an epoch."
    )


def test_nothing_is_called_better_on_two_seeds_and_the_caveats_say_so(results):
    two = results({key: seeds[:2] for key, seeds in REACHED.items()}, seeds=(0, 1))
    assert {group.verdict for group in two.groups} == {"", "too few seeds"}
    assert two.caveats == ("Nothing is called better or worse on fewer than 3 seeds.",)


def test_a_missing_seed_of_the_baseline_leaves_the_pairs_that_there_are(results):
    found = groups(results(REACHED | {("hydra", 0.01): [(500, 260)]}))
    assert found[("harp", 0.01)].differences[CLEAN].n == 1
    assert found[("harp", 0.01)].verdict == "too few seeds"


def test_seeds_that_share_a_parent_are_a_caveat(results):
    shared = results(REACHED | {("dense", 1.0): [(900, 300), (910, 310)]})
    assert [caveat for caveat in shared.caveats if caveat.startswith("3 seeds from two parents")]


def test_an_evaluation_on_other_images_does_not_count(results):
    found = groups(results(REACHED, images=500))
    assert found[("harp", 0.1)].summary(CLEAN) is None


def test_a_record_holds_what_identifies_a_network_and_what_it_reached(results):
    first, second, *_ = records(results({("harp+awp", 0.01): [(650, 290), (671, 281)]}))
    assert first | {"run": ""} == {
        "method": "harp+awp",
        "keep": 0.01,
        "granularity": "weight",
        "seed": 0,
        "clean": 0.65,
        "autoattack": None,
        "pgd-20": 0.29,
        "kept": 20,
        "total": 2000,
        "passes": 240,
        "tuned": None,
        "run": "",
    }
    assert second["seed"] == 1
    assert Path(str(first["run"])).is_dir()


def written(results: CompareResults, tmp_path: Path) -> str:
    return write_compare_report(results, tmp_path / "results.html", date=DATE).read_text(encoding="utf-8")


def test_the_page_has_a_row_for_each_method_and_keep_and_is_well_formed(results, tmp_path: Path, parse):
    page = parse(written(results(REACHED), tmp_path))
    rows = page.one("table", "standing").one("tbody").all("tr")
    assert [row.one("", "name").text for row in rows] == ["dense", "HARP", "HYDRA", "HARP", "HYDRA", "HARP+AWP"]
    assert [row.one("td", "verdict").text for row in rows][1:3] == ["better: clean and PGD-20", "baseline"]


def test_a_row_shows_mean_spread_and_each_seed(results, tmp_path: Path, parse):
    row = parse(written(results(REACHED), tmp_path)).one("table", "standing").one("tbody").all("tr")[1]
    clean = row.all("td", "accuracy")[0]
    assert clean.text.startswith("88.0 % ± 1.0")
    assert [dot.text for dot in clean.all("circle", "seed")] == ["seed 0: 88.0 %", "seed 1: 89.0 %", "seed 2: 87.0 %"]


def test_the_page_draws_accuracy_over_keep_and_the_strategies(results, tmp_path: Path, parse):
    page = parse(written(results(REACHED), tmp_path))
    assert [figure.one("figcaption").text for figure in page.all("figure", "chart")] == [
        "Clean accuracy over keep",
        "PGD-20 accuracy over keep",
        "PGD-20 against clean accuracy at 10 %",
        "PGD-20 against clean accuracy at 1 %",
        "Kept of each layer at 10 %",
        "Kept of each layer at 1 %",
    ]


def test_a_curve_has_a_mark_a_keep_and_a_whisker_as_long_as_the_spread(results, tmp_path: Path, parse):
    figure = parse(written(results(REACHED), tmp_path)).all("figure", "chart")[0]
    harp = next(g for g in figure.all("g", "series") if g.attributes["data-label"] == "HARP")
    assert [mark.one("title").text for mark in harp.all("g", "mark")] == [
        "HARP, 1 %: 71.0 % ± 1.0 (three seeds)",
        "HARP, 10 %: 88.0 % ± 1.0 (three seeds)",
    ]
    low, high = (float(harp.all("g", "mark")[0].one("line").attributes[end]) for end in ("y1", "y2"))
    dense = next(g for g in figure.all("g", "series") if g.attributes["data-label"] == "dense")
    assert low > high
    assert dense.one("polyline").attributes["points"].count(",") == 2


def test_one_seed_has_neither_spread_nor_interval(results, tmp_path: Path, parse):
    page = parse(written(results({key: seeds[:1] for key, seeds in REACHED.items()}, seeds=(0,)), tmp_path))
    assert "±" not in page.one("table", "standing").one("tbody").text
    assert "too few seeds" in page.one("table", "standing").text


def test_a_single_keep_is_drawn_as_dots(results, tmp_path: Path, parse):
    one_keep = {key: seeds for key, seeds in REACHED.items() if key[1] != 0.1}
    figure = parse(written(results(one_keep), tmp_path)).all("figure", "chart")[0]
    assert [g.all("polyline") for g in figure.all("g", "series") if g.attributes["data-label"] != "dense"] == [[]] * 3


def test_a_name_that_tries_to_be_markup_stays_text(fake, evaluation, tmp_path: Path):
    run = fake("evil", "harp", KEPT[0.1], model="<script>alert(1)</script>")
    run.card["evaluations"] = [evaluation("clean", 900)]
    results = read_compare_results(
        [Entry("harp", 0.1, "weight", 0, 1, run.write())], None, images=1000, baseline="harp", seeds=(0,)
    )
    assert "<script>alert" not in written(results, tmp_path)


def test_without_a_finished_network_there_is_no_page(results, tmp_path: Path):
    with pytest.raises(ValueError, match="no pruned network that is finished"):
        write_compare_report(results({("dense", 1.0): [(900, 300)]}), tmp_path / "results.html")


def test_further_columns_are_read_off_the_cards_and_stand_in_table_page_and_records(
    results, fake, evaluation, tmp_path
):
    confusion = [[0, 0, 400], [0, 1, 100], [1, 1, 350], [1, 0, 150]]
    corrupted = {"images": 1000, "counts": {"fog": [600, 400]}, "by_image": [1] * 1000, "accuracy": 0.5, "seed": 0}
    clean = evaluation("clean", 750, calibration=[[1000, 750, 0.9]], confusion=confusion)
    attacked = evaluation("pgd-20", 750, eps=0.1, confusion=confusion)
    run = fake(
        "hydra-0.01-0",
        "hydra",
        KEPT[0.01],
        corruptions={**corrupted, "low": 0.5, "high": 0.5, "elapsed_s": 1.0, "inputs": ""},
    )
    run.card["evaluations"] = [clean, attacked]
    columns = ("corruptions", "calibration", "worst-class")
    entries = [Entry("hydra", 0.01, "weight", 0, 240, run.write())]
    found = read_compare_results(entries, PGD, images=1000, baseline="hydra", seeds=(0,), columns=columns)
    expected = {"corruptions": 0.5, "calibration": 0.15, "worst-class": 0.7}
    assert {name: each.mean for name, each in found.pruned[0].extra.items()} == pytest.approx(expected)
    assert {name: records(found)[0][name] for name in columns} == pytest.approx(expected)
    page = write_compare_report(found, tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(text in page for text in ("worst class", "70.0", "ECE", "15.0", "corrupted", "50.0"))
    assert [column.header for column in table_of(found).columns][-3:] == ["corrupted", "ECE", "worst class"]


def test_what_autoattack_left_is_beside_what_was_settled(fake, evaluation):
    run = fake("hydra-0.01-0", "hydra", KEPT[0.01])
    parts = {"apgd-ce": 0.3, "square": 0.25, "transfer": 0.21}
    run.card["evaluations"] = [evaluation("clean", 500), evaluation("settled", 210, eps=0.1, per_attack=parts)]
    entries = [Entry("hydra", 0.01, "weight", 0, 240, run.write())]
    settled = Attack("settled", "linf", 0.1)
    record = records(read_compare_results(entries, settled, images=1000, baseline="hydra", seeds=(0,)))[0]
    assert (record["settled"], record["autoattack"]) == (0.21, 0.25)
