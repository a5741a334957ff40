"""Class by class: the worst stands left, a matrix says who is taken for whom, and confidence is drawn over accuracy."""

import json

CONFUSION = [[0, 0, 4], [1, 1, 1], [1, 2, 3], [2, 2, 2]]
CALIBRATION = [[0, 0, 0.0]] * 7 + [[4, 2, 0.5]] + [[0, 0, 0.0]] * 6 + [[6, 5, 0.95]]


def a_run(fake, evaluation, **more):
    found = evaluation("clean", 7, 10, confusion=CONFUSION, **more)
    return fake("dense", evaluations=[found]).write()


def charts(page) -> dict:
    return {figure.one("figcaption").text: figure for figure in page.all("figure", "chart")}


def test_classes_stand_from_the_worst_to_the_best(fake, evaluation, page):
    figure = charts(page([a_run(fake, evaluation)]))["Accuracy by class: Clean"]
    readings = [mark.one("title").text for mark in figure.all("g", "mark")]
    assert readings == ["one: 25.0 % of 4", "zero: 100.0 % of 4", "two: 100.0 % of 2"]
    assert "Dense, worst one: 25.0\u202f% of 4" in figure.one("svg").attributes["aria-label"]


def test_a_matrix_has_a_row_for_each_class_and_says_what_each_cell_is(fake, evaluation, page):
    table = page([a_run(fake, evaluation)]).one("table", "matrix")
    rows = table.one("tbody").all("tr")
    assert [row.one("th").text for row in rows] == ["zero", "one", "two"]
    assert [cell.attributes["title"] for cell in rows[1].all("td")] == [
        "one taken for zero: 0 of 4",
        "one taken for one: 1 of 4",
        "one taken for two: 3 of 4",
    ]
    assert [cell.attributes["style"] for cell in rows[1].all("td")] == [
        "--share: 0.000",
        "--share: 0.250",
        "--share: 0.750",
    ]


def test_the_calibration_error_is_said_and_drawn(fake, evaluation, page):
    html = page([a_run(fake, evaluation, calibration=CALIBRATION)])
    figure = charts(html)["Confidence and accuracy, clean images"]
    assert "Dense: calibration error 7.0\u202f%" in figure.one("svg").attributes["aria-label"]  # 0.4 · 0 + 0.6 · 0.1167
    readings = [mark.one("title").text for mark in figure.all("g", "mark")]
    assert readings[0] == "Dense: 50.0 % sure, 50.0 % right, 4 images"
    assert json.loads(figure.all("g", "series")[0].attributes["data-readings"])[0] == "as sure as right: 0\u202f%"


def test_cards_that_do_not_say_what_was_answered_have_no_such_part(fake, evaluation, page):
    html = page([fake("dense", evaluations=[evaluation("clean", 7, 10)]).write()])
    assert "Class by class" not in [each.text for each in html.all("h2")]
