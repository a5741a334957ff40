// What is said of a file that is not a network: a text for people, and which kind of fault it is.
#pragma once

#include <stdexcept>
#include <string>

namespace harp {

enum class Fault { damaged, newer, invalid };

class Refusal : public std::invalid_argument {
 public:
  Refusal(Fault fault, const std::string& text) : std::invalid_argument(text), fault(fault) {}
  explicit Refusal(const std::string& text) : Refusal(Fault::invalid, text) {}

  Fault fault;
};

}  // namespace harp
