"""The embedded data set: 1,797 handwritten digits of 8 × 8 pixels (Alpaydin and Kaynak, UCI, 1998)."""

import torch

from harp.data.augment import Augment
from harp.data.images import ImageData, InMemory
from harp.data.resize import square
from harp.data.source import Source, reject_download
from harp.data.splitting import split

_TEST_FRACTION = 0.2


def read_digits(source: Source) -> ImageData:
    """Read the digits that come with scikit-learn; one fifth, the same on every machine, is the test split.

    No augmentation: at 8 × 8 pixels a shift by one is a different stroke, and a mirrored digit is no digit.
    """
    from sklearn.datasets import load_digits  # a second to import, and only this data set needs it

    reject_download(source, "digits", "comes with scikit-learn")
    if source.root is not None:
        raise ValueError(f"root={str(source.root)!r}: digits comes with scikit-learn; leave --task.root out")
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().div_(16).view(-1, 1, 8, 8)
    if source.image_size is not None:
        images = square(images, source.image_size)
    whole = InMemory(images, torch.from_numpy(labels).long(), source.augment_or(Augment()))
    train, test = split(whole, _TEST_FRACTION, seed=0)
    return ImageData("digits", tuple("0123456789"), train, test)
