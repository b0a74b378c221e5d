// 3×3 convolutions of whole batches for the PyTorch engine, by Winograd's tiles: for R×R outputs (R + 2)² products of
// every input and output channel instead of 9 R². Lavin and Gray 2016.
//
// Images are channels-last, without padding of channels. Between the transforms, matrices lie in panels: P channels of
// all rows of a block, one block of rows after another, so that every read of the products is of whole cache lines.
#pragma once

#include "net.h"
#include "simd.h"
#include "tiles.h"

namespace hotlap::HL_SPACE {

constexpr int P = 2 * W;

// Transforming the filters or their gradients costs as much as the products of about so many tiles.
constexpr long kFilterCost = 16;

// Blocks are small, so that they stay in the cache. From so many products of a tile on, the filters' matrices, which every
// block reads, do not, and fewer blocks are better.
constexpr long kManyProducts = 1 << 21;

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
  if (n >= W) std::memcpy(&v, p, W);
  else std::memcpy(&v, p, n);
  return __builtin_convertvector(v, VI);
}
HL_INLINE void store_bytes(uint8_t* p, VI v, int n) {
  const VB bytes = __builtin_convertvector(v, VB);
  if (n >= W) std::memcpy(p, &bytes, W);
  else std::memcpy(p, &bytes, n);
}

// A convolution by tiles of side×side outputs.
struct Conv3 {
  hl_conv3 c;
  long places;                    // of each tile's transform
  long in_h, in_w, out_h, out_w;  // before pooling
  long tiles_y, tiles_x, tiles;   // of one image
  long in_panels, out_panels;
  long block_rows;  // tiles that are worked on together
  long in_place, out_place, filter_place;  // floats from one place's matrix to the next

  Conv3(const hl_conv3& conv, int side) : c(conv), places((side + 2L) * (side + 2)) {
    out_h = c.height + 2L * c.pad - 2, out_w = c.width + 2L * c.pad - 2;
    // Pooling leaves the last of an odd number of rows or columns out.
    if (c.pool == HL_POOL_OUT) out_h -= out_h % 2, out_w -= out_w % 2;
    in_h = c.height, in_w = c.width;
    if (c.pool == HL_POOL_IN) in_h -= in_h % 2, in_w -= in_w % 2;
    tiles_y = (out_h + side - 1) / side, tiles_x = (out_w + side - 1) / side, tiles = tiles_y * tiles_x;
    in_panels = (c.in + P - 1) / P, out_panels = (c.out + P - 1) / P;
    block_rows = places * c.in * c.out > kManyProducts ? 96 : 24;
    // One more line than there are, or all of them would lie in the same set of the first-level cache.
    in_place = in_panels * block_rows * P + kLine, out_place = out_panels * block_rows * P + kLine;
    filter_place = out_panels * c.in * P + kLine;
  }
  long blocks() const { return (c.n * tiles + block_rows - 1) / block_rows; }
  long rows(long block) const {
    const long left = c.n * tiles - block * block_rows;
    return left < block_rows ? left : block_rows;
  }
  long slot_floats() const { return places * (in_place + out_place); }
  static constexpr long kLine = 16;
};

// (places, in panels, rows, P) of the tiles of a block; `blank` is as long as the channels, and zero. Behind pooling, x is
// what each maximum gets, and goes to the place of its window that `index` names.
template <int R, bool POOLED>
void input_tiles(const Conv3& k, long block, const float* x, const uint8_t* index, const float* blank, float* to) {
  constexpr int S = kSide<R>;
  const long count = k.rows(block), channels = k.c.in, height = POOLED ? k.in_h / 2 : k.in_h;
  const long width = POOLED ? k.in_w / 2 : k.in_w;
  // Panel after panel, so that what is written to each place's matrix lies together.
  for (long panel = 0; panel < channels; panel += P)
    for (long r = 0; r < count; r++) {
      const long tile = block * k.block_rows + r, image = tile / k.tiles, at = tile % k.tiles;
      const long y0 = at / k.tiles_x * R - k.c.pad, x0 = at % k.tiles_x * R - k.c.pad;
      long rows[S], columns[S];
      bool row_in[S], column_in[S];
      for (int i = 0; i < S; i++) {
        const long row = y0 + i, column = x0 + i;
        row_in[i] = row >= 0 && row < k.in_h, column_in[i] = column >= 0 && column < k.in_w;
        rows[i] = (image * height + (POOLED ? row / 2 : row)) * width * channels;
        columns[i] = (POOLED ? column / 2 : column) * channels;
      }
      for (long c = panel; c < panel + P && c < channels; c += W) {
        const int n = (int)(channels - c);
        float* out = to + (c / P * k.block_rows + r) * P + c % P;
        V t[S][S], line[S];
        for (int j = 0; j < S; j++) {
          V column[S];
#pragma GCC unroll 10
          for (int i = 0; i < S; i++) {
            const bool inside = row_in[i] && column_in[j];
            const long from = rows[i] + columns[j] + c;
            column[i] = load_some(inside ? x + from : blank, n);
            if (POOLED) {
              const int own = (int)((y0 + i) % 2 * 2 + (x0 + j) % 2);
              column[i] = load_bytes(inside ? index + from : index, n) == set1i(own) ? column[i] : V{};
            }
          }
          input_line<R>(column, line);
#pragma GCC unroll 10
          for (int i = 0; i < S; i++) t[i][j] = line[i];
        }
        for (int i = 0; i < S; i++) {
          input_line<R>(t[i], line);
#pragma GCC unroll 10
          for (int j = 0; j < S; j++) store(out + (i * S + j) * k.in_place, line[j]);
        }
      }
    }
}

// Where the outputs of a tile lie.
template <int R, bool POOLED>
struct Place {
  int rows, columns;  // how many of the tile's there are, before pooling
  long width, first;  // pixels of a row of the images, and before the tile's first one

  Place(const Conv3& k, long tile) {
    constexpr long share = POOLED ? 2 : 1;
    const long image = tile / k.tiles, at = tile % k.tiles, y0 = at / k.tiles_x * R, x0 = at % k.tiles_x * R;
    rows = (int)(k.out_h - y0 < R ? k.out_h - y0 : R), columns = (int)(k.out_w - x0 < R ? k.out_w - x0 : R);
    width = k.out_w / share, first = (image * (k.out_h / share) + y0 / share) * width + x0 / share;
  }
};

// Writes a block's outputs, from (places, out panels, rows, P); pooled, the largest of each 2×2, and which of them it was.
template <int R, bool POOLED>
void output_tiles(const Conv3& k, long block, const float* from, float* y, uint8_t* index) {
  constexpr int S = kSide<R>;
  const long count = k.rows(block), channels = k.c.out;
  for (long panel = 0; panel < channels; panel += P)
    for (long r = 0; r < count; r++) {
      const Place<R, POOLED> place(k, block * k.block_rows + r);
      for (long c = panel; c < panel + P && c < channels; c += W) {
        const float* in = from + (c / P * k.block_rows + r) * P + c % P;
        const int n = (int)(channels - c);
        V t[R][S], line[S], out[R][R];
        for (int j = 0; j < S; j++) {
          V column[R];
#pragma GCC unroll 10
          for (int i = 0; i < S; i++) line[i] = load(in + (i * S + j) * k.out_place);
          output_line<R>(line, column);
#pragma GCC unroll 8
          for (int i = 0; i < R; i++) t[i][j] = column[i];
        }
        for (int i = 0; i < R; i++) output_line<R>(t[i], out[i]);
        if (POOLED) {
          for (int i = 0; i < place.rows; i += 2)
            for (int j = 0; j < place.columns; j += 2) {
              V top = out[i][j];
              VI which{};
#pragma GCC unroll 3
              for (int other = 1; other < 4; other++) {
                const V value = out[i + other / 2][j + other % 2];
                which = value > top ? set1i(other) : which;
                top = value > top ? value : top;
              }
              const long at = (place.first + i / 2 * place.width + j / 2) * channels + c;
              store_some(y + at, top, n);
              store_bytes(index + at, which, n);
            }
        } else {
          for (int i = 0; i < place.rows; i++)
            for (int j = 0; j < place.columns; j++)
              store_some(y + (place.first + i * place.width + j) * channels + c, out[i][j], n);
        }
      }
    }
}

// (places, out panels, rows, P) of the gradients of a block's outputs, which may be given behind pooling.
template <int R, bool POOLED>
void gradient_tiles(const Conv3& k, long block, const float* dy, const uint8_t* index, float* to) {
  constexpr int S = kSide<R>;
  const long count = k.rows(block), channels = k.c.out;
  for (long panel = 0; panel < channels; panel += P)
    for (long r = 0; r < count; r++) {
      const Place<R, POOLED> place(k, block * k.block_rows + r);
      for (long c = panel; c < panel + P && c < channels; c += W) {
        float* out = to + (c / P * k.block_rows + r) * P + c % P;
        const int n = (int)(channels - c);
        V t[S][R], line[S], in[R][R];
        for (int i = 0; i < R; i++)
          for (int j = 0; j < R; j++) in[i][j] = V{};
        if (POOLED) {
          for (int i = 0; i < place.rows; i += 2)
            for (int j = 0; j < place.columns; j += 2) {
              const long at = (place.first + i / 2 * place.width + j / 2) * channels + c;
              const V d = load_some(dy + at, n);
              const VI which = load_bytes(index + at, n);
#pragma GCC unroll 4
              for (int other = 0; other < 4; other++)
                in[i + other / 2][j + other % 2] = which == set1i(other) ? d : V{};
            }
        } else {
          for (int i = 0; i < place.rows; i++)
            for (int j = 0; j < place.columns; j++)
              in[i][j] = load_some(dy + (place.first + i * place.width + j) * channels + c, n);
        }
        for (int j = 0; j < R; j++) {
          V column[R];
          for (int i = 0; i < R; i++) column[i] = in[i][j];
          gradient_line<R>(column, line);
#pragma GCC unroll 10
          for (int i = 0; i < S; i++) t[i][j] = line[i];
        }
        for (int i = 0; i < S; i++) {
          gradient_line<R>(t[i], line);
#pragma GCC unroll 10
          for (int j = 0; j < S; j++) store(out + (i * S + j) * k.out_place, line[j]);
        }
      }
    }
}

// The filters' matrices (places, out panels, in, P), of input channels begin to end.
template <int R>
void filter_tiles(const Conv3& k, const float* w, long begin, long end, float* to) {
  for (long i = begin; i < end; i++)
    for (long c = 0; c < k.out_panels * P; c += W) {
      float lanes[9][W] = {};
      for (int lane = 0; lane < W && c + lane < k.c.out; lane++)
        for (int tap = 0; tap < 9; tap++)
          lanes[tap][lane] = w[(c + lane) * k.c.filter_out + i * k.c.filter_in + tap * k.c.filter_tap];
      V t[kSide<R>][3], in[3], line[kSide<R>];
      for (int j = 0; j < 3; j++) {
        for (int r = 0; r < 3; r++) in[r] = load(lanes[r * 3 + j]);
        filter_line<R>(in, line);
        for (int r = 0; r < kSide<R>; r++) t[r][j] = line[r];
      }
      for (int r = 0; r < kSide<R>; r++) {
        filter_line<R>(t[r], line);
        for (int j = 0; j < kSide<R>; j++)
          store(to + (r * kSide<R> + j) * k.filter_place + (c / P * k.c.in + i) * P + c % P, line[j]);
      }
    }
}

// The filters' gradients of input channels begin to end, from the sum over `parts` of their matrices.
template <int R>
void filter_gradients(const Conv3& k, const float* from, long parts, long begin, long end, float* dw) {
  const long part_floats = k.places * k.filter_place;
  for (long i = begin; i < end; i++)
    for (long c = 0; c < k.out_panels * P; c += W) {
      V t[3][kSide<R>], line[kSide<R>], out[3];
      for (int j = 0; j < kSide<R>; j++) {
        for (int r = 0; r < kSide<R>; r++) {
          const float* at = from + (r * kSide<R> + j) * k.filter_place + (c / P * k.c.in + i) * P + c % P;
          line[r] = load(at);
          for (long part = 1; part < parts; part++) line[r] += load(at + part * part_floats);
        }
        filter_gradient_line<R>(line, out);
        for (int r = 0; r < 3; r++) t[r][j] = out[r];
      }
      for (int r = 0; r < 3; r++) {
        filter_gradient_line<R>(t[r], out);
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

// The products, one for each place, (rows, in) · (in, out) of a block.
inline void products(const Conv3& k, long rows, const float* tiles, const float* filters, float* out) {
  const long a_panel = k.block_rows * P;
  for (int place = 0; place < k.places; place++)
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

// sum (M, P) += aᵀ (rows, M) · b (rows, P). Not inlined, or GCC keeps the sums in memory.
template <int M>
__attribute__((noinline)) static void sum_tile(long rows, const float* a, const float* b, float* sum) {
  V acc[M][2];
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) acc[i][0] = acc[i][1] = V{};
  for (long r = 0; r < rows; r++, a += P, b += P) {
    const V b0 = load(b), b1 = load(b + W);
#pragma GCC unroll 16
    for (int i = 0; i < M; i++) {
      const V s = set1(a[i]);
      acc[i][0] += s * b0, acc[i][1] += s * b1;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) {
    store(sum + i * P, load(sum + i * P) + acc[i][0]), store(sum + i * P + W, load(sum + i * P + W) + acc[i][1]);
  }
}

// Adds the products (in, rows) · (rows, out) of a block to `sums`.
inline void add_products(const Conv3& k, long rows, const float* tiles, const float* gradients, float* sums) {
  for (int place = 0; place < k.places; place++)
    for (long out = 0; out < k.out_panels; out++) {
      const float* b = gradients + place * k.out_place + out * k.block_rows * P;
      for (long in = 0; in < k.c.in; in += P) {
        const float* a = tiles + place * k.in_place + in * k.block_rows;
        float* sum = sums + place * k.filter_place + (out * k.c.in + in) * P;
        const long n = k.c.in - in < P ? k.c.in - in : P;
        long i = 0;
        for (; i + kTileRows <= n; i += kTileRows) sum_tile<kTileRows>(rows, a + i, b, sum + i * P);
        for (; i + 4 <= n; i += 4) sum_tile<4>(rows, a + i, b, sum + i * P);
        for (; i < n; i++) sum_tile<1>(rows, a + i, b, sum + i * P);
      }
    }
}

// One part of the work on tiles of R×R outputs.
template <int R>
void part_of(const Conv3Job& job, int what, long part, int slot) {
  const Conv3 k(*job.conv, R);
  float* tiles = job.slots + slot * k.slot_floats();
  float* outs = tiles + k.places * k.in_place;
  const long in = k.c.in;
  switch (what) {
    case kFilters:
      filter_tiles<R>(k, job.filters, part * in / job.parts, (part + 1) * in / job.parts, job.matrices);
      break;
    case kForward:
      if (k.c.pool == HL_POOL_IN) input_tiles<R, true>(k, part, job.x, job.index, job.blank, tiles);
      else input_tiles<R, false>(k, part, job.x, nullptr, job.blank, tiles);
      products(k, k.rows(part), tiles, job.matrices, outs);
      if (k.c.pool == HL_POOL_OUT) output_tiles<R, true>(k, part, outs, job.y, job.index);
      else output_tiles<R, false>(k, part, outs, job.y, nullptr);
      break;
    case kSums: {
      float* sums = job.matrices + part * k.places * k.filter_place;
      std::memset(sums, 0, sizeof(float) * k.places * k.filter_place);
      const long end = (part + 1) * k.blocks() / job.parts;
      for (long block = part * k.blocks() / job.parts; block < end; block++) {
        input_tiles<R, false>(k, block, job.x, nullptr, job.blank, tiles);
        if (k.c.pool == HL_POOL_OUT) gradient_tiles<R, true>(k, block, job.dy, job.index, outs);
        else gradient_tiles<R, false>(k, block, job.dy, nullptr, outs);
        add_products(k, k.rows(block), tiles, outs, sums);
      }
      break;
    }
    default:
      filter_gradients<R>(k, job.matrices, job.parts, part * in / job.parts, (part + 1) * in / job.parts, job.dw);
  }
}

// Products for each pair of channels, and as many more for what is done once, to the filters; 0 where windows of the
// pooling would lie in two tiles.
inline long products_of(const hl_conv3& conv, int side) {
  const Conv3 k(conv, side);
  if (conv.pool == HL_POOL_OUT && side % 2 && k.tiles > 1) return 0;
  return (conv.n * k.tiles + kFilterCost) * k.places;
}

// Of equals the smaller tiles, which are more exact.
inline Conv3Size conv3_size(const hl_conv3& conv) {
  int side = conv.tile ? conv.tile : 2;
  for (int other = 3; conv.tile == 0 && other <= 8; other++) {
    const long products = products_of(conv, other);
    if (products && products < products_of(conv, side)) side = other;
  }
  const Conv3 k(conv, side);
  return {side, products_of(conv, side) > 0, k.blocks(), k.slot_floats(), k.places * k.filter_place};
}

inline void conv3_work(const Conv3Job& job, int what, long part, int slot) {
  switch (job.side) {
    case 2: return part_of<2>(job, what, part, slot);
    case 3: return part_of<3>(job, what, part, slot);
    case 4: return part_of<4>(job, what, part, slot);
    case 5: return part_of<5>(job, what, part, slot);
    case 6: return part_of<6>(job, what, part, slot);
    case 7: return part_of<7>(job, what, part, slot);
    default: return part_of<8>(job, what, part, slot);
  }
}

}  // namespace hotlap::HL_SPACE
