"""Who is asked in an evaluation: the model, which decides, and the sparse engine where attacks run on it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import nn

from harp.evaluation.journal import Journal
from harp.evaluation.stopping import asked_before_each_pass
from harp.runtime.torch import SparseModule


@dataclass(frozen=True)
class Networks:
    """The model, the engine that computes it, if there is one, and the dense network that it was pruned from, if attacks use it."""

    model: nn.Module
    engine: SparseModule | None
    parent: nn.Module | None = None

    @property
    def name(self) -> str:
        """Of what attacks run on."""
        return "torch" if self.engine is None else "sparse"

    @property
    def attacked(self) -> nn.Module:
        return self.model if self.engine is None else self.engine

    @contextmanager
    def asked(self, should_stop: Callable[[], bool]) -> Iterator[None]:
        """Ask ``should_stop`` before each pass of any."""
        with ExitStack() as asked:
            for network in (self.model, self.engine, self.parent):
                if network is not None:
                    asked.enter_context(asked_before_each_pass(network, should_stop))
            yield


def differences(journal: Journal) -> list[str]:
    """The note on images that the engine once decided differently, if there are any."""
    different = 0 if journal.same is None else int((~journal.same).sum())
    if not different:
        return []
    return [f"{different:,} of {journal.images:,} images are decided differently by the engine; torch's answers count"]
