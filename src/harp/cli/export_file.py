"""``harp export FILE``: an exported network in another form. Needs neither torch nor tyro."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harp.cli import plain
from harp.cli.stopping import StopRequest


def export_file(arguments: list[str], stop: StopRequest) -> None:
    parser = argparse.ArgumentParser(
        "harp export", description="Write the network of a .harp file as C. A run is exported with `harp export RUN`."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a .harp file that `harp export` wrote")
    parser.add_argument(
        "--out", type=Path, required=True, help="the file to write, e.g. net.c; net.h is written beside it"
    )
    parser.add_argument("--format", choices=["c"], required=True, help="c: C99, for microcontrollers")
    parser.add_argument("--values", choices=["f32", "f16", "int8"], default="f32", help="how weights are stored (f32)")
    parser.add_argument(
        "--images", type=Path, nargs="+", help="image files, or directories of them, to compare on; else random pixels"
    )
    parser.add_argument("--tolerance", type=float, help="largest allowed difference, relative to the largest result")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    asked = plain._parse(parser, arguments)

    from harp.cfile import header_of, write_c
    from harp.runtime.format import read_sparse

    for path in (asked.out, header_of(asked.out)):
        if path.exists() and not asked.overwrite:
            raise FileExistsError(f"{path} is there already; replace it with --overwrite, or name another --out")
    graph, card = read_sparse(asked.file)
    images = None if asked.images is None else _images(asked.images, card, graph.input)
    done = write_c(asked.out, graph, card=card, values=asked.values, images=images, tolerance=asked.tolerance)
    print(
        f"{done.constant_bytes:,} bytes of constants in {done.path}, {done.kept:,} weights; {done.header.name} beside it"
    )
    print(f"{done.arena_bytes:,} bytes of static memory for values")
    where = "images" if images is not None else "images of random pixels (--images names real ones)"
    print(f"Checked on {done.images} {where}: {done}")


def _images(paths: Sequence[Path], card: dict, shape: tuple[int, ...]) -> np.ndarray:
    """Image files as the network takes them: float32 (n, c, h, w) in [0, 1]."""
    from harp.runtime.classifying import check_preprocessing, image_files, preprocessing_in
    from harp.runtime.pixels import read_pixels

    how = check_preprocessing(preprocessing_in(card), shape)
    return np.stack([read_pixels(path, how) for path in image_files(paths)]).astype(np.float32) / np.float32(255)
