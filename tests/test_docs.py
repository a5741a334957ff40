"""What README and docs/ say is run, parsed or looked up: code, commands, flags, links, tables and excerpts."""

import dataclasses
import importlib
import json
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import harp
from harp.data import load_data
from harp.models import build_model
from harp.recipes import PRESETS, Recipe
from harp.runs.card import make_card
from harp.runs.claim import Claim
from harp.runs.directory import RunDirectory

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- (?P<mark>[^>\n]*) -->\n+)?"
    r"^(?P<tick>```+)(?P<language>\w*)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<text>.*?)^(?P=tick)$",
    re.M | re.S,
)
FLAG = re.compile(r"--[a-z][a-z.-]*[a-z]")
TUTORIAL = ROOT / "docs" / "tutorial.md"


@dataclass(frozen=True)
class Block:
    """A fenced block. A title that begins with ``src/`` makes it an excerpt, any other a file that the page writes.

    ``<!-- not run: reason -->`` on the line before exempts a block from running.
    """

    language: str
    title: str
    text: str
    line: int
    run: bool

    @property
    def excerpt(self) -> bool:
        return self.title.startswith("src/")


def blocks(page: Path) -> list[Block]:
    """Every block of a page. A fence that is not understood is an error: its code would silently not run."""
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    assert len(re.findall(r"^ *```", text, re.M)) == 2 * len(found), f"{id_of(page)} has a fence that is not understood"
    return [
        Block(
            m["language"],
            m["title"] or "",
            m["text"],
            text.count("\n", 0, m.start("text")),
            run=not (m["mark"] or "").startswith("not run: "),
        )
        for m in found
    ]


def id_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def runnable(page: Path) -> list[Block]:
    return [b for b in blocks(page) if b.language == "python" and b.run and not b.excerpt]


def execute(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    if block.title:
        Path(block.title).write_text(block.text, encoding="utf-8")
        return
    # Blank lines in front make the line numbers of a traceback those of the page.
    exec(compile("\n" * block.line + block.text, str(page), "exec"), namespace)


def harp_commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every `harp …` line in the console blocks of a page."""
    for block in blocks(page):
        if block.language not in ("console", "bash", "sh"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] in ("harp", ".venv/bin/harp"):
                yield words[1:]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, from which a page may also import what it wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


# Code


@pytest.mark.parametrize("page", [p for p in PAGES if runnable(p) and p != TUTORIAL], ids=id_of)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, elsewhere: Path):
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in runnable(page):
        execute(block, page, namespace)


def test_the_readme_shows_the_example_file_which_keeps_its_promises(elsewhere: Path):
    """Weights rest while masks learn, every weight learns afterwards, and the budget is met at the end."""
    shown = (ROOT / "examples" / "own_loop.py").read_text(encoding="utf-8").partition('"""\n\n')[2]
    assert shown in (ROOT / "README.md").read_text(encoding="utf-8")
    shorter = shown.replace("train(6,", "train(1,").partition("print(")[0].replace("pruner.freeze()", "watched()")
    namespace: dict[str, Any] = {}
    moved: list[bool] = []

    def watched() -> None:
        chain = namespace["model"][0].parametrizations.weight
        before = chain.original.detach().clone()
        namespace["pruner"].freeze()
        namespace["train"](1, torch.optim.SGD(namespace["model"].parameters(), lr=0.1))
        moved.append(not torch.equal(chain.original, before))

    namespace["watched"] = watched
    exec(compile(shorter, "own_loop.py", "exec"), namespace)
    model, budget = namespace["model"], namespace["pruner"].budget
    assert moved == [True]
    assert not harp.masks(model)
    assert sum(int(model.get_parameter(name).count_nonzero()) for name in budget.sites) <= budget.limit


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.excerpt for b in blocks(p))], ids=id_of)
def test_an_excerpt_is_the_source_to_the_letter(page: Path):
    for block in blocks(page):
        if block.excerpt:
            for chunk in re.split(r"^\.\.\.\n", block.text, flags=re.M):
                message = f"{block.title} no longer says what {id_of(page)}, line {block.line}, shows:\n{chunk}"
                assert excerpt_of(chunk, ROOT / block.title), message


def excerpt_of(chunk: str, source: Path) -> bool:
    wanted = textwrap.dedent(chunk).rstrip("\n")
    lines, height = source.read_text(encoding="utf-8").splitlines(), wanted.count("\n") + 1
    windows = ("\n".join(lines[i : i + height]) for i in range(len(lines) - height + 1))
    return any(textwrap.dedent(window) == wanted for window in windows)


def test_an_excerpt_that_drifted_is_noticed():
    source = ROOT / "src" / "harp" / "pruning" / "methods.py"
    assert excerpt_of("LWM = Method(magnitude, uniform)\n", source)
    assert not excerpt_of("LWM = Method(magnitude, erk)\n", source)


# Commands


PARSE = """
import contextlib, io, json, pathlib, sys
import tyro
from harp.cli import main, plain
from harp.recipes import Recipe, to_json

class Parsed(Exception):
    pass

def parse(*arguments, real=tyro.cli, **options):
    real(*arguments, **options)
    raise Parsed  # in place of the work that would follow

def run(arguments):
    if len(arguments) > 1 and arguments[0] in ("prune", "finetune", "evaluate", "compare", "cell"):
        recipe = pathlib.Path(arguments[1], "recipe.json")
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(json.dumps({"recipe": to_json(Recipe())}))
    try:
        return main(arguments)
    except Parsed:
        return 0
    except SystemExit as stop:
        return stop.code or 0

tyro.cli = parse
real_plain = plain._parse
plain._parse = lambda *arguments: parse(*arguments, real=real_plain)
answers = []
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = run(arguments)
    answers.append((status, said.getvalue()))
print(json.dumps(answers))
"""


def parsed(lines: list[list[str]], place: Path) -> list[tuple[int, str]]:
    """Exit code and output of each command, run up to where its flags are parsed; runs it names have a default recipe.

    In a process of its own: the marker with which tyro asks for a missing value is no value of the type it stands for.
    """
    call = [sys.executable, "-c", PARSE, json.dumps(lines)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=place, timeout=120)
    assert done.returncode == 0, done.stderr
    return [(status, said) for status, said in json.loads(done.stdout)]


def test_every_command_of_every_page_is_accepted_by_the_real_parser(tmp_path: Path):
    places = [(page, arguments) for page in PAGES for arguments in harp_commands(page)]
    assert len(places) > 20
    for block in (block for page in PAGES for block in blocks(page)):
        if block.title.endswith(".py") and not block.excerpt:  # what commands import
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    answers = parsed([arguments for _, arguments in places], tmp_path)
    refused = [
        f"{id_of(page)}: harp {shlex.join(arguments)}\n{said}"
        for (page, arguments), (status, said) in zip(places, answers, strict=True)
        if status != 0
    ]
    assert not refused, "\n".join(refused)


def test_a_command_with_a_mistake_is_not_accepted(tmp_path: Path):
    lines = ["prune runs/dense --kep 0.1 --out x", "run digitz", "frobnicate", "evaluate runs/x --eps -1"]
    assert all(status != 0 for status, _ in parsed([line.split() for line in lines], tmp_path))


def test_every_flag_in_running_text_exists(tmp_path: Path):
    stages = ["run digits", "pretrain digits", "prune", "finetune", "evaluate"]
    helps = [*stages, "report", "export", "bench", "compare", "cell", "info", "classify", "export net.harp"]
    answers = parsed([[*line.split(), "--help"] for line in helps], tmp_path)
    assert all(status == 0 for status, _ in answers), answers
    known = {"--help", "--version", "--import"} | {flag for _, said in answers for flag in FLAG.findall(said)}
    for page in PAGES:
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        named = {flag for code in re.findall(r"`[^`\n]+`", prose) for flag in FLAG.findall(code)}
        groups = {flag for flag in named if f"{flag}.…" in prose}  # `--task.…` stands for all flags of a group
        assert all(any(k.startswith(f"{g}.") for k in known) for g in groups), page
        assert named - groups <= known, page


RUN = """
import json, sys
from harp.cli import main

for arguments in json.loads(sys.argv[1]):
    status = main(arguments)
    assert status == 0, f"harp {' '.join(arguments)} ended with {status}"
"""


def test_the_tutorial_works_as_written_with_fewer_epochs(elsewhere: Path):
    short = ["--epochs", "1", "--attack-steps", "1"]
    smaller = {"pretrain": short, "prune": short, "finetune": short, "evaluate": ["--images", "10", "--steps", "2"]}
    smaller["run"] = [f"--{stage}.epochs=1" for stage in ("pretrain", "prune", "finetune")]
    smaller["run"] += ["--methods", "harp", "--test.images", "10", "--test.attack", "pgd"]
    # AutoAttack takes minutes, even on ten images.
    lines = [[w if w != "autoattack" else "pgd" for w in words] for words in harp_commands(TUTORIAL)]
    lines = [[*words, *smaller.get(words[0], [])] for words in lines]
    done = subprocess.run([sys.executable, "-W", "error", "-c", RUN, json.dumps(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    namespace: dict[str, Any] = {}
    for block in runnable(TUTORIAL):
        execute(block, TUTORIAL, namespace)
    assert "<!doctype html>" in Path("runs/report.html").read_text(encoding="utf-8").lower()


# Links and tables


def slugs(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_every_link_inside_the_documentation_leads_somewhere(page: Path):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{id_of(page)} links to {target}"
        assert not anchor or anchor in slugs(other), (
            f"{id_of(page)} links to {target}, and {other.name} has {slugs(other)}"
        )


def test_every_file_that_a_page_names_is_there():
    for page in PAGES:
        for path in re.findall(r"`((?:src|tests|examples|benchmarks)/[\w./-]*)`", page.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{id_of(page)} names {path}"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(p.relative_to(ROOT / "docs")) for p in PAGES if (ROOT / "docs") in p.parents]
    assert [page for page in pages if f": {page}\n" not in navigation] == []


def test_everything_the_reference_documents_exists():
    reference = "".join(p.read_text(encoding="utf-8") for p in PAGES)
    for name in re.findall(r"^::: ([\w.]+)$", reference, re.M):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_every_public_name_is_in_the_reference():
    reference = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    named = {name.rpartition(".")[2] for name in re.findall(r"^::: ([\w.]+)$", reference, re.M)}
    named |= set(re.findall(r"`(\w+)`", reference))
    assert set(dir(harp)) <= named


def documented_keys(heading: str) -> set[str]:
    """The names in the first column of the table below `<!-- fields: HEADING -->`."""
    page = (ROOT / "docs" / "reference" / "run-directory.md").read_text(encoding="utf-8")
    table = page.partition(f"<!-- fields: {heading} -->\n\n")[2].partition("\n\n")[0]
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_tables_of_the_run_directory_list_what_is_written():
    model = build_model("vgg_tiny", shape=(3, 16, 16), classes=2)
    card = make_card(
        Recipe(), model, {}, stage="pretrain", method=None, parent=None, classes=("a", "b"), validation_images=0,
        best=None, elapsed_s=0.0,
    )  # fmt: skip
    evaluation = harp.Evaluation(attack="clean", norm=None, eps=None, images=2, correct=1, seed=0, elapsed_s=0.0)
    metrics = importlib.import_module("harp.training.progress").EpochMetrics
    assert documented_keys("harp.training.progress.EpochMetrics") == {f.name for f in dataclasses.fields(metrics)}
    assert documented_keys("recipe") == set(Claim("pretrain", Recipe(), RunDirectory(Path("run"))).record)
    assert documented_keys("card") == set(card)
    data = load_data("digits")
    assert documented_keys("inputs") == set(importlib.import_module("harp.runs.inputs").inputs_of(Recipe(), data))
    assert documented_keys("evaluation") == set(evaluation.to_json())
    text = (ROOT / "docs" / "reference" / "run-directory.md").read_text(encoding="utf-8")
    assert [name for name in [*card["environment"], *card["validation"]] if f"`{name}`" not in text] == []


def test_the_architecture_page_shows_the_layers_that_are_enforced():
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- layers -->\n\n```\n")[2].partition("```")[0].split("\n")
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(c["layers"] for c in config["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert [line for line in shown if line] == layers


def test_the_architecture_page_shows_the_files_that_are_there():
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    tree = page.partition("<!-- tree -->\n\n```\nsrc/harp/\n")[2].partition("```")[0]
    shown: set[str] = set()
    folders: dict[int, str] = {}  # by how far its name is indented
    for line in tree.splitlines():
        name, indent = line.split()[0], len(line) - len(line.lstrip())
        folders = {depth: folder for depth, folder in folders.items() if depth < indent}
        name = "".join(list(folders.values())[-1:]) + name
        shown.add(name)
        folders |= {indent: name} if name.endswith("/") else {}
    package = ROOT / "src" / "harp"
    opened = {f"{name.rstrip('/').rpartition('/')[0]}/".lstrip("/") for name in shown}
    parts = [(folder, part) for folder in opened for part in (package / folder).iterdir() if "__" not in part.name]
    there = {folder + part.name for folder, part in parts if part.suffix == ".py"}
    there |= {f"{folder}{part.name}/" for folder, part in parts if (part / "__init__.py").exists()}
    assert shown == there


def test_every_preset_is_in_the_reference():
    reference = (ROOT / "docs" / "reference" / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in PRESETS if f"`{name}`" not in reference] == []


def test_every_method_of_the_table_is_explained():
    page = (ROOT / "docs" / "explanation" / "harp-on-one-page.md").read_text(encoding="utf-8")
    assert [name for name in harp.methods.METHODS if f"| `{name}`" not in page] == []


def test_the_tables_say_what_was_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    tables = importlib.import_module("tables")
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.rewritten(text) == text, f"{id_of(page)} is stale; run python benchmarks/tables.py"
    assert "HARP 1 %" in tables.networks("demo")
