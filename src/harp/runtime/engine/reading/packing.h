// A tensor as bytes: gaps between its non-zeros, byte planes of their values, deflated; unpacked believing nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace harp {

// What the header says of a blob: enough to know every size before unpacking.
struct Blueprint {
  std::vector<std::int64_t> shape;
  std::string values;  // f32, f16 or int8
  std::int64_t kept = 0;
  std::int64_t gaps = -1;  // bytes of gap codes; -1: no positions, all values are there
};

// A tensor by its non-zeros: ascending positions in the flattened tensor, unless all values are there.
struct Tensor {
  Blueprint plan;
  bool sparse = false;
  std::vector<std::int32_t> positions;
  std::vector<float> values;

  const std::vector<std::int64_t>& shape() const { return plan.shape; }
  std::int64_t size() const;
  std::vector<float> dense() const;
};

// Throws Refusal unless the numbers of a header can belong to one tensor.
void check_plan(const Blueprint& plan);

// Throws Refusal when the blob is not what the header says, or a position or value cannot be.
Tensor unpack_tensor(std::string_view blob, const Blueprint& plan);

}  // namespace harp
