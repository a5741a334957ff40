// Layers that learn, for harp/runtime/learning.py: it gives arrays of x[channel][row][column][image].
#include "learning_module.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <vector>

#include "learning.h"
#include "processor.h"

namespace nb = nanobind;

namespace harp {
namespace {

using Index = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Result = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Map = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using NewMap = nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Channels = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using NewChannels = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void need(bool sound) {
  if (!sound) throw std::invalid_argument("arrays that do not fit the layer");
}

template <class M>
MapSize size_of(const M& map) {
  return {static_cast<int>(map.shape(1)), static_cast<int>(map.shape(2)), static_cast<int>(map.shape(3))};
}

// The size of the input; `x` and `y` are its input and its result, or gradients of those.
template <class X, class Y>
MapSize checked(const SparseLayer& layer, const X& x, const Y& y) {
  const MapSize in = size_of(x), out = layer.result(in), given = size_of(y);
  need(x.shape(0) == static_cast<std::size_t>(layer.inputs()) &&
       y.shape(0) == static_cast<std::size_t>(layer.outputs()) && out.height == given.height &&
       out.width == given.width && out.images == given.images);
  return in;
}

// An empty array stands for none.
template <class A>
auto* optional(const A& array, std::size_t count) {
  need(array.size() == 0 || array.size() == count);
  return array.size() == 0 ? nullptr : array.data();
}

void forward(Learning& learning, const SparseLayer& layer, Map x, Numbers values, Numbers bias, NewMap y) {
  const MapSize size = checked(layer, x, y);
  need(values.size() == layer.weights());
  const float* biases = optional(bias, layer.outputs());
  nb::gil_scoped_release released;
  learning.forward(layer, x.data(), size, values.data(), biases, y.data());
}

void back(Learning& learning, const SparseLayer& layer, Map upstream, Numbers values, NewMap gradient) {
  const MapSize size = checked(layer, gradient, upstream);
  need(values.size() == layer.weights());
  nb::gil_scoped_release released;
  learning.back(layer, upstream.data(), size, values.data(), gradient.data());
}

void weights(Learning& learning, const SparseLayer& layer, Map x, Map upstream, Result gradient, Result biases) {
  const MapSize size = checked(layer, x, upstream);
  need(gradient.size() == layer.weights());
  float* sums = optional(biases, layer.outputs());
  nb::gil_scoped_release released;
  learning.weights(layer, x.data(), upstream.data(), size, gradient.data(), sums);
}

void normalise(Learning& learning, Channels x, Numbers scale, Numbers shift, float eps, NewChannels y, Result mean,
               Result variance) {
  const std::size_t channels = x.shape(0);
  need(y.shape(0) == channels && y.shape(1) == x.shape(1) && mean.size() == channels && variance.size() == channels);
  const float *scales = optional(scale, channels), *shifts = optional(shift, channels);
  nb::gil_scoped_release released;
  learning.normalise(static_cast<int>(channels), static_cast<std::ptrdiff_t>(x.shape(1)), x.data(), scales, shifts, eps,
                     y.data(), mean.data(), variance.data());
}

void normalise_back(Learning& learning, Channels x, Channels upstream, Numbers scale, float eps, Numbers mean,
                    Numbers variance, NewChannels gradient, Result scales, Result shifts) {
  const std::size_t channels = x.shape(0), count = x.shape(1);
  need(upstream.shape(0) == channels && upstream.shape(1) == count && gradient.shape(0) == channels &&
       gradient.shape(1) == count && mean.size() == channels && variance.size() == channels &&
       scales.size() == channels && shifts.size() == channels);
  const float* factors = optional(scale, channels);
  nb::gil_scoped_release released;
  learning.normalise_back(static_cast<int>(channels), static_cast<std::ptrdiff_t>(count), x.data(), upstream.data(),
                          factors, eps, mean.data(), variance.data(), gradient.data(), scales.data(), shifts.data());
}

MapWindow window_of(const std::array<int, 8>& numbers) {
  MapWindow window;
  for (int axis = 0; axis < 2; ++axis) {
    window.kernel[axis] = numbers[axis];
    window.stride[axis] = numbers[2 + axis];
    window.padding[axis] = numbers[4 + axis];
    window.dilation[axis] = numbers[6 + axis];
    need(window.kernel[axis] > 0 && window.stride[axis] > 0 && window.padding[axis] >= 0 && window.dilation[axis] > 0);
  }
  return window;
}

void maximum(Learning& learning, std::array<int, 8> window, Map x, NewMap y) {
  const MapWindow w = window_of(window);
  need(x.shape(0) == y.shape(0) && x.shape(3) == y.shape(3));
  nb::gil_scoped_release released;
  learning.maximum(static_cast<int>(x.shape(0)), w, x.data(), size_of(x), size_of(y), y.data());
}

void maximum_back(Learning& learning, std::array<int, 8> window, Map x, Map upstream, NewMap gradient) {
  const MapWindow w = window_of(window);
  need(x.shape(0) == upstream.shape(0) && x.shape(3) == upstream.shape(3));
  for (int axis = 0; axis < 4; ++axis) need(x.shape(axis) == gradient.shape(axis));
  nb::gil_scoped_release released;
  learning.maximum_back(static_cast<int>(x.shape(0)), w, x.data(), size_of(x), size_of(upstream), upstream.data(),
                        gradient.data());
}

}  // namespace

void add_learning(nb::module_& m) {
  nb::class_<SparseLayer>(m, "SparseLayer")
      .def(
          "__init__",
          [](SparseLayer* self, int outputs, int inputs, int groups, std::array<int, 8> window, Index index) {
            new (self)
                SparseLayer(outputs, inputs, groups, window_of(window), {index.data(), index.data() + index.size()});
          },
          nb::arg("outputs"), nb::arg("inputs"), nb::arg("groups"), nb::arg("window"), nb::arg("index"));
  nb::class_<Learning>(m, "Learning")
      .def(
          "__init__",
          [](Learning* self, int threads, const std::string& isa) { new (self) Learning(find_kernels(isa), threads); },
          nb::arg("threads"), nb::arg("isa"))
      .def("forward", &forward, nb::arg("layer"), nb::arg("x"), nb::arg("values"), nb::arg("bias"), nb::arg("y"))
      .def("back", &back, nb::arg("layer"), nb::arg("upstream"), nb::arg("values"), nb::arg("gradient"))
      .def("weights", &weights, nb::arg("layer"), nb::arg("x"), nb::arg("upstream"), nb::arg("gradient"),
           nb::arg("biases"))
      .def("normalise", &normalise, nb::arg("x"), nb::arg("scale"), nb::arg("shift"), nb::arg("eps"), nb::arg("y"),
           nb::arg("mean"), nb::arg("variance"))
      .def("normalise_back", &normalise_back, nb::arg("x"), nb::arg("upstream"), nb::arg("scale"), nb::arg("eps"),
           nb::arg("mean"), nb::arg("variance"), nb::arg("gradient"), nb::arg("scales"), nb::arg("shifts"))
      .def("maximum", &maximum, nb::arg("window"), nb::arg("x"), nb::arg("y"))
      .def("maximum_back", &maximum_back, nb::arg("window"), nb::arg("x"), nb::arg("upstream"), nb::arg("gradient"))
      .def_prop_ro("threads", &Learning::threads);
}

}  // namespace harp
