"""Shapes in annotations are checked while the tests run; one thread, so that tests in parallel do not compete."""

from jaxtyping import install_import_hook

install_import_hook("harp", "beartype.beartype")

import torch  # noqa: E402

torch.set_num_threads(1)
