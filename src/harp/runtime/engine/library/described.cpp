#include "described.h"

#include <algorithm>

#include "../reading/refusal.h"

namespace harp {
namespace {

constexpr std::int64_t MOST_SIDE = std::int64_t{1} << 24;

bool is_side(const json::Value& value) {
  return value.integer() && *value.integer() >= 1 && *value.integer() <= MOST_SIDE;
}

bool says(const json::Object& described, std::string_view key, std::string_view word) {
  const json::Value* found = described.find(key);
  return found && found->text() && *found->text() == word;
}

}  // namespace

std::vector<std::string> class_names(const json::Object& card) {
  const json::Value* found = card.find("classes");
  std::vector<std::string> names;
  if (!found || !found->array()) return names;
  for (const json::Value& name : *found->array()) {
    if (!name.text()) return {};
    names.push_back(*name.text());
  }
  return names;
}

std::optional<Preprocessing> preprocessing_in(const json::Object& card) {
  const json::Value* value = card.find("preprocessing");
  if (!value || value->is_null()) return std::nullopt;
  const json::Object* described = value->object();
  const auto field = [&](std::string_view key) { return described ? described->find(key) : nullptr; };
  const json::Value *size = field("size"), *shorter = field("shorter_side");
  const json::Array* sides = size ? size->array() : nullptr;
  bool sound = sides && sides->size() == 2 && std::all_of(sides->begin(), sides->end(), is_side) && shorter &&
               described->members().size() == 5 && says(*described, "orientation", "exif");
  sound = sound && (says(*described, "mode", "RGB") || says(*described, "mode", "L"));
  sound = sound && (says(*described, "resample", "bilinear") || says(*described, "resample", "mean-or-bilinear"));
  if (sound && !shorter->is_null()) {
    const std::int64_t height = *(*sides)[0].integer(), width = *(*sides)[1].integer();
    sound = is_side(*shorter) && height == width && height <= *shorter->integer();
  }
  if (!sound) throw Refusal("its preprocessing is of another version of harp, or was written by hand");
  Preprocessing how{};
  how.height = static_cast<int>(*(*sides)[0].integer());
  how.width = static_cast<int>(*(*sides)[1].integer());
  how.channels = says(*described, "mode", "L") ? 1 : 3;
  how.shorter_side = shorter->is_null() ? 0 : static_cast<int>(*shorter->integer());
  how.mean_of_blocks = says(*described, "resample", "mean-or-bilinear");
  return how;
}

}  // namespace harp
