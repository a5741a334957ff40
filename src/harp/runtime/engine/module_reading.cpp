// The reader of files for Python: the same that the C library has.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <utility>
#include <vector>

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

}  // namespace

void bind_reading(nb::module_& m) { m.def("read", &read_file, nb::arg("content")); }

}  // namespace harp
