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

// (1 - erf(z)) / 2 for z >= 0: t = 1 / (1 + z / 2) times exp of a polynomial in t less z², fitted on [0, 9].
inline Vector half_erfc(Vector z) {
  z = at_most(z, spread(9.0f));  // further out nothing is left, and smaller numbers are slow
  const Vector t = 1.0f / (1.0f + 0.5f * z), k = t * 2.44444444f - 1.44444444f;
  Vector p = spread(1.22663001e-4f);
  p = p * k - 3.97641281e-4f;
  p = p * k - 3.41240694e-4f;
  p = p * k + 3.34101397e-3f;
  p = p * k - 6.47389807e-4f;
  p = p * k - 2.79532083e-2f;
  p = p * k + 1.36255033e-2f;
  p = p * k + 5.60471400e-1f;
  p = p * k - 5.48221098e-1f;
  return 0.5f * t * exponential(p - z * z);
}

inline Vector gelu(Vector x) {
  const Vector size = x < 0.0f ? -x : x, beyond = half_erfc(size * 0.70710678f);
  return x * (x < 0.0f ? beyond : 1.0f - beyond);
}

// exp(x) - 1 for x <= 0, where the two differ little by a polynomial.
inline Vector less_one(Vector x) {
  Vector p = spread(1.9875691500e-4f);
  p = p * x + 1.3981999507e-3f;
  p = p * x + 8.3334519073e-3f;
  p = p * x + 4.1665795894e-2f;
  p = p * x + 1.6666665459e-1f;
  p = p * x + 5.0000001201e-1f;
  return x > -0.34f ? p * x * x + x : exponential(x) - 1.0f;
}

// x · tanh(log(1 + exp x)), with e = exp x: x · n / (n + 2), n = e · (e + 2).
inline Vector mish(Vector x) {
  const Vector e = exponential(at_most(x, spread(20.0f))), n = e * (e + 2.0f);
  return x * (n / (n + 2.0f));
}

// From the exponential where it is exact enough, else by a polynomial.
inline Vector hyperbolic_tangent(Vector x) {
  const Vector size = x < 0.0f ? -x : x, square = x * x;
  const Vector far = 1.0f - 2.0f / (exponential(size + size) + 1.0f);
  Vector p = spread(-5.70498872745e-3f);
  p = p * square + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const Vector near = x + x * square * p;
  return size < 0.625f ? near : (x < 0.0f ? -far : far);
}

template <class F>
inline Vector each(Vector x, F function) {
  for (int i = 0; i < LANES; ++i) x[i] = function(x[i]);
  return x;
}

// log(1 + exp x).
inline Vector softplus(Vector x) {
  return each(x, [](float v) { return v > 20.0f ? v : log1pf(expf(v)); });
}

inline Vector apply_rare(Vector x, Activation activation, float slope) {
  switch (activation) {
    case Activation::exp: return each(x, [](float v) { return expf(v); });
    case Activation::log: return each(x, [](float v) { return logf(v); });
    case Activation::sqrt: return each(x, [](float v) { return sqrtf(v); });
    case Activation::rsqrt: return each(x, [](float v) { return 1.0f / sqrtf(v); });
    case Activation::abs: return each(x, [](float v) { return fabsf(v); });
    case Activation::sin: return each(x, [](float v) { return sinf(v); });
    case Activation::cos: return each(x, [](float v) { return cosf(v); });
    case Activation::erf: return each(x, [](float v) { return erff(v); });
    case Activation::power: return slope == -1.0f ? 1.0f / x : each(x, [slope](float v) { return powf(v, slope); });
    default: return x;
  }
}

inline Vector apply(Vector x, Activation activation, float slope) {
  switch (activation) {
    case Activation::sigmoid: return sigmoid(x);
    case Activation::silu: return x * sigmoid(x);
    case Activation::hardswish: return x * hard(x);
    case Activation::hardsigmoid: return hard(x);
    case Activation::gelu: return gelu(x);
    case Activation::gelu_tanh: return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
    case Activation::tanh: return hyperbolic_tangent(x);
    case Activation::elu: return x > 0.0f ? x : slope * less_one(at_most(x, spread(0.0f)));
    case Activation::mish: return mish(x);
    case Activation::softplus: return softplus(x);
    case Activation::at_least: return at_least(x, spread(slope));
    case Activation::at_most: return at_most(x, spread(slope));
    default: return simple(activation) ? apply_simple(x, activation, slope) : apply_rare(x, activation, slope);
  }
}

void activate(float* x, std::size_t vectors, Activation activation, float slope) {
  for (std::size_t i = 0; i < vectors; ++i) store(x + i * LANES, apply(load(x + i * LANES), activation, slope));
}

}  // namespace
}  // namespace harp
