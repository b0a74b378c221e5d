// Small matrix products with the columns of the result in the lanes.
#pragma once

#include "simd.h"

namespace hotlap::HL_SPACE {

// What becomes of the product.
enum Into { kSet, kAdd };

// Rows of B that are walked at once: 256 rows of three vectors stay in the first-level cache.
constexpr long kDepth = 256;

template <int MR, int NV>
HL_INLINE void gemm_tile(long depth, const float* a, long a_row, long a_step, const float* b, long ldb, float* c,
                         long ldc, const float* bias, bool accumulate, bool relu) {
  V acc[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++)
      acc[i][v] = accumulate ? load(c + i * ldc + v * W) : bias ? load(bias + v * W) : V{};
  for (long k = 0; k < depth; k++) {
    V bv[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) bv[v] = load(b + v * W);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      const V av = set1(a[i * a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) acc[i][v] += av * bv[v];
    }
    a += a_step;
    b += ldb;
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) store(c + i * ldc + v * W, relu ? max(acc[i][v], V{}) : acc[i][v]);
}

// Rows of a tile that keep accumulators, a row of B and a broadcast within the registers.
constexpr int kRegisters = W == 16 ? 32 : 16;
template <int NV>
constexpr int tile_rows() {
  return W == 16 ? (NV == 1 ? 16 : NV == 2 ? 12 : 8) : (NV == 1 ? 8 : NV == 2 ? 6 : 4);
}

template <int NV>
void gemm_columns(long m, long depth, const float* a, long a_row, long a_step, const float* b, long ldb, float* c,
                  long ldc, const float* bias, bool accumulate, bool relu) {
  constexpr int MR = tile_rows<NV>();
  long i = 0;
  for (; i + MR <= m; i += MR)
    gemm_tile<MR, NV>(depth, a + i * a_row, a_row, a_step, b, ldb, c + i * ldc, ldc, bias, accumulate, relu);
  for (; i + 4 <= m && MR > 4; i += 4)
    gemm_tile<4, NV>(depth, a + i * a_row, a_row, a_step, b, ldb, c + i * ldc, ldc, bias, accumulate, relu);
  for (; i + 2 <= m; i += 2)
    gemm_tile<2, NV>(depth, a + i * a_row, a_row, a_step, b, ldb, c + i * ldc, ldc, bias, accumulate, relu);
  for (; i < m; i++)
    gemm_tile<1, NV>(depth, a + i * a_row, a_row, a_step, b, ldb, c + i * ldc, ldc, bias, accumulate, relu);
}

// C (m, n) = or += A (m, depth) · B (depth, n) + bias, then ReLU. A is read at a[i · a_row + k · a_step], so that it
// may be a transpose; n is a whole number of vectors, and so are the rows of B and C.
template <Into into>
void gemm(long m, long n, long depth, const float* a, long a_row, long a_step, const float* b, long ldb, float* c,
          long ldc, const float* bias = nullptr, bool relu = false) {
  for (long k = 0; k < depth || k == 0; k += kDepth) {
    const long part = depth - k < kDepth ? depth - k : kDepth;
    const bool accumulate = into == kAdd || k > 0, last = relu && k + part >= depth;
    const float *ak = a + k * a_step, *bk = b + k * ldb;
    for (long j = 0; j < n;) {
      const long left = (n - j) / W;
      const float* bj = bias ? bias + j : nullptr;
      // Three vectors at a time use the registers best; four are better cut in two than into three and one.
      if (left >= 3 && left != 4) {
        gemm_columns<3>(m, part, ak, a_row, a_step, bk + j, ldb, c + j, ldc, bj, accumulate, last);
        j += 3 * W;
      } else if (left >= 2) {
        gemm_columns<2>(m, part, ak, a_row, a_step, bk + j, ldb, c + j, ldc, bj, accumulate, last);
        j += 2 * W;
      } else {
        gemm_columns<1>(m, part, ak, a_row, a_step, bk + j, ldb, c + j, ldc, bj, accumulate, last);
        j += W;
      }
    }
  }
}

}  // namespace hotlap::HL_SPACE
