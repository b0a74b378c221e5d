// Turning a square of vectors on its side, and keeping the lanes whose value is not zero.
#pragma once

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "simd.h"

namespace hotlap::HL_SPACE {

template <class T, int... I>
HL_INLINE T interleaved_low(T a, T b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I % 2 * W + I / 2)...);
}
template <class T, int... I>
HL_INLINE T interleaved_high(T a, T b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I % 2 * W + W / 2 + I / 2)...);
}

// Transposes W vectors: each round interleaves the first half with the second, and log2(W) rounds make one transpose.
template <class T>
HL_INLINE void transpose(T (&rows)[W]) {
  using Lanes = std::make_integer_sequence<int, W>;
#pragma GCC unroll 4
  for (int round = 1; round < W; round *= 2) {
    T mixed[W];
#pragma GCC unroll 8
    for (int i = 0; i < W / 2; i++) {
      mixed[2 * i] = interleaved_low(rows[i], rows[i + W / 2], Lanes{});
      mixed[2 * i + 1] = interleaved_high(rows[i], rows[i + W / 2], Lanes{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < W; i++) rows[i] = mixed[i];
  }
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// For each set of lanes, their numbers in order.
struct LaneTable {
  alignas(64) uint8_t order[256][8];
  constexpr LaneTable() : order() {
    for (int set = 0; set < 256; set++)
      for (int lane = 0, n = 0; lane < 8; lane++)
        if (set >> lane & 1) order[set][n++] = (uint8_t)lane;
  }
};
static constexpr LaneTable kLanes{};
#endif

// Writes the lanes whose value is not zero, and their places, one after another; up to W of each are overwritten.
// Returns how many there are.
HL_INLINE int pack_nonzero(V value, VI place, float* values, int32_t* places) {
#if defined(__AVX512F__)
  const auto v = (__m512)value;
  const __mmask16 set = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  _mm512_storeu_ps(values, _mm512_maskz_compress_ps(set, v));
  _mm512_storeu_si512(places, _mm512_maskz_compress_epi32(set, (__m512i)place));
  return __builtin_popcount(set);
#elif defined(__AVX2__)
  const auto v = (__m256)value;
  const int set = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
  long long bytes;
  std::memcpy(&bytes, kLanes.order[set], sizeof bytes);
  const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes));
  _mm256_storeu_ps(values, _mm256_permutevar8x32_ps(v, order));
  _mm256_storeu_si256((__m256i*)places, _mm256_permutevar8x32_epi32((__m256i)place, order));
  return __builtin_popcount(set);
#else
  int n = 0;
  for (int i = 0; i < W; i++) {
    values[n] = value[i];
    places[n] = place[i];
    n += value[i] != 0;
  }
  return n;
#endif
}

}  // namespace hotlap::HL_SPACE
