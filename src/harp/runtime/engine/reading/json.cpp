#include "json.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <locale>
#include <numeric>
#include <sstream>
#include <stdexcept>

namespace harp::json {
namespace {

// Digits of a whole number at most, as in Python.
constexpr std::size_t MOST_DIGITS = 4300;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

double real_of(const std::string& text) {
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  double value = 0.0;
  stream >> value;
  // A stream takes what is too large for the largest number, and says that it failed.
  const bool too_large = stream.fail() && std::fabs(value) >= std::numeric_limits<double>::max();
  return too_large ? std::copysign(std::numeric_limits<double>::infinity(), value) : value;
}

void append_utf8(std::string& text, std::uint32_t code) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | code >> 12);
    tail(6), tail(0);
  } else {
    text += static_cast<char>(0xF0 | code >> 18);
    tail(12), tail(6), tail(0);
  }
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Value whole() {
    Value value = any(0);
    blanks();
    if (place_ != text_.size()) fail("more follows its end");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw std::invalid_argument(std::string(what) + " at character " + std::to_string(place_));
  }

  char here() const { return place_ < text_.size() ? text_[place_] : '\0'; }

  void blanks() {
    while (place_ < text_.size() && std::string_view(" \t\n\r").find(text_[place_]) != std::string_view::npos) ++place_;
  }

  bool took(std::string_view word) {
    if (text_.substr(place_, word.size()) != word) return false;
    place_ += word.size();
    return true;
  }

  Value any(int depth) {
    blanks();
    if (here() == '{' || here() == '[') {
      if (depth == MOST_DEPTH) fail("too many values inside each other");
      return here() == '{' ? object(depth) : array(depth);
    }
    if (here() == '"') return Value(std::make_unique<std::string>(string()));
    if (took("null")) return Value();
    if (took("true")) return Value(Value::Content(true));
    if (took("false")) return Value(Value::Content(false));
    return number();
  }

  Value array(int depth) {
    Array items;
    ++place_;
    blanks();
    if (!took("]")) {
      do {
        items.push_back(any(depth + 1));
        blanks();
      } while (took(","));
      if (!took("]")) fail("expected , or ]");
    }
    return Value(std::make_unique<Array>(std::move(items)));
  }

  Value object(int depth) {
    std::vector<Object::Member> members;
    ++place_;
    blanks();
    if (!took("}")) {
      do {
        blanks();
        if (here() != '"') fail("expected a name in quotes");
        std::string name = string();
        blanks();
        if (!took(":")) fail("expected :");
        Value value = any(depth + 1);
        members.emplace_back(std::move(name), std::move(value));
        blanks();
      } while (took(","));
      if (!took("}")) fail("expected , or }");
    }
    return Value(std::make_unique<Object>(std::move(members)));
  }

  void digits() {
    if (!is_digit(here())) fail("expected a value");
    while (is_digit(here())) ++place_;
  }

  Value number() {
    constexpr double INF = std::numeric_limits<double>::infinity();
    if (took("NaN")) return Value(Value::Content(std::numeric_limits<double>::quiet_NaN()));
    if (took("Infinity")) return Value(Value::Content(INF));
    if (took("-Infinity")) return Value(Value::Content(-INF));
    const std::size_t start = place_;
    if (here() == '-') ++place_;
    if (here() == '0') {
      ++place_;
    } else {
      digits();
    }
    const std::size_t whole = place_;
    if (here() == '.') {
      ++place_;
      digits();
    }
    if (here() == 'e' || here() == 'E') {
      ++place_;
      if (here() == '+' || here() == '-') ++place_;
      digits();
    }
    const std::string text(text_.substr(start, place_ - start));
    return place_ == whole ? integer(text) : Value(Value::Content(real_of(text)));
  }

  Value integer(const std::string& text) const {
    const bool negative = text[0] == '-';
    if (text.size() - negative > MOST_DIGITS) fail("a number of too many digits");
    std::int64_t value = 0;
    for (std::size_t i = negative; i < text.size(); ++i) {
      if (value > (std::numeric_limits<std::int64_t>::max() - 9) / 10) return Value(Value::Content(Huge{}));
      value = 10 * value + (text[i] - '0');
    }
    return Value(Value::Content(negative ? -value : value));
  }

  std::uint32_t hexadecimal() {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++place_) {
      const char c = here();
      const int digit = is_digit(c)            ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) fail("expected four hexadecimal digits");
      code = 16 * code + static_cast<std::uint32_t>(digit);
    }
    return code;
  }

  void escaped(std::string& text) {
    constexpr std::string_view NAMES = "\"\\/bfnrt", MEANT = "\"\\/\b\f\n\r\t";
    const char c = here();
    ++place_;
    const std::size_t found = NAMES.find(c);
    if (found != std::string_view::npos) {
      text += MEANT[found];
      return;
    }
    if (c != 'u') fail("an escape that JSON does not have");
    std::uint32_t code = hexadecimal();
    if (code >= 0xD800 && code < 0xDC00 && text_.substr(place_, 2) == "\\u") {
      const std::size_t back = place_;
      place_ += 2;
      const std::uint32_t low = hexadecimal();
      if (low >= 0xDC00 && low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      } else {
        place_ = back;
      }
    }
    append_utf8(text, code);
  }

  std::string string() {
    std::string text;
    for (++place_;;) {
      if (place_ >= text_.size()) fail("a text without an end");
      const char c = text_[place_];
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a text");
      ++place_;
      if (c == '"') return text;
      if (c == '\\') {
        escaped(text);
      } else {
        text += c;
      }
    }
  }

  std::string_view text_;
  std::size_t place_ = 0;
};

}  // namespace

Object::Object(std::vector<Member> members) : members_(std::move(members)) {
  std::vector<std::uint32_t> order(members_.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto name = [&](std::uint32_t i) -> const std::string& { return members_[i].first; };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return name(a) < name(b); });
  std::vector<bool> repeated(members_.size(), false);
  for (std::size_t i = 0, end = 0; i < order.size(); i = end) {
    for (end = i + 1; end < order.size() && name(order[end]) == name(order[i]); ++end) repeated[order[end]] = true;
    if (end > i + 1) members_[order[i]].second = std::move(members_[order[end - 1]].second);
  }
  std::vector<std::uint32_t> place(members_.size());
  std::uint32_t kept = 0;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    place[i] = kept;
    if (repeated[i]) continue;
    if (kept != i) members_[kept] = std::move(members_[i]);
    ++kept;
  }
  members_.resize(kept);
  for (std::uint32_t i : order)
    if (!repeated[i]) by_name_.push_back(place[i]);
}

const Value* Object::find(std::string_view name) const {
  const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                      [&](std::uint32_t i, std::string_view n) { return members_[i].first < n; });
  return found == by_name_.end() || members_[*found].first != name ? nullptr : &members_[*found].second;
}

Value parse(std::string_view text) { return Parser(text).whole(); }

bool is_utf8(std::string_view text) {
  std::size_t i = 0;
  const auto byte = [&](std::size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u; };
  while (i < text.size()) {
    const std::uint32_t first = byte(i);
    const int more = first < 0x80                    ? 0
                     : first >= 0xC2 && first < 0xE0 ? 1
                     : first >> 4 == 0xE             ? 2
                     : first >= 0xF0 && first < 0xF5 ? 3
                                                     : -1;
    if (more < 0) return false;
    std::uint32_t code = more == 0 ? first : first & (0x3Fu >> more);
    for (int k = 1; k <= more; ++k) {
      if ((byte(i + k) & 0xC0) != 0x80) return false;
      code = code << 6 | (byte(i + k) & 0x3F);
    }
    if ((more == 2 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) ||
        (more == 3 && (code < 0x10000 || code > 0x10FFFF)))
      return false;
    i += static_cast<std::size_t>(more) + 1;
  }
  return true;
}

}  // namespace harp::json
