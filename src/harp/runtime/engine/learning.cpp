#include "learning.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "tuning.h"

namespace harp {
namespace {

// Positions in the order in which they are computed: strips of columns, so that what a window reads is still in the
// second-level cache when the next row comes.
std::vector<int> strips(int height, int width) {
  std::vector<int> order;
  order.reserve(static_cast<std::size_t>(height) * width);
  for (int left = 0; left < width; left += tuning::LEARNING_STRIP)
    for (int row = 0; row < height; ++row)
      for (int column = left; column < std::min(width, left + tuning::LEARNING_STRIP); ++column)
        order.push_back(row * width + column);
  return order;
}

// Where along one axis each tap of the window reads the input for result `at`, or -1.
void reads(int at, int kernel, int stride, int padding, int dilation, int size, std::vector<int>& found) {
  for (int k = 0; k < kernel; ++k) {
    const int place = at * stride - padding + k * dilation;
    found[k] = place >= 0 && place < size ? place : -1;
  }
}

// Which result along one axis reads input `at` by each tap of the window, or -1.
void readers(int at, int kernel, int stride, int padding, int dilation, int size, std::vector<int>& found) {
  for (int k = 0; k < kernel; ++k) {
    const int place = at + padding - k * dilation;
    found[k] = place >= 0 && place % stride == 0 && place / stride < size ? place / stride : -1;
  }
}

using Along = void (*)(int, int, int, int, int, int, std::vector<int>&);

// The places of a window around one position after the other.
class Places {
 public:
  Places(const MapWindow& window, Along along, const MapSize& source)
      : window_(window),
        along_(along),
        source_(source),
        rows_(window.kernel[0]),
        columns_(window.kernel[1]),
        places_(static_cast<std::size_t>(window.kernel[0]) * window.kernel[1]) {}

  const std::ptrdiff_t* at(int row, int column) {
    const MapWindow& w = window_;
    along_(row, w.kernel[0], w.stride[0], w.padding[0], w.dilation[0], source_.height, rows_);
    along_(column, w.kernel[1], w.stride[1], w.padding[1], w.dilation[1], source_.width, columns_);
    std::size_t place = 0;
    for (int r : rows_)
      for (int c : columns_)
        places_[place++] = r < 0 || c < 0 ? -1 : (static_cast<std::ptrdiff_t>(r) * source_.width + c) * source_.images;
    return places_.data();
  }

 private:
  const MapWindow& window_;
  Along along_;
  MapSize source_;
  std::vector<int> rows_, columns_;
  std::vector<std::ptrdiff_t> places_;
};

}  // namespace

// Taps of a channel by their place in the window: whether that lies in the padding changes rarely from tap to tap.
void SparseLayer::Side::sort(int channels, const std::vector<std::int32_t>& of) {
  std::vector<std::uint32_t> order(taps.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return of[a] != of[b] ? of[a] < of[b] : taps[a].place < taps[b].place;
  });
  std::vector<MapTap> sorted;
  sorted.reserve(taps.size());
  rows.assign(static_cast<std::size_t>(channels) + 1, 0);
  for (std::uint32_t k : order) {
    sorted.push_back(taps[k]);
    ++rows[of[k] + 1];
  }
  std::partial_sum(rows.begin(), rows.end(), rows.begin());
  taps = std::move(sorted);
  values = std::move(order);
}

std::vector<MapTap> SparseLayer::Side::with(const float* weights) const {
  std::vector<MapTap> found = taps;
  for (std::size_t k = 0; k < found.size(); ++k) found[k].weight = weights[values[k]];
  return found;
}

SparseLayer::SparseLayer(int outputs, int inputs, int groups, const MapWindow& window,
                         const std::vector<std::int64_t>& index)
    : outputs_(outputs), inputs_(inputs), window_(window), count_(index.size()) {
  bool sound = outputs > 0 && inputs > 0 && groups > 0 && outputs % groups == 0 && inputs % groups == 0 &&
               index.size() < (std::size_t{1} << 31);
  for (int axis = 0; axis < 2; ++axis)
    sound = sound && window.kernel[axis] > 0 && window.stride[axis] > 0 && window.padding[axis] >= 0 &&
            window.dilation[axis] > 0;
  if (!sound) throw std::invalid_argument("a layer of impossible sizes");
  const std::int64_t places = static_cast<std::int64_t>(window.kernel[0]) * window.kernel[1];
  const std::int64_t each = inputs / groups, all = outputs * each * places;
  std::vector<std::int32_t> output(index.size()), input(index.size());
  for (std::size_t k = 0; k < index.size(); ++k) {
    if (index[k] < 0 || index[k] >= all || (k > 0 && index[k] <= index[k - 1]))
      throw std::invalid_argument("weights that are not in ascending order, or beyond the layer");
    const auto place = static_cast<std::int32_t>(index[k] % places);
    output[k] = static_cast<std::int32_t>(index[k] / places / each);
    input[k] = static_cast<std::int32_t>(index[k] / places % each + output[k] / (outputs / groups) * each);
    forward_.taps.push_back({input[k], place, 0.0f});
    back_.taps.push_back({output[k], place, 0.0f});
  }
  forward_.sort(outputs, output);
  back_.sort(inputs, input);
}

MapSize SparseLayer::result(const MapSize& in) const {
  int size[2] = {in.height, in.width};
  for (int axis = 0; axis < 2; ++axis) {
    const int room = size[axis] + 2 * window_.padding[axis] - window_.dilation[axis] * (window_.kernel[axis] - 1) - 1;
    if (room < 0) throw std::invalid_argument("a window larger than the map");
    size[axis] = room / window_.stride[axis] + 1;
  }
  return {size[0], size[1], in.images};
}

void Learning::share(std::size_t units, const std::function<void(std::size_t, std::size_t)>& work) {
  std::size_t team = 1;
  workers_.run([&](int n) { team = static_cast<std::size_t>(n); },
               [&](int index) {
                 const std::size_t begin = units * index / team, end = units * (index + 1) / team;
                 if (begin < end) work(begin, end);
               });
}

void Learning::forward(const SparseLayer& layer, const float* x, const MapSize& size, const float* values,
                       const float* bias, float* y) {
  const MapSize out = layer.result(size);
  const std::vector<MapTap> taps = layer.forward_.with(values);
  const std::vector<int> order = strips(out.height, out.width);
  share(order.size(), [&](std::size_t begin, std::size_t end) {
    Places places(layer.window_, reads, size);
    for (std::size_t k = begin; k < end; ++k) {
      const int row = order[k] / out.width, column = order[k] % out.width;
      kernels_->learn.products({x, size.channel(), places.at(row, column), taps.data(), layer.forward_.rows.data(),
                                bias, 0, layer.outputs_, size.images,
                                y + static_cast<std::ptrdiff_t>(order[k]) * size.images, out.channel()});
    }
  });
}

void Learning::back(const SparseLayer& layer, const float* upstream, const MapSize& size, const float* values,
                    float* gradient) {
  const MapSize out = layer.result(size);
  const std::vector<MapTap> taps = layer.back_.with(values);
  const std::vector<int> order = strips(size.height, size.width);
  share(order.size(), [&](std::size_t begin, std::size_t end) {
    Places places(layer.window_, readers, out);
    for (std::size_t k = begin; k < end; ++k) {
      const int row = order[k] / size.width, column = order[k] % size.width;
      kernels_->learn.products({upstream, out.channel(), places.at(row, column), taps.data(), layer.back_.rows.data(),
                                nullptr, 0, layer.inputs_, size.images,
                                gradient + static_cast<std::ptrdiff_t>(order[k]) * size.images, size.channel()});
    }
  });
}

void Learning::weights(const SparseLayer& layer, const float* x, const float* upstream, const MapSize& size,
                       float* gradient, float* biases) {
  const MapSize out = layer.result(size);
  const SparseLayer::Side& side = layer.forward_;
  const std::vector<int> order = strips(out.height, out.width);
  const auto lanes = static_cast<std::size_t>(kernels_->lanes);
  std::vector<float> sums(layer.count_ * lanes);
  // A thread takes channels of about as many weights as any other.
  std::vector<int> cuts{0};
  for (int part = 1; part < threads(); ++part) {
    const auto wanted = static_cast<std::uint32_t>(layer.count_ * part / threads());
    const auto cut = std::lower_bound(side.rows.begin(), side.rows.end() - 1, wanted) - side.rows.begin();
    cuts.push_back(std::max(cuts.back(), static_cast<int>(cut)));
  }
  cuts.push_back(layer.outputs_);
  share(cuts.size() - 1, [&](std::size_t first, std::size_t last) {
    const int begin = cuts[first], end = cuts[last];
    std::vector<std::vector<std::ptrdiff_t>> windows(tuning::LEARNING_POSITIONS);
    Places places(layer.window_, reads, size);
    for (std::size_t start = 0; start < order.size(); start += tuning::LEARNING_POSITIONS) {
      const std::size_t tile = std::min<std::size_t>(tuning::LEARNING_POSITIONS, order.size() - start);
      for (std::size_t i = 0; i < tile; ++i) {
        const std::ptrdiff_t* found = places.at(order[start + i] / out.width, order[start + i] % out.width);
        windows[i].assign(found, found + layer.window_.kernel[0] * layer.window_.kernel[1]);
      }
      for (int channel = begin; channel < end; ++channel)
        for (std::size_t i = 0; i < tile; ++i)
          kernels_->learn.dots({x, size.channel(), windows[i].data(), side.taps.data(), side.rows.data(), channel,
                                channel + 1, size.images,
                                upstream + static_cast<std::ptrdiff_t>(order[start + i]) * size.images, out.channel(),
                                sums.data()});
    }
    for (std::uint32_t k = side.rows[begin]; k < side.rows[end]; ++k) {
      double sum = 0.0;
      for (std::size_t lane = 0; lane < lanes; ++lane) sum += sums[k * lanes + lane];
      gradient[side.values[k]] = static_cast<float>(sum);
    }
    for (int channel = begin; biases != nullptr && channel < end; ++channel)
      biases[channel] =
          static_cast<float>(kernels_->learn.sum(upstream + channel * out.channel(), 0.0f, nullptr, out.channel()));
  });
}

void Learning::normalise(int channels, std::ptrdiff_t count, const float* x, const float* scale, const float* shift,
                         float eps, float* y, float* mean, float* variance) {
  share(static_cast<std::size_t>(channels), [&](std::size_t begin, std::size_t end) {
    for (std::size_t c = begin; c < end; ++c) {
      const float* in = x + static_cast<std::ptrdiff_t>(c) * count;
      mean[c] = static_cast<float>(kernels_->learn.sum(in, 0.0f, nullptr, count) / count);
      variance[c] = static_cast<float>(kernels_->learn.sum(in, mean[c], in, count) / count);
      const double inverse = 1.0 / std::sqrt(static_cast<double>(variance[c]) + eps);
      const float factor = static_cast<float>(inverse * (scale ? scale[c] : 1.0f));
      kernels_->learn.scale(y + static_cast<std::ptrdiff_t>(c) * count, in,
                            {mean[c], factor, shift ? shift[c] : 0.0f, nullptr, 0.0f}, count);
    }
  });
}

// With x̂ = (x - mean) / σ: dx = scale / σ · (g - mean of g - x̂ · mean of g x̂).
void Learning::normalise_back(int channels, std::ptrdiff_t count, const float* x, const float* upstream,
                              const float* scale, float eps, const float* mean, const float* variance, float* gradient,
                              float* scales, float* shifts) {
  share(static_cast<std::size_t>(channels), [&](std::size_t begin, std::size_t end) {
    for (std::size_t c = begin; c < end; ++c) {
      const float *in = x + static_cast<std::ptrdiff_t>(c) * count,
                  *g = upstream + static_cast<std::ptrdiff_t>(c) * count;
      const double inverse = 1.0 / std::sqrt(static_cast<double>(variance[c]) + eps);
      const double sum = kernels_->learn.sum(g, 0.0f, nullptr, count);
      const double dot = kernels_->learn.sum(in, mean[c], g, count) * inverse;
      scales[c] = static_cast<float>(dot);
      shifts[c] = static_cast<float>(sum);
      const double factor = inverse * (scale ? scale[c] : 1.0f);
      kernels_->learn.scale(gradient + static_cast<std::ptrdiff_t>(c) * count, in,
                            {mean[c], static_cast<float>(-factor * inverse * dot / count),
                             static_cast<float>(-factor * sum / count), g, static_cast<float>(factor)},
                            count);
    }
  });
}

void Learning::windows(int channels, const MapWindow& window, const MapSize& size, const MapSize& out,
                       const std::function<void(int, std::ptrdiff_t, const std::ptrdiff_t*)>& work) {
  share(static_cast<std::size_t>(channels), [&](std::size_t begin, std::size_t end) {
    Places places(window, reads, size);
    for (std::size_t c = begin; c < end; ++c)
      for (int row = 0; row < out.height; ++row)
        for (int column = 0; column < out.width; ++column)
          work(static_cast<int>(c), (static_cast<std::ptrdiff_t>(row) * out.width + column) * out.images,
               places.at(row, column));
  });
}

void Learning::maximum(int channels, const MapWindow& window, const float* x, const MapSize& size, const MapSize& out,
                       float* y) {
  windows(channels, window, size, out, [&](int c, std::ptrdiff_t position, const std::ptrdiff_t* places) {
    kernels_->learn.maximum({x + c * size.channel(), places, window.kernel[0] * window.kernel[1], size.images,
                             y + c * out.channel() + position, nullptr});
  });
}

void Learning::maximum_back(int channels, const MapWindow& window, const float* x, const MapSize& size,
                            const MapSize& out, const float* upstream, float* gradient) {
  std::fill_n(gradient, channels * size.channel(), 0.0f);
  windows(channels, window, size, out, [&](int c, std::ptrdiff_t position, const std::ptrdiff_t* places) {
    kernels_->learn.maximum({x + c * size.channel(), places, window.kernel[0] * window.kernel[1], size.images,
                             gradient + c * size.channel(), upstream + c * out.channel() + position});
  });
}

}  // namespace harp
