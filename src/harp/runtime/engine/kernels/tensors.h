// Tensors, whose numbers lie row by row: pairs of them, rows, products of matrices.
#pragma once

#include "activations.h"
#include "kernels.h"
#include "vector.h"

namespace harp {
namespace {

inline std::size_t fewer(std::size_t a, std::size_t b) { return a < b ? a : b; }

// Up to LANES numbers so far apart; the other lanes get `rest`.
inline Vector fetch(const float* p, std::ptrdiff_t step, std::size_t count, float rest = 0.0f) {
  if (step == 1 && count == LANES) return load(p);
  if (step == 1) return load_first(p, static_cast<int>(count), spread(rest));
  if (step == 0) return spread(*p);
  Vector v = spread(rest);
  for (std::size_t i = 0; i < count; ++i) v[i] = p[static_cast<std::ptrdiff_t>(i) * step];
  return v;
}

template <class F>
inline void pair_with(float* out, const Pair& t, std::size_t count, F function) {
  for (std::size_t i = 0; i < count; i += LANES) {
    const std::size_t here = fewer(LANES, count - i);
    const auto first = static_cast<std::ptrdiff_t>(i);
    const Vector a = fetch(t.a + first * t.a_step, t.a_step, here), b = fetch(t.b + first * t.b_step, t.b_step, here);
    store_first(out + i, function(a, b), static_cast<int>(here));
  }
}

void pair(float* out, const Pair& t, std::size_t count) {
  switch (t.how) {
    case Pairing::add: return pair_with(out, t, count, [](Vector a, Vector b) { return a + b; });
    case Pairing::subtract: return pair_with(out, t, count, [](Vector a, Vector b) { return a - b; });
    case Pairing::multiply: return pair_with(out, t, count, [](Vector a, Vector b) { return a * b; });
    case Pairing::divide: return pair_with(out, t, count, [](Vector a, Vector b) { return a / b; });
    case Pairing::maximum: return pair_with(out, t, count, [](Vector a, Vector b) { return larger(a, b); });
    case Pairing::minimum: return pair_with(out, t, count, [](Vector a, Vector b) { return -larger(-a, -b); });
  }
}

// The lanes from `count` on are zero.
inline Vector only_first(Vector v, std::size_t count) {
  float lane[LANES];
  store(lane, v);
  return load_first(lane, static_cast<int>(count), Vector{});
}

// The sum of a function of every number.
template <class F>
inline float sum_over(const float* in, std::size_t count, F function) {
  Vector sum{};
  std::size_t i = 0;
  for (; i + LANES <= count; i += LANES) sum += function(load(in + i));
  if (i < count) sum += only_first(function(fetch(in + i, 1, count - i)), count - i);
  return sum_of(sum);
}

inline float largest_of(const float* in, std::size_t count) {
  Vector largest = spread(in[0]);
  for (std::size_t i = 0; i < count; i += LANES)
    largest = larger(largest, fetch(in + i, 1, fewer(LANES, count - i), in[0]));
  float best = largest[0];
  for (int lane = 1; lane < LANES; ++lane)
    best = largest[lane] > best || largest[lane] != largest[lane] ? largest[lane] : best;
  return best;
}

void softmax_of_row(float* out, const float* in, std::size_t count) {
  const float largest = largest_of(in, count);
  Vector sum{};
  for (std::size_t i = 0; i < count; i += LANES) {
    const std::size_t here = fewer(LANES, count - i);
    const Vector e = exponential(fetch(in + i, 1, here) - largest);
    store_first(out + i, e, static_cast<int>(here));
    sum += here == LANES ? e : only_first(e, here);
  }
  const float factor = 1.0f / sum_of(sum);
  for (std::size_t i = 0; i < count; i += LANES) {
    const std::size_t here = fewer(LANES, count - i);
    store_first(out + i, fetch(out + i, 1, here) * factor, static_cast<int>(here));
  }
}

void normalise_row(float* out, const float* in, std::size_t count, const Normalisation& n) {
  const float size = static_cast<float>(count);
  const float mean = n.centred ? sum_over(in, count, [](Vector x) { return x; }) / size : 0.0f;
  const float variance = sum_over(in, count, [mean](Vector x) { return (x - mean) * (x - mean); }) / size;
  const float factor = 1.0f / sqrtf(variance + n.eps);
  for (std::size_t i = 0; i < count; i += LANES) {
    const std::size_t here = fewer(LANES, count - i);
    Vector y = (fetch(in + i, 1, here) - mean) * factor;
    if (n.scale) y *= fetch(n.scale + i, 1, here);
    if (n.shift) y += fetch(n.shift + i, 1, here);
    store_first(out + i, y, static_cast<int>(here));
  }
}

void normalise_channels(float* out, std::ptrdiff_t out_channel, const float* in, std::ptrdiff_t in_channel,
                        int channels, const Normalisation& n) {
  const float size = static_cast<float>(channels);
  Vector mean{}, variance{};
  if (n.centred) {
    for (int c = 0; c < channels; ++c) mean += load(in + c * in_channel);
    mean /= size;
  }
  for (int c = 0; c < channels; ++c) {
    const Vector x = load(in + c * in_channel) - mean;
    variance += x * x;
  }
  variance = variance / size + n.eps;
  Vector root;
  for (int i = 0; i < LANES; ++i) root[i] = sqrtf(variance[i]);
  const Vector factor = 1.0f / root;
  for (int c = 0; c < channels; ++c) {
    Vector y = (load(in + c * in_channel) - mean) * factor;
    if (n.scale) y *= n.scale[c];
    if (n.shift) y += n.shift[c];
    store(out + c * out_channel, y);
  }
}

float reduce(const float* in, std::size_t count, Reduction how) {
  const auto same = [](Vector x) { return x; };
  switch (how) {
    case Reduction::sum: return sum_over(in, count, same);
    case Reduction::mean: return sum_over(in, count, same) / static_cast<float>(count);
    case Reduction::norm: return sqrtf(sum_over(in, count, [](Vector x) { return x * x; }));
    case Reduction::maximum: return largest_of(in, count);
    case Reduction::minimum: {
      float least = in[0];
      for (std::size_t i = 1; i < count; ++i) least = in[i] < least || in[i] != in[i] ? in[i] : least;
      return least;
    }
  }
  return 0.0f;
}

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int MOST_PRODUCT_ROWS = 12;
#else
constexpr int MOST_PRODUCT_ROWS = 6;
#endif
constexpr int PANEL_VECTORS = 2;

// R rows of results in registers, two vectors wide: for every step a load for each vector and a number for each row.
template <int R>
void product_tile(const ProductTask& t, const float* a, float* out) {
  Vector sums[R][PANEL_VECTORS] = {};
  const float* panel = t.panel;
  for (int k = 0; k < t.steps; ++k, a += t.a_step, panel += PANEL_VECTORS * LANES) {
    const Vector first = load(panel), second = load(panel + LANES);
    UNROLLED_FOR (int r = 0; r < R; ++r) {
      const Vector x = spread(a[r * t.a_row]);
      sums[r][0] += x * first;
      sums[r][1] += x * second;
    }
  }
  UNROLLED_FOR (int r = 0; r < R; ++r) {
    float* row = out + r * t.out_row;
    const Vector first = sums[r][0] * t.factor, second = sums[r][1] * t.factor;
    store_first(row, first, t.columns < LANES ? t.columns : LANES);
    if (t.columns > LANES) store_first(row + LANES, second, t.columns - LANES);
  }
}

template <int R>
void product_rows(const ProductTask& t, int rows, const float* a, float* out) {
  if (rows == R) return product_tile<R>(t, a, out);
  if constexpr (R > 1) product_rows<R - 1>(t, rows, a, out);
}

void product(const ProductTask& t) {
  for (int row = 0; row < t.rows; row += MOST_PRODUCT_ROWS) {
    const int here = t.rows - row < MOST_PRODUCT_ROWS ? t.rows - row : MOST_PRODUCT_ROWS;
    product_rows<MOST_PRODUCT_ROWS>(t, here, t.a + row * t.a_row, t.out + row * t.out_row);
  }
}

void copy_apart(float* out, std::ptrdiff_t out_step, const float* in, std::ptrdiff_t in_step, std::size_t count) {
  if (out_step == 1 && in_step == 1) {
    __builtin_memcpy(out, in, count * sizeof(float));
    return;
  }
  for (std::size_t i = 0; i < count; ++i, out += out_step, in += in_step) *out = *in;
}

const TensorKernels TENSORS{PANEL_VECTORS * LANES, pair, softmax_of_row, normalise_row, reduce, product, copy_apart};

}  // namespace
}  // namespace harp
