"""A finished run is judged on the test set: what its card holds is not computed again, what stopped goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from harp.attacks import AutoAttack, Minimal, Settled, Threat
from harp.cards import Evaluation, read_card
from harp.checkpoint import load_tensors, save_tensors
from harp.files import write_json
from harp.recipes import ATTACK_NAMES, Compute, Evaluating, Pruning, Recipe, Task, Training
from harp.runs.directory import RunDirectory
from harp.runs.opening import open_run
from harp.stages.ancestry import dense_parent
from harp.stages.attacks import attacks_of
from harp.stages.evaluate import EXAMPLES, evaluate_run, is_evaluated
from harp.stages.train import pretrain, prune
from harp.stages.watch import Watch

CPU = Compute(device="cpu")
PGD = Evaluating(attack="pgd", images=12, steps=2, batch_size=4)


@pytest.fixture
def run(tiny: Path) -> Path:
    task = Task(data="tiny:data", model="tiny:network", eps=0.1, validation=0.2)
    learn = Training(epochs=1, batch_size=18, objective="n-fgsm")
    return pretrain(Recipe(task, pretrain=learn, compute=CPU), tiny / "dense").path


def work(run: Path, settings: Evaluating) -> tuple[list[Evaluation], list[str]]:
    """What is found, and the names of the attacks that had to be run for it."""
    begun: list[str] = []
    found = evaluate_run(run, settings, CPU, watch=Watch(on_images=lambda name, done, images: begun.append(name)))
    return found, list(dict.fromkeys(begun))


def test_clean_images_come_first_and_the_card_keeps_everything(run):
    found, begun = work(run, PGD)
    assert begun == ["clean", "pgd-2"]
    assert [(e.attack, e.eps, e.images) for e in found] == [("clean", None, 12), ("pgd-2", 0.1, 12)]
    assert list(read_card(run / "card.json").evaluations) == found
    assert [path.name for path in RunDirectory(run).evaluations.iterdir()] == ["examples.safetensors"]


def test_what_the_card_holds_is_not_computed_again(run):
    assert not is_evaluated(run, PGD, 24)
    found, _ = work(run, PGD)
    assert work(run, PGD) == (found, [])
    assert is_evaluated(run, PGD, 24)
    assert work(run, replace(PGD, eps=(0.1, 0.05, 0.05)))[1] == ["pgd-2"]
    assert [e.eps for e in list(read_card(run / "card.json").evaluations)] == [None, 0.1, 0.05]


@pytest.mark.parametrize("change", [{"step_size": 0.01}, {"steps": 3}, {"images": 13}, {"eps": (0.2,)}])
def test_another_question_is_another_result(run, change):
    before, _ = work(run, PGD)
    found, begun = work(run, replace(PGD, **change))
    assert begun[-1] == found[-1].attack
    assert found[-1] not in before
    assert list(read_card(run / "card.json").evaluations)[:2] == before


@pytest.mark.parametrize("attack", ["pgd", "cw"])
def test_an_evaluation_that_was_stopped_goes_on_to_the_same_result(run, attack):
    settings, asked = replace(PGD, attack=attack), []

    def stop() -> bool:
        asked.append(bool(list(read_card(run / "card.json").evaluations)))
        return sum(asked) == 17  # of the times after the clean images, before a pass of the attack

    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, settings, CPU, watch=Watch(should_stop=stop))
    assert [e.attack for e in list(read_card(run / "card.json").evaluations)] == ["clean"]
    stopped = [replace(e, elapsed_s=0.0) for e in evaluate_run(run, settings, CPU)]
    card = RunDirectory(run).card
    write_json(card, {**json.loads(card.read_text()), "evaluations": []})
    assert [replace(e, elapsed_s=0.0) for e in evaluate_run(run, settings, CPU)] == stopped


def test_more_images_than_there_are_means_all_of_them(run):
    assert [e.images for e in evaluate_run(run, replace(PGD, images=5000), CPU)] == [24, 24]
    assert is_evaluated(run, replace(PGD, images=None), 24)


def test_clean_accuracy_alone_attacks_nothing(run):
    assert work(run, Evaluating(attack="clean"))[1] == ["clean"]
    assert not RunDirectory(run).examples.exists()


def test_examples_are_made_once(run):
    evaluate_run(run, PGD, CPU)
    made = RunDirectory(run).examples.stat().st_mtime_ns
    evaluate_run(run, replace(PGD, images=EXAMPLES + 1), CPU)
    assert RunDirectory(run).examples.stat().st_mtime_ns == made


def test_an_impossible_radius_is_refused_before_any_work(run):
    before = RunDirectory(run).card.read_bytes()
    with pytest.raises(ValueError, match=r"eps=1.5 "):
        evaluate_run(run, replace(PGD, eps=(0.1, 1.5)), CPU)
    assert RunDirectory(run).card.read_bytes() == before


def test_a_run_that_is_not_finished_cannot_be_judged(run):
    (run / "card.json").unlink()
    with pytest.raises(ValueError, match=r"dense is not finished.*the command that made it again"):
        evaluate_run(run, PGD, CPU)


def test_a_damaged_card_is_named(run):
    evaluate_run(run, PGD, CPU)
    card = json.loads((run / "card.json").read_text())
    card["evaluations"][1]["correct"] = 99
    write_json(run / "card.json", card)
    with pytest.raises(
        ValueError, match=r"card.json, evaluations.1.: correct is 99, expected a whole number from 0 to 12"
    ):
        evaluate_run(run, PGD, CPU)


def test_a_note_in_other_words_does_not_make_it_another_evaluation(run):
    """What decides are fields: step size, random start, restarts."""
    settings = replace(PGD, step_size=0.01)
    found, _ = work(run, settings)
    assert (found[1].step_size, found[1].random_start, found[1].restarts) == (0.01, True, 1)
    card = json.loads((run / "card.json").read_text())
    for each in card["evaluations"]:
        each["notes"] = ["steps of any length"]
    write_json(run / "card.json", card)
    assert work(run, settings)[1] == []


def test_fgsm_and_one_step_of_pgd_are_two_evaluations_under_one_name(run):
    fgsm, _ = work(run, replace(PGD, attack="fgsm"))
    pgd, begun = work(run, replace(PGD, steps=1))
    assert begun == ["pgd-1"]
    assert [e.how for e in (fgsm[1], pgd[1])] == [("steps of 0.1", "no random start"), ()]


def test_a_card_of_an_earlier_version_still_answers(run):
    """It had notes where there are fields now, and six digits of the step."""
    asked = [replace(PGD, step_size=2 / 255), replace(PGD, attack="fgsm"), PGD]
    for settings in asked:
        work(run, settings)
    card = json.loads((run / "card.json").read_text())
    for each, note in zip(card["evaluations"], ([], ["steps of 0.00784314"], ["no random start"], []), strict=True):
        for name in ("step_size", "random_start", "restarts", "chance"):
            del each[name]
        each["notes"] = note
    write_json(run / "card.json", card)
    assert [work(run, settings)[1] for settings in asked] == [[], [], []]
    assert [e.notes for e in list(read_card(run / "card.json").evaluations)] == [()] * 4


def test_the_images_of_the_report_are_attacked_as_was_asked_for(run):
    work(run, replace(PGD, eps=(0.05, 0.1)))
    with safe_open(RunDirectory(run).examples, framework="numpy") as file:
        assert file.metadata() == {"attack": "pgd-2", "eps": "0.1"}


def test_a_network_that_always_gives_one_answer_is_said_to_be_at_chance(run):
    weights = load_tensors(RunDirectory(run).model)
    save_tensors(RunDirectory(run).model, {name: value * 0 for name, value in weights.items()})
    clean, _ = evaluate_run(run, PGD, CPU)
    assert clean.at_chance
    assert clean.notes == (
        f"not separably above chance: one and the same answer is right for {100 * (clean.chance or 0):.1f} % of the images",
    )
    assert json.loads((run / "card.json").read_text())["evaluations"][0]["notes"] == list(clean.notes)


SETTLED = Evaluating(attack="settled", images=12, batch_size=4)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """AutoAttack of two iterations, so that a test need not wait for the real one."""
    base = AutoAttack(Threat("linf", 0.1), iterations=2, queries=6)
    monkeypatch.setattr(
        "harp.stages.attacks.settled", lambda threat, seed: Settled(replace(base, threat=threat, seed=seed))
    )


def test_a_settled_evaluation_is_asked_for_by_name_and_answers_from_the_card(run, quick):
    found, begun = work(run, SETTLED)
    assert begun == ["clean", "settled"]
    assert [(e.attack, e.eps) for e in found] == [("clean", None), ("settled", 0.1)]
    assert list(found[1].per_attack)[:1] == ["apgd-ce"]
    assert work(run, SETTLED) == (found, [])


def test_the_dense_parent_of_a_pruned_run_is_found_while_it_is_there(run, tiny):
    pruned = prune(
        Recipe(open_run(run).recipe.task, prune=Pruning(method="lwm", keep=0.5, epochs=1), compute=CPU), run, tiny / "p"
    ).path
    assert dense_parent(run) is None
    assert dense_parent(pruned).resolve() == run.resolve()
    run.rename(tiny / "gone")
    assert dense_parent(pruned) is None


def test_minimal_distances_are_asked_for_by_name_at_one_radius(run, monkeypatch):
    monkeypatch.setattr(Minimal, "steps", 4)
    settings = Evaluating(attack="minimal", images=12, batch_size=4)
    found, begun = work(run, settings)
    assert begun == ["clean", "minimal"]
    assert len(found[1].distances) == 12
    assert work(run, settings) == (found, [])
    with pytest.raises(ValueError, match=r"eps=.* must be one radius for attack='minimal'"):
        evaluate_run(run, replace(settings, eps=(0.1, 0.2)), CPU)


def test_corruptions_go_to_the_card_and_a_stop_loses_nothing_that_was_finished(run):
    clean = Evaluating(attack="clean", images=12, batch_size=4)
    seen: list[int] = []

    def stop() -> bool:
        return len(seen) == 3

    watch = Watch(
        on_images=lambda name, done, total: seen.append(done) if name == "corruptions" else None, should_stop=stop
    )
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, replace(clean, corruptions=True), CPU, watch=watch)
    assert read_card(run / "card.json").corruptions is None
    again: list[int] = []
    watch = Watch(on_images=lambda name, done, total: again.append(done) if name == "corruptions" else None)
    evaluate_run(run, replace(clean, corruptions=True), CPU, watch=watch)
    found = read_card(run / "card.json").corruptions
    assert found is not None
    assert (found.images, found.versions, len(again)) == (12, 75, 72)
    assert list(RunDirectory(run).evaluations.iterdir()) == []
    evaluate_run(run, replace(clean, corruptions=True), CPU)
    assert read_card(run / "card.json").corruptions == found


@pytest.mark.parametrize("name", [name for name in ATTACK_NAMES if name != "clean"])
def test_every_attack_that_can_be_named_is_made_at_the_radius_asked_for(name: str):
    recipe = Recipe(Task("digits"))
    clean, attack = attacks_of(Evaluating(attack=name, eps=(0.25,)), recipe)
    assert clean is None
    assert attack.name.partition("-")[0] == {"fgsm": "pgd"}.get(name, name)  # FGSM is one step of PGD
    assert attack.threat.eps == 0.25
