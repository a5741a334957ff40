"""What evaluates a network at the end of each epoch."""

from collections.abc import Callable

from torch import nn

from harp.attacks import Attack
from harp.data import Images
from harp.evaluation import Ranks, evaluate
from harp.runtime.torch import SparseModule
from harp.training.loop import Validate


def validator(
    images: Images,
    attack: Attack,
    seed: int,
    should_stop: Callable[[], bool],
    ranks: Ranks,
    engine: Callable[[], SparseModule | None],
) -> Validate:
    """model → (clean accuracy, accuracy under the attack) on these images, which the ranks share.

    The attack runs on what ``engine`` gives, or on the model for None. Raises KeyboardInterrupt on all ranks when one
    should stop.
    """

    def tick(done: int, total: int) -> None:
        if ranks.any_of(should_stop()):
            raise KeyboardInterrupt("stopped in the validation")

    def validate(model: nn.Module) -> tuple[float, float]:
        def accuracy(attack: Attack | None) -> float:
            found = evaluate(
                model,
                images,
                attack,
                seed=seed,
                on_progress=tick,
                should_stop=should_stop,
                ranks=ranks,
                look_for_doubts=False,
                engine=None if attack is None else engine(),
            )
            return found.accuracy

        return accuracy(None), accuracy(attack)

    return validate
