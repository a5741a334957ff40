// Raw deflate (RFC 1951) back to bytes. Takes and refuses what zlib takes and refuses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace harp {

// Throws std::invalid_argument unless the stream is sound, ends where `packed` ends, and gives `size` bytes.
std::vector<std::uint8_t> inflate(std::string_view packed, std::size_t size);

}  // namespace harp
