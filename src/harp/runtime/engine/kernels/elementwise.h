// What is one pass over a map: scales, sums, products, pooling, means, softmax.
#pragma once

#include "activations.h"
#include "kernels.h"
#include "vector.h"

namespace harp {
namespace {

void scale(float* out, const float* x, std::size_t vectors, float factor, float shift) {
  for (std::size_t i = 0; i < vectors; ++i) store(out + i * LANES, load(x + i * LANES) * factor + shift);
}

void combine(float* out, const float* a, const float* b, std::size_t vectors, bool multiply, bool broadcast) {
  for (std::size_t i = 0; i < vectors; ++i) {
    const Vector x = load(a + i * LANES), y = load(broadcast ? b : b + i * LANES);
    store(out + i * LANES, multiply ? x * y : x + y);
  }
}

void pool(float* out, const float* in, std::ptrdiff_t in_row, int rows, int columns, const float* divisors) {
  Vector result = load(in);
  for (int r = 0; r < rows; ++r)
    for (int q = r == 0; q < columns; ++q) {
      const Vector x = load(in + r * in_row + q * LANES);
      result = divisors ? result + x : larger(result, x);
    }
  store(out, divisors ? result * load(divisors) : result);
}

void mean(const float* in, Rows map, int images, float count, float* out, std::ptrdiff_t out_image) {
  Vector sum{};
  for (int r = 0; r < map.rows; ++r)
    for (int q = 0; q < map.columns; ++q) sum += load(in + r * map.row + q * LANES);
  float lanes[LANES];
  store(lanes, sum);
  const int each = LANES / images;
  for (int image = 0; image < images; ++image) {
    float total = 0;
    for (int lane = 0; lane < each; ++lane) total += lanes[image * each + lane];
    out[image * out_image] = total / count;
  }
}

void softmax(float* out, std::ptrdiff_t out_channel, const float* in, std::ptrdiff_t in_channel, int channels) {
  Vector largest = load(in), sum{};
  for (int c = 1; c < channels; ++c) largest = larger(largest, load(in + c * in_channel));
  for (int c = 0; c < channels; ++c) {
    const Vector e = exponential(load(in + c * in_channel) - largest);
    sum += e;
    store(out + c * out_channel, e);
  }
  for (int c = 0; c < channels; ++c) store(out + c * out_channel, load(out + c * out_channel) / sum);
}

}  // namespace
}  // namespace harp
