#include "inflate.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace harp {
namespace {

constexpr int MOST_BITS = 15, TABLE_BITS = 9;

[[noreturn]] void fail(const char* what) { throw std::invalid_argument(what); }

class Bits {
 public:
  explicit Bits(std::string_view bytes) : bytes_(bytes) {}

  std::uint32_t take(int count) {
    fill(count);
    if (held_ < count) fail("the stream ends too early");
    return drop(count);
  }

  // Up to so many bits, zeros beyond the end; how many there are is `held()`.
  std::uint32_t look(int count) {
    fill(count);
    return static_cast<std::uint32_t>(buffer_ & ((std::uint64_t{1} << count) - 1));
  }
  int held() const { return held_; }
  std::uint32_t drop(int count) {
    const auto bits = static_cast<std::uint32_t>(buffer_ & ((std::uint64_t{1} << count) - 1));
    buffer_ >>= count;
    held_ -= count;
    return bits;
  }

  // The bytes that follow the one in which the last bit was.
  std::string_view bytes(std::size_t count) {
    align();
    if (count > bytes_.size() - place_) fail("the stream ends too early");
    const std::string_view taken = bytes_.substr(place_, count);
    place_ += count;
    return taken;
  }
  bool at_end() {
    align();
    return place_ == bytes_.size();
  }

 private:
  void fill(int count) {
    while (held_ < count && place_ < bytes_.size()) {
      buffer_ |= std::uint64_t{static_cast<unsigned char>(bytes_[place_++])} << held_;
      held_ += 8;
    }
  }
  void align() {
    place_ -= static_cast<std::size_t>(held_ / 8);
    buffer_ = 0;
    held_ = 0;
  }

  std::string_view bytes_;
  std::size_t place_ = 0;
  std::uint64_t buffer_ = 0;
  int held_ = 0;
};

// A canonical Huffman code. `lonely`: one code of one bit may stand for itself, or none at all.
class Code {
 public:
  Code(const std::uint8_t* lengths, int symbols, bool lonely) {
    for (int s = 0; s < symbols; ++s) ++count_[lengths[s]];
    int left = 1, longest = 0;
    for (int bits = 1; bits <= MOST_BITS; ++bits) {
      left = 2 * left - count_[bits];
      if (left < 0) fail("a code of too many symbols");
      if (count_[bits] > 0) longest = bits;
    }
    if (left > 0 && !(lonely && longest <= 1)) fail("a code of too few symbols");
    int offsets[MOST_BITS + 1] = {};
    for (int bits = 1; bits < MOST_BITS; ++bits) offsets[bits + 1] = offsets[bits] + count_[bits];
    for (int s = 0; s < symbols; ++s)
      if (lengths[s] > 0) symbols_[offsets[lengths[s]]++] = static_cast<std::uint16_t>(s);
    fill_table();
  }

  int next(Bits& in) const {
    const Entry entry = table_[in.look(TABLE_BITS)];
    if (entry.bits > 0 && entry.bits <= in.held()) {
      in.drop(entry.bits);
      return entry.symbol;
    }
    return slowly(in);
  }

 private:
  struct Entry {
    std::uint16_t symbol = 0;
    std::uint8_t bits = 0;
  };

  void fill_table() {
    std::uint32_t code = 0;
    int index = 0;
    for (int bits = 1; bits <= TABLE_BITS; ++bits, code <<= 1)
      for (int i = 0; i < count_[bits]; ++i, ++code, ++index) {
        std::uint32_t reversed = 0;
        for (int b = 0; b < bits; ++b) reversed |= (code >> b & 1) << (bits - 1 - b);
        for (std::uint32_t at = reversed; at < 1u << TABLE_BITS; at += 1u << bits)
          table_[at] = {symbols_[index], static_cast<std::uint8_t>(bits)};
      }
  }

  int slowly(Bits& in) const {
    int code = 0, first = 0, index = 0;
    for (int bits = 1; bits <= MOST_BITS; ++bits) {
      code |= static_cast<int>(in.take(1));
      const int count = count_[bits];
      if (code - count < first) return symbols_[index + (code - first)];
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    fail("a symbol without a code");
  }

  std::uint16_t count_[MOST_BITS + 1] = {}, symbols_[320] = {};
  Entry table_[1 << TABLE_BITS];
};

class Output {
 public:
  explicit Output(std::size_t size) : bytes_(size) {}

  void literal(int byte) {
    if (end_ == bytes_.size()) fail("more bytes come out than the header states");
    bytes_[end_++] = static_cast<std::uint8_t>(byte);
  }
  void stored(std::string_view some) {
    if (some.size() > bytes_.size() - end_) fail("more bytes come out than the header states");
    if (!some.empty()) std::memcpy(bytes_.data() + end_, some.data(), some.size());
    end_ += some.size();
  }
  void repeat(std::size_t distance, std::size_t length) {
    if (distance > end_) fail("a distance to before the beginning");
    if (length > bytes_.size() - end_) fail("more bytes come out than the header states");
    for (std::size_t i = 0; i < length; ++i, ++end_) bytes_[end_] = bytes_[end_ - distance];
  }
  std::vector<std::uint8_t> whole() {
    if (end_ != bytes_.size()) fail("fewer bytes come out than the header states");
    return std::move(bytes_);
  }

 private:
  std::vector<std::uint8_t> bytes_;
  std::size_t end_ = 0;
};

constexpr std::uint16_t LENGTHS[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                       31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
constexpr std::uint8_t LENGTH_BITS[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                          2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
constexpr std::uint16_t DISTANCES[30] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                         33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                         1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
constexpr std::uint8_t DISTANCE_BITS[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                            6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};

void coded(Bits& in, Output& out, const Code& literals, const Code& distances) {
  for (int symbol = literals.next(in); symbol != 256; symbol = literals.next(in)) {
    if (symbol < 256) {
      out.literal(symbol);
      continue;
    }
    if (symbol > 285) fail("a length that does not exist");
    const std::size_t length = LENGTHS[symbol - 257] + in.take(LENGTH_BITS[symbol - 257]);
    const int far = distances.next(in);
    if (far > 29) fail("a distance that does not exist");
    out.repeat(DISTANCES[far] + in.take(DISTANCE_BITS[far]), length);
  }
}

void stored_block(Bits& in, Output& out) {
  const std::string_view head = in.bytes(4);
  const auto byte = [&](int i) { return static_cast<unsigned>(static_cast<unsigned char>(head[i])); };
  const unsigned length = byte(0) | byte(1) << 8, check = byte(2) | byte(3) << 8;
  if (length != (~check & 0xFFFFu)) fail("a stored block of two lengths");
  out.stored(in.bytes(length));
}

void fixed_block(Bits& in, Output& out) {
  std::uint8_t lengths[288 + 32];
  for (int s = 0; s < 288; ++s) lengths[s] = s < 144 ? 8 : s < 256 ? 9 : s < 280 ? 7 : 8;
  std::fill(lengths + 288, lengths + 320, std::uint8_t{5});
  coded(in, out, Code(lengths, 288, false), Code(lengths + 288, 32, false));
}

void dynamic_block(Bits& in, Output& out) {
  constexpr int ORDER[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
  const int literals = static_cast<int>(in.take(5)) + 257, distances = static_cast<int>(in.take(5)) + 1;
  const int given = static_cast<int>(in.take(4)) + 4;
  if (literals > 286 || distances > 30) fail("a code of too many symbols");
  std::uint8_t lengths[320] = {};
  for (int i = 0; i < given; ++i) lengths[ORDER[i]] = static_cast<std::uint8_t>(in.take(3));
  const Code code(lengths, 19, false);
  for (int i = 0; i < literals + distances;) {
    const int symbol = code.next(in);
    if (symbol < 16) {
      lengths[i++] = static_cast<std::uint8_t>(symbol);
      continue;
    }
    if (symbol == 16 && i == 0) fail("a repetition of nothing");
    const std::uint8_t again = symbol == 16 ? lengths[i - 1] : std::uint8_t{0};
    int count = static_cast<int>(symbol == 16 ? 3 + in.take(2) : symbol == 17 ? 3 + in.take(3) : 11 + in.take(7));
    if (i + count > literals + distances) fail("a repetition beyond the end");
    while (count-- > 0) lengths[i++] = again;
  }
  if (lengths[256] == 0) fail("a block without an end");
  coded(in, out, Code(lengths, literals, true), Code(lengths + literals, distances, true));
}

}  // namespace

std::vector<std::uint8_t> inflate(std::string_view packed, std::size_t size) {
  Bits in(packed);
  Output out(size);
  for (bool last = false; !last;) {
    last = in.take(1) == 1;
    switch (in.take(2)) {
      case 0: stored_block(in, out); break;
      case 1: fixed_block(in, out); break;
      case 2: dynamic_block(in, out); break;
      default: fail("a kind of block that does not exist");
    }
  }
  if (!in.at_end()) fail("bytes follow its end");
  return out.whole();
}

}  // namespace harp
