// Between arrays of images, as callers hold them, and the places where a plan wants them.
#pragma once

#include <cstdint>
#include <vector>

#include "steps/step.h"

namespace harp {

// Images as they come: float32 (n, c, h, w), or bytes (n, h, w, c) that stand for 255ths.
struct Images {
  const void* data = nullptr;
  bool bytes = false;
};

class Transfer {
 public:
  Transfer() = default;
  explicit Transfer(const Place* place);

  int images() const { return place_->layout.images; }  // of a group
  int channels() const { return place_->layout.size.channels; }
  // Images first to first + count of an array, and the channels begin to end of each.
  void read(const Kernels* kernels, const Images& in, int first, int count, const Memory& memory, int group, int begin,
            int end) const;
  void write(float* out, int first, int count, const Memory& memory, int group, int begin, int end) const;

 private:
  void read_bytes(const unsigned char* pixels, float* dst) const;

  const Place* place_ = nullptr;
  std::vector<std::int32_t> from_;  // of every lane of every vector, the frame's too: the pixel, or -1
  std::vector<std::int32_t> to_;    // of every pixel: where it lies
};

}  // namespace harp
