"""How a caller follows a stage or an evaluation, and stops it."""

from collections.abc import Callable
from dataclasses import dataclass

from harp.cards import Evaluation
from harp.runs.directory import RunDirectory
from harp.training.progress import EpochMetrics, StepProgress


@dataclass(frozen=True)
class Watch:
    """How a caller follows a stage and stops it."""

    on_start: Callable[[str, str], None] = lambda stage, what: None
    on_step: Callable[[StepProgress], None] = lambda progress: None
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None
    on_images: Callable[[str, int, int], None] = lambda attack, done, images: None
    on_result: Callable[[Evaluation], None] = lambda found: None
    on_done: Callable[[RunDirectory], None] = lambda run: None
    should_stop: Callable[[], bool] = lambda: False
    on_note: Callable[[str], None] = lambda text: None

    def on_reading(self, done: int, files: int) -> None:
        """Follow how files are looked through before a stage begins. Raises KeyboardInterrupt if it should stop."""
        self.on_images("reading images", done, files)
        if self.should_stop():
            raise KeyboardInterrupt("stopped while images were read")


SILENT = Watch()
