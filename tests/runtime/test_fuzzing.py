"""The loader's fuzzer runs a little here, and for as long as one likes as a program; its corpus is replayed."""

import random
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("path", sorted((HERE / "corpus").iterdir()), ids=lambda path: path.name)
def test_a_file_of_the_corpus_loads_or_is_refused(fuzz: ModuleType, path: Path):
    if path.name.startswith("good"):
        fuzz.load(path)
    else:
        with pytest.raises(ValueError, match=path.name):
            fuzz.load(path)


def test_a_few_hundred_hostile_files_do_no_harm(fuzz: ModuleType, tmp_path: Path):
    rng = random.Random(1)
    files = [path.read_bytes() for path in sorted((HERE / "corpus").iterdir())]
    loaded = refused = 0
    for _ in range(600):
        (tmp_path / "trial.harp").write_bytes(fuzz.mutate(rng.choice(files), rng))
        try:
            fuzz.load(tmp_path / "trial.harp")
            loaded += 1
        except ValueError:
            refused += 1
    assert min(loaded, refused) > 10  # changes that go deep, and some that are harmless
