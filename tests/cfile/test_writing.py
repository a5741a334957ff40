"""What is written is compared first; a bad name, card or layer is refused with the reason, and leaves nothing behind."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from harp.cfile import write_c
from harp.cfile.literals import comment_text, identifier, number, string
from harp.cfile.network import network_of
from harp.cli import main
from harp.runtime import Preprocessing, load
from harp.runtime import lowering as lowering_module
from harp.runtime.format import write
from harp.runtime.graph import Graph, Node

CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
CLASSES = ["cat", 'a "dog"*/ int x;', "Gemüse??/", "\\n%s"]


def network() -> Graph:
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((6, 3, 3, 3)) < 0.3, rng.standard_normal((6, 3, 3, 3)), 0).astype(np.float32)
    head = rng.standard_normal((4, 6)).astype(np.float32)
    nodes = (
        Node("conv", (0,), CONV, {"weight": weight}, "stem"),
        Node("relu", (1,)),
        Node("adaptive_avg_pool", (2,), {"size": (1, 1)}),
        Node("flatten", (3,)),
        Node("linear", (4,), {}, {"weight": head}, "head"),
    )
    return Graph((3, 6, 5), nodes)


def card() -> dict:
    return {"name": "a /* small */ one\\", "classes": CLASSES, "preprocessing": Preprocessing((6, 5)).to_json()}


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numpy compares, which takes no time."""
    monkeypatch.setenv("CC", "")


def test_without_a_compiler_numpy_compares(no_compiler, tmp_path):
    done = write_c(tmp_path / "net.c", network(), card=card())
    assert done.by == "numpy"
    assert done.difference < 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.c", "net.h"]


def test_the_header_says_what_goes_in_and_what_comes_out(no_compiler, tmp_path):
    done = write_c(tmp_path / "my-net.c", network(), card=card())
    text = " ".join(done.header.read_text().replace("\n *", " ").split())
    assert "three channels, red, green, blue, 6 rows of 5 pixels" in text
    assert "[0, 1]: an 8-bit value divided by 255" in text
    assert str(Preprocessing((6, 5))).replace("×", "?") in text
    assert "0: cat, 1: a" in text
    assert f"{done.constant_bytes:,} bytes of constants" in text
    sizes = dict(re.findall(r"#define MY_NET_(\w+) (\d+)", text))
    assert sizes == {
        **{"CHANNELS": "3", "HEIGHT": "6", "WIDTH": "5", "INPUTS": "90", "OUTPUTS": "4"},
        **{"CONSTANT_BYTES": str(done.constant_bytes), "ARENA_BYTES": str(done.arena_bytes)},
    }


def test_a_card_without_classes_and_preprocessing_is_said_to_have_none(no_compiler, tmp_path):
    text = write_c(tmp_path / "net.c", network()).header.read_text()
    assert "is not recorded in the file" in text
    assert "carries no names of classes" in text
    assert "net_classes" not in text


MAIN = r"""
#include <stdio.h>
#include "net.h"
int main(void) {
  static const uint8_t pixels[NET_INPUTS] = {%s};
  float image[NET_INPUTS], result[NET_OUTPUTS];
  int i;
  net_pixels(pixels, image);
  net_run(image, result);
  printf("%%s", net_classes[net_class(result)]);
  for (i = 0; i < NET_OUTPUTS; i++) printf("\n%%.9g", (double)result[i]);
  return 0;
}
"""


def test_a_program_of_ten_lines_names_the_class_of_an_image(cc, tmp_path):
    write(tmp_path / "net.harp", network(), card=card())
    write_c(tmp_path / "net.c", network(), card=card())
    pixels = np.random.default_rng(1).integers(0, 256, (1, 6, 5, 3), np.uint8)
    (tmp_path / "main.c").write_text(MAIN % ", ".join(map(str, pixels.ravel())))
    command = [cc, "-std=c99", "-Wall", "-Werror", "-o", "program", "main.c", "net.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "program"], capture_output=True, check=True).stdout.decode().split("\n")
    logits = load(tmp_path / "net.harp", threads=1)(pixels)[0]
    assert said[0] == CLASSES[logits.argmax()]
    np.testing.assert_allclose([float(word) for word in said[1:]], logits, rtol=1e-4, atol=1e-6)


def test_whatever_a_card_says_is_text(cc, tmp_path):
    """Quotes, ends of comments, trigraphs and escapes in names compile, and come out as they are."""
    write_c(tmp_path / "net.c", network(), card=card())
    show = '#include <stdio.h>\n#include "net.h"\nint main(void) { int i; for (i = 0; i < 4; i++) puts(net_classes[i]); return 0; }'
    (tmp_path / "main.c").write_text(show)
    subprocess.run([cc, "-std=c99", "-Wall", "-Werror", "-o", "program", "main.c", "net.c"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "program"], capture_output=True, check=True).stdout.decode()
    assert said.splitlines() == CLASSES


def test_rounding_that_changes_too_much_is_refused_with_the_amount(no_compiler, tmp_path):
    with pytest.raises(
        ValueError, match=r"values='int8' in numpy results are off by at most 0\.0\d+ .*tolerance=1e-06"
    ):
        write_c(tmp_path / "net.c", network(), values="int8", tolerance=1e-6)
    assert not list(tmp_path.iterdir())


def test_smaller_values_take_fewer_bytes_at_the_promised_accuracy(no_compiler, tmp_path):
    done = {values: write_c(tmp_path / "net.c", network(), values=values) for values in ("f32", "f16", "int8")}
    assert done["f32"].constant_bytes > done["f16"].constant_bytes > done["int8"].constant_bytes
    assert done["f32"].difference < 1e-5 < done["f16"].difference < 1e-3 < done["int8"].difference < 2e-2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.h", "expected a name such as net.c"),
        ('n"et.c', "expected a name such as net.c"),
        ("math.c", "whose header is none of C's own"),
        (".c", "expected a name such as net.c"),
    ],
)
def test_a_name_that_is_none_for_a_c_file_is_refused(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        write_c(tmp_path / name, network())


def test_a_card_of_another_number_of_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"names 2 classes, and the network gives \(4,\)"):
        write_c(tmp_path / "net.c", network(), card={"classes": ["a", "b"]})


def test_a_weight_that_half_precision_cannot_hold_names_its_layer(tmp_path):
    node = Node("linear", (1,), {}, {"weight": np.full((1, 4), 1e6, np.float32)}, "head.fc")
    graph = Graph((1, 2, 2), (Node("flatten", (0,)), node))
    with pytest.raises(ValueError, match=r"head\.fc.*holds 1000000.0, which f16 cannot"):
        write_c(tmp_path / "net.c", graph, values="f16")


def test_a_layer_that_c_does_not_know_is_refused_by_name(monkeypatch):
    """As a later runtime may have them."""
    layers = lambda graph: [replace(layer, kind="attention") for layer in lowered(graph)]  # noqa: E731
    lowered = lambda graph: lowering_module.lower(graph, ((3, 6, 5), *[(6, 6, 5)] * 2, (6, 1, 1), (6,), (4,)))  # noqa: E731
    monkeypatch.setattr("harp.cfile.network.layers_of", layers)
    with pytest.raises(ValueError, match=r"attention \('stem'\) cannot be written in C: expected conv, activation"):
        network_of(network(), "f32")


def test_an_activation_that_c_does_not_know_is_refused_by_name():
    graph = Graph((1, 2, 2), (Node("tanh", (0,), {}, {}, "act"),))
    with pytest.raises(ValueError, match=r"activation 'tanh' \('act'\) cannot be written in C: expected relu, relu6"):
        network_of(graph, "f32")


def test_a_compiler_that_fails_is_quoted(cc, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", f"{cc} -std=nothing")
    with pytest.raises(ValueError, match=r"does not compile the C file: .*nothing.*name another compiler in CC"):
        write_c(tmp_path / "net.c", network())
    assert not list(tmp_path.iterdir())


# The command


def test_a_file_is_exported_without_torch(tmp_path):
    write(tmp_path / "net.harp", network(), card=card())
    program = f"""
import sys
for name in ("torch", "tyro"):
    sys.modules[name] = None
from harp.cli import main
sys.exit(main(["export", {str(tmp_path / "net.harp")!r}, "--format", "c", "--out", {str(tmp_path / "net.c")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r"[\d,]+ bytes of constants in .*net\.c, [\d,]+ weights; net\.h beside it", done.stdout)
    assert "random pixels (--images names real ones)" in done.stdout


def test_real_images_are_compared_and_a_file_that_is_there_is_kept(no_compiler, tmp_path, capsys):
    write(tmp_path / "net.harp", network(), card=card())
    Image.effect_noise((30, 36), 80).save(tmp_path / "photo.png")
    words = ["export", str(tmp_path / "net.harp"), "--format", "c", "--out", str(tmp_path / "net.c")]
    assert main([*words, "--images", str(tmp_path / "photo.png")]) == 0
    assert "Checked on 1 images: " in capsys.readouterr().out
    (tmp_path / "net.c").unlink()
    assert main(words) == 2
    assert "net.h is there already; replace it with --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


# Text of C


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 0.1, 1e-45, 1.1754942e-38, 3.4028235e38, -123456.79, 1e10, 1e-5])
def test_a_number_reads_back_as_itself(value: float):
    text = number(value)
    assert re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?f", text)
    assert "." in text
    assert np.float32(text[:-1]) == np.float32(value)


def test_what_is_no_float_is_refused():
    with pytest.raises(ValueError, match="1e\\+300 is not a finite float32"):
        number(1e300)
    with pytest.raises(ValueError, match="has 5,000 bytes: expected a name of at most 4,095"):
        string("x" * 5000)


def test_names_and_comments_are_made_harmless():
    assert [identifier(stem) for stem in ("net", "my-net_2", "1net", "__", "é")] == [
        "net",
        "my_net_2",
        "net_1net",
        "net",
        "net",
    ]
    assert comment_text("*/ /* ??/ \\\n ü") == "* / / * ? ?/ ? ? ?"
