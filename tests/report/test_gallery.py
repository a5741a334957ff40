"""The grid of test images: pixels, the amplified change, and predictions before and after."""

import base64
import io

import numpy as np
import pytest
from PIL import Image


def pixels(uri: str) -> np.ndarray:
    prefix = "data:image/png;base64,"
    assert uri.startswith(prefix)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(prefix)))))


def test_each_row_is_one_test_image_and_each_column_one_run(runs, page):
    table = page(runs).one("table", "gallery")
    heads = [head.text for head in table.one("thead").all("th")]
    assert heads == ["Clean", *(f"{name} PGD-20, eps 0.1" for name in ("Dense", "HARP 1 %", "HYDRA 1 %"))]
    assert [row.one("span", "truth").text for row in table.one("tbody").all("tr")] == ["zero", "one"]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_have_the_pixels_of_the_images(fake, pictures, page, channels: int):
    run = fake("dense")
    run.examples = pictures(channels=channels)
    clean, attacked, _ = page([run.write()]).one("table", "gallery").one("tbody").all("tr")[0].all("img")
    for image, tensor in ((clean, run.examples["x"]), (attacked, run.examples["x_adv"])):
        expected = np.rint(tensor[0] * 255).astype(np.uint8)
        assert np.array_equal(
            pixels(image.attributes["src"]), expected[0] if channels == 1 else expected.transpose(1, 2, 0)
        )


def test_the_change_is_amplified_by_the_factor_that_the_page_states(fake, pictures, page):
    run = fake("dense")
    run.examples = pictures(change=0.1)
    html = page([run.write()])
    assert "amplified 4 times" in html.text or "amplified 5 times" in html.text
    factor = 5 if "amplified 5 times" in html.text else 4
    change = html.one("table", "gallery").one("tbody").all("tr")[0].all("img")[2]
    difference = run.examples["x_adv"][0, 0] - run.examples["x"][0, 0]
    assert np.array_equal(pixels(change.attributes["src"]), np.rint((0.5 + factor * difference) * 255).astype(np.uint8))


def test_an_attack_that_changes_nothing_is_plain_grey(fake, pictures, page):
    run = fake("dense")
    run.examples = pictures(change=0.0)
    change = page([run.write()]).one("table", "gallery").one("tbody").all("tr")[0].all("img")[2]
    assert np.unique(pixels(change.attributes["src"])).tolist() == [128]


def test_predictions_say_before_and_after_and_whether_they_are_right(runs, page):
    cell = page(runs).one("table", "gallery").one("tbody").all("tr")[0].all("td")[0]
    before, after = cell.all("span", "prediction")
    assert (before.text, after.text) == ("before zero ✓", "after one ✗")
    assert "right" in before.attributes["class"]
    assert "wrong" in after.attributes["class"]


def test_runs_attacked_on_other_images_get_a_grid_of_their_own(fake, pictures, page):
    one, two = fake("one"), fake("two", name="Two")
    one.examples, two.examples = pictures(), pictures()
    two.examples["x"] = two.examples["x_adv"].copy()
    assert len(page([one.write(), two.write()]).all("table", "gallery")) == 2


def test_a_run_that_kept_fewer_images_shortens_the_grid(fake, pictures, page):
    one, two = fake("one"), fake("two", name="Two")
    one.examples = pictures(k=3)
    two.examples = {name: tensor[:2].copy() for name, tensor in one.examples.items()}
    table = page([one.write(), two.write()]).one("table", "gallery")
    assert len(table.one("tbody").all("tr")) == 2


def test_tiny_images_are_shown_as_sharp_squares_and_large_ones_shrunk(fake, pictures, page):
    tiny, large = fake("tiny"), fake("large", data="other")
    tiny.examples, large.examples = pictures(side=8), pictures(side=300)
    small_table, large_table = page([tiny.write(), large.write()]).all("table", "gallery")
    assert small_table.attributes["class"] == "gallery pixelated"
    assert large_table.attributes["class"] == "gallery"
    assert pixels(large_table.all("img")[0].attributes["src"]).shape == (160, 160)


def test_every_picture_says_what_it_shows(runs, page):
    first = page(runs).one("table", "gallery").one("tbody").all("tr")[0].all("img")
    assert [image.attributes["alt"] for image in first[:3]] == [
        "Test image 0: zero",
        "Test image 0 attacked for Dense",
        "What the attack on Dense changed, amplified 4 times",
    ]


def test_without_examples_there_is_no_grid(fake, page):
    assert page([fake("dense").write()]).all("table", "gallery") == []
