// The reader of files for Python: the same that the C library has.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "library/model.h"
#include "module.h"
#include "reading/format.h"

namespace nb = nanobind;

namespace harp {
namespace {

// A vector as an array that owns it.
template <class T>
nb::object array(std::vector<T> values) {
  auto* held = new std::vector<T>(std::move(values));
  nb::capsule owner(held, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::ndarray<nb::numpy, T, nb::ndim<1>>(held->data(), {held->size()}, owner).cast();
}

// Half of a surrogate pair may be in a file, and is no UTF-8.
nb::object text(const std::string& bytes) {
  return nb::steal(PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "surrogatepass"));
}

nb::tuple read_file(nb::bytes content) {
  File file;
  {
    nb::gil_scoped_release released;
    file = read({content.c_str(), content.size()});
  }
  nb::dict tensors;
  for (std::size_t place = 0; place < file.graph.nodes.size(); ++place)
    for (const auto& [name, tensor] : file.graph.nodes[place].tensors) {
      const std::vector<std::int64_t> positions(tensor->positions.begin(), tensor->positions.end());
      const std::string key = std::to_string(place) + "." + name;
      tensors[key.c_str()] = nb::make_tuple(tensor->sparse ? array(positions) : nb::none(), array(tensor->values));
    }
  return nb::make_tuple(text(file.graph_text), text(file.card_text), tensors);
}

nb::tuple tuple_of(const std::vector<std::int64_t>& numbers) { return nb::tuple(nb::cast(numbers)); }

// The shape of a result; channels, height and width of every value of the engine; positions of every weight.
nb::tuple sizes_for(Model& model, const Shape& image) {
  const auto sizes = model.sizes(image);
  std::vector<std::tuple<int, int, int>> values;
  for (const Size& s : sizes->values) values.emplace_back(s.channels, s.height, s.width);
  std::vector<std::int64_t> positions;
  for (const lowering::Layer& layer : model.layers()) {
    const Shape* shape = layer.weight < 0 ? nullptr : &sizes->arranged[layer.weight + 1];
    positions.push_back(shape ? product(*shape, 1, shape->size()) : 0);
  }
  return nb::make_tuple(tuple_of(sizes->result), values, positions);
}

// Of each layer: kind, name, activation, non-zeros, numbers of its dense weight.
nb::list layers_of(const Model& model) {
  nb::list layers;
  for (std::size_t i = 0; i < model.layers().size(); ++i) {
    const lowering::Layer& layer = model.layers()[i];
    layers.append(nb::make_tuple(layer.kind, text(layer.name), layer.activation, model.nonzeros()[i], layer.dense));
  }
  return layers;
}

void make_model(Model* self, nb::bytes content) {
  nb::gil_scoped_release released;
  new (self) Model({content.c_str(), content.size()});
}

}  // namespace

void bind_reading(nb::module_& m) {
  m.def("read", &read_file, nb::arg("content"));
  nb::class_<Model>(m, "Model")
      .def("__init__", &make_model, nb::arg("content"))
      .def("sizes", &sizes_for, nb::arg("image"))
      .def("layers", &layers_of)
      .def_prop_ro("input", [](const Model& model) { return tuple_of(model.input()); })
      .def_prop_ro("graph", [](const Model& model) { return text(model.graph_text); })
      .def_prop_ro("card", [](const Model& model) { return text(model.card_text); });
}

}  // namespace harp
