// Steps that go back: each takes the gradient with respect to a result and gives that with respect to an input.
//
// Convolutions are missing: theirs are convolutions, see planning/transposed.h. So are sums, products and scales.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "../network.h"
#include "conv.h"
#include "step.h"
#include "steps.h"

namespace harp {

// Through an activation that keeps a bit, or by its slope at its kept input.
class MaskStep : public Step {
 public:
  MaskStep(const Kernels* kernels, const Place* gradient, const Place* bits, const Place* out, float leak)
      : Step(kernels, {gradient}, out), bits_(bits), leak_(leak) {}
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  const Place* bits_;
  float leak_;
};

class SlopeStep : public Step {
 public:
  SlopeStep(const Kernels* kernels, const Place* gradient, const Place* input, const Place* out, Activation activation)
      : Step(kernels, {gradient, input}, out), activation_(activation) {}
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  Activation activation_;
};

class SoftmaxBackStep : public Step {
 public:
  SoftmaxBackStep(const Kernels* kernels, const Place* gradient, const Place* result, const Place* out)
      : Step(kernels, {gradient, result}, out) {}
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;
  int units() const override { return 1; }
};

// Through the activation and the maximum of 2 x 2 that a convolution did on the way out.
class UnpoolStep : public Step {
 public:
  UnpoolStep(const Kernels* kernels, const Place* gradient, const Place* bits, const Place* out)
      : Step(kernels, {gradient}, out), bits_(bits) {}
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  const Place* bits_;
};

// Through any pooling: spreads into the map and its frame, then folds the frame back. `places` is null for a mean.
class PoolBackStep : public Step {
 public:
  PoolBackStep(const Node& node, const Kernels* kernels, const Place* gradient, const Place* places, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  const Node& node_;
  const Place* places_;
  std::vector<float> divisors_;
  FramePlan fold_;
};

class AdaptiveBackStep : public Step {
 public:
  AdaptiveBackStep(const Kernels* kernels, const Place* gradient, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  AdaptiveWindows windows_;
};

// Which positions of one axis a strided convolution reads: for each phase, which of its transposed's channels it is, or
// -1 where no tap reaches.
struct Phases {
  std::vector<int> index;
  int count = 0;
};

// From the phases of a strided convolution's gradient, as channels, to the map that they are every n-th position of;
// with what a convolution without strides does on the way out.
class InterleaveStep : public Step {
 public:
  InterleaveStep(const Kernels* kernels, const ConvPlaces& places, Phases down, Phases across)
      : Step(kernels, {places.in}, places.out), places_(places), down_(std::move(down)), across_(std::move(across)) {}
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  ConvPlaces places_;
  Phases down_, across_;
};

// Back through a MoveStep: the same numbers for a group of fewer images, or for some of the channels.
class MoveBackStep : public Step {
 public:
  MoveBackStep(const Kernels* kernels, const Place* gradient, const Place* out, MoveStep::How how, int first_channel);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  std::ptrdiff_t lane_source(int lane, int y, int x) const;

  MoveStep::How how_;
  int first_channel_;
  FramePlan moves_;
};

// Of a number for each channel that was combined with a map: the sum over positions, of the gradient times `other` if
// there is one; and then over the lanes of each image.
class SumStep : public Step {
 public:
  SumStep(const Kernels* kernels, const Place* gradient, const Place* other, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;
};

class LaneSumStep : public Step {
 public:
  LaneSumStep(const Kernels* kernels, const Place* gradient, const Place* out) : Step(kernels, {gradient}, out) {}
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;
};

}  // namespace harp
