// The Python face of the engine: nodes in, arrays in, arrays out. harp/runtime/session.py checks what comes from users.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <stdexcept>
#include <type_traits>

#include "engine.h"
#include "learning_module.h"
#include "library/model.h"
#include "module.h"
#include "names.h"
#include "processor.h"

namespace nb = nanobind;
using namespace harp;

namespace {

using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Columns = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Input = nb::ndarray<nb::ro, nb::ndim<4>, nb::c_contig, nb::device::cpu>;

template <class T>
std::vector<std::remove_const_t<typename T::Scalar>> copied(const T& array) {
  return {array.data(), array.data() + array.size()};
}

// Collects nodes, then becomes an engine.
class Builder {
 public:
  int add(const std::string& kind, std::vector<int> inputs, int residual, std::array<int, 8> window, bool count_padding,
          const std::string& activation, float slope, bool pool) {
    Node node;
    node.kind = kind_named(kind);
    const int known = static_cast<int>(network_.nodes.size());
    for (int value : inputs)
      if (value < 0 || value > known) throw std::invalid_argument("an input that is not computed before");
    if (residual > known || inputs.empty() != (node.kind == Kind::constant))
      throw std::invalid_argument("an input that is not computed before");
    node.inputs = std::move(inputs);
    node.residual = residual;
    for (int axis = 0; axis < 2; ++axis) {
      node.kernel[axis] = window[axis];
      node.stride[axis] = window[2 + axis];
      node.padding[axis] = window[4 + axis];
      node.dilation[axis] = window[6 + axis];
    }
    node.count_padding = count_padding;
    node.activation = activation_named(activation);
    node.slope = slope;
    node.pool = pool;
    network_.nodes.push_back(std::move(node));
    return known + 1;
  }

  void weights(int outputs, int inputs, int groups, Rows rows, Columns columns, Floats values, Floats bias) {
    Node& node = network_.nodes.back();
    node.weights = std::make_shared<Weights>(
        Weights{outputs, inputs, groups, copied(rows), copied(columns), copied(values), copied(bias)});
    check(*node.weights, node.kernel);
    if (node.weights->bias.size() != static_cast<std::size_t>(outputs))
      throw std::invalid_argument("one bias an output");
  }

  void scales(Floats scale, Floats shift) {
    network_.nodes.back().scales = std::make_shared<Scales>(Scales{copied(scale), copied(shift)});
  }

  void details(Rows numbers, Floats values) {
    network_.nodes.back().details = std::make_shared<Details>(Details{copied(numbers), copied(values)});
  }

  Network network_;
};

using SizeTuple = std::tuple<int, int, int>;

std::vector<Size> sizes_of(const std::vector<SizeTuple>& shapes) {
  std::vector<Size> sizes;
  for (const auto& [channels, height, width] : shapes) sizes.push_back({channels, height, width});
  return sizes;
}

Images checked(const Input& x, const std::vector<Size>& sizes, const Output& out) {
  const bool bytes = x.dtype() == nb::dtype<std::uint8_t>();
  const Size in = sizes.at(0), result = sizes.back();
  const std::size_t sides[3] = {static_cast<std::size_t>(in.channels), static_cast<std::size_t>(in.height),
                                static_cast<std::size_t>(in.width)};
  const bool fits = bytes ? x.shape(1) == sides[1] && x.shape(2) == sides[2] && x.shape(3) == sides[0]
                          : x.shape(1) == sides[0] && x.shape(2) == sides[1] && x.shape(3) == sides[2];
  if ((!bytes && x.dtype() != nb::dtype<float>()) || !fits || out.shape(0) != x.shape(0) ||
      out.shape(1) != static_cast<std::size_t>(result.channels) * result.height * result.width)
    throw std::invalid_argument("arrays that do not fit the network");
  return {x.data(), bytes};
}

void run(Engine& engine, Input x, const std::vector<SizeTuple>& shapes, Output out, bool tune) {
  const std::vector<Size> sizes = sizes_of(shapes);
  const Images images = checked(x, sizes, out);
  const int count = static_cast<int>(x.shape(0));
  nb::gil_scoped_release released;
  if (count > 0) engine.run(images, count, sizes, out.data(), tune);
}

// A tape with the engine that it goes back on, which must live as long.
struct Recording {
  Tape tape;
  Engine* engine;
};

using Upstream = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

Recording* record(Engine& engine, Input x, const std::vector<SizeTuple>& shapes, Output out, bool tune) {
  const std::vector<Size> sizes = sizes_of(shapes);
  const Images images = checked(x, sizes, out);
  const int count = static_cast<int>(x.shape(0));
  nb::gil_scoped_release released;
  return new Recording{engine.record(images, count, sizes, out.data(), tune), &engine};
}

void back(const Recording& recording, Upstream upstream, Output gradient) {
  const Tape& tape = recording.tape;
  const auto floats = [](const Size& s) { return static_cast<std::size_t>(s.channels) * s.height * s.width; };
  const auto count = static_cast<std::size_t>(tape.count);
  if (upstream.shape(0) != count || gradient.shape(0) != count || upstream.shape(1) != floats(tape.result) ||
      gradient.shape(1) != floats(tape.image))
    throw std::invalid_argument("arrays that do not fit the tape");
  nb::gil_scoped_release released;
  if (count > 0) recording.engine->back(tape, upstream.data(), gradient.data());
}

}  // namespace

NB_MODULE(_engine, m) {
  m.doc() = "The compiled engine of harp.runtime.";
  nb::set_leak_warnings(false);  // a tape in an autograd graph that is alive when Python ends is no fault
  bind_reading(m);
  nb::class_<Builder>(m, "Builder")
      .def(nb::init<>())
      .def("add", &Builder::add, nb::arg("kind"), nb::arg("inputs"), nb::arg("residual"), nb::arg("window"),
           nb::arg("count_padding"), nb::arg("activation"), nb::arg("slope"), nb::arg("pool"))
      .def("weights", &Builder::weights, nb::arg("outputs"), nb::arg("inputs"), nb::arg("groups"), nb::arg("rows"),
           nb::arg("columns"), nb::arg("values"), nb::arg("bias"))
      .def("scales", &Builder::scales, nb::arg("scale"), nb::arg("shift"))
      .def("details", &Builder::details, nb::arg("numbers"), nb::arg("values"));
  nb::class_<Recording>(m, "Recording").def("back", &back, nb::arg("upstream"), nb::arg("gradient"));
  nb::class_<Engine>(m, "Engine")
      .def(
          "__init__",
          [](Engine* self, Builder& builder, int threads, const std::string& isa) {
            new (self) Engine(std::move(builder.network_), find_kernels(isa), threads);
          },
          nb::arg("builder"), nb::arg("threads"), nb::arg("isa"))
      .def(
          "__init__",
          [](Engine* self, Model& model, int threads, const std::string& isa) {
            new (self) Engine(model.take_network(), find_kernels(isa), threads);
          },
          nb::arg("model"), nb::arg("threads"), nb::arg("isa"))
      .def("run", &run, nb::arg("x"), nb::arg("shapes"), nb::arg("out"), nb::arg("tune"))
      .def("record", &record, nb::arg("x"), nb::arg("shapes"), nb::arg("out"), nb::arg("tune"), nb::keep_alive<0, 1>())
      .def(
          "update", [](Engine& engine, Builder& builder) { return engine.update(std::move(builder.network_)); },
          nb::arg("builder"), nb::call_guard<nb::gil_scoped_release>())
      .def(
          "describe",
          [](Engine& engine, int count, const std::vector<SizeTuple>& shapes, bool tune) {
            return engine.describe(count, sizes_of(shapes), tune);
          },
          nb::arg("count"), nb::arg("shapes"), nb::arg("tune"))
      .def_prop_ro("plans", &Engine::plans)
      .def_prop_ro("isa", [](const Engine& engine) { return engine.kernels()->isa; })
      .def_prop_ro("threads", &Engine::threads);
  add_learning(m);
  m.def("isa", [](const std::string& name) { return find_kernels(name)->isa; }, nb::arg("name") = "");
  m.def(
      "peak_gflops", [](int threads, const std::string& isa) { return peak_gflops(find_kernels(isa), threads); },
      nb::arg("threads") = 1, nb::arg("isa") = "", nb::call_guard<nb::gil_scoped_release>());
}
