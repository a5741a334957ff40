"""The table of runs and the table of attacks: numbers exactly as the cards have them."""

from pathlib import Path


def rows_of(page) -> dict[str, list[str]]:
    body = page.one("table", "results").one("tbody")
    return {row.one("span", "name").text: [cell.text for cell in row.all("td")] for row in body.all("tr")}


def test_the_table_has_exact_counts_accuracies_intervals_and_seed(runs, page):
    rows = rows_of(page(runs))
    assert rows["HARP 1 %"] == ["1 % 20 / 2,000", "81.2 % −8.8 78.7–83.5", "43.0 % −17.0 38.7–47.4", "0"]


def test_dense_comes_first_then_much_to_little_kept_then_the_method(runs, page):
    assert list(rows_of(page(runs))) == ["Dense", "HARP 10 %", "HARP 1 %", "HYDRA 1 %"]


def test_a_dense_network_has_no_difference_to_itself(runs, page):
    assert rows_of(page(runs))["Dense"][1] == "90.0 % 88.0–91.7"


def test_what_was_not_measured_is_an_en_dash(runs, page):
    assert rows_of(page(runs))["HARP 10 %"] == ["10 % 200 / 2,000", "–", "–", "0"]


def test_a_run_without_a_seed_shows_none(fake, page):
    assert rows_of(page([fake("dense", seed=None).write()]))["Dense"] == ["100 % 2,000 / 2,000", "–"]


def test_columns_say_the_attack_its_eps_and_the_number_of_images(runs, page):
    heads = [head.text for head in page(runs).one("table", "results").one("thead").all("th")]
    assert heads == ["Run", "Weights kept", "Clean 1,000 images", "AutoAttack ℓ∞ 8/255 · 500 images", "Seed"]


def test_the_number_of_images_stands_in_the_cell_when_it_differs(fake, evaluation, page):
    few, many = fake("few"), fake("many", name="Other")
    few.card["evaluations"], many.card["evaluations"] = [evaluation("clean", 50, 100)], [evaluation("clean", 500, 1000)]
    rows = rows_of(page([few.write(), many.write()]))
    assert rows["Dense"][1].endswith("100 images")
    assert rows["Other"][1].endswith("1,000 images")


def test_the_interval_bar_stands_where_the_numbers_are(fake, evaluation, page):
    dense = fake("dense")
    dense.card["evaluations"] = [evaluation("clean", 50, 100)]
    bar = page([dense.write()]).one("svg", "interval")
    # The common axis runs from 40 % to 60 %, the interval of 50 in 100 from 40.38 % to 59.62 %.
    assert bar.one("line", "range").attributes["x1"] == "1.92%"
    assert bar.one("line", "range").attributes["x2"] == "98.08%"
    assert bar.one("circle").attributes["cx"] == "50.00%"


def test_the_difference_is_to_a_dense_parent_even_when_it_was_not_asked_for(runs, page):
    harp = [run for run in runs if run.name == "harp-1"]
    rows = rows_of(page(harp))
    assert list(rows) == ["HARP 1 %"]
    assert "−8.8" in rows["HARP 1 %"][1]


def test_without_the_dense_parent_there_is_no_difference(runs, page, tmp_path: Path):
    alone = runs[2].rename(tmp_path / "alone")
    assert rows_of(page([alone]))["HARP 1 %"][1] == "81.2 % 78.7–83.5"


def test_the_dense_parent_is_found_through_the_stages_between(runs, fake, evaluation, page):
    fake("masks", "harp", (10, 5, 5), stage="prune").write()
    final = fake("final", "harp", (10, 5, 5), parent="../masks", name="Final")
    final.card["evaluations"] = [evaluation("clean", 860)]
    assert "−4.0" in rows_of(page([final.write()]))["Final"][1]


def test_a_stage_in_the_middle_without_evaluations_is_counted_not_listed(runs, fake, page):
    masks = fake("masks", "harp", (10, 5, 5), stage="prune").write()
    final = fake("final", "harp", (10, 5, 5), parent="../masks", name="Final").write()
    table = page([*runs, masks, final]).one("table", "results")
    assert "HARP 1 %, prune" not in [name.text for name in table.all("span", "name")]
    assert "Not listed: 1 run in the middle of a lineage" in table.one("caption").text


def test_runs_of_the_same_name_are_told_apart_by_their_seed(fake, page):
    paths = [fake(f"harp-{seed}", "harp", (10, 5, 5), seed=seed).write() for seed in (0, 1)]
    assert list(rows_of(page(paths))) == ["HARP 1 %, seed 0", "HARP 1 %, seed 1"]


def test_runs_that_share_everything_are_told_apart_by_their_directory(fake, page):
    paths = [fake(name, "harp", (10, 5, 5)).write() for name in ("a", "b")]
    assert list(rows_of(page(paths))) == ["HARP 1 %, a", "HARP 1 %, b"]


def test_of_several_evaluations_by_one_attack_the_one_on_most_images_counts(fake, evaluation, page):
    dense = fake("dense")
    dense.card["evaluations"] = [evaluation("clean", 900, 1000), evaluation("clean", 50, 100)]
    assert rows_of(page([dense.write()]))["Dense"][1].startswith("90.0 %")


def test_of_several_eps_the_table_shows_the_one_that_most_runs_share(fake, evaluation, page):
    one, two = fake("one", name="One"), fake("two", name="Two")
    one.card["evaluations"] = [evaluation("pgd-20", 400, eps=0.1), evaluation("pgd-20", 100, eps=0.3)]
    two.card["evaluations"] = [evaluation("pgd-20", 300, eps=0.1)]
    rows = rows_of(page([one.write(), two.write()]))
    assert rows["One"][1].startswith("40.0 %")
    assert rows["Two"][1].startswith("30.0 %")


def test_of_several_eps_that_all_share_the_table_shows_the_one_trained_for(fake, evaluation, page):
    dense = fake("dense")
    dense.card["evaluations"] = [evaluation("pgd-20", 900 - i, eps=eps) for i, eps in enumerate((0.05, 0.1, 0.2))]
    dense.recipe = {"recipe": {"task": {"eps": 0.1}}}
    assert rows_of(page([dense.write()]))["Dense"][1].startswith("89.9 %")


def test_two_experiments_are_two_sections_with_their_own_tables(fake, page):
    html = page([fake("a", data="digits").write(), fake("b", data="svhn").write()])
    assert [head.text for head in html.all("h2", "experiment")] == ["resnet_small on digits", "resnet_small on svhn"]
    assert len(html.all("table", "results")) == 2


def test_the_breakdown_shows_what_each_attack_left_and_the_notes(runs, page):
    table = page(runs).one("table", "breakdown")
    heads = [head.text for head in table.one("thead").all("th")]
    assert heads == ["Run", "Attack", "Images", "APGD-CE", "APGD-T", "FAB-T", "Square", "Notes"]
    cells = [cell.text for cell in table.one("tbody").one("tr").all("td")]
    assert cells == ["AutoAttack ℓ∞ 8/255", "500", "45.0 %", "43.1 %", "43.1 %", "43.0 %", "Square found nothing."]


def test_without_any_breakdown_there_is_no_such_table(fake, page):
    assert page([fake("dense").write()]).all("table", "breakdown") == []


def test_two_lengths_of_a_step_are_not_taken_for_one_another(fake, evaluation, page):
    run = fake("dense")
    run.card["evaluations"] = [
        evaluation("pgd-10", 400, eps=0.1, notes=["usual"]),
        evaluation("pgd-10", 300, eps=0.1, notes=["chosen"], step_size=0.01, random_start=True, restarts=1),
    ]
    found = page([run.write()])
    assert rows_of(found)["Dense"][1].startswith("40.0 %")
    said = found.text
    assert "PGD-10 ℓ∞ 0.1, steps of 0.01" in said
    assert "usual" in said


def test_a_network_at_chance_is_marked_and_said_below_the_table(fake, evaluation, page):
    dense, lwm = fake("dense"), fake("lwm", "lwm", (1, 9, 10))
    dense.card["evaluations"] = [evaluation("clean", 900, chance=1 / 3, step_size=None, random_start=True, restarts=1)]
    lwm.card["evaluations"] = [
        evaluation("clean", 40, 120, chance=1 / 3, step_size=None, random_start=True, restarts=1)
    ]
    found = page([dense.write(), lwm.write()])
    assert rows_of(found)["LWM 1 %"][1].endswith("at chance")
    assert "at chance" not in rows_of(found)["Dense"][1]
    assert found.one("ul", "caveats").text == (
        "LWM 1 % is not separably above chance: one and the same answer is right for 33.3 % of the images."
    )


def test_a_folder_is_called_by_its_own_name(fake, page):
    run = fake("dense", data="folder")
    run.recipe = {"recipe": {"task": {"data": "folder", "root": "/data/flowers"}}}
    assert page([run.write()]).one("h1").text == "resnet_small on flowers"
