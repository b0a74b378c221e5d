// 3×3 convolution with 2×2 pooling by Winograd's F(2×2, 3×3): a window is one tile, and a tile takes 16 products for each
// pair of channels instead of 36.
#pragma once

#include "conv.h"
#include "gemm.h"

namespace hotlap::HL_SPACE {

// A filter g becomes G·g·Gᵀ: (16, in_cp, out_cp), channels of the input from `begin` to `end`.
inline void winograd_weights(const Layer& l, const float* w, long begin, long end) {
  const long plane = (long)l.in_cp * l.out_cp, size = 3L * l.row_lanes;
  for (int o = 0; o < l.out_c; o++)
    for (long c = begin; c < end; c += W) {
      V g[3][3], rows[4][3];
      for (int y = 0; y < 3; y++)
        for (int x = 0; x < 3; x++) g[y][x] = load(w + o * size + (long)y * l.row_lanes + x * l.in_cp + c);
      const V half = set1(0.5f);
      for (int x = 0; x < 3; x++) {
        const V outer = g[0][x] + g[2][x];
        rows[0][x] = g[0][x], rows[3][x] = g[2][x];
        rows[1][x] = half * (outer + g[1][x]), rows[2][x] = half * (outer - g[1][x]);
      }
      for (int y = 0; y < 4; y++) {
        const V outer = rows[y][0] + rows[y][2];
        const V made[4] = {rows[y][0], half * (outer + rows[y][1]), half * (outer - rows[y][1]), rows[y][2]};
        for (int x = 0; x < 4; x++)
          for (int i = 0; i < W; i++) l.derived[(4 * y + x) * plane + (c + i) * l.out_cp + o] = made[x][i];
      }
    }
}

// The 4×4 field d of a window becomes Bᵀ·d·B, one float of each of the 16 planes.
HL_INLINE void winograd_field(const Layer& l, const float* x, float* tile) {
  const long plane = (long)kTiles * l.in_cp;
  for (int c = 0; c < l.in_cp; c += W) {
    V rows[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const V a = load(x + c + i * l.in_cp), b = load(x + c + i * l.in_cp + l.in_row);
      const V d = load(x + c + i * l.in_cp + 2 * l.in_row), e = load(x + c + i * l.in_cp + 3 * l.in_row);
      rows[0][i] = a - d, rows[1][i] = b + d, rows[2][i] = d - b, rows[3][i] = b - e;
    }
#pragma GCC unroll 4
    for (int y = 0; y < 4; y++) {
      float* to = tile + c + 4 * y * plane;
      store(to, rows[y][0] - rows[y][2]);
      store(to + plane, rows[y][1] + rows[y][2]);
      store(to + 2 * plane, rows[y][2] - rows[y][1]);
      store(to + 3 * plane, rows[y][1] - rows[y][3]);
    }
  }
}

template <bool KEEP>
void winograd_forward(const Layer& l, const float* params, const float* x, float* out, int32_t* chosen, float* tiles,
                      float* products) {
  const float* bias = params + l.bias;
  const int windows = l.out_h * l.out_w;
  const long in_plane = (long)kTiles * l.in_cp, out_plane = (long)kTiles * l.out_cp;
  for (int first = 0; first < windows; first += kTiles) {
    const int n = windows - first < kTiles ? windows - first : kTiles;
    for (int t = 0; t < n; t++) winograd_field(l, x + l.window[first + t].field, tiles + (long)t * l.in_cp);
    for (int f = 0; f < 16; f++)
      gemm<kSet>(n, l.out_cp, l.in_cp, tiles + f * in_plane, l.in_cp, 1, l.derived + f * (long)l.in_cp * l.out_cp,
                 l.out_cp, products + f * out_plane, l.out_cp);
    for (int t = 0; t < n; t++) {
      const Window& at = l.window[first + t];
      for (int c = 0; c < l.out_cp; c += W) {
        const float* m = products + (long)t * l.out_cp + c;
        V top[4], low[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
          const V a = load(m + i * out_plane), b = load(m + (4 + i) * out_plane);
          const V d = load(m + (8 + i) * out_plane), e = load(m + (12 + i) * out_plane);
          top[i] = a + b + d, low[i] = b - d - e;
        }
        pool_four<KEEP>(l, at, top[0] + top[1] + top[2], top[1] - top[2] - top[3], low[0] + low[1] + low[2],
                        low[1] - low[2] - low[3], load(bias + c), out + c, KEEP ? chosen + c : nullptr);
      }
    }
  }
}

}  // namespace hotlap::HL_SPACE
