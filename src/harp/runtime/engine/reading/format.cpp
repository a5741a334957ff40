#include "format.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "../graphs/shapes.h"
#include "../graphs/signatures.h"
#include "container.h"
#include "refusal.h"

namespace harp {
namespace {

using graphs::Graph;
using graphs::Node;

constexpr std::int64_t MOST_COUNT = std::int64_t{1} << 40;
// Numbers that a file may ask for without bringing them, and further ones for each of its bytes.
constexpr std::int64_t FREE_NUMBERS = std::int64_t{1} << 22, NUMBERS_PER_BYTE = 64;

json::Value object(const Container& container, std::string_view key) {
  const std::string* text = container.text(key);
  if (!text) throw Refusal("its " + std::string(key) + " is not there");
  json::Value value;
  try {
    value = json::parse(*text);
  } catch (const std::invalid_argument& error) {
    throw Refusal("its " + std::string(key) + " is not JSON (" + error.what() + ")");
  }
  if (!value.object()) throw Refusal("its " + std::string(key) + " is not a JSON object");
  return value;
}

void check_kind(const Container& container) {
  const std::string *format = container.text("format"), *version = container.text("version");
  if (!format || *format != "harp")
    throw Refusal("it is a safetensors file of something else; `harp export` writes what is wanted");
  if (!version || (*version != "1" && *version != "2"))
    throw Refusal(Fault::newer, "it has version '" + (version ? version->substr(0, 20) : "") +
                                    "', and this harp reads 1 to " + std::to_string(NEWEST_VERSION) + "; update harp");
}

// Plain whole numbers that are not negative; false where something else is there.
bool integers(const json::Value* value, std::vector<std::int64_t>& numbers) {
  const json::Array* items = value ? value->array() : nullptr;
  if (!items) return false;
  for (const json::Value& item : *items) {
    if (!item.is_integer() || (item.integer() && *item.integer() < 0)) return false;
    numbers.push_back(item.integer() ? *item.integer() : INT64_MAX);
  }
  return true;
}

const std::string& text_in(const json::Object& described, std::string_view key) {
  static const std::string nothing;
  const json::Value* found = described.find(key);
  return found && found->text() ? *found->text() : nothing;
}

Blueprint blueprint(const std::string& name, const json::Value& value) {
  const json::Object* described = value.object();
  const auto field = [&](std::string_view key) { return described ? described->find(key) : nullptr; };
  const json::Value *kept = field("kept"), *gaps = field("gaps"), *shape = field("shape");
  if (!kept || !gaps || !shape || !shape->array() || !field("values") || described->members().size() != 4)
    throw Refusal(name + " is not described by gaps, kept, shape, values");
  Blueprint plan;
  const bool counts = kept->integer() && *kept->integer() >= 0 &&
                      (gaps->is_null() || (gaps->integer() && *gaps->integer() >= 0)) && integers(shape, plan.shape);
  if (counts) plan.kept = *kept->integer();
  if (counts && !gaps->is_null()) plan.gaps = *gaps->integer();
  if (!counts || plan.shape.size() > graphs::MOST_AXES || std::max(plan.kept, plan.gaps) > MOST_COUNT ||
      std::any_of(plan.shape.begin(), plan.shape.end(), [](std::int64_t s) { return s > MOST_COUNT; }))
    throw Refusal(name + " has sizes that cannot be");
  plan.values = text_in(*described, "values");
  return plan;
}

Node node_of(const json::Object& described) {
  static const json::Value none(std::make_unique<json::Object>(std::vector<json::Object::Member>{}));
  Node node;
  const json::Value *inputs = described.find("inputs"), *attributes = described.find("attributes"),
                    *tensors = described.find("tensors");
  attributes = attributes ? attributes : &none;
  tensors = tensors ? tensors : &none;
  if ((inputs && !integers(inputs, node.inputs)) || !attributes->object() || !tensors->object())
    throw Refusal("a node of its graph is malformed");
  node.op = text_in(described, "op");
  node.name = text_in(described, "name");
  const graphs::Op* op = graphs::find_op(node.op);
  for (const auto& [name, value] : attributes->object()->members()) {
    const auto listed = [&n = name](const auto& attribute) { return attribute.first == n; };
    const auto end = op ? op->attributes.end() : decltype(op->attributes.end()){};
    const auto found = op ? std::find_if(op->attributes.begin(), end, listed) : end;
    node.attributes.emplace(name, found == end ? graphs::Attribute() : read_attribute(name, value, found->second));
  }
  for (const auto& [name, value] : tensors->object()->members())
    node.tensors.emplace(name, std::make_shared<Tensor>(Tensor{blueprint(name, value), false, {}, {}}));
  return node;
}

// With a blueprint in the place of every tensor.
Graph planned(const json::Object& described) {
  Graph graph;
  const json::Value* nodes = described.find("nodes");
  if (!integers(described.find("input"), graph.input) || !nodes || !nodes->array() ||
      !std::all_of(nodes->array()->begin(), nodes->array()->end(), [](const auto& node) { return node.object(); }))
    throw Refusal("its graph is not an input and a list of nodes");
  for (const json::Value& node : *nodes->array()) graph.nodes.push_back(node_of(*node.object()));
  return graph;
}

template <class Visit>
void for_tensors(Graph& graph, Visit visit) {
  for (std::size_t place = 0; place < graph.nodes.size(); ++place)
    for (auto& [name, tensor] : graph.nodes[place].tensors) visit(std::to_string(place) + "." + name, name, tensor);
}

// Throws for int8 in a file of version 1, or anywhere but in a weight, and where small blobs promise much.
void check_tensors(Graph& graph, bool first_version, std::size_t bytes) {
  std::int64_t numbers = 0;
  for_tensors(graph, [&](const std::string& place, const std::string& name, const auto& tensor) {
    const Blueprint& plan = tensor->plan;
    if (plan.values == "int8" && (first_version || name != "weight"))
      throw Refusal(place + " is int8: expected a file of version 2, and a weight");
    numbers += name == "weight" || name == "matrix" ? plan.shape[0] : product(plan.shape);
  });
  if (numbers > FREE_NUMBERS + NUMBERS_PER_BYTE * static_cast<std::int64_t>(bytes))
    throw Refusal("it has " + std::to_string(numbers) + " constants and outputs in " + std::to_string(bytes) +
                  " bytes: no file of harp's is packed that tightly");
}

void read_tensors(Graph& graph, const Container& container) {
  std::map<std::string_view, std::string_view> blobs(container.blobs.begin(), container.blobs.end());
  std::size_t found = 0;
  for_tensors(graph, [&](const std::string& place, const std::string&, const auto&) {
    if (blobs.find(place) == blobs.end()) throw Refusal("its graph has a tensor " + place + " that is not in the file");
    ++found;
  });
  if (found != blobs.size()) throw Refusal("its graph and its tensors differ: it has more than its graph names");
  for_tensors(graph, [&](const std::string& place, const std::string&, auto& tensor) {
    try {
      check_plan(tensor->plan);
      tensor = std::make_shared<Tensor>(unpack_tensor(blobs.find(place)->second, tensor->plan));
    } catch (const Refusal& error) {
      throw Refusal(place + " " + error.what());
    }
  });
}

}  // namespace

File read(std::string_view content) {
  const Container container = unpack(content);
  check_kind(container);
  File file;
  file.card = object(container, "card");
  file.graph = planned(*object(container, "graph").object());
  file.shapes = graphs::shapes(file.graph, file.graph.input);
  check_tensors(file.graph, *container.text("version") == "1", content.size());
  read_tensors(file.graph, container);
  file.graph_text = *container.text("graph");
  file.card_text = *container.text("card");
  return file;
}

}  // namespace harp
