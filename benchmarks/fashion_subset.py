"""Fashion-MNIST small enough for many runs on a CPU: 5,000 + 1,000 + 2,000 images of 7x7 pixels."""

import torch

from harp.data import ImageData, load_data


def fashion_subset() -> ImageData:
    """The first 5,000 training, last 1,000 training (selection) and first 2,000 test images, means of 4x4 pixels."""
    whole = load_data("fashion-mnist", image_size=7)
    train, test = whole.train, whole.test
    return ImageData(
        "fashion-mnist 7x7",
        whole.classes,
        train.subset(torch.arange(5_000)),
        test.subset(torch.arange(2_000)),
        train.subset(torch.arange(len(train) - 1_000, len(train))),
    )
