// Layers of which most weights are zero, in training: forward, back to the input, and the gradients of the weights
// that are there, one dot product each. Maps are x[channel][row][column][image], see kernels/learning.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "workers.h"

namespace harp {

struct MapWindow {
  int kernel[2], stride[2], padding[2], dilation[2];
};

struct MapSize {
  int height, width, images;
  std::ptrdiff_t channel() const { return static_cast<std::ptrdiff_t>(height) * width * images; }
};

// Which weights of a convolution are there. A linear layer is one of 1 x 1 on a map of one pixel.
class SparseLayer {
 public:
  // `index`: of the weights that are there, in the flat array (outputs, inputs / groups, rows, columns), ascending.
  SparseLayer(int outputs, int inputs, int groups, const MapWindow& window, const std::vector<std::int64_t>& index);

  MapSize result(const MapSize& in) const;  // throws when the window does not fit
  int outputs() const { return outputs_; }
  int inputs() const { return inputs_; }
  std::size_t weights() const { return count_; }

 private:
  friend class Learning;
  struct Side {  // by the channel that is computed: what it reads
    std::vector<std::uint32_t> rows;
    std::vector<MapTap> taps;
    std::vector<std::uint32_t> values;  // the weight of each tap
    void sort(int channels, const std::vector<std::int32_t>& of);
    std::vector<MapTap> with(const float* values) const;
  };

  int outputs_, inputs_;
  MapWindow window_;
  std::size_t count_;
  Side forward_, back_;
};

// Threads for layers that learn. No bit of any result depends on how many there are.
class Learning {
 public:
  Learning(const Kernels* kernels, int threads) : kernels_(kernels), workers_(threads) {}

  void forward(const SparseLayer& layer, const float* x, const MapSize& size, const float* values, const float* bias,
               float* y);
  void back(const SparseLayer& layer, const float* upstream, const MapSize& size, const float* values, float* gradient);
  // Of the weights, in the order of their index; and of the biases where `biases` is not null.
  void weights(const SparseLayer& layer, const float* x, const float* upstream, const MapSize& size, float* gradient,
               float* biases);

  // Batch norm of channels of `count` numbers each, in train mode; `scale` and `shift` may be null.
  void normalise(int channels, std::ptrdiff_t count, const float* x, const float* scale, const float* shift, float eps,
                 float* y, float* mean, float* variance);
  void normalise_back(int channels, std::ptrdiff_t count, const float* x, const float* upstream, const float* scale,
                      float eps, const float* mean, const float* variance, float* gradient, float* scales,
                      float* shifts);

  // The maximum over windows of channels, to a map of the size `out`; and back, from a gradient of that size.
  void maximum(int channels, const MapWindow& window, const float* x, const MapSize& size, const MapSize& out,
               float* y);
  void maximum_back(int channels, const MapWindow& window, const float* x, const MapSize& size, const MapSize& out,
                    const float* upstream, float* gradient);

  int threads() const { return workers_.threads(); }

 private:
  void windows(int channels, const MapWindow& window, const MapSize& size, const MapSize& out,
               const std::function<void(int channel, std::ptrdiff_t position, const std::ptrdiff_t* places)>& work);
  void share(std::size_t units, const std::function<void(std::size_t begin, std::size_t end)>& work);

  const Kernels* kernels_;
  Workers workers_;
};

}  // namespace harp
