// What a plan is made of: each step computes one value for one group of images, channel by channel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../kernels/kernels.h"
#include "../layout.h"
#include "../tuning.h"

namespace harp {

// The memory of one chunk of images: what a thread works in, and what stays from going forward until going back.
struct Memory {
  float* work = nullptr;
  float* tape = nullptr;
};

// A value in a certain layout, and where in memory it lies.
struct Place {
  Layout layout;
  int vector_bytes = 0;     // where it holds bits instead of numbers: bytes for each vector of the map
  bool kept = false;        // on the tape
  std::size_t offset = 0;   // floats, of the first group
  int copies = 1;           // groups of the chunk that are alive at the same time
  int first = 0, last = 0;  // steps between which it is alive
  const std::vector<float>* constant = nullptr;  // the same for all images, and not in the memory of a chunk

  std::size_t group_floats() const;
  std::size_t floats() const { return constant ? 0 : group_floats() * copies; }
  // Of a constant, to be read only.
  float* at(const Memory& memory, int group) const {
    if (constant) return const_cast<float*>(constant->data());
    float* base = (kept ? memory.tape : memory.work) + offset;
    return copies > 1 ? base + static_cast<std::size_t>(group) * group_floats() : base;
  }
  // Of a place of bits: those of a vector, by channel, row and column.
  std::uint16_t* bits(const Memory& memory, int group) const;
  std::ptrdiff_t bits_row() const { return static_cast<std::ptrdiff_t>(layout.columns) * (vector_bytes / 2); }
  std::ptrdiff_t bits_channel() const { return layout.rows * bits_row(); }
};

class Step {
 public:
  virtual ~Step() = default;
  // Channels begin to end of the result for one group; `scratch` belongs to the caller's thread.
  virtual void run(const Memory& memory, int group, int begin, int end, float* scratch) const = 0;
  virtual int units() const { return out->layout.size.channels; }
  // Units that a thread takes at least when threads share the step.
  virtual int grain() const { return tuning::CHANNELS_PER_THREAD; }
  virtual std::size_t scratch_floats() const { return 0; }
  virtual std::string describe() const { return {}; }

  const Kernels* kernels;
  std::vector<const Place*> in;
  const Place* out;
  int node = -1;  // that it came from, -1: a change of layout

 protected:
  Step(const Kernels* kernels, std::vector<const Place*> in, const Place* out)
      : kernels(kernels), in(std::move(in)), out(out), frame_(out->layout) {}
  void fill_frame(float* map, int begin, int end) const;

 private:
  FramePlan frame_;
};

}  // namespace harp
