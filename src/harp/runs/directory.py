"""The names of the files of a run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunDirectory:
    """The names of the files of one run; every name is here and nowhere else."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def inputs(self) -> Path:
        """The images and the code that it was made from, to be compared with those of today."""
        return self.path / "inputs.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def last(self) -> Path:
        """The weights after the last step, where they were asked for; the model is that of the best epoch."""
        return self.path / "last.safetensors"

    @property
    def table(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def masks(self) -> Path:
        return self.path / "masks.safetensors"

    @property
    def widths(self) -> Path:
        """Of a network made physically smaller: the channels that each module has left."""
        return self.path / "widths.json"

    @property
    def card(self) -> Path:
        """Written last: a run is finished when its card exists."""
        return self.path / "card.json"

    @property
    def resume(self) -> Path:
        return self.path / "resume" / "state.safetensors"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations"

    @property
    def examples(self) -> Path:
        return self.evaluations / "examples.safetensors"

    @property
    def finished(self) -> bool:
        return self.card.exists()

    @property
    def entries(self) -> tuple[Path, ...]:
        """All that a run consists of, in the order in which to delete it: unfinished first, nameless last."""
        results = (self.card, self.resume.parent, self.evaluations, self.metrics, self.masks, self.widths, self.model)
        return (*results, self.last, self.table, self.tensorboard, self.inputs, self.recipe)
