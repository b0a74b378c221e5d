// 3×3 convolutions of whole batches for the PyTorch engine, by Winograd's tiles of 4×4: a product of 36 matrices instead
// of 144 multiplications for every tile, input and output channel. Lavin and Gray 2016, with the points 0, ±1, ±2.
//
// Images are channels-last, without padding of channels. Between the transforms, matrices lie in panels: P channels of
// all rows of a block, one block of rows after another, so that every read of the products is of whole cache lines.
#pragma once

#include "net.h"
#include "simd.h"

namespace hotlap::HL_SPACE {

constexpr int P = 2 * W;
constexpr int kSide = 6, kPlaces = kSide * kSide, kOut = 4;

HL_INLINE V load_some(const float* p, int n) {
  if (n >= W) return load(p);
  V v{};
  std::memcpy(&v, p, sizeof(float) * n);
  return v;
}
HL_INLINE void store_some(float* p, V v, int n) {
  if (n >= W) store(p, v);
  else std::memcpy(p, &v, sizeof(float) * n);
}

typedef int8_t VB __attribute__((vector_size(W)));
HL_INLINE VI load_bytes(const uint8_t* p, int n) {
  VB v{};
  std::memcpy(&v, p, n < W ? n : W);
  return __builtin_convertvector(v, VI);
}
HL_INLINE void store_bytes(uint8_t* p, VI v, int n) {
  const VB bytes = __builtin_convertvector(v, VB);
  std::memcpy(p, &bytes, n < W ? n : W);
}

// Six inputs of one row or column of a tile.
HL_INLINE void input_line(const V* d, V* t) {
  const V a = d[4] - 4.f * d[2], b = d[3] - 4.f * d[1], c = d[4] - d[2], e = 2.f * (d[3] - d[1]);
  t[0] = 4.f * d[0] - 5.f * d[2] + d[4];
  t[1] = a + b, t[2] = a - b, t[3] = c + e, t[4] = c - e;
  t[5] = 4.f * d[1] - 5.f * d[3] + d[5];
}
HL_INLINE void output_line(const V* m, V* y) {
  const V a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
  y[0] = m[0] + a + c, y[1] = b + 2.f * d, y[2] = a + 4.f * c, y[3] = b + 8.f * d + m[5];
}
// The transpose of output_line, for the gradients of the outputs.
HL_INLINE void gradient_line(const V* y, V* m) {
  const V a = y[0] + y[2], b = y[1] + y[3], c = y[0] + 4.f * y[2], d = 2.f * y[1] + 8.f * y[3];
  m[0] = y[0], m[1] = a + b, m[2] = a - b, m[3] = c + d, m[4] = c - d, m[5] = y[3];
}
HL_INLINE void filter_line(const V* g, V* u) {
  const V a = (g[0] + g[2]) * (-1.f / 6), b = g[1] * (1.f / 6), c = g[0] * (1.f / 24) + g[2] * (1.f / 6);
  const V d = g[1] * (1.f / 12);
  u[0] = g[0] * .25f, u[1] = a - b, u[2] = a + b, u[3] = c + d, u[4] = c - d, u[5] = g[2];
}
// The transpose of filter_line.
HL_INLINE void filter_gradient_line(const V* u, V* g) {
  const V a = (u[1] + u[2]) * (-1.f / 6), b = (u[2] - u[1]) * (1.f / 6), c = u[3] + u[4], d = u[3] - u[4];
  g[0] = u[0] * .25f + a + c * (1.f / 24), g[1] = b + d * (1.f / 12), g[2] = a + c * (1.f / 6) + u[5];
}

struct Conv3 {
  hl_conv3 c;
  long in_h, in_w, out_h, out_w;  // before pooling
  long tiles_y, tiles_x, tiles;   // of one image
  long in_panels, out_panels;
  long in_place, out_place, filter_place;  // floats from one of the 36 matrices to the next

  explicit Conv3(const hl_conv3& conv) : c(conv) {
    out_h = c.height + 2L * c.pad - 2, out_w = c.width + 2L * c.pad - 2;
    // Pooling leaves the last of an odd number of rows or columns out.
    if (c.pool == HL_POOL_OUT) out_h -= out_h % 2, out_w -= out_w % 2;
    in_h = c.height, in_w = c.width;
    if (c.pool == HL_POOL_IN) in_h -= in_h % 2, in_w -= in_w % 2;
    tiles_y = (out_h + kOut - 1) / kOut, tiles_x = (out_w + kOut - 1) / kOut, tiles = tiles_y * tiles_x;
    in_panels = (c.in + P - 1) / P, out_panels = (c.out + P - 1) / P;
    // One more line than there are, or all 36 would lie in the same set of the first-level cache.
    in_place = in_panels * kRows3 * P + kLine, out_place = out_panels * kRows3 * P + kLine;
    filter_place = out_panels * c.in * P + kLine;
  }
  long blocks() const { return (c.n * tiles + kRows3 - 1) / kRows3; }
  long rows(long block) const { return c.n * tiles - block * kRows3 < kRows3 ? c.n * tiles - block * kRows3 : kRows3; }
  long slot_floats() const { return kPlaces * (in_place + out_place); }
  static constexpr long kLine = 16;
};

// (36, in panels, rows, P) of the tiles of a block; `blank` is as long as the channels, and zero. Behind pooling, x is
// what each maximum gets, and goes to the place of its window that `index` names.
template <bool POOLED>
void input_tiles(const Conv3& k, long block, const float* x, const uint8_t* index, const float* blank, float* to) {
  const long count = k.rows(block), channels = k.c.in;
  for (long r = 0; r < count; r++) {
    const long tile = block * kRows3 + r, image = tile / k.tiles, at = tile % k.tiles;
    const long y0 = at / k.tiles_x * kOut - k.c.pad, x0 = at % k.tiles_x * kOut - k.c.pad;
    const float* from[kPlaces];
    const uint8_t* chosen[kPlaces];
    int own[kPlaces];
    for (int i = 0; i < kPlaces; i++) {
      const long row = y0 + i / kSide, column = x0 + i % kSide;
      const bool inside = row >= 0 && row < k.in_h && column >= 0 && column < k.in_w;
      const long pixel = POOLED ? (image * (k.in_h / 2) + row / 2) * (k.in_w / 2) + column / 2
                                : (image * k.in_h + row) * k.in_w + column;
      from[i] = inside ? x + pixel * channels : blank;
      if (POOLED) {
        chosen[i] = inside ? index + pixel * channels : index;
        own[i] = inside ? (int)(row % 2 * 2 + column % 2) : -1;
      }
    }
    for (long c = 0; c < channels; c += W) {
      const int n = (int)(channels - c);
      float* out = to + (c / P * kRows3 + r) * P + c % P;
      V t[kSide][kSide], line[kSide];
      for (int j = 0; j < kSide; j++) {
        V column[kSide];
#pragma GCC unroll 6
        for (int i = 0; i < kSide; i++) {
          const int place = i * kSide + j;
          column[i] = load_some(from[place] + c, n);
          if (POOLED) column[i] = load_bytes(chosen[place] + c, n) == set1i(own[place]) ? column[i] : V{};
        }
        input_line(column, line);
#pragma GCC unroll 6
        for (int i = 0; i < kSide; i++) t[i][j] = line[i];
      }
      for (int i = 0; i < kSide; i++) {
        input_line(t[i], line);
#pragma GCC unroll 6
        for (int j = 0; j < kSide; j++) store(out + (i * kSide + j) * k.in_place, line[j]);
      }
    }
  }
}

// Writes a block's outputs, from (36, out panels, rows, P); pooled, the largest of each 2×2, and which of them it was.
template <bool POOLED>
void output_tiles(const Conv3& k, long block, const float* from, float* y, uint8_t* index) {
  const long count = k.rows(block), channels = k.c.out, width = POOLED ? k.out_w / 2 : k.out_w;
  for (long r = 0; r < count; r++) {
    const long tile = block * kRows3 + r, image = tile / k.tiles, at = tile % k.tiles;
    const long y0 = at / k.tiles_x * kOut, x0 = at % k.tiles_x * kOut;
    const int rows = (int)(k.out_h - y0 < kOut ? k.out_h - y0 : kOut);
    const int columns = (int)(k.out_w - x0 < kOut ? k.out_w - x0 : kOut);
    const long first = (POOLED ? (image * (k.out_h / 2) + y0 / 2) * width + x0 / 2
                               : (image * k.out_h + y0) * width + x0) * channels;
    for (long c = 0; c < channels; c += W) {
      const float* in = from + (c / P * kRows3 + r) * P + c % P;
      const int n = (int)(channels - c);
      V t[kOut][kSide], line[kSide], out[kOut][kOut];
      for (int j = 0; j < kSide; j++) {
        V column[kOut];
#pragma GCC unroll 6
        for (int i = 0; i < kSide; i++) line[i] = load(in + (i * kSide + j) * k.out_place);
        output_line(line, column);
#pragma GCC unroll 4
        for (int i = 0; i < kOut; i++) t[i][j] = column[i];
      }
      for (int i = 0; i < kOut; i++) output_line(t[i], out[i]);
      if (POOLED) {
        for (int i = 0; i < rows; i += 2)
          for (int j = 0; j < columns; j += 2) {
            V top = out[i][j];
            VI which{};
#pragma GCC unroll 3
            for (int other = 1; other < 4; other++) {
              const V value = out[i + other / 2][j + other % 2];
              which = value > top ? set1i(other) : which;
              top = value > top ? value : top;
            }
            const long place = first + (i / 2 * width + j / 2) * channels + c;
            store_some(y + place, top, n);
            store_bytes(index + place, which, n);
          }
      } else {
        for (int i = 0; i < rows; i++)
          for (int j = 0; j < columns; j++) store_some(y + first + (i * width + j) * channels + c, out[i][j], n);
      }
    }
  }
}

// (36, out panels, rows, P) of the gradients of a block's outputs, which may be given behind pooling.
template <bool POOLED>
void gradient_tiles(const Conv3& k, long block, const float* dy, const uint8_t* index, float* to) {
  const long count = k.rows(block), channels = k.c.out, width = POOLED ? k.out_w / 2 : k.out_w;
  for (long r = 0; r < count; r++) {
    const long tile = block * kRows3 + r, image = tile / k.tiles, at = tile % k.tiles;
    const long y0 = at / k.tiles_x * kOut, x0 = at % k.tiles_x * kOut;
    const int rows = (int)(k.out_h - y0 < kOut ? k.out_h - y0 : kOut);
    const int columns = (int)(k.out_w - x0 < kOut ? k.out_w - x0 : kOut);
    const long first = (POOLED ? (image * (k.out_h / 2) + y0 / 2) * width + x0 / 2
                               : (image * k.out_h + y0) * width + x0) * channels;
    for (long c = 0; c < channels; c += W) {
      float* out = to + (c / P * kRows3 + r) * P + c % P;
      const int n = (int)(channels - c);
      V t[kSide][kOut], line[kSide], in[kOut][kOut];
      for (int i = 0; i < kOut; i++)
        for (int j = 0; j < kOut; j++) in[i][j] = V{};
      if (POOLED) {
        for (int i = 0; i < rows; i += 2)
          for (int j = 0; j < columns; j += 2) {
            const long place = first + (i / 2 * width + j / 2) * channels + c;
            const V d = load_some(dy + place, n);
            const VI which = load_bytes(index + place, n);
#pragma GCC unroll 4
            for (int other = 0; other < 4; other++) in[i + other / 2][j + other % 2] = which == set1i(other) ? d : V{};
          }
      } else {
        for (int i = 0; i < rows; i++)
          for (int j = 0; j < columns; j++) in[i][j] = load_some(dy + first + (i * width + j) * channels + c, n);
      }
      for (int j = 0; j < kOut; j++) {
        V column[kOut];
        for (int i = 0; i < kOut; i++) column[i] = in[i][j];
        gradient_line(column, line);
#pragma GCC unroll 6
        for (int i = 0; i < kSide; i++) t[i][j] = line[i];
      }
      for (int i = 0; i < kSide; i++) {
        gradient_line(t[i], line);
#pragma GCC unroll 6
        for (int j = 0; j < kSide; j++) store(out + (i * kSide + j) * k.out_place, line[j]);
      }
    }
  }
}

// The filters' matrices (36, out panels, in, P), of input channels begin to end.
inline void filter_tiles(const Conv3& k, const float* w, long begin, long end, float* to) {
  for (long i = begin; i < end; i++)
    for (long c = 0; c < k.out_panels * P; c += W) {
      float lanes[9][W] = {};
      for (int lane = 0; lane < W && c + lane < k.c.out; lane++)
        for (int tap = 0; tap < 9; tap++)
          lanes[tap][lane] = w[(c + lane) * k.c.filter_out + i * k.c.filter_in + tap * k.c.filter_tap];
      V t[kSide][3], in[3], line[kSide];
      for (int j = 0; j < 3; j++) {
        for (int r = 0; r < 3; r++) in[r] = load(lanes[r * 3 + j]);
        filter_line(in, line);
        for (int r = 0; r < kSide; r++) t[r][j] = line[r];
      }
      for (int r = 0; r < kSide; r++) {
        filter_line(t[r], line);
        for (int j = 0; j < kSide; j++)
          store(to + (r * kSide + j) * k.filter_place + (c / P * k.c.in + i) * P + c % P, line[j]);
      }
    }
}

// The filters' gradients of input channels begin to end, from the sum over `parts` of their matrices.
inline void filter_gradients(const Conv3& k, const float* from, long parts, long begin, long end, float* dw) {
  const long part_floats = kPlaces * k.filter_place;
  for (long i = begin; i < end; i++)
    for (long c = 0; c < k.out_panels * P; c += W) {
      V t[3][kSide], line[kSide], out[3];
      for (int j = 0; j < kSide; j++) {
        for (int r = 0; r < kSide; r++) {
          const float* at = from + (r * kSide + j) * k.filter_place + (c / P * k.c.in + i) * P + c % P;
          line[r] = load(at);
          for (long part = 1; part < parts; part++) line[r] += load(at + part * part_floats);
        }
        filter_gradient_line(line, out);
        for (int r = 0; r < 3; r++) t[r][j] = out[r];
      }
      for (int r = 0; r < 3; r++) {
        filter_gradient_line(t[r], out);
        for (int j = 0; j < 3; j++)
          for (int lane = 0; lane < W && c + lane < k.c.out; lane++)
            dw[(c + lane) * k.c.filter_out + i * k.c.filter_in + (r * 3 + j) * k.c.filter_tap] = out[j][lane];
      }
    }
}

// Rows of the products' tiles: as many accumulators as there are registers for.
constexpr int kTileRows = W == 16 ? 12 : 6;

// out (M rows, P) = a (M rows, depth) · b (depth, P), the depth of `a` in panels `a_panel` floats apart.
template <int M>
HL_INLINE void product_tile(long depth, const float* a, long a_panel, const float* b, float* out) {
  V acc[M][2];
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) acc[i][0] = acc[i][1] = V{};
  for (; depth > 0; depth -= P, a += a_panel) {
    const int n = (int)(depth < P ? depth : P);
    for (int k = 0; k < n; k++, b += P) {
      const V b0 = load(b), b1 = load(b + W);
#pragma GCC unroll 16
      for (int i = 0; i < M; i++) {
        const V s = set1(a[i * P + k]);
        acc[i][0] += s * b0, acc[i][1] += s * b1;
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) store(out + i * P, acc[i][0]), store(out + i * P + W, acc[i][1]);
}

// The 36 products (rows, in) · (in, out) of a block.
inline void products(const Conv3& k, long rows, const float* tiles, const float* filters, float* out) {
  const long a_panel = kRows3 * P;
  for (int place = 0; place < kPlaces; place++)
    for (long panel = 0; panel < k.out_panels; panel++) {
      const float* a = tiles + place * k.in_place;
      const float* b = filters + place * k.filter_place + panel * k.c.in * P;
      float* to = out + place * k.out_place + panel * a_panel;
      long r = 0;
      for (; r + kTileRows <= rows; r += kTileRows) product_tile<kTileRows>(k.c.in, a + r * P, a_panel, b, to + r * P);
      for (; r + 2 <= rows; r += 2) product_tile<2>(k.c.in, a + r * P, a_panel, b, to + r * P);
      for (; r < rows; r++) product_tile<1>(k.c.in, a + r * P, a_panel, b, to + r * P);
    }
}

// sum (M, P) += aᵀ (rows, M) · b (rows, P).
template <int M>
HL_INLINE void sum_tile(long rows, const float* a, const float* b, float* sum) {
  V acc[M][2];
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) acc[i][0] = load(sum + i * P), acc[i][1] = load(sum + i * P + W);
  for (long r = 0; r < rows; r++, a += P, b += P) {
    const V b0 = load(b), b1 = load(b + W);
#pragma GCC unroll 16
    for (int i = 0; i < M; i++) {
      const V s = set1(a[i]);
      acc[i][0] += s * b0, acc[i][1] += s * b1;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) store(sum + i * P, acc[i][0]), store(sum + i * P + W, acc[i][1]);
}

// Adds the 36 products (in, rows) · (rows, out) of a block to `sums`.
inline void add_products(const Conv3& k, long rows, const float* tiles, const float* gradients, float* sums) {
  for (int place = 0; place < kPlaces; place++)
    for (long out = 0; out < k.out_panels; out++) {
      const float* b = gradients + place * k.out_place + out * kRows3 * P;
      for (long in = 0; in < k.c.in; in += P) {
        const float* a = tiles + place * k.in_place + in * kRows3;
        float* sum = sums + place * k.filter_place + (out * k.c.in + in) * P;
        const long n = k.c.in - in < P ? k.c.in - in : P;
        long i = 0;
        for (; i + kTileRows <= n; i += kTileRows) sum_tile<kTileRows>(rows, a + i, b, sum + i * P);
        for (; i + 4 <= n; i += 4) sum_tile<4>(rows, a + i, b, sum + i * P);
        for (; i < n; i++) sum_tile<1>(rows, a + i, b, sum + i * P);
      }
    }
}

inline void conv3_work(const Conv3Job& job, int what, long part, int slot) {
  const Conv3 k(*job.conv);
  float* tiles = job.slots + slot * k.slot_floats();
  float* outs = tiles + kPlaces * k.in_place;
  const long in = k.c.in;
  switch (what) {
    case kFilters:
      filter_tiles(k, job.filters, part * in / job.parts, (part + 1) * in / job.parts, job.matrices);
      break;
    case kForward:
      if (k.c.pool == HL_POOL_IN) input_tiles<true>(k, part, job.x, job.index, job.blank, tiles);
      else input_tiles<false>(k, part, job.x, nullptr, job.blank, tiles);
      products(k, k.rows(part), tiles, job.matrices, outs);
      if (k.c.pool == HL_POOL_OUT) output_tiles<true>(k, part, outs, job.y, job.index);
      else output_tiles<false>(k, part, outs, job.y, nullptr);
      break;
    case kSums: {
      float* sums = job.matrices + part * kPlaces * k.filter_place;
      std::memset(sums, 0, sizeof(float) * kPlaces * k.filter_place);
      const long end = (part + 1) * k.blocks() / job.parts;
      for (long block = part * k.blocks() / job.parts; block < end; block++) {
        input_tiles<false>(k, block, job.x, nullptr, job.blank, tiles);
        if (k.c.pool == HL_POOL_OUT) gradient_tiles<true>(k, block, job.dy, job.index, outs);
        else gradient_tiles<false>(k, block, job.dy, nullptr, outs);
        add_products(k, k.rows(block), tiles, outs, sums);
      }
      break;
    }
    default:
      filter_gradients(k, job.matrices, job.parts, part * in / job.parts, (part + 1) * in / job.parts, job.dw);
  }
}

inline Conv3Size conv3_size(const hl_conv3& conv) {
  const Conv3 k(conv);
  return {k.blocks(), k.slot_floats(), kPlaces * k.filter_place};
}

}  // namespace hotlap::HL_SPACE
