#include "container.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "refusal.h"
#include "sha256.h"

namespace harp {
namespace {

constexpr std::string_view METADATA = "__metadata__", CHECKSUM = "sha256";
constexpr std::size_t DIGITS = 64;

[[noreturn]] void damaged(const std::string& text) { throw Refusal(Fault::damaged, text); }

std::uint64_t length_of(std::string_view content) {
  std::uint64_t length = 0;
  for (std::size_t i = std::min<std::size_t>(8, content.size()); i-- > 0;)
    length = length << 8 | static_cast<unsigned char>(content[i]);
  if (content.size() < 8 || length > std::min(content.size() - 8, MOST_HEADER_BYTES))
    damaged("its " + std::to_string(content.size()) +
            " bytes have no room for its header: truncated, or a file of another kind; `harp export` writes what is "
            "wanted");
  return length;
}

json::Value parsed(std::string_view header) {
  try {
    if (!json::is_utf8(header)) throw std::invalid_argument("not UTF-8");
    json::Value value = json::parse(header);
    if (value.object()) return value;
  } catch (const std::invalid_argument& error) {
    damaged(std::string("its header is not JSON (") + error.what() + ")");
  }
  damaged("its header is not a JSON object");
}

void check_sum(std::string_view content, const std::string* claimed) {
  const std::size_t place = claimed && claimed->size() == DIGITS ? content.find(*claimed) : std::string_view::npos;
  if (place == std::string_view::npos) damaged("it carries no checksum");
  Sha256 sum;
  sum.add(content.substr(0, place));
  sum.add(std::string(DIGITS, '0'));
  sum.add(content.substr(place + DIGITS));
  if (sum.hexadecimal() != *claimed) damaged("its checksum does not fit its content: damaged on its way, or edited");
}

bool is(const json::Value& value, std::uint64_t number) {
  return value.integer() && *value.integer() >= 0 && static_cast<std::uint64_t>(*value.integer()) == number;
}

// Of the blob that must begin at `start`.
std::uint64_t size_of(const std::string& name, const json::Value& entry, std::uint64_t start) {
  const json::Object* described = entry.object();
  const json::Value* kind = described ? described->find("dtype") : nullptr;
  if (!kind || !kind->text() || *kind->text() != "U8") damaged(name + " is not a tensor of bytes");
  const json::Value *shape = described->find("shape"), *offsets = described->find("data_offsets");
  const json::Array* ends = offsets ? offsets->array() : nullptr;
  const json::Array* sides = shape ? shape->array() : nullptr;
  const bool sound = ends && ends->size() == 2 && is((*ends)[0], start) && (*ends)[1].integer() &&
                     *(*ends)[1].integer() >= static_cast<std::int64_t>(start) && sides && sides->size() == 1;
  const std::uint64_t size = sound ? static_cast<std::uint64_t>(*(*ends)[1].integer()) - start : 0;
  if (!sound || !is(sides->front(), size))
    damaged(name + " has a shape and offsets that do not fit: expected to start at " + std::to_string(start));
  return size;
}

}  // namespace

const std::string* Container::text(std::string_view name) const {
  const json::Value* texts = header.object()->find(METADATA);
  const json::Value* found = texts->object()->find(name);
  return found ? found->text() : nullptr;
}

Container unpack(std::string_view content) {
  const std::uint64_t length = length_of(content);
  Container unpacked{parsed(content.substr(8, length)), {}};
  const json::Object& header = *unpacked.header.object();
  const json::Value* texts = header.find(METADATA);
  if (!texts || !texts->object() ||
      !std::all_of(texts->object()->members().begin(), texts->object()->members().end(),
                   [](const auto& member) { return member.second.text(); }))
    damaged("it has no texts under __metadata__");
  check_sum(content, unpacked.text(CHECKSUM));
  const std::string_view data = content.substr(8 + length);
  std::uint64_t end = 0;
  for (const auto& [name, entry] : header.members()) {
    if (name == METADATA) continue;
    const std::uint64_t size = size_of(name, entry, end);
    if (size > data.size() - end)
      damaged(name + " ends at byte " + std::to_string(end + size) + " of " + std::to_string(data.size()) +
              ": the file is truncated");
    unpacked.blobs.emplace_back(name, data.substr(end, size));
    end += size;
  }
  if (end != data.size()) damaged(std::to_string(data.size() - end) + " bytes follow its last tensor");
  return unpacked;
}

}  // namespace harp
