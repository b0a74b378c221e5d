// Convolution forward with pooling and activation in one pass: output channels lie in the lanes, and the output before
// pooling is never stored.
#pragma once

#include "net.h"
#include "simd.h"

namespace hotlap::HL_SPACE {

// Sums of NP fields with the weights of NV vectors of channels. K and TAPS are the kernel's side and the floats of one
// of its rows where they are known beforehand, else 0.
template <int NP, int NV, int K, int TAPS>
HL_INLINE void fields(const float* const* at, int kernel_, int taps_, long row, const float* w, long out_cp,
                      V (&acc)[NP][NV]) {
  const int kernel = K ? K : kernel_, taps = TAPS ? TAPS : taps_;
#pragma GCC unroll 16
  for (int p = 0; p < NP; p++)
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) acc[p][v] = V{};
  for (int y = 0; y < kernel; y++) {
    const float* q[NP];
#pragma GCC unroll 16
    for (int p = 0; p < NP; p++) q[p] = at[p] + y * row;
#pragma GCC unroll 2
    for (int k = 0; k < taps; k++) {
      V wv[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) wv[v] = load(w + v * W);
      w += out_cp;
#pragma GCC unroll 16
      for (int p = 0; p < NP; p++) {
        const V b = set1(q[p][k]);
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) acc[p][v] += b * wv[v];
      }
    }
  }
}

// Pools the four sums of one 2×2 window for one vector of channels, adds the bias, and applies ReLU.
template <bool KEEP>
HL_INLINE void pool_four(const Layer& l, const Window& at, V a, V b, V c, V d, V bias, float* out, int32_t* chosen) {
  if (l.pool_kind == HL_MAX) {
    const V top = max(b, a), low = max(d, c), best = max(low, top), value = best + bias;
    store(out + at.out, l.relu ? max(value, V{}) : value);
    if (KEEP) {
      const VI field = set1i((int32_t)at.field), right = field + set1i(l.in_cp);
      const VI of_top = b > a ? right : field, of_low = (d > c ? right : field) + set1i((int32_t)l.in_row);
      store(chosen + at.index, low > top ? of_low : of_top);
    }
    return;
  }
  V each[4] = {a + bias, b + bias, c + bias, d + bias}, total{};
  VI positive{};
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const bool cut = l.relu && l.relu_first;
    positive |= cut ? (each[i] > V{} ? set1i(1 << i) : VI{}) : set1i(1 << i);
    total += cut ? max(each[i], V{}) : each[i];
  }
  const V value = total * set1(0.25f);
  store(out + at.out, l.relu ? max(value, V{}) : value);
  if (KEEP) store(chosen + at.index, positive);
}

// NW windows of 2×2 pooling at once.
template <int NW, int NV, int K, int TAPS, bool KEEP>
HL_INLINE void pooled_by_two(const Layer& l, const float* x, const int* place, const float* w, const float* bias,
                             float* out, int32_t* chosen) {
  const Window* at[NW];
  const float* q[NW * 4];
#pragma GCC unroll 8
  for (int i = 0; i < NW; i++) {
    at[i] = l.window + place[i];
    q[4 * i] = x + at[i]->field;
    q[4 * i + 1] = q[4 * i] + l.in_cp;
    q[4 * i + 2] = q[4 * i] + l.in_row;
    q[4 * i + 3] = q[4 * i] + l.in_row + l.in_cp;
  }
  V acc[NW * 4][NV];
  fields<NW * 4, NV, K, TAPS>(q, l.kernel, l.taps, l.in_row, w, l.out_cp, acc);
#pragma GCC unroll 8
  for (int i = 0; i < NW; i++)
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++)
      pool_four<KEEP>(l, *at[i], acc[4 * i][v], acc[4 * i + 1][v], acc[4 * i + 2][v], acc[4 * i + 3][v],
                      load(bias + v * W), out + v * W, KEEP ? chosen + v * W : nullptr);
}

// Images in grey under 3×3 kernels, for one vector of channels: the nine weights stay in registers, and each of the 16
// pixels that a window's four fields share is read once.
template <bool KEEP>
void grey_by_two(const Layer& l, const float* x, const int32_t* list, int count, const float* w, const float* bias,
                 float* out, int32_t* chosen) {
  V weight[9];
#pragma GCC unroll 9
  for (int k = 0; k < 9; k++) weight[k] = load(w + k * (long)l.out_cp);
  const V b = load(bias);
  for (int i = 0; i < count; i++) {
    const Window& at = l.window[list ? list[i] : i];
    const float* q = x + at.field;
    V acc[4] = {};
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++)
#pragma GCC unroll 4
      for (int c = 0; c < 4; c++) {
        const V pixel = set1(q[r * l.in_row + c]);
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) {
          const int y = r - p / 2, k = c - p % 2;
          if (y >= 0 && y < 3 && k >= 0 && k < 3) acc[p] += pixel * weight[3 * y + k];
        }
      }
    pool_four<KEEP>(l, at, acc[0], acc[1], acc[2], acc[3], b, out, chosen);
  }
}

// Convolution without pooling, NW places at once.
template <int NW, int NV>
HL_INLINE void unpooled(const Layer& l, const float* x, const int* place, const float* w, const float* bias,
                        float* out) {
  const Window* at[NW];
  const float* q[NW];
#pragma GCC unroll 8
  for (int i = 0; i < NW; i++) {
    at[i] = l.window + place[i];
    q[i] = x + at[i]->field;
  }
  V acc[NW][NV];
  fields<NW, NV, 0, 0>(q, l.kernel, l.taps, l.in_row, w, l.out_cp, acc);
#pragma GCC unroll 8
  for (int i = 0; i < NW; i++)
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) {
      const V value = acc[i][v] + load(bias + v * W);
      store(out + at[i]->out + v * W, l.relu ? max(value, V{}) : value);
    }
}

// Any pooling of any size, one window at a time.
template <int NV, bool KEEP>
void any_pooled(const Layer& l, const float* x, int place, const float* w, const float* bias, float* out,
                int32_t* chosen) {
  const Window& at = l.window[place];
  const int count = l.pool * l.pool;
  V best[NV];
  VI which[NV];
  for (int v = 0; v < NV; v++) best[v] = V{}, which[v] = VI{};
  for (int first = 0; first < count; first += 4) {
    const float* q[4];
    for (int j = 0; j < 4; j++) {
      const int i = first + j < count ? first + j : count - 1;
      q[j] = x + at.field + i / l.pool * l.in_row + (long)(i % l.pool) * l.in_cp;
    }
    V acc[4][NV];
    fields<4, NV, 0, 0>(q, l.kernel, l.taps, l.in_row, w, l.out_cp, acc);
    for (int j = 0; j < 4 && first + j < count; j++)
      for (int v = 0; v < NV; v++) {
        V value = acc[j][v] + load(bias + v * W);
        if (l.pool_kind == HL_MAX) {
          const VI field = set1i((int32_t)(q[j] - x));
          const VI more = first + j == 0 ? ~VI{} : value > best[v];
          best[v] = more ? value : best[v];
          which[v] = more ? field : which[v];
        } else {
          const VI bit = set1i(1 << (first + j));
          which[v] |= l.relu && l.relu_first ? (value > V{} ? bit : VI{}) : bit;
          best[v] += l.relu && l.relu_first ? max(value, V{}) : value;
        }
      }
  }
  for (int v = 0; v < NV; v++) {
    const V value = l.pool_kind == HL_MAX ? best[v] : best[v] * set1(1.0f / count);
    store(out + at.out + v * W, l.relu ? max(value, V{}) : value);
    if (KEEP) store(chosen + at.index + v * W, which[v]);
  }
}

template <int NV, bool KEEP>
void conv_channels(const Layer& l, const float* x, const int32_t* list, int count, const float* w, const float* bias,
                   float* out, int32_t* chosen) {
  // As many places at once as registers hold sums.
  constexpr int MANY = W == 16 ? (NV == 1 ? 4 : NV == 2 ? 3 : 2) : (NV == 1 ? 2 : 1);
  int place[8];
  const auto fill = [&](int i, int n) {
    for (int j = 0; j < n; j++) place[j] = list ? list[i + j] : i + j;
  };
  int i = 0;
  const auto by_two = [&]<int K, int TAPS>() {
    for (; i + MANY <= count; i += MANY) {
      fill(i, MANY);
      pooled_by_two<MANY, NV, K, TAPS, KEEP>(l, x, place, w, bias, out, chosen);
    }
    for (; i < count; i++) {
      fill(i, 1);
      pooled_by_two<1, NV, K, TAPS, KEEP>(l, x, place, w, bias, out, chosen);
    }
  };
  if (l.pool == 2) {
    // Of images in grey the rows are so short that a loop of unknown length would take longer than its body.
    if (l.kernel == 5 && l.taps == 5) by_two.template operator()<5, 5>();
    else by_two.template operator()<0, 0>();
  } else if (l.pool == 1) {
    constexpr int PLACES = W == 16 ? 8 : NV == 2 ? 6 : NV == 1 ? 8 : 4;
    for (; i + PLACES <= count; i += PLACES) {
      fill(i, PLACES);
      unpooled<PLACES, NV>(l, x, place, w, bias, out);
    }
    for (; i < count; i++) {
      fill(i, 1);
      unpooled<1, NV>(l, x, place, w, bias, out);
    }
  } else {
    for (; i < count; i++) any_pooled<NV, KEEP>(l, x, list ? list[i] : i, w, bias, out, chosen);
  }
}

// Forward pass of one image. `list` names the `count` places whose fields are not blank; null for all of them.
template <bool KEEP>
void conv_forward(const Layer& l, const float* params, const float* x, const int32_t* list, int count, float* out,
                  int32_t* chosen) {
  const float* bias = params + l.bias;
  if (list && count < l.out_h * l.out_w) {
    // A blank field gives the bias alone.
    const VI all = set1i((1 << l.pool * l.pool) - 1);
    for (int place = 0; place < l.out_h * l.out_w; place++) {
      const Window& at = l.window[place];
      for (int c = 0; c < l.out_cp; c += W) {
        const V b = load(bias + c);
        store(out + at.out + c, l.relu ? max(b, V{}) : b);
        // Behind max-pooling blank fields are left out of the backward pass instead.
        if (KEEP && l.pool > 1 && l.pool_kind == HL_AVERAGE)
          store(chosen + at.index + c, l.relu && l.relu_first ? (b > V{} ? all : VI{}) : all);
      }
    }
  }
  const bool grey = l.pool == 2 && l.kernel == 3 && l.taps == 3;
  for (int c = 0; c < l.out_cp;) {
    const int left = (l.out_cp - c) / W;
    const float *w = l.derived + c, *b = bias + c;
    int32_t* kept = KEEP && l.pool > 1 ? chosen + c : nullptr;
    if (grey) {
      grey_by_two<KEEP>(l, x, list, count, w, b, out + c, kept);
      c += W;
      continue;
    }
    if (left >= 3 && left != 4) {
      conv_channels<3, KEEP>(l, x, list, count, w, b, out + c, kept);
      c += 3 * W;
    } else if (left >= 2) {
      conv_channels<2, KEEP>(l, x, list, count, w, b, out + c, kept);
      c += 2 * W;
    } else {
      conv_channels<1, KEEP>(l, x, list, count, w, b, out + c, kept);
      c += W;
    }
  }
}

}  // namespace hotlap::HL_SPACE
