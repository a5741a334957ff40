// The engine without Python: a sparse convolution with ReLU and pooling, forward and back, compared with nested loops.
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
  harp::Weights w{OUTPUTS, INPUTS, 1, {0}, {}, {}, {}, {}};
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

bool inside(int y, int x) { return y >= 0 && y < SIDE && x >= 0 && x < SIDE; }

// Of non-zero k: where it reads for the output at (y, x), or -1.
int source(const harp::Weights& w, std::int64_t k, int y, int x) {
  const int in_y = y + w.columns[k] % 9 / 3 - 1, in_x = x + w.columns[k] % 3 - 1;
  return inside(in_y, in_x) ? (w.columns[k] / 9 * SIDE + in_y) * SIDE + in_x : -1;
}

float convolved(const harp::Weights& w, const float* image, int o, int y, int x) {
  float sum = w.bias[o];
  for (std::int64_t k = w.rows[o]; k < w.rows[o + 1]; ++k) {
    const int from = source(w, k, y, x);
    if (from >= 0) sum += w.values[k] * image[from];
  }
  return sum;
}

// Results and the gradient of their sum, of one image.
void compute(const harp::Weights& w, const float* image, float* result, float* gradient) {
  for (int o = 0; o < OUTPUTS; ++o)
    for (int y = 0; y < SIDE; y += 2)
      for (int x = 0; x < SIDE; x += 2, ++result) {
        int best = 0;
        for (int i = 0; i < 4; ++i)
          if (convolved(w, image, o, y + i / 2, x + i % 2) > convolved(w, image, o, y + best / 2, x + best % 2))
            best = i;
        *result = std::max(convolved(w, image, o, y + best / 2, x + best % 2), 0.0f);
        for (std::int64_t k = w.rows[o]; *result > 0.0f && k < w.rows[o + 1]; ++k) {
          const int from = source(w, k, y + best / 2, x + best % 2);
          if (from >= 0) gradient[from] += w.values[k];
        }
      }
}

float furthest(const std::vector<float>& a, const std::vector<float>& b) {
  float worst = 0.0f;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(a[i] - b[i]));
  return worst;
}

}  // namespace

int main() {
  harp::Network network;
  network.nodes.push_back(convolution());
  const harp::Weights weights = *network.nodes[0].weights;
  constexpr int IN = INPUTS * SIDE * SIDE, OUT = OUTPUTS * SIDE * SIDE / 4;
  std::vector<float> in(IMAGES * IN), out(IMAGES * OUT), gradient(in.size());
  std::vector<float> right(out.size()), right_gradient(in.size()), ones(out.size(), 1.0f);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i * 37 % 101) / 101.0f;
  for (int image = 0; image < IMAGES; ++image)
    compute(weights, &in[image * IN], &right[image * OUT], &right_gradient[image * IN]);
  harp::Engine engine(std::move(network), harp::find_kernels(""), 2);
  const std::vector<harp::Size> sizes{{INPUTS, SIDE, SIDE}, {OUTPUTS, SIDE / 2, SIDE / 2}};
  engine.run({in.data(), false}, IMAGES, sizes, out.data(), true);
  const float forward = furthest(out, right);
  const harp::Tape tape = engine.record({in.data(), false}, IMAGES, sizes, out.data(), false);
  engine.back(tape, ones.data(), gradient.data());
  const float recorded = furthest(out, right), back = furthest(gradient, right_gradient);
  std::printf("%s, %d threads: off by %g, %g and %g\n", engine.kernels()->isa, engine.threads(), forward, recorded,
              back);
  return forward < 1e-5f && recorded < 1e-5f && back < 1e-5f ? 0 : 1;
}
