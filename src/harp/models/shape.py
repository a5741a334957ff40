"""The shape of one image, and what a network can be built for."""

Shape = tuple[int, int, int]
"""Channels, height, width."""


def check_shape(shape: Shape, classes: int, *, smallest: int) -> None:
    """Raise ValueError unless images of `shape` have a side of at least `smallest` pixels and `classes` are 2 or more.

    A smaller image would be pooled away before the last layer.
    """
    channels, height, width = shape
    if channels < 1 or min(height, width) < smallest:
        raise ValueError(
            f"shape={shape} (channels, height, width): this network needs images of {smallest} × {smallest} pixels "
            "or more; enlarge them (--task.image-size) or take a network with fewer poolings"
        )
    if classes < 2:
        raise ValueError(f"classes={classes}: expected two or more")
