// The engine without Python: one sparse convolution with ReLU and pooling, compared with six nested loops.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

#include "engine.h"
#include "processor.h"

namespace {

constexpr int INPUTS = 3, OUTPUTS = 12, SIDE = 14, IMAGES = 5;

harp::Node convolution() {
  harp::Node node;
  node.kind = harp::Kind::conv;
  node.inputs = {0};
  for (int axis = 0; axis < 2; ++axis) node.kernel[axis] = 3, node.padding[axis] = 1;
  node.activation = harp::Activation::relu;
  node.pool = true;
  harp::Weights w{OUTPUTS, INPUTS, 1, {0}, {}, {}, {}};
  for (int o = 0; o < OUTPUTS; ++o) {
    for (int column = o % 4; column < INPUTS * 9; column += 4) {
      w.columns.push_back(column);
      w.values.push_back(static_cast<float>((o * 7 + column * 5) % 11 - 5) / 8.0f);
    }
    w.rows.push_back(static_cast<std::int64_t>(w.values.size()));
    w.bias.push_back(static_cast<float>(o - 6) / 4.0f);
  }
  node.weights = std::make_shared<harp::Weights>(std::move(w));
  return node;
}

float expected(const harp::Node& node, const float* image, int o, int y, int x) {
  const harp::Weights& w = *node.weights;
  float sum = w.bias[o];
  for (std::int64_t k = w.rows[o]; k < w.rows[o + 1]; ++k) {
    const int channel = w.columns[k] / 9, in_y = y + w.columns[k] % 9 / 3 - 1, in_x = x + w.columns[k] % 3 - 1;
    if (in_y >= 0 && in_y < SIDE && in_x >= 0 && in_x < SIDE)
      sum += w.values[k] * image[(channel * SIDE + in_y) * SIDE + in_x];
  }
  return std::max(sum, 0.0f);
}

}  // namespace

int main() {
  harp::Network network;
  network.nodes.push_back(convolution());
  const harp::Node node = network.nodes[0];
  std::vector<float> in(IMAGES * INPUTS * SIDE * SIDE), out(IMAGES * OUTPUTS * SIDE * SIDE / 4);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i * 37 % 101) / 101.0f;
  harp::Engine engine(std::move(network), harp::find_kernels(""), 2);
  engine.run({in.data(), false}, IMAGES, {{INPUTS, SIDE, SIDE}, {OUTPUTS, SIDE / 2, SIDE / 2}}, out.data(), true);
  float worst = 0.0f;
  std::size_t at = 0;
  for (int image = 0; image < IMAGES; ++image)
    for (int o = 0; o < OUTPUTS; ++o)
      for (int y = 0; y < SIDE; y += 2)
        for (int x = 0; x < SIDE; x += 2) {
          const float* from = in.data() + image * INPUTS * SIDE * SIDE;
          float largest = 0.0f;
          for (int i = 0; i < 4; ++i) largest = std::max(largest, expected(node, from, o, y + i / 2, x + i % 2));
          worst = std::max(worst, std::fabs(out[at++] - largest));
        }
  std::printf("%s, %d threads: off by %g\n", engine.kernels()->isa, engine.threads(), worst);
  return worst < 1e-5f ? 0 : 1;
}
