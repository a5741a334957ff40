// Vectors and lanes that change their place: frames, changes of layout, images from outside.
#pragma once

#include "kernels.h"
#include "vector.h"

namespace harp {
namespace {

void frame(const Frame& f, float* map) {
  for (int i = 0; i < f.count; ++i) {
    const FrameEntry& e = f.entries[i];
    if (e.permutation < 0) {
      store(map + e.to, spread(f.fill));
    } else {
      const Permutation& p = f.permutations[e.permutation];
      store(map + e.to, permute_onto(spread(f.fill), load(map + e.from), p.from, p.valid));
    }
  }
}

// Entries with the same target follow each other: their lanes come from several vectors.
void move(const Frame& f, float* dst, const float* src, int lanes) {
  Vector v{};
  for (int i = 0; i < f.count; ++i) {
    const FrameEntry& e = f.entries[i];
    if (i == 0 || f.entries[i - 1].to != e.to) v = spread(f.fill);
    if (e.permutation >= 0) {
      const Permutation& p = f.permutations[e.permutation];
      v = permute_onto(v, load(src + e.from), p.from, p.valid);
    }
    if (i + 1 == f.count || f.entries[i + 1].to != e.to) store_first(dst + e.to, v, lanes);
  }
}

void gather(const GatherTask& t, const float* src, int channel) {
  const float* from_channel = src + channel * t.src_channel;
  float* dst = t.dst + channel * t.dst_channel;
  const float factor = t.scale ? t.scale[channel] : 1.0f, shift = t.shift ? t.shift[channel] : 0.0f;
  const std::int32_t* from = t.from;
#if defined(__AVX512F__)
  if (t.lanes == LANES) {
    for (int i = 0; i < t.count; ++i, from += LANES, dst += t.dst_step) {
      const __m512i index = _mm512_loadu_si512(from);
      const __mmask16 inside = _mm512_movepi32_mask(index) ^ 0xffff;
      const __m512 got = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), inside, index, from_channel, 4);
      const Vector there = (Vector)got * factor + shift;
      store(dst, (Vector)_mm512_mask_mov_ps((__m512)spread(t.fill), inside, (__m512)there));
    }
    return;
  }
#endif
  for (int i = 0; i < t.count; ++i, from += t.lanes, dst += t.dst_step)
    for (int lane = 0; lane < t.lanes; ++lane)
      dst[lane] = from[lane] < 0 ? t.fill : from_channel[from[lane]] * factor + shift;
}

}  // namespace
}  // namespace harp
