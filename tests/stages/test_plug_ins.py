"""Plug-ins, Robust-ADMM, Free-AT and starts through the stages and the command line: each trains, and says so."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harp.checkpoint import load_tensors
from harp.pruning import STARTS, attach_masks, masks, weight_budget
from harp.recipes import ADMM, Compute, Evaluating, Pruning, Recipe, Task, Training, name_of, plug_ins
from harp.stages.pipeline import run_all
from harp.stages.train import finetune, pretrain, prune
from harp.stages.watch import Watch
from harp.training.build import keep_rule, make_objective, method_of

LEARN = {"epochs": 1, "batch_size": 18, "attack_steps": 1, "lr": 0.05}
RECIPE = Recipe(
    task=Task(data="tiny:data", model="tiny:network", eps=0.1, validation=0.2),
    pretrain=Training(**LEARN),
    prune=Pruning(**LEARN, keep=0.25),
    finetune=Training(**LEARN),
    test=Evaluating(attack="pgd", images=8, steps=2),
    compute=Compute(device="cpu"),
)


@pytest.fixture
def dense(tiny: Path) -> Path:
    return pretrain(RECIPE, tiny / "dense").path


def card_of(run: Path) -> dict:
    return json.loads((run / "card.json").read_text(encoding="utf-8"))


# The command line


RUN = """
import contextlib, io, json, sys
from harp.cli import main

answers = []
for line in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(line.split())
    answers.append((status, said.getvalue()))
print(json.dumps(answers))
"""


def answers_to(lines: list[str]) -> list[tuple[int, str]]:
    """Exit code and output of each command, in one process without the type checks of the tests, which tyro fails."""
    call = [sys.executable, "-W", "error", "-c", RUN, json.dumps(lines)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [(status, said) for status, said in json.loads(done.stdout)]


PRUNING = [
    "--s2ap-rho 0.1 --s2ap-warmup 0.0",
    "--method hydra --s2ap-rho 0.1",
    "--start erk",
    "--start lamp",
    "--start target",
    "--method r-admm",
    "--method gmp --gmp-every 1 --awp-gamma 0.01",
    "--method gmp-lamp --gmp-settle 0.5 --ema 0.9",
    "--method flying-bird --bird-every 2 --bird-drop 0.3 --ema 0.9",
    "--method flying-bird-plus --bird-start 1.5 --bird-settle 1.0",
    "--method harp-published --gamma-step 0.1",
    "--distill 1.0 --objective trades",
    "--method r-admm --admm-rho 0.5 --admm-growth 2.0 --admm-rounds 3 --awp-gamma 0.01",
    "--objective free-at --replays 2",
    "--objective free-at --replays 2 --s2ap-rho 0.1 --rule ramp",
]
FINETUNING = [
    "--awp-gamma 0.01",
    "--distill 0.5 --label-smoothing 0.1",
    "--cutmix 0.5 --random-erasing 0.25 --rand-augment 9",
    "--ema 0.9",
    "--objective free-at --replays 2",
    "--awp-gamma 0.1 --objective trades",
]


def test_each_flag_from_the_command_line_trains_a_step_and_keeps_the_exact_budget(dense):
    lines = [f"prune dense --out p{n} {flags}" for n, flags in enumerate(PRUNING)]
    lines += [f"finetune p0 --out f{n} {flags}" for n, flags in enumerate(FINETUNING)]
    for line, (status, said) in zip(lines, answers_to(lines), strict=True):
        assert status == 0, said
        out, flags = Path(line.split()[3]), line.split()[4:]
        recipe = json.loads((out / "recipe.json").read_text(encoding="utf-8"))["recipe"]
        stage = recipe["prune" if line.startswith("prune") else "finetune"]
        for flag, value in zip(flags[::2], flags[1::2], strict=True):
            assert str(stage[flag.removeprefix("--").replace("-", "_")]) == value, line
        assert sum(int(mask.sum()) for mask in load_tensors(out / "masks.safetensors").values()) == 42
        assert len((out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    assert card_of(Path("p0"))["name"] == "HARP + S2AP 25 %"
    assert "HARP + S2AP + AWP 25 %" in said
    assert card_of(Path("f0"))["plug_ins"] == ["S2AP", "AWP"]
    assert card_of(Path("f0"))["method"] == "harp"


def test_s2ap_on_a_method_without_scores_is_refused_and_no_run_begins(dense):
    ((status, said),) = answers_to(["prune dense --out masked --method lwm --s2ap-rho 0.1"])
    assert status == 2
    assert "must be harp or hydra with s2ap_rho" in said
    assert not Path("masked").exists()


# Labels


@pytest.mark.parametrize(
    ("stage", "changes", "name"),
    [
        ("pretrain", {}, "Dense"),
        ("pretrain", {"pretrain": Training(awp_gamma=0.01)}, "Dense + AWP"),
        ("prune", {"prune": Pruning(s2ap_rho=0.1, method="hydra")}, "HYDRA + S2AP 1 %"),
        ("prune", {"prune": Pruning(awp_gamma=0.1)}, "HARP 1 %"),  # no weight learned
        ("prune", {"prune": Pruning(awp_gamma=0.1, method=ADMM)}, "R-ADMM + AWP 1 %"),
        ("prune", {"finetune": Training(awp_gamma=0.01)}, "HARP 1 %"),  # not yet
        ("finetune", {"finetune": Training(awp_gamma=0.01)}, "HARP + AWP 1 %"),
        ("finetune", {"pretrain": Training(awp_gamma=0.01)}, "HARP 1 %"),  # its parent's
        ("finetune", {"prune": Pruning(method=ADMM, keep=0.005)}, "R-ADMM 0.5 %"),
    ],
)
def test_a_network_is_named_after_its_method_and_plug_ins(stage, changes, name):
    assert name_of(replace(Recipe(), **changes), stage) == name
    assert all(each in name for each in plug_ins(replace(Recipe(), **changes), stage))


# Stages


def test_admm_moves_the_weights_to_where_they_are_cut(dense):
    """With a strong pull what is cut off is near zero, and far from it in the parent."""
    strong = replace(RECIPE, prune=replace(RECIPE.prune, epochs=3, method=ADMM, admm_rho=3.0))
    run = prune(strong, dense, Path("admm"))
    before, after, chosen = (load_tensors(file) for file in (Path("dense/model.safetensors"), run.model, run.masks))
    assert {name: int(mask.sum()) for name, mask in chosen.items()} == {"1.weight": 18, "5.weight": 24}
    assert any(not torch.equal(before[name], after[name]) for name in chosen)
    assert all(after[name][~mask].count_nonzero() == 0 for name, mask in chosen.items())
    final = finetune(strong, run.path, Path("final"))
    assert card_of(final.path)["name"] == "R-ADMM 25 %"
    assert card_of(final.path)["kept"] == 42


def test_admm_reports_the_accuracy_of_the_network_that_it_leaves(dense):
    """Not that of the dense weights on their way: the card of the run is about the run."""
    from harp.attacks import PGD, Threat
    from harp.evaluation import evaluate
    from harp.runs.images import open_data
    from harp.runs.network import load_network
    from harp.runs.opening import open_run

    recipe = replace(RECIPE, prune=replace(RECIPE.prune, epochs=2, method=ADMM))
    run = prune(recipe, dense, Path("admm"))
    data = open_data(recipe)
    model = load_network(open_run(run.path), data)
    assert data.validation is not None
    found = card_of(run.path)["validation"]
    assert evaluate(model, data.validation, seed=0).accuracy == found["clean_accuracy"]
    attack = PGD(Threat("linf", 0.1), steps=10)
    assert abs(evaluate(model, data.validation, attack, seed=0).accuracy - found["robust_accuracy"]) < 0.2


def test_admm_says_nothing_of_a_budget_that_was_missed(dense, caplog):
    prune(replace(RECIPE, prune=replace(RECIPE.prune, epochs=2, method=ADMM)), dense, Path("admm"))
    assert "budget" not in caplog.text


@pytest.mark.parametrize(
    "settings", [{"method": ADMM, "epochs": 3}, {"objective": "free-at", "replays": 3, "epochs": 3}]
)
def test_an_interrupted_stage_ends_with_the_bits_of_one_that_was_not(settings, dense):
    recipe = replace(RECIPE, prune=replace(RECIPE.prune, **settings))
    whole = prune(recipe, dense, Path("whole"))
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count == 5

    with pytest.raises(KeyboardInterrupt):
        prune(recipe, dense, Path("halves"), watch=Watch(should_stop=stop))
    halves = prune(recipe, dense, Path("halves"))
    ours, theirs = load_tensors(halves.model), load_tensors(whole.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_whole_job_gives_every_method_its_plug_ins_and_the_same_passes(tiny):
    recipe = replace(RECIPE, prune=replace(RECIPE.prune, s2ap_rho=0.1), finetune=replace(RECIPE.finetune, epochs=3))
    finals = run_all(recipe, ("harp", ADMM, "lwm"), tiny / "runs")
    assert [card_of(final)["name"] for final in finals] == ["Dense", "HARP + S2AP 25 %", "R-ADMM 25 %", "LWM 25 %"]
    epochs = [json.loads((final / "recipe.json").read_text())["recipe"]["finetune"]["epochs"] for final in finals[1:]]
    assert epochs == [2, 3, 4]  # 8 passes of two a step: 2.75 for S2AP, 2 for ADMM, none for magnitude


@pytest.mark.parametrize(
    ("granularity", "said"), [("channel", "the smallest reachable is"), ("weight", "choose keep >=")]
)
def test_a_budget_that_cannot_be_met_is_refused_before_a_parent_is_trained(tiny, granularity: str, said: str):
    recipe = replace(RECIPE, prune=replace(RECIPE.prune, granularity=granularity, keep=1e-4))
    with pytest.raises(ValueError, match=said):
        run_all(recipe, ("harp",), tiny / "runs")
    assert not (tiny / "runs").exists()


def test_a_run_of_a_version_that_did_not_know_these_settings_is_still_the_same_run(dense):
    """Otherwise every finished run would be refused, or made again, after an update."""
    run = prune(RECIPE, dense, Path("masked"))
    record = json.loads(run.recipe.read_text(encoding="utf-8"))
    for name in ("start", "s2ap_rho", "s2ap_warmup", "admm_rho", "admm_growth", "admm_rounds", "awp_gamma", "replays"):
        del record["recipe"]["prune"][name]
    run.recipe.write_text(json.dumps(record), encoding="utf-8")
    written = run.card.stat().st_mtime_ns
    assert prune(RECIPE, dense, Path("masked")).card.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match=r"prune\.s2ap_rho \(0\.0 there, 0\.1 here\)"):
        prune(replace(RECIPE, prune=replace(RECIPE.prune, s2ap_rho=0.1)), dense, Path("masked"))


# Choices


@pytest.mark.parametrize("start", STARTS)
def test_learned_fractions_start_where_the_recipe_says(start):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.Linear(30, 20), torch.nn.Linear(20, 10))
    budget = weight_budget(model, keep=0.05)
    attach_masks(model, budget, method_of(Pruning(start=start)))
    keeps = {name: float(mask.keep.detach()) for name, mask in masks(model).items()}
    assert budget.used(model).item() == pytest.approx(0.05 if start == "target" else 0.1, rel=0.02)
    assert (len({round(keep, 4) for keep in keeps.values()}) == 1) == (start in ("uniform", "target"))
    if start == "erk":
        assert keeps["2.weight"] > keeps["1.weight"] > keeps["0.weight"]  # the smaller the denser


def test_where_fractions_start_is_no_business_of_a_method_that_learns_none():
    assert method_of(Pruning(method="hydra", start="erk")) == method_of(Pruning(method="hydra"))


def test_the_rule_of_admm_has_the_settings_of_the_recipe():
    model = torch.nn.Linear(10, 10)
    rule = keep_rule(
        model, weight_budget(model, keep=0.1), Pruning(method=ADMM, admm_rho=0.3, admm_growth=2.0, admm_rounds=4), 8
    )
    assert (rule.gamma, rule.growth, rule.rounds, rule.steps) == (0.3, 2.0, 4, 8)
    assert keep_rule(model, weight_budget(model, keep=0.1), Pruning(method=ADMM, lr=0.1), 60).gamma == pytest.approx(
        0.1
    )


def test_the_loss_of_free_at_has_the_settings_of_the_recipe():
    from harp.attacks import Threat

    loss = make_objective(Training(objective="free-at", replays=3, attack_step_size=0.05), Threat("linf", 0.1))
    assert (loss.replays, loss.step_size) == (3, 0.05)
    assert make_objective(Training(objective="free-at"), Threat("linf", 0.1)).step_size == 0.1
