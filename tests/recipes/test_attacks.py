import pytest

from harp.recipes import ATTACK_NAMES, attack_label, attack_order


@pytest.mark.parametrize(
    ("attack", "name"),
    [("pgd-20", "PGD-20"), ("cw-5", "C&W-5"), ("autoattack", "AutoAttack"), ("clean", "Clean"), ("my-own", "my-own")],
)
def test_attacks_have_the_names_of_their_papers(attack: str, name: str):
    assert attack_label(attack) == name


def test_attacks_are_listed_from_the_weakest_to_the_strongest_and_unknown_ones_beside_autoattack():
    assert sorted(["settled", "pgd-20", "mine", "clean", "autoattack", "fgsm"], key=attack_order) == [
        *("clean", "fgsm", "pgd-20", "autoattack", "mine", "settled"),
    ]


def test_every_name_has_a_label_of_its_own():
    labels = [attack_label(f"{name}-20" if name in ("pgd", "cw") else name) for name in ATTACK_NAMES]
    assert len(set(labels)) == len(labels)
    assert not set(labels) & set(ATTACK_NAMES)
