// All steps but convolutions.
#pragma once

#include <cstdint>
#include <vector>

#include "../network.h"
#include "step.h"

namespace harp {

// Of an average, what each position is multiplied by, a vector for each; none of a maximum.
std::vector<float> pool_divisors(const Node& node, const Layout& to, const Layout& map);

class PoolStep : public Step {
 public:
  // `places`, if not null, gets the place in its window of each maximum.
  PoolStep(const Node& node, const Kernels* kernels, const Place* in, const Place* out, const Place* places);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  const Node& node_;
  const Place* places_;
  std::vector<float> divisors_;
};

// Elementwise: an activation, an affine map, a sum or product of two.
class PointwiseStep : public Step {
 public:
  // `bits`, if not null, gets the lanes whose gradient passes the activation.
  PointwiseStep(const Node& node, const Kernels* kernels, std::vector<const Place*> in, const Place* out,
                const Place* bits);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  const Node& node_;
  const Place* bits_;
};

class SoftmaxStep : public Step {
 public:
  SoftmaxStep(const Kernels* kernels, const Place* in, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;
  int units() const override { return 1; }  // all channels belong together
};

// The windows of a mean that divide a map as evenly as possible, for a group of images.
struct AdaptiveWindows {
  struct Window {
    std::int32_t to, begin, end;  // where the result lies, and which of `from` are its pixels
  };
  AdaptiveWindows(const Layout& map, const Layout& to);

  std::vector<Window> windows;
  std::vector<std::int32_t> from;
};

// Means over windows that divide the map as evenly as possible; of the whole map, mostly.
class AdaptiveStep : public Step {
 public:
  AdaptiveStep(const Kernels* kernels, const Place* in, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  AdaptiveWindows windows_;
};

// The same numbers in another layout, of more images a vector perhaps; or as channels of one pixel; or beside others.
class MoveStep : public Step {
 public:
  enum class How { pixels, broadcast, flatten };
  // `index`, if not null, says which channels come, in their order.
  MoveStep(const Kernels* kernels, const Place* in, const Place* out, How how, int first_channel = 0,
           const std::vector<std::int64_t>* index = nullptr);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;
  int units() const override { return index_ ? static_cast<int>(index_->size()) : in[0]->layout.size.channels; }

 private:
  std::ptrdiff_t lane_source(int lane, int y, int x) const;

  How how_;
  int first_channel_;
  const std::vector<std::int64_t>* index_;
  int lanes_ = 0;  // that one source group fills
  bool plain_ = false;
  FramePlan moves_;
};

}  // namespace harp
