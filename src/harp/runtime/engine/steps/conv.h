// Convolutions and linear layers, by the non-zeros of their weights.
#pragma once

#include <string>
#include <vector>

#include "../network.h"
#include "step.h"

namespace harp {

// How a convolution is computed: what autotuning chooses.
struct Variant {
  bool dense = false;
  int positions = 16;  // of a tile, at most
  int blocks = 1;      // of input channels
};

struct ConvPlaces {
  const Place* in;
  const Place* out;
  const Place* residual = nullptr;  // to add before the activation
  const Place* bits = nullptr;      // written going forward: where a gradient passes, see Store
  const Place* mask = nullptr;      // read going back: such bits of another layer
  float leak = 0.0f;                // of what does not pass the mask
};

class ConvStep : public Step {
 public:
  ConvStep(const Node& node, const Kernels* kernels, const ConvPlaces& places, bool wrapped);
  // Whether it should run without a frame around its input.
  static bool should_wrap(const Node& node, const Kernels* kernels, const Layout& in, const Layout& out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;
  std::size_t scratch_floats() const override;
  std::string describe() const override;

  // Lays out the weights as they are now.
  void choose(const Variant& variant);
  // Takes over new numbers, when the same weights are there as before.
  void take_values();
  const Variant& variant() const { return variant_; }
  Variant guess() const;
  std::vector<Variant> candidates() const;

 private:
  struct Tile {
    int y, x, rows, columns;
  };
  void take_bias();
  void tile(int positions);
  void lay_out_taps();
  void lay_out_wrapped();
  void lay_out_shifts();
  void lay_out_dense();
  Store store(const Memory& memory, int group, const Tile& tile) const;
  void run_sparse(const Memory& memory, int group, const Tile& tile, int begin, int end, float* scratch) const;
  void run_wrapped(const Memory& memory, int group, int begin, int end) const;
  void run_dense(const Memory& memory, int group, const Tile& tile, int begin, int end) const;
  const float* origin(const Memory& memory, int group, const Tile& tile) const;
  std::vector<std::int32_t> window_offsets() const;
  bool can_be_dense() const;

  int scale() const { return node_.pool ? 2 : 1; }

  const Node& node_;
  const ConvPlaces places_;
  const bool wrapped_;
  Variant variant_;
  std::vector<Tile> tiles_;
  std::vector<Tap> taps_;
  std::vector<std::uint32_t> sources_;  // of every tap: which of the weight's values it is
  std::vector<std::uint32_t> rows_;       // [block][channel], one after the last
  std::vector<std::int32_t> offsets_;     // dense
  std::vector<float> dense_, bias_;
  std::vector<Shift> shifts_;             // wrapped, as are the vectors they apply to
  std::vector<std::int32_t> vectors_;
};

}  // namespace harp
