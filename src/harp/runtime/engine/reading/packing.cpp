#include "packing.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "../graphs/shape.h"
#include "inflate.h"
#include "refusal.h"

namespace harp {
namespace {

// Every blob expands to at most 64 KiB and 64 times its size: no small file fills the memory.
constexpr std::uint64_t SLACK = std::uint64_t{1} << 16, MOST_RATIO = 64;

std::int64_t item_bytes(const Blueprint& plan) { return plan.values == "f32" ? 4 : plan.values == "f16" ? 2 : 1; }

std::int64_t scales_of(const Blueprint& plan) { return plan.values == "int8" ? plan.shape[0] : 0; }

std::uint64_t size_bytes(const Blueprint& plan) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(plan.gaps, 0) + plan.kept * item_bytes(plan) +
                                    2 * scales_of(plan));
}

float from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

float from_half(std::uint32_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, fraction = half & 0x3FF;
  if (exponent == 31) return from_bits(sign | 0x7F800000u | fraction << 13);
  if (exponent > 0) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
  const float small = std::ldexp(static_cast<float>(fraction), -24);
  return sign ? -small : small;
}

// Byte b of number i in planes of `count` bytes, little endian.
std::uint32_t number(const std::uint8_t* planes, std::int64_t count, std::int64_t i, int bytes) {
  std::uint32_t bits = 0;
  for (int b = 0; b < bytes; ++b) bits |= std::uint32_t{planes[b * count + i]} << 8 * b;
  return bits;
}

std::vector<std::int32_t> positions_of(const std::uint8_t* codes, const Blueprint& plan) {
  const std::int64_t found = plan.gaps - std::count(codes, codes + plan.gaps, std::uint8_t{255});
  if (found != plan.kept || (plan.gaps > 0 && codes[plan.gaps - 1] == 255))
    throw Refusal("holds " + std::to_string(found) + " positions, expected " + std::to_string(plan.kept));
  std::vector<std::int32_t> positions;
  positions.reserve(static_cast<std::size_t>(plan.kept));
  const std::int64_t elements = product(plan.shape);
  std::int64_t reached = 0;
  for (std::int64_t i = 0; i < plan.gaps; ++i) {
    reached += codes[i];
    if (codes[i] == 255) continue;
    if (reached >= elements)
      throw Refusal("holds position " + std::to_string(reached) + ", beyond its " + std::to_string(elements) +
                    " elements");
    positions.push_back(static_cast<std::int32_t>(reached++));
  }
  return positions;
}

std::vector<float> scales_in(const std::uint8_t* planes, std::int64_t count) {
  std::vector<float> scales(static_cast<std::size_t>(count));
  for (std::int64_t o = 0; o < count; ++o) {
    scales[o] = from_bits(number(planes, count, o, 2) << 16);
    if (!std::isfinite(scales[o]) || !(scales[o] > 0))
      throw Refusal("holds a scale that is not a positive finite number");
  }
  return scales;
}

void read_values(Tensor& tensor, const std::uint8_t* planes) {
  const std::int64_t kept = tensor.plan.kept;
  const int bytes = static_cast<int>(item_bytes(tensor.plan));
  tensor.values.resize(static_cast<std::size_t>(kept));
  if (bytes == 1) {
    const std::int64_t outputs = scales_of(tensor.plan), each = tensor.size() / std::max<std::int64_t>(outputs, 1);
    const std::vector<float> scales = scales_in(planes + kept, outputs);
    for (std::int64_t i = 0; i < kept; ++i) {
      const std::int64_t place = tensor.sparse ? tensor.positions[i] : i;
      tensor.values[i] = static_cast<float>(static_cast<std::int8_t>(planes[i])) * scales[place / each];
    }
  } else {
    for (std::int64_t i = 0; i < kept; ++i) {
      const std::uint32_t bits = number(planes, kept, i, bytes);
      tensor.values[i] = bytes == 2 ? from_half(bits) : from_bits(bits);
    }
  }
  if (!std::all_of(tensor.values.begin(), tensor.values.end(), [](float v) { return std::isfinite(v); }))
    throw Refusal("holds values that are not finite");
}

}  // namespace

std::int64_t Tensor::size() const { return product(plan.shape); }

std::vector<float> Tensor::dense() const {
  if (!sparse) return values;
  std::vector<float> flat(static_cast<std::size_t>(size()), 0.0f);
  for (std::size_t i = 0; i < positions.size(); ++i) flat[positions[i]] = values[i];
  return flat;
}

void check_plan(const Blueprint& plan) {
  const std::int64_t elements = product(plan.shape);
  if (plan.values != "f32" && plan.values != "f16" && plan.values != "int8")
    throw Refusal("values='" + plan.values.substr(0, 20) + "': expected one of f16, f32, int8");
  if (plan.values == "int8" && plan.shape.empty())
    throw Refusal("values='int8' and no outputs: expected a shape that begins with them");
  const std::string counts = std::to_string(plan.kept) + " values for " + std::to_string(elements) + " elements";
  if (plan.gaps < 0 && plan.kept != elements) throw Refusal(counts + ", and no positions");
  if (plan.gaps >= 0 && !(plan.kept <= plan.gaps && plan.gaps <= plan.kept + elements / 255))
    throw Refusal(std::to_string(plan.gaps) + " bytes of positions for " + std::to_string(plan.kept) + " of " +
                  std::to_string(elements) + " elements");
  if (plan.kept > elements) throw Refusal(counts);
}

Tensor unpack_tensor(std::string_view blob, const Blueprint& plan) {
  const std::uint64_t size = size_bytes(plan);
  if (size > SLACK + MOST_RATIO * blob.size())
    throw Refusal(std::to_string(blob.size()) + " bytes that would become " + std::to_string(size) +
                  ": no file of harp's is packed that tightly");
  std::vector<std::uint8_t> raw;
  try {
    raw = inflate(blob, static_cast<std::size_t>(size));
  } catch (const std::invalid_argument& error) {
    throw Refusal("does not decompress to the " + std::to_string(size) + " bytes that the header states (" +
                  error.what() + ")");
  }
  Tensor tensor{plan, plan.gaps >= 0, {}, {}};
  if (tensor.sparse) tensor.positions = positions_of(raw.data(), plan);
  read_values(tensor, raw.data() + std::max<std::int64_t>(plan.gaps, 0));
  return tensor;
}

}  // namespace harp
