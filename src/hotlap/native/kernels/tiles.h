// Winograd's transforms for a 3×3 convolution of tiles with R×R outputs, one line at a time, R from 2 to 8.
//
// A line of R outputs is a product of polynomials, taken at R + 2 points (Toom and Cook): 0, pairs ±p, one more where R is
// odd, and infinity. Pairs share their sums of even and odd powers. Polynomials are split so that the point without a
// pair is a factor of its own, (x - q), or the others would not be even or odd.
#pragma once

#include "simd.h"

namespace hotlap::HL_SPACE {

// Points that lose little in float32: relative to the outputs, 3e-7, 9e-7, 2e-6, 3e-6, 4e-6, 1e-5 and 2e-5 (Barabasz et al.
// 2018 on how to choose them).
template <int R>
struct Points;
template <>
struct Points<2> {
  static constexpr double pairs[] = {1};
};
template <>
struct Points<3> {
  static constexpr double pairs[] = {1}, single = -2;
};
template <>
struct Points<4> {
  static constexpr double pairs[] = {1, 2};
};
template <>
struct Points<5> {
  static constexpr double pairs[] = {1, 2}, single = .5;
};
template <>
struct Points<6> {
  static constexpr double pairs[] = {1, 2, .5};
};
template <>
struct Points<7> {
  static constexpr double pairs[] = {.5, 1, 1.5}, single = 4;
};
template <>
struct Points<8> {
  static constexpr double pairs[] = {.5, 2, .8, 1.25};
};

template <int R>
constexpr int kSide = R + 2;
template <int R>
constexpr int kPlaces = kSide<R> * kSide<R>;

template <int R>
struct Tile {
  static constexpr int kPairs = R / 2;
  static constexpr bool kSingle = R % 2 != 0;
  // Where the values at the points lie: 0, the pairs, the single one, infinity.
  static constexpr int kSinglePlace = 2 * kPairs + 1, kInfinity = kSide<R> - 1;

  struct Numbers {
    float pair[kPairs], single;
    float even[kPairs + 1];              // of the product of all x² - p²
    float without[kPairs][kPairs];       // of the product without pair i
    float pair_powers[kPairs][R], single_powers[R];
    float filter[kSide<R>];                 // what divides the filter's value at each point
  };

  static constexpr double single() {
    if constexpr (kSingle) return Points<R>::single;
    else return 0;
  }

  static constexpr Numbers make() {
    Numbers n{};
    const double q = single();
    double even[kPairs + 1] = {1};
    for (int i = 0; i < kPairs; i++) {
      const double square = Points<R>::pairs[i] * Points<R>::pairs[i];
      for (int k = i + 1; k >= 0; k--) even[k] = (k ? even[k - 1] : 0) - square * even[k];
    }
    for (int k = 0; k <= kPairs; k++) n.even[k] = (float)even[k];
    n.single = (float)q;
    n.filter[0] = (float)(1 / (even[0] * (kSingle ? -q : 1)));
    for (int i = 0; i < kPairs; i++) {
      const double p = Points<R>::pairs[i];
      double without[kPairs] = {1}, value = 0;
      int degree = 0;
      for (int other = 0; other < kPairs; other++) {
        if (other == i) continue;
        const double square = Points<R>::pairs[other] * Points<R>::pairs[other];
        degree++;
        for (int k = degree; k >= 0; k--) without[k] = (k ? without[k - 1] : 0) - square * (k < degree ? without[k] : 0);
      }
      for (int k = degree; k >= 0; k--) value = value * p * p + without[k];
      for (int k = 0; k < kPairs; k++) n.without[i][k] = (float)without[k];
      n.pair[i] = (float)p;
      n.filter[1 + 2 * i] = (float)(1 / (2 * p * p * value * (kSingle ? p - q : 1)));
      n.filter[2 + 2 * i] = (float)(1 / (2 * p * p * value * (kSingle ? -p - q : 1)));
      double power = 1;
      for (int k = 0; k < R; k++, power *= p) n.pair_powers[i][k] = (float)power;
    }
    if (kSingle) {
      double value = 0, power = 1;
      for (int k = kPairs; k >= 0; k--) value = value * q * q + even[k];
      n.filter[kSinglePlace] = (float)(1 / (q * value));
      for (int k = 0; k < R; k++, power *= q) n.single_powers[k] = (float)power;
    }
    n.filter[kInfinity] = 1;
    return n;
  }
  static constexpr Numbers kNumbers = make();
};

// Of the R + 2 inputs of a line.
template <int R>
HL_INLINE void input_line(const V* d, V* t) {
  using T = Tile<R>;
  constexpr auto n = T::kNumbers;
  V e[kSide<R>];
  constexpr int count = kSide<R> - T::kSingle;
#pragma GCC unroll 10
  for (int k = 0; k < count; k++) e[k] = T::kSingle ? d[k + 1] - n.single * d[k] : d[k];
  V zero = e[2 * T::kPairs], infinity = e[2 * T::kPairs + 1], single = d[2 * T::kPairs + 1];
#pragma GCC unroll 4
  for (int k = 0; k < T::kPairs; k++) {
    zero += n.even[k] * e[2 * k], infinity += n.even[k] * e[2 * k + 1];
    if (T::kSingle) single += n.even[k] * d[2 * k + 1];
  }
  t[0] = zero, t[T::kInfinity] = infinity;
  if (T::kSingle) t[T::kSinglePlace] = single;
#pragma GCC unroll 4
  for (int i = 0; i < T::kPairs; i++) {
    V even = e[2 * T::kPairs], odd = e[2 * T::kPairs - 1];
#pragma GCC unroll 4
    for (int k = 0; k < T::kPairs - 1; k++) even += n.without[i][k] * e[2 * k + 2], odd += n.without[i][k] * e[2 * k + 1];
    odd = n.pair[i] * odd;
    t[1 + 2 * i] = even + odd, t[2 + 2 * i] = even - odd;
  }
}

// The R outputs of a line.
template <int R>
HL_INLINE void output_line(const V* m, V* y) {
  using T = Tile<R>;
  constexpr auto n = T::kNumbers;
  V sums[T::kPairs], differences[T::kPairs];
#pragma GCC unroll 4
  for (int i = 0; i < T::kPairs; i++) {
    sums[i] = m[1 + 2 * i] + m[2 + 2 * i], differences[i] = m[1 + 2 * i] - m[2 + 2 * i];
  }
#pragma GCC unroll 8
  for (int k = 0; k < R; k++) {
    const V* from = k % 2 ? differences : sums;
    V out = n.pair_powers[0][k] * from[0];
#pragma GCC unroll 4
    for (int i = 1; i < T::kPairs; i++) out += n.pair_powers[i][k] * from[i];
    if (T::kSingle) out += n.single_powers[k] * m[T::kSinglePlace];
    if (k == 0) out += m[0];
    if (k == R - 1) out += m[T::kInfinity];
    y[k] = out;
  }
}

// The transpose of output_line, for the gradients of the outputs.
template <int R>
HL_INLINE void gradient_line(const V* y, V* m) {
  using T = Tile<R>;
  constexpr auto n = T::kNumbers;
  m[0] = y[0], m[T::kInfinity] = y[R - 1];
#pragma GCC unroll 4
  for (int i = 0; i < T::kPairs; i++) {
    V even = y[0], odd = n.pair_powers[i][1] * y[1];
#pragma GCC unroll 4
    for (int k = 2; k < R; k += 2) even += n.pair_powers[i][k] * y[k];
#pragma GCC unroll 4
    for (int k = 3; k < R; k += 2) odd += n.pair_powers[i][k] * y[k];
    m[1 + 2 * i] = even + odd, m[2 + 2 * i] = even - odd;
  }
  if (T::kSingle) {
    V value = y[0];
#pragma GCC unroll 8
    for (int k = 1; k < R; k++) value += n.single_powers[k] * y[k];
    m[T::kSinglePlace] = value;
  }
}

// Of the three weights of a line.
template <int R>
HL_INLINE void filter_line(const V* g, V* u) {
  using T = Tile<R>;
  constexpr auto n = T::kNumbers;
  u[0] = n.filter[0] * g[0], u[T::kInfinity] = g[2];
#pragma GCC unroll 4
  for (int i = 0; i < T::kPairs; i++) {
    const V even = g[0] + n.pair[i] * n.pair[i] * g[2], odd = n.pair[i] * g[1];
    u[1 + 2 * i] = n.filter[1 + 2 * i] * (even + odd), u[2 + 2 * i] = n.filter[2 + 2 * i] * (even - odd);
  }
  if (T::kSingle) u[T::kSinglePlace] = n.filter[T::kSinglePlace] * (g[0] + n.single * g[1] + n.single * n.single * g[2]);
}

// The transpose of filter_line.
template <int R>
HL_INLINE void filter_gradient_line(const V* u, V* g) {
  using T = Tile<R>;
  constexpr auto n = T::kNumbers;
  V constant = n.filter[0] * u[0], linear{}, square = u[T::kInfinity];
#pragma GCC unroll 4
  for (int i = 0; i < T::kPairs; i++) {
    const V plus = n.filter[1 + 2 * i] * u[1 + 2 * i], minus = n.filter[2 + 2 * i] * u[2 + 2 * i];
    const V even = plus + minus;
    constant += even, linear += n.pair[i] * (plus - minus), square += n.pair[i] * n.pair[i] * even;
  }
  if (T::kSingle) {
    const V value = n.filter[T::kSinglePlace] * u[T::kSinglePlace];
    constant += value, linear += n.single * value, square += n.single * n.single * value;
  }
  g[0] = constant, g[1] = linear, g[2] = square;
}

}  // namespace hotlap::HL_SPACE
