// Vectors of HL_LANES floats by the compiler's own vector types: AVX-512, AVX2, SSE2 and NEON from one source.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if !defined(HL_LANES) || !defined(HL_SPACE)
#error "compile through one of the isa_*.cpp files"
#endif

#define HL_INLINE static inline __attribute__((always_inline))

// Everything here has internal linkage or lives in HL_SPACE: code for one instruction set must never be merged by the
// linker with that for another. For the same reason nothing of the C++ library that has code is used below here.
namespace hotlap::HL_SPACE {

constexpr int W = HL_LANES;
typedef float V __attribute__((vector_size(4 * W)));
typedef int32_t VI __attribute__((vector_size(4 * W)));

HL_INLINE V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
HL_INLINE VI load(const int32_t* p) {
  VI v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
HL_INLINE void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
HL_INLINE void store(int32_t* p, VI v) { std::memcpy(p, &v, sizeof v); }
// Written out lane by lane, since adding a number to a vector of zeros really adds: -0 + 0 is 0.
template <class T, class S, int... I>
HL_INLINE T filled(S s, std::integer_sequence<int, I...>) {
  return T{((void)I, s)...};
}
HL_INLINE V set1(float s) { return filled<V>(s, std::make_integer_sequence<int, W>{}); }
HL_INLINE VI set1i(int32_t s) { return filled<VI>(s, std::make_integer_sequence<int, W>{}); }
HL_INLINE V max(V a, V b) { return a > b ? a : b; }
HL_INLINE float sum(V v) {
  float s = 0;
  for (int i = 0; i < W; i++) s += v[i];
  return s;
}

}  // namespace hotlap::HL_SPACE
