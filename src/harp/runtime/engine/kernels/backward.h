// What going back takes beside the tiles: masks and slopes of activations, pooling, frames, softmax.
#pragma once

#include "finish.h"
#include "kernels.h"
#include "vector.h"

namespace harp {
namespace {

void signs(std::uint16_t* bits, const float* x, std::size_t vectors, Activation activation) {
  for (std::size_t i = 0; i < vectors; ++i)
    bits[i] = static_cast<std::uint16_t>(passing(load(x + i * LANES), activation));
}

void mask(float* out, const float* g, const std::uint16_t* bits, std::size_t vectors, float leak) {
  for (std::size_t i = 0; i < vectors; ++i) store(out + i * LANES, masked(load(g + i * LANES), bits[i], leak));
}

inline Vector slope_of_gelu(Vector x) {
  Vector y;
  for (int i = 0; i < LANES; ++i) y[i] = 0.5f * (1.0f + erff(x[i] * 0.70710678f));
  return y + x * exponential(x * x * -0.5f) * 0.39894228f;
}

// x s(2 u), where s is the sigmoid and u a cubic.
inline Vector slope_of_gelu_tanh(Vector x) {
  const Vector s = sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
  return s + x * s * (1.0f - s) * 1.59576912f * (1.0f + 0.134145f * x * x);
}

inline Vector slope_of(Vector x, Activation activation) {
  const Vector zero{}, one = spread(1.0f), s = sigmoid(x);
  switch (activation) {
    case Activation::sigmoid: return s * (1.0f - s);
    case Activation::silu: return s * (1.0f + x * (1.0f - s));
    case Activation::hardswish: return x < -3.0f ? zero : x <= 3.0f ? x * (1.0f / 3.0f) + 0.5f : one;
    case Activation::hardsigmoid: return ((x > -3.0f) & (x < 3.0f)) ? spread(1.0f / 6.0f) : zero;
    case Activation::gelu: return slope_of_gelu(x);
    case Activation::gelu_tanh: return slope_of_gelu_tanh(x);
    default: return one;
  }
}

void slopes(float* out, const float* g, const float* x, std::size_t vectors, Activation activation) {
  for (std::size_t i = 0; i < vectors; ++i)
    store(out + i * LANES, load(g + i * LANES) * slope_of(load(x + i * LANES), activation));
}

void unpool(float* out, std::ptrdiff_t out_row, const float* g, const std::uint16_t* bits, std::size_t vectors) {
  for (std::size_t i = 0; i < vectors; ++i, bits += POOL_BITS, out += 2 * LANES) {
    const Vector x = load(g + i * LANES);
    const unsigned right = bits[0], below = bits[1], live = bits[2];
    store(out, masked(x, live & ~right & ~below, 0.0f));
    store(out + LANES, masked(x, live & right & ~below, 0.0f));
    store(out + out_row, masked(x, live & ~right & below, 0.0f));
    store(out + out_row + LANES, masked(x, live & right & below, 0.0f));
  }
}

void argmax(std::int32_t* places, const float* in, Window w) {
  Vector largest = load(in);
  Integers place{};
  for (int r = 0; r < w.rows; ++r)
    for (int q = 0; q < w.columns; ++q) {
      const Vector x = load(in + r * w.row + q * LANES);
      const Integers better = (x > largest) | (x != x);
      largest = better ? x : largest;
      place = better ? Integers{} + (r * w.columns + q) : place;
    }
  __builtin_memcpy(places, &place, sizeof place);
}

void spread_to_argmax(float* map, Window w, const float* g, const std::int32_t* places) {
  Integers place;
  __builtin_memcpy(&place, places, sizeof place);
  const Vector x = load(g);
  for (int r = 0; r < w.rows; ++r)
    for (int q = 0; q < w.columns; ++q) {
      float* to = map + r * w.row + q * LANES;
      store(to, load(to) + (place == r * w.columns + q ? x : Vector{}));
    }
}

void spread_mean(float* map, Window w, const float* g, const float* divisors) {
  const Vector x = load(g) * load(divisors);
  for (int r = 0; r < w.rows; ++r)
    for (int q = 0; q < w.columns; ++q) {
      float* to = map + r * w.row + q * LANES;
      store(to, load(to) + x);
    }
}

void fold(const Frame& f, float* map) {
  for (int i = 0; i < f.count; ++i) {
    const FrameEntry& e = f.entries[i];
    const Permutation& p = f.permutations[e.permutation];
    store(map + e.to, load(map + e.to) + permute_onto(Vector{}, load(map + e.from), p.from, p.valid));
  }
}

void interleave(float* out, const Interleave& t, int columns) {
  for (int phase = 0; phase < t.stride; ++phase) {
    const float* from = t.row && t.index[phase] >= 0 ? t.row + t.index[phase] * t.phase : nullptr;
    for (int x = phase, i = 0; x < columns; x += t.stride, ++i) {
      Vector v = from ? load(from + i * LANES) : Vector{};
      if (t.add) v += load(t.add + x * LANES);
      if (t.mask) v = masked(v, t.mask[x], t.leak);
      store(out + x * LANES, v);
    }
  }
}

void sum(float* out, const float* g, std::ptrdiff_t g_row, const float* x, std::ptrdiff_t x_row, int rows,
         int columns) {
  Vector total{};
  for (int r = 0; r < rows; ++r)
    for (int q = 0; q < columns; ++q) {
      const Vector here = load(g + r * g_row + q * LANES);
      total += x ? here * load(x + r * x_row + q * LANES) : here;
    }
  store(out, total);
}

void softmax_back(float* out, std::ptrdiff_t out_channel, const float* g, std::ptrdiff_t g_channel, const float* y,
                  std::ptrdiff_t y_channel, int channels) {
  Vector total{};
  for (int c = 0; c < channels; ++c) total += load(g + c * g_channel) * load(y + c * y_channel);
  for (int c = 0; c < channels; ++c)
    store(out + c * out_channel, (load(g + c * g_channel) - total) * load(y + c * y_channel));
}

const BackwardKernels BACK{signs,       mask, slopes,     unpool, argmax,      spread_to_argmax,
                           spread_mean, fold, interleave, sum,    softmax_back};

}  // namespace
}  // namespace harp
