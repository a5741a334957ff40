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

// x · Φ(x). Φ(x) is a half and x times a polynomial in x², fitted on |x| < 5.374; further out it is 0 or 1.
inline Vector gelu(Vector x) {
  const Vector square = at_most(x * x, spread(28.88f)), k = square * 6.92520776e-2f - 1.0f;
  Vector p = spread(3.48037741e-04f);
  p = p * k - 9.47272282e-04f;
  p = p * k + 8.81005494e-04f;
  p = p * k - 1.18430199e-03f;
  p = p * k + 3.46080711e-03f;
  p = p * k - 6.46108998e-03f;
  p = p * k + 9.47359126e-03f;
  p = p * k - 1.37787318e-02f;
  p = p * k + 1.94537127e-02f;
  p = p * k - 2.56350325e-02f;
  p = p * k + 3.21160027e-02f;
  p = p * k - 3.93103844e-02f;
  p = p * k + 4.86981717e-02f;
  p = p * k - 6.56340650e-02f;
  p = p * k + 1.31559912e-01f;
  const Vector near = x * (0.5f + x * p), far = x < 0.0f ? Vector{} : x;
  return square < 28.88f ? near : (x == x ? far : x);
}

// exp(x) - 1 for x <= 0, where the two differ little by a polynomial.
inline Vector less_one(Vector x) { return x > -0.34f ? exponential_rest(x) * x * x + x : exponential(x) - 1.0f; }

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
