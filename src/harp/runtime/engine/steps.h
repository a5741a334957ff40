// What a plan is made of: each step computes one value for one group of images, channel by channel.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "layout.h"
#include "network.h"

namespace harp {

// A value in a certain layout, and where in the arena it lies.
struct Place {
  Layout layout;
  std::size_t offset = 0;   // floats, of the first group
  int copies = 1;           // groups of the chunk that are alive at the same time
  int first = 0, last = 0;  // steps between which it is alive
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

// How a convolution is computed: what autotuning chooses.
struct Variant {
  bool dense = false;
  int positions = 16;  // of a tile, at most
  int blocks = 1;      // of input channels
};

class ConvStep : public Step {
 public:
  ConvStep(const Node& node, const Kernels* kernels, const Place* in, const Place* residual, const Place* out,
           bool wrapped);
  // Whether it should run without a frame around its input.
  static bool should_wrap(const Node& node, const Kernels* kernels, const Layout& in, const Layout& out);
  void run(float* arena, int group, int begin, int end, float* scratch) const override;
  std::size_t scratch_floats() const override;
  std::string describe() const override;

  void choose(const Variant& variant);
  Variant guess() const;
  std::vector<Variant> candidates() const;

 private:
  struct Tile {
    int y, x, rows, columns;
  };
  void tile(int positions);
  void lay_out_taps();
  void lay_out_wrapped();
  void lay_out_dense();
  Store store(float* arena, int group, const Tile& tile) const;
  void run_sparse(float* arena, int group, const Tile& tile, int begin, int end, float* scratch) const;
  void run_wrapped(float* arena, int group, int begin, int end) const;
  void run_dense(float* arena, int group, const Tile& tile, int begin, int end) const;
  const float* origin(float* arena, int group, const Tile& tile) const;
  std::int32_t offset(int column) const;
  bool can_be_dense() const;

  int scale() const { return node_.pool ? 2 : 1; }

  const Node& node_;
  const bool wrapped_;
  Variant variant_;
  std::vector<Tile> tiles_;
  std::vector<Tap> taps_;
  std::vector<std::uint32_t> rows_;       // [block][channel], one after the last
  std::vector<std::int32_t> offsets_;     // dense
  std::vector<float> dense_, bias_;
  std::vector<Shift> shifts_;             // wrapped, as are the vectors they apply to
  std::vector<std::int32_t> vectors_;
};

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
  How how_;
  int first_channel_;
  int lanes_ = 0;  // that one source group fills
  bool plain_ = false;
  FramePlan moves_;
};

}  // namespace harp
