"""The network of a finished run under common corruptions, kept on its card."""

from dataclasses import replace

import torch
from torch import nn

from harp.cards import Corruptions, read_card
from harp.data import Images
from harp.evaluation import Ranks
from harp.evaluation.corrupting import evaluate_corrupted
from harp.files import write_json
from harp.runs.directory import RunDirectory
from harp.stages.watch import Watch


def add_corruptions(
    run: RunDirectory,
    model: nn.Module,
    test: Images,
    *,
    images: int,
    batch_size: int,
    device: torch.device,
    seed: int,
    inputs: str,
    watch: Watch,
    ranks: Ranks,
) -> Corruptions:
    """The card's own result if it is of the same images, or a new one, which is then on the card.

    After an interruption the same call continues.
    """
    known = ranks.from_first(lambda: read_card(run.card).corruptions)
    if known is not None and known.is_of(images, seed) and known.inputs in ("", inputs):
        return known
    state = run.evaluations / f"corruptions-{images}-{seed}.json"

    def tick(done: int, total: int) -> None:
        watch.on_images("corruptions", done, total)
        if ranks.any_of(watch.should_stop()):
            raise KeyboardInterrupt("stopped in corruptions")

    found = evaluate_corrupted(
        model,
        test,
        images=images,
        batch_size=batch_size,
        device=device,
        state=state,
        seed=seed,
        on_progress=tick,
        should_stop=watch.should_stop,
        ranks=ranks,
    )
    found = replace(found, inputs=inputs)
    if ranks.rank == 0:
        card = read_card(run.card).values  # anew: another process may have added to it meanwhile
        write_json(run.card, {**card, "corruptions": found.to_json()})
        state.unlink(missing_ok=True)
    watch.on_note(f"corruptions: {found}")
    return found
