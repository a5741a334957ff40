// Layers that learn, on maps whose images lie side by side: x[channel][row][column][image].
//
// Every shift of a window is a move by whole positions, for any stride and dilation; images fill the vectors.
#pragma once

#include "kernels.h"
#include "vector.h"

namespace harp {
namespace {

constexpr int MOST_IMAGE_VECTORS = 8;
constexpr int MOMENT_BLOCK = 4096;  // numbers that are summed as floats, before they are added to a double

// V vectors of images from `image` on, for all channels of one position.
template <int V>
void map_products(const MapTask& t, int image) {
  for (int channel = t.begin; channel < t.end; ++channel) {
    Vector sums[V];
    UNROLLED_FOR (int v = 0; v < V; ++v) sums[v] = spread(t.bias ? t.bias[channel] : 0.0f);
    const MapTap *tap = t.taps + t.rows[channel], *end = t.taps + t.rows[channel + 1];
    for (; tap < end; ++tap) {
      const std::ptrdiff_t place = t.places[tap->place];
      if (place < 0) continue;
      const float* in = t.in + tap->channel * t.in_channel + place + image;
      const Vector weight = spread(tap->weight);
      UNROLLED_FOR (int v = 0; v < V; ++v) sums[v] += weight * load(in + v * LANES);
    }
    float* out = t.out + channel * t.out_channel + image;
    UNROLLED_FOR (int v = 0; v < V; ++v) store(out + v * LANES, sums[v]);
  }
}

void last_products(const MapTask& t, int image, int lanes) {
  for (int channel = t.begin; channel < t.end; ++channel) {
    Vector sum = spread(t.bias ? t.bias[channel] : 0.0f);
    for (std::uint32_t k = t.rows[channel]; k < t.rows[channel + 1]; ++k) {
      const MapTap& tap = t.taps[k];
      const std::ptrdiff_t place = t.places[tap.place];
      if (place < 0) continue;
      sum += tap.weight * load_first(t.in + tap.channel * t.in_channel + place + image, lanes, Vector{});
    }
    float* out = t.out + channel * t.out_channel + image;
    for (int i = 0; i < lanes; ++i) out[i] = sum[i];
  }
}

void all_products(const MapTask& t) {
  int image = 0;
  for (; image + 8 * LANES <= t.images; image += 8 * LANES) map_products<8>(t, image);
  for (; image + 4 * LANES <= t.images; image += 4 * LANES) map_products<4>(t, image);
  for (; image + LANES <= t.images; image += LANES) map_products<1>(t, image);
  if (image < t.images) last_products(t, image, t.images - image);
}

// The gradient of each tap's weight: a vector of sums for each, to which one position is added.
template <int V>
void map_dots(const DotsTask& t, int image) {
  for (int channel = t.begin; channel < t.end; ++channel) {
    Vector upstream[V];
    const float* g = t.upstream + channel * t.upstream_channel + image;
    UNROLLED_FOR (int v = 0; v < V; ++v) upstream[v] = load(g + v * LANES);
    for (std::uint32_t k = t.rows[channel]; k < t.rows[channel + 1]; ++k) {
      const MapTap& tap = t.taps[k];
      const std::ptrdiff_t place = t.places[tap.place];
      if (place < 0) continue;
      const float* in = t.in + tap.channel * t.in_channel + place + image;
      float* const sums = t.sums + static_cast<std::ptrdiff_t>(k) * LANES;
      Vector even = load(sums), odd{};
      UNROLLED_FOR (int v = 0; v < V; ++v) (v % 2 ? odd : even) += upstream[v] * load(in + v * LANES);
      store(sums, even + odd);
    }
  }
}

void last_dots(const DotsTask& t, int image, int lanes) {
  for (int channel = t.begin; channel < t.end; ++channel) {
    const Vector upstream = load_first(t.upstream + channel * t.upstream_channel + image, lanes, Vector{});
    for (std::uint32_t k = t.rows[channel]; k < t.rows[channel + 1]; ++k) {
      const MapTap& tap = t.taps[k];
      const std::ptrdiff_t place = t.places[tap.place];
      if (place < 0) continue;
      const Vector in = load_first(t.in + tap.channel * t.in_channel + place + image, lanes, Vector{});
      float* const sums = t.sums + static_cast<std::ptrdiff_t>(k) * LANES;
      store(sums, load(sums) + upstream * in);
    }
  }
}

void all_dots(const DotsTask& t) {
  int image = 0;
  for (; image + 8 * LANES <= t.images; image += 8 * LANES) map_dots<8>(t, image);
  for (; image + 4 * LANES <= t.images; image += 4 * LANES) map_dots<4>(t, image);
  for (; image + LANES <= t.images; image += LANES) map_dots<1>(t, image);
  if (image < t.images) last_dots(t, image, t.images - image);
}

double total(Vector a) {
  double sum = 0.0;
  for (int i = 0; i < LANES; ++i) sum += a[i];
  return sum;
}

// The sum of a, or of (a - centre) times b, or of the square of a - centre where b is a.
double sum_of_products(const float* a, float centre, const float* b, std::ptrdiff_t count) {
  double result = 0.0;
  for (std::ptrdiff_t start = 0; start < count; start += MOMENT_BLOCK) {
    const std::ptrdiff_t end = start + MOMENT_BLOCK < count ? start + MOMENT_BLOCK : count;
    const bool square = a == b;
    Vector sums[4] = {};
    std::ptrdiff_t i = start;
    for (; i + 4 * LANES <= end; i += 4 * LANES)
      UNROLLED_FOR (int v = 0; v < 4; ++v) {
        const Vector x = load(a + i + v * LANES) - centre;
        if (b == nullptr) {
          sums[v] += x;
        } else {
          sums[v] += x * (square ? x : load(b + i + v * LANES));
        }
      }
    for (; i < end; ++i) {
      const float x = a[i] - centre;
      sums[0][0] += b == nullptr ? x : x * (square ? x : b[i]);
    }
    result += total((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }
  return result;
}

// out = (x - centre) * scale + shift + add * factor, where add may be null.
void centre_and_scale(float* out, const float* x, const CentredScale& s, std::ptrdiff_t count) {
  std::ptrdiff_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    Vector value = (load(x + i) - s.centre) * s.scale + s.shift;
    if (s.add) value += load(s.add + i) * s.factor;
    store(out + i, value);
  }
  for (; i < count; ++i) out[i] = (x[i] - s.centre) * s.scale + s.shift + (s.add ? s.add[i] * s.factor : 0.0f);
}

// The first place that holds the maximum counts, and NaN is the largest of all.
void maxima(const PeakTask& t) {
  for (int image = 0; image < t.images; image += LANES) {
    const int lanes = image + LANES <= t.images ? LANES : t.images - image;
    const bool whole = lanes == LANES;
    Vector most = spread(-__builtin_inff());
    Integers from = Integers{} - 1;
    for (int k = 0; k < t.count; ++k) {
      if (t.places[k] < 0) continue;
      const float* in = t.in + t.places[k] + image;
      const Vector x = whole ? load(in) : load_first(in, lanes, Vector{});
      const Integers better = (x > most) | (x != x) | (from < 0);
      most = better ? x : most;
      from = better ? Integers{} + k : from;
    }
    if (t.upstream == nullptr) {
      store_first(t.out + image, most, lanes);
      continue;
    }
    const Vector g = whole ? load(t.upstream + image) : load_first(t.upstream + image, lanes, Vector{});
    for (int k = 0; k < t.count; ++k) {
      if (t.places[k] < 0) continue;
      float* out = t.out + t.places[k] + image;
      const Vector before = whole ? load(out) : load_first(out, lanes, Vector{});
      store_first(out, before + (from == k ? g : Vector{}), lanes);
    }
  }
}

constexpr LearningKernels LEARNING{all_products, all_dots, sum_of_products, centre_and_scale, maxima};

}  // namespace
}  // namespace harp
