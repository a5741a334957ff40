import pytest
import torch

from harp.data.resize import square


def test_a_divisor_of_the_side_gives_the_mean_over_pixel_blocks():
    images = torch.rand(3, 2, 6, 6)
    expected = images.view(3, 2, 3, 2, 3, 2).mean((3, 5))
    torch.testing.assert_close(square(images, 3), expected)


def test_bytes_are_rounded_to_bytes():
    images = torch.tensor([[0, 1], [1, 1]], dtype=torch.uint8).view(1, 1, 2, 2)
    assert square(images, 1).tolist() == [[[[1]]]]


def test_an_oblong_image_keeps_its_central_square():
    images = torch.arange(8, dtype=torch.uint8).view(1, 1, 2, 4)
    assert square(images, 2).tolist() == [[[[1, 2], [5, 6]]]]


@pytest.mark.parametrize("size", [5, 7, 16])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_any_size_works_and_keeps_a_constant_image_constant(size, dtype):
    images = torch.full((2, 3, 8, 12), 1, dtype=dtype)
    out = square(images, size)
    assert out.dtype == dtype
    torch.testing.assert_close(out, torch.ones(2, 3, size, size, dtype=dtype))


def test_floats_stay_between_0_and_1():
    out = square((torch.rand(4, 1, 9, 9) > 0.5).float(), 5)
    assert out.min() >= 0
    assert out.max() <= 1


def test_no_pixels_are_refused():
    with pytest.raises(ValueError, match="image_size=0"):
        square(torch.rand(1, 1, 4, 4), 0)
