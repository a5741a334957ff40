"""Corruptions on the page: means with their interval, one by one, and over severity."""


def a_run(fake, right: int):
    counts = {"fog": [4, 3, 2], "snow": [2, 1, right]}
    total = 12 + right
    by_image = [total // 4 + (number < total % 4) for number in range(4)]
    accuracy = total / 24
    record = {"images": 4, "counts": counts, "by_image": by_image, "accuracy": accuracy, "low": 0.0, "high": 1.0}
    return fake("dense", corruptions={**record, "seed": 0, "elapsed_s": 1.0, "inputs": ""}).write()


def test_the_mean_is_said_and_both_charts_are_drawn(fake, page):
    html = page([a_run(fake, 0)])
    assert "Common corruptions" in [each.text for each in html.all("h2")]
    figures = {figure.one("figcaption").text: figure for figure in html.all("figure", "chart")}
    severity = [mark.one("title").text for mark in figures["Corruptions: accuracy over severity"].all("g", "mark")]
    assert severity == [
        "Dense, severity 1: 75.0 %",
        "Dense, severity 2: 50.0 %",
        "Dense, severity 3: 25.0 %",
    ]
    one = [mark.one("title").text for mark in figures["Corruptions one by one"].all("g", "mark")]
    assert one == ["Dense, snow: 25.0 %", "Dense, fog: 75.0 %"]


def test_without_them_there_is_no_such_part(fake, page):
    assert "Common corruptions" not in [each.text for each in page([fake("dense").write()]).all("h2")]
