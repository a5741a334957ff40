// JSON as Python's json module reads it, so that both readers of a file take and refuse the same. Values take at most
// some twenty times the memory of their text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace harp::json {

// Objects and arrays inside each other at most.
constexpr int MOST_DEPTH = 100;

class Value;
using Array = std::vector<Value>;

// Members in the order in which their names came first; of equal names the last value counts.
class Object {
 public:
  using Member = std::pair<std::string, Value>;

  explicit Object(std::vector<Member> members);
  const Value* find(std::string_view name) const;
  const std::vector<Member>& members() const { return members_; }

 private:
  std::vector<Member> members_;
  std::vector<std::uint32_t> by_name_;
};

// A whole number that 64 bits cannot hold.
struct Huge {};

class Value {
 public:
  using Content = std::variant<std::monostate, bool, std::int64_t, Huge, double, std::unique_ptr<std::string>,
                               std::unique_ptr<Array>, std::unique_ptr<Object>>;

  Value() = default;
  explicit Value(Content content) : content_(std::move(content)) {}
  bool is_null() const { return std::holds_alternative<std::monostate>(content_); }
  bool is_integer() const { return integer() || std::holds_alternative<Huge>(content_); }
  // Null where the value is of another kind.
  const bool* boolean() const { return std::get_if<bool>(&content_); }
  const std::int64_t* integer() const { return std::get_if<std::int64_t>(&content_); }
  const double* real() const { return std::get_if<double>(&content_); }
  const std::string* text() const { return held<std::string>(); }
  const Array* array() const { return held<Array>(); }
  const Object* object() const { return held<Object>(); }

 private:
  template <class T>
  const T* held() const {
    const auto* found = std::get_if<std::unique_ptr<T>>(&content_);
    return found ? found->get() : nullptr;
  }

  Content content_;
};

// Texts come out in UTF-8; half of a surrogate pair that was escaped alone in three bytes, as Python's surrogatepass
// has it. Throws std::invalid_argument.
Value parse(std::string_view text);

// Whether these bytes are UTF-8 as the standard has it.
bool is_utf8(std::string_view text);

}  // namespace harp::json
