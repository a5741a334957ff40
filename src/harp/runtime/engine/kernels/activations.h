// Activations of a vector and of many.
#pragma once

#include "kernels.h"
#include "vector.h"

namespace harp {
namespace {

inline bool simple(Activation a) { return static_cast<int>(a) <= static_cast<int>(Activation::leaky); }

inline Vector apply_simple(Vector x, Activation activation, float slope) {
  if (activation == Activation::none) return x;
  if (activation == Activation::leaky) return x < 0.0f ? x * slope : x;
  x = at_least(x, spread(0.0f));
  return activation == Activation::relu6 ? at_most(x, spread(6.0f)) : x;
}

inline Vector sigmoid(Vector x) { return 1.0f / (1.0f + exponential(-x)); }
inline Vector hard(Vector x) { return at_most(at_least(x + 3.0f, spread(0.0f)), spread(6.0f)) * (1.0f / 6.0f); }

inline Vector gelu(Vector x) {
  Vector y;
  for (int i = 0; i < LANES; ++i) y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
  return y;
}

inline Vector apply(Vector x, Activation activation, float slope) {
  switch (activation) {
    case Activation::sigmoid: return sigmoid(x);
    case Activation::silu: return x * sigmoid(x);
    case Activation::hardswish: return x * hard(x);
    case Activation::hardsigmoid: return hard(x);
    case Activation::gelu: return gelu(x);
    case Activation::gelu_tanh: return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
    default: return apply_simple(x, activation, slope);
  }
}

void activate(float* x, std::size_t vectors, Activation activation, float slope) {
  for (std::size_t i = 0; i < vectors; ++i) store(x + i * LANES, apply(load(x + i * LANES), activation, slope));
}

}  // namespace
}  // namespace harp
