"""The house rules that a tool can check: layers, laziness, size and names of files, and nothing unpickled."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import harp

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "harp"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PUBLIC = sorted(harp.__all__)
MOST_LINES = 300
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc", "core", "shared"}
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def loads_torch(statements: str) -> str:
    """Run statements in a fresh interpreter; "yes" or "no" on whether torch was imported meanwhile."""
    ask = "\nimport sys\nprint('yes' if 'torch' in sys.modules else 'no')"
    done = subprocess.run(
        [sys.executable, "-c", statements + ask], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    return done.stdout.splitlines()[-1]


def test_no_layer_imports_a_higher_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "path", list(sys.path))  # the linter adds the working directory and leaves it there
    monkeypatch.setattr("logging.config.dictConfig", lambda config: None)  # it would silence every logger there is
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=str(tmp_path), no_logo=True)
    assert status == 0, capsys.readouterr().out


def test_every_module_belongs_to_a_layer():
    """A new file at the top of the package must be given its place, or no contract would hold it."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(c["layers"] for c in config["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    placed = {name.strip() for layer in layers for name in layer.split("|")}
    modules = [p for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
    assert {f"harp.{p.stem}" for p in modules if p.stem != "__init__"} == placed


def test_importing_harp_imports_no_torch():
    assert loads_torch("import harp; dir(harp)") == "no"


def test_a_public_name_imports_what_it_needs():
    """The control of the tests beside it: the probe does see torch when it comes."""
    assert loads_torch("import harp; harp.PGD") == "yes"


def test_asking_for_help_answers_without_torch():
    """The first command in this order that fails or imports torch is the one printed."""
    commands = ["--help", "--version", "presets", "run --help", "run digits --help", "pretrain --help"]
    commands += [
        "pretrain digits --help",
        "prune --help",
        "finetune --help",
        "evaluate --help",
        "report --help",
        "export --help",
        "bench --help",
        "compare --help",
        "compare digits --help",
        "cell --help",
        "shrink --help",
        "info --help",
        "classify --help",
    ]
    statements = f"""
import sys
from harp.cli import main

for command in {commands!r}:
    try:
        status = main(command.split())
    except SystemExit as stop:
        status = stop.code
    assert status in (0, None), f"harp {{command}} ended with {{status}}"
    assert "torch" not in sys.modules, f"harp {{command}} imports torch"
"""
    done = subprocess.run([sys.executable, "-c", statements], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_no_source_file_is_longer_than_a_reader_can_hold():
    lengths = {relative(p): len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_file_or_folder_is_named_after_nothing_in_particular():
    parts = {relative(p): set(p.relative_to(PACKAGE).with_suffix("").parts) for p in SOURCES}
    assert [path for path, names in parts.items() if names & VAGUE_NAMES] == []


def test_nothing_is_ever_unpickled():
    offenders = [f"{relative(path)}:{line}" for path in SOURCES for line in unpicklings(path.read_text("utf-8"))]
    assert offenders == []


def test_files_are_written_in_one_place_only():
    """Everything else goes through it, or would leave half a file after a crash, with permissions of its own."""
    writes = re.compile(
        r"\bos\.(replace|rename|chmod|umask)\(|\bmkstemp\(|\.write_(text|bytes)\(|\bopen\([^)\n]*[\"'][wx]b?[\"']"
    )
    found = {relative(p) for p in SOURCES if writes.search(p.read_text(encoding="utf-8"))}
    others = {"src/harp/data/source.py", "src/harp/bench/probe.py"}  # a folder that was unpacked; the kernel's switch
    assert found == {"src/harp/files.py", *others}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_search_for_unpickling_finds_it(source: str):
    assert unpicklings(source) == [1]


def test_a_safe_load_is_let_through():
    assert unpicklings("torch.load(path, map_location='cpu', weights_only=True)\nimport json") == []


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists_and_says_what_it_is(name: str):
    thing = getattr(harp, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        # A dataclass without a docstring gets its signature for one.
        assert inspect.getdoc(thing), f"harp.{name} has no docstring"
        assert not (thing.__doc__ or "").startswith(f"{name}("), f"harp.{name} has no docstring of its own"


def test_type_checkers_see_the_names_that_are_there():
    """The stub has the public names, from the modules that hold them, and whole modules."""
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8")).body
    seen = {(node.module, alias.name) for node in stub if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {name for module, name in seen if module} == set(PUBLIC) == set(dir(harp))
    for module, name in seen:
        part = importlib.import_module(f"harp.{module or name}")
        assert getattr(harp, name) is (getattr(part, name) if module else part)


def test_a_part_of_the_package_is_an_attribute_of_it_without_an_import_of_its_own():
    parts = ("attacks", "checkpoint", "data", "models", "objectives", "pruning", "runtime")
    anew = "[sys.modules.pop(name) for name in list(sys.modules) if name.partition('.')[0] == 'harp']"
    program = f"import sys\nfor part in {parts}:\n    {anew}\n    import harp\n    print(getattr(harp, part).__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == [f"harp.{part}" for part in parts], done.stderr


@pytest.mark.parametrize("name", ["nothing", "_private", "harp"])
def test_what_is_not_there_is_an_attribute_error(name: str):
    with pytest.raises(AttributeError, match=f"module 'harp' has no attribute '{name}'"):
        getattr(harp, name)


def test_the_version_is_that_of_the_project_and_of_the_citation():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert harp.__version__ == project["version"]
    assert f"\nversion: {harp.__version__}\n" in citation


def test_the_package_says_that_it_has_types():
    assert (PACKAGE / "py.typed").exists()


def unpicklings(source: str) -> list[int]:
    """Lines that import an unpickler, or load in a way that may unpickle."""
    return [node.lineno for node in ast.walk(ast.parse(source)) if _imports_unpickler(node) or _loads_unsafely(node)]


def _imports_unpickler(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(alias.name.partition(".")[0] in UNPICKLERS for alias in names)
        case ast.ImportFrom(module=str(module)):
            return module.partition(".")[0] in UNPICKLERS
    return False


def _loads_unsafely(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if ast.unparse(node.func) == "torch.load":
        return given.get("weights_only") != "True"
    return given.get("allow_pickle", "False") != "False"


def test_the_workflows_run_targets_of_the_makefile():
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    run = set(re.findall(r"^ +- run: make ([\w-]+)$", text, re.MULTILINE))
    assert run == {"test", "check", "docs"}
    assert text.count("run: ") == len(run)  # nothing but these
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert run <= targets
