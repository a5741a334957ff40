"""Bars, curves and points: what is drawn is what was recorded."""

import json

import pytest

from harp.report.chart import MOST_LABELS


def charts(page) -> dict:
    return {figure.one("figcaption").text: figure for figure in page.all("figure", "chart")}


def labels(figure) -> list[str]:
    return sorted(each.one("title").text for each in figure.all("text", "label"))


def ys(series) -> list[float]:
    return [float(pair.split(",")[1]) for pair in series.one("polyline").attributes["points"].split()]


def test_layers_stand_in_network_order_with_one_bar_for_each_pruned_run(runs, page):
    table = page(runs).one("table", "layers")
    assert [row.one("th").text for row in table.one("tbody").all("tr")] == ["conv1.weight", "conv2.weight", "fc.weight"]
    assert [head.text for head in table.one("thead").all("th")[2:]] == ["HARP 10 %", "HARP 1 %", "HYDRA 1 %"]


def test_a_bar_is_as_long_as_the_logarithm_of_its_fraction(runs, page):
    first = page(runs).one("table", "layers").one("tbody").all("tr")[0]
    # The smallest fraction is 0.5 % (5 of 1,000), so the axis has three decades, from 0.1 % to 100 %.
    assert [bar.attributes["width"] for bar in first.all("rect")] == ["92.61%", "66.67%", "33.33%"]


def test_pointing_at_a_bar_says_how_many_weights_the_layer_kept(runs, page):
    cell = page(runs).one("table", "layers").one("tbody").all("tr")[1].all("td")[2]
    assert cell.attributes["title"] == "HARP 1 %, conv2.weight: 5 of 900 weights kept (0.556\u202f%)"


def test_a_layer_that_kept_nothing_has_an_empty_bar(fake, page):
    row = page([fake("a", "harp", (0, 10, 10)).write()]).one("table", "layers").one("tbody").all("tr")[0]
    assert row.one("rect").attributes["width"] == "0.00%"
    assert row.all("td")[1].text == "0 %"


def test_dense_runs_alone_have_no_figure_of_layers(fake, page):
    assert page([fake("dense").write()]).all("table", "layers") == []


def test_epochs_are_drawn_for_every_quantity_that_was_recorded(runs, page):
    titles = set(charts(page(runs)))
    assert {"Density: fraction of weights kept", "γ: weight of the budget", "Training loss"} <= titles
    assert {"Clean accuracy, validation", "Robust accuracy, validation"} <= titles
    assert "Accuracy on the training attack" not in titles


def test_a_gamma_that_is_always_null_is_not_drawn(fake, epoch, page):
    dense = fake("dense")
    dense.metrics = [epoch(0), epoch(1)]
    assert "γ: weight of the budget" not in charts(page([dense.write()]))


def test_a_curve_has_one_point_an_epoch_at_the_height_of_its_value(runs, page):
    figure = charts(page(runs))["γ: weight of the budget"]
    (series,) = figure.all("g", "series")
    rise = ys(series)
    assert len(rise) == 3
    assert rise[0] - rise[1] == pytest.approx(rise[1] - rise[2], abs=0.15)
    assert rise[1] < rise[0]
    assert "finetune, epoch 2: 0.02" in series.attributes["data-readings"]


def test_density_is_drawn_on_a_logarithmic_axis(fake, epoch, page):
    run = fake("a", "harp", (10, 5, 5))
    run.metrics = [epoch(i, density=10.0**-i) for i in range(3)]
    (series,) = charts(page([run.write()]))["Density: fraction of weights kept"].all("g", "series")
    top, middle, bottom = ys(series)
    assert middle - top == pytest.approx(bottom - middle, abs=0.11)


def test_a_single_epoch_is_a_dot(fake, epoch, page):
    run = fake("dense")
    run.metrics = [epoch(0)]
    (series,) = charts(page([run.write()]))["Training loss"].all("g", "series")
    assert series.all("polyline") == []
    assert len(series.all("circle")) == 1


def test_stages_of_a_lineage_stand_side_by_side_between_boundaries(fake, epoch, page):
    dense, masks = fake("dense"), fake("masks", "harp", (10, 5, 5), stage="prune")
    final = fake("final", "harp", (10, 5, 5), parent="../masks")
    for run, epochs in ((dense, 6), (masks, 2), (final, 4)):
        run.metrics = [epoch(i) for i in range(epochs)]
        run.write()
    figure = charts(page([final.path]))["Training loss"]
    first, second, third = (series.one("polyline").attributes["points"].split() for series in figure.all("g", "series"))
    borders = [float(line.attributes["x1"]) for line in figure.all("line", "boundary")]
    assert len(borders) == 2
    assert float(first[-1].split(",")[0]) < borders[0] < float(second[0].split(",")[0])
    assert float(second[-1].split(",")[0]) < borders[1] < float(third[0].split(",")[0])
    assert labels(figure) == ["Dense", "HARP 1 %"]  # the prune stage is part of the line that goes on as HARP 1 %
    for text in ("pretrain6 epochs", "prune2 epochs", "finetune4 epochs"):
        assert text in [each.text for each in figure.all("text")]


def test_learned_fractions_of_layers_are_drawn_and_fixed_ones_are_not(runs, fake, epoch, page):
    fixed = fake("lwm-1", "lwm", (1, 9, 10))
    fixed.metrics = [epoch(i, layers={"conv1.weight": 0.01}) for i in range(3)]
    drawn = charts(page([*runs, fixed.write()]))
    assert labels(drawn["HARP 1 %"]) == ["conv1", "conv2", "fc"]
    assert "LWM 1 %" not in drawn


def test_attacks_at_one_eps_are_points_with_whiskers(runs, page):
    figure = charts(page(runs))["Accuracy by attack"]
    assert figure.all("polyline") == []
    assert len(figure.all("g", "mark")) == 6  # clean and AutoAttack of three evaluated runs
    assert "HARP 1 %, AutoAttack ℓ∞ 8/255: 43.0 % (38.7–47.4, 500 images)" in [t.text for t in figure.all("title")]


def test_attacks_at_several_eps_are_lines_that_begin_at_clean_accuracy(fake, evaluation, page):
    dense = fake("dense")
    attacked = [evaluation("pgd-20", correct, eps=eps) for correct, eps in ((700, 0.05), (500, 0.1), (100, 0.2))]
    dense.card["evaluations"] = [evaluation("clean", 900), *attacked]
    figure = charts(page([dense.write()]))["PGD-20 over eps, ℓ∞"]
    heights = ys(figure.one("g", "series"))
    assert len(heights) == 4
    assert heights == sorted(heights)
    assert {"0", "0.05", "0.1", "0.2"} <= {each.text for each in figure.all("text")}


def test_robust_accuracy_is_drawn_over_clean_accuracy(runs, page):
    figure = charts(page(runs))["AutoAttack against clean accuracy"]
    assert labels(figure) == ["Dense", "HARP 1 %", "HYDRA 1 %"]
    places = {s.attributes["data-label"]: s.one("circle").attributes for s in figure.all("g", "series")}
    assert float(places["Dense"]["cx"]) > float(places["HARP 1 %"]["cx"]) > float(places["HYDRA 1 %"]["cx"])
    assert float(places["Dense"]["cy"]) < float(places["HARP 1 %"]["cy"]) < float(places["HYDRA 1 %"]["cy"])


def test_a_method_has_one_colour_everywhere(runs, page):
    html = page(runs)
    for tone, name in (("tone-harp", "HARP 1 %"), ("tone-hydra", "HYDRA 1 %"), ("tone-dense", "Dense")):
        looks = {
            tuple(css for css in (each.attributes.get("class") or "").split() if css.startswith("tone-"))
            for each in html.all()
            if each.attributes.get("data-label") == name
            or (each.tag == "text" and [t.text for t in each.all("title")] == [name])
        }
        assert looks == {(tone,)}


def test_two_budgets_of_one_method_differ_in_their_dashes(runs, page):
    rows = page(runs).one("table", "results").one("tbody").all("tr")
    dashes = {row.one("span", "name").text: row.one("svg", "swatch").one("line").attributes for row in rows}
    assert dashes["HARP 1 %"]["stroke-dasharray"] != dashes["HARP 10 %"]["stroke-dasharray"]


def test_methods_that_nobody_knows_get_colours_of_their_own(fake, page):
    html = page([fake(name, name, (10, 5, 5)).write() for name in ("alpha", "beta")])
    tones = [row.attributes["class"] for row in html.one("table", "results").one("tbody").all("tr")]
    assert tones == ["tone-other-1", "tone-other-2"]


def test_a_legend_appears_only_where_lines_are_too_many_to_carry_their_names(fake, epoch, page):
    many = [fake(f"run-{i}", "harp", (10, 5, 5), seed=i) for i in range(MOST_LABELS + 1)]
    for run in many:
        run.metrics = [epoch(0), epoch(1)]
        run.write()
    crowded = page([run.path for run in many])
    names = [item.text for item in crowded.one("ul", "key").all("li")]
    assert names == [f"HARP 1 %, seed {i}" for i in range(MOST_LABELS + 1)]
    assert labels(charts(crowded)["Training loss"]) == []
    assert page([run.path for run in many[1:]]).all("ul", "key") == []


def test_distances_are_a_curve_for_each_network_from_clean_accuracy_down_to_nothing(fake, evaluation, page):
    runs = []
    for name, eps, distances in (("a", 0.05, [0.0, 0.1, 0.2, 0.4]), ("b", 0.15, [0.1, 0.2, 0.3, None])):
        found = evaluation("minimal", 3, 4, eps, distances=distances)
        runs.append(fake(name, "harp", seed=len(runs), evaluations=[found]).write())
    figure = charts(page(runs))["Accuracy over every eps, ℓ∞"]
    first, second = figure.all("g", "series")
    assert len(ys(first)) == len(ys(second)) == 33
    assert [ys(series) for series in (first, second)] == [sorted(ys(series)) for series in (first, second)]
    assert json.loads(first.attributes["data-readings"])[0] == "eps 0: 75.0\u202f% (30.1–95.4)"
    assert "median distance 0.1, 4 images" in figure.one("svg").attributes["aria-label"]
    assert "median distance 0.2, 4 images" in figure.one("svg").attributes["aria-label"]
