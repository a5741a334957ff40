// All steps but convolutions.
#pragma once

#include <cstdint>
#include <vector>

#include "../network.h"
#include "step.h"

namespace harp {

class PoolStep : public Step {
 public:
  PoolStep(const Node& node, const Kernels* kernels, const Place* in, const Place* out);
  void run(float* arena, int group, int begin, int end, float* scratch) const override;

 private:
  const Node& node_;
  std::vector<float> divisors_;  // of an average, a vector for each position
};

// Elementwise: an activation, an affine map, a sum or product of two.
class PointwiseStep : public Step {
 public:
  PointwiseStep(const Node& node, const Kernels* kernels, std::vector<const Place*> in, const Place* out);
  void run(float* arena, int group, int begin, int end, float* scratch) const override;

 private:
  const Node& node_;
};

class SoftmaxStep : public Step {
 public:
  SoftmaxStep(const Kernels* kernels, const Place* in, const Place* out);
  void run(float* arena, int group, int begin, int end, float* scratch) const override;
  int units() const override { return 1; }  // all channels belong together
};

// Means over windows that divide the map as evenly as possible; of the whole map, mostly.
class AdaptiveStep : public Step {
 public:
  AdaptiveStep(const Kernels* kernels, const Place* in, const Place* out);
  void run(float* arena, int group, int begin, int end, float* scratch) const override;

 private:
  struct Window {
    std::int32_t to, begin, end;
  };
  std::vector<Window> windows_;
  std::vector<std::int32_t> from_;
};

// The same numbers in another layout, of more images a vector perhaps; or as channels of one pixel; or beside others.
class MoveStep : public Step {
 public:
  enum class How { pixels, broadcast, flatten };
  MoveStep(const Kernels* kernels, const Place* in, const Place* out, How how, int first_channel = 0);
  void run(float* arena, int group, int begin, int end, float* scratch) const override;
  int units() const override { return in[0]->layout.size.channels; }

 private:
  std::ptrdiff_t lane_source(int lane, int y, int x) const;
  void add(std::ptrdiff_t target, int y, int x);

  How how_;
  int first_channel_;
  int lanes_ = 0;  // that one source group fills
  bool plain_ = false;
  FramePlan moves_;
};

}  // namespace harp
