"""A network back from what harp wrote: a run directory, or an exported file."""

from pathlib import Path

from torch import nn

from harp.exporting import rebuild
from harp.runs.network import open_network
from harp.runs.opening import open_run
from harp.runtime.format import read


def load(source: Path | str) -> nn.Module:
    """The network of a run directory or of a `.harp` file, a plain module in eval mode that takes images in [0, 1].

    Of a run it is the architecture that was trained, with zeros where weights were pruned, ready to be trained on. Of a
    file it is the exported graph, batch norms folded, whose weights do not learn. Raises FileNotFoundError when there is
    neither, and ValueError for one that is damaged or unfinished.
    """
    path = Path(source)
    if path.is_dir():
        return open_network(open_run(path)).eval()
    if not path.exists():
        raise FileNotFoundError(f"{path} is neither a run directory nor a file; `harp run` and `harp export` make them")
    graph, _ = read(path)
    return rebuild(graph)
