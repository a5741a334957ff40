// What a plan is made of: each step computes one value for one group of images, channel by channel.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "../kernels/kernels.h"
#include "../layout.h"

namespace harp {

// A value in a certain layout, and where in the arena it lies.
struct Place {
  Layout layout;
  std::size_t offset = 0;   // floats, of the first group
  int copies = 1;           // groups of the chunk that are alive at the same time
  int first = 0, last = 0;  // steps between which it is alive
  std::size_t floats() const { return static_cast<std::size_t>(layout.floats()) * copies; }
  float* at(float* arena, int group) const {
    return arena + offset + (copies > 1 ? static_cast<std::size_t>(group) * layout.floats() : 0);
  }
};

class Step {
 public:
  virtual ~Step() = default;
  // Channels begin to end of the result for one group; `scratch` belongs to the caller's thread.
  virtual void run(float* arena, int group, int begin, int end, float* scratch) const = 0;
  virtual int units() const { return out->layout.size.channels; }
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
