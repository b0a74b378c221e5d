// Activations and their derivatives: exact to float32's rounding of values about 1, or ROUGH, to a share of 1e-4, for numbers
// that are then rounded to bfloat16's 4e-3.
#pragma once

#include "simd.h"

namespace hotlap::HL_SPACE {

HL_INLINE V as_floats(VI v) {
  V f;
  std::memcpy(&f, &v, sizeof f);
  return f;
}
HL_INLINE VI as_bits(V v) {
  VI bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits;
}
HL_INLINE V abs(V v) { return as_floats(as_bits(v) & set1i(0x7fffffff)); }

template <bool ROUGH>
HL_INLINE V inverse(V d) {
#if HL_LANES == 16
  if (ROUGH) return __builtin_ia32_rcp14ps512_mask(d, V{}, (unsigned short)-1);
#endif
  return set1(1.0f) / d;
}

// e to the power of x: 2ⁿ by the exponent's bits, the rest by a polynomial. What is not a number stays so.
template <bool ROUGH>
HL_INLINE V exp(V x) {
  const V bounded = x < set1(-87.0f) ? set1(-87.0f) : x > set1(88.0f) ? set1(88.0f) : x;
  // Adding 1.5 · 2²³ rounds to a whole number, which then lies in the lowest bits.
  const V shifted = bounded * set1(1.44269504f) + set1(12582912.0f);
  const V whole = shifted - set1(12582912.0f);
  const V power = as_floats((as_bits(shifted) - set1i(0x4B400000 - 127)) << 23);
  if (ROUGH) {
    const V r = bounded * set1(1.44269504f) - whole;
    V p = set1(0.05517155f) * r + set1(0.24261136f);
    p = p * r + set1(0.69326102f);
    return (p * r + set1(0.99992806f)) * power;
  }
  const V r = bounded - whole * set1(0.693359375f) + whole * set1(2.12194440e-4f);
  V p = set1(1.9875691500e-4f);
  p = p * r + set1(1.3981999507e-3f);
  p = p * r + set1(8.3334519073e-3f);
  p = p * r + set1(4.1665795894e-2f);
  p = p * r + set1(1.6666665459e-1f);
  p = p * r + set1(0.5f);
  p = p * r * r + r + set1(1.0f);
  return p * power;
}

// What lies below u of a normal distribution, by Abramowitz and Stegun 7.1.26 (to 7.5e-8), and its density's exponential.
template <bool ROUGH>
HL_INLINE V normal_share(V u, V& density) {
  density = exp<ROUGH>(set1(-0.5f) * u * u);
  const V t = inverse<ROUGH>(set1(1.0f) + set1(0.3275911f * 0.70710678f) * abs(u));
  V p = set1(1.061405429f * 0.5f);
  p = p * t + set1(-1.453152027f * 0.5f);
  p = p * t + set1(1.421413741f * 0.5f);
  p = p * t + set1(-0.284496736f * 0.5f);
  p = p * t + set1(0.254829592f * 0.5f);
  const V beyond = p * t * density;
  return u < V{} ? beyond : set1(1.0f) - beyond;
}

template <bool ROUGH>
HL_INLINE V share(V u) { return inverse<ROUGH>(set1(1.0f) + exp<ROUGH>(-u)); }

template <int KIND, bool ROUGH>
HL_INLINE V activated(V u, V alpha) {
  if (KIND == HL_RELU) return u < V{} ? V{} : u;
  if (KIND == HL_SILU) return u * share<ROUGH>(u);
  if (KIND == HL_GELU) {
    V density;
    return u * normal_share<ROUGH>(u, density);
  }
  return u > V{} ? u : alpha * (exp<false>(u / alpha) - set1(1.0f));
}

template <int KIND, bool ROUGH>
HL_INLINE V slope(V u, V alpha) {
  if (KIND == HL_RELU) return u > V{} ? set1(1.0f) : V{};
  if (KIND == HL_SILU) {
    const V s = share<ROUGH>(u);
    return s * (set1(1.0f) + u * (set1(1.0f) - s));
  }
  if (KIND == HL_GELU) {
    V density;
    const V s = normal_share<ROUGH>(u, density);
    return s + u * set1(0.39894228f) * density;
  }
  return u > V{} ? set1(1.0f) : exp<ROUGH>(u / alpha);
}

}  // namespace hotlap::HL_SPACE
