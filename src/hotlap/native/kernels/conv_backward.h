// Convolution backward: the taps of one output channel lie in the lanes, and only fields whose gradient is not zero are
// visited. After max-pooling and ReLU those are few.
#pragma once

#include "conv.h"
#include "pack.h"

namespace hotlap::HL_SPACE {

// Adds to the gradients of R · N vectors of taps of one output channel, and to those of the input, what the listed
// fields give. The R rows of taps are `row` floats apart in the input and `lanes` apart in the weights.
template <int R, int N, bool INPUT>
void visit(int count, const float* value, const int32_t* place, const float* x, float* dx, long row, long lanes,
           const float* w, float* g, const float* mask) {
  V sums[R][N], weights[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 16
    for (int v = 0; v < N; v++) {
      sums[r][v] = V{};
      if (INPUT) weights[r][v] = load(w + r * lanes + v * W);
    }
  for (int i = 0; i < count; i++) {
    const V d = set1(value[i]);
    const float* at = x + place[i];
    float* to = INPUT ? dx + place[i] : nullptr;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
      for (int v = 0; v < N; v++) {
        sums[r][v] += d * load(at + r * row + v * W);
        if (INPUT) store(to + r * row + v * W, load(to + r * row + v * W) + d * weights[r][v]);
      }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 16
    for (int v = 0; v < N; v++) {
      float* p = g + r * lanes + v * W;
      store(p, load(p) + sums[r][v] * load(mask + v * W));
    }
}

template <bool INPUT>
void visit_channel(const Layer& l, int count, const float* value, const int32_t* place, const float* x, float* dx,
                   const float* w, float* g) {
  const int vectors = l.row_lanes / W;
  // One vector a row: several rows at once keep the adders busy.
  if (vectors == 1 && (l.kernel == 3 || l.kernel == 5)) {
    if (l.kernel == 3) visit<3, 1, INPUT>(count, value, place, x, dx, l.in_row, l.row_lanes, w, g, l.lane_mask);
    else visit<5, 1, INPUT>(count, value, place, x, dx, l.in_row, l.row_lanes, w, g, l.lane_mask);
    return;
  }
  if (W == 16 && vectors == 3 && l.kernel == 3) {
    visit<3, 3, INPUT>(count, value, place, x, dx, l.in_row, l.row_lanes, w, g, l.lane_mask);
    return;
  }
  for (int y = 0; y < l.kernel; y++)
    for (int v = 0; v < vectors;) {
      const long lane = y * (long)l.row_lanes + v * W, in = y * l.in_row + v * W;
      const int left = vectors - v;
      float* to = INPUT ? dx + in : nullptr;
      const float* m = l.lane_mask + v * W;
#define HL_VISIT(N)                                                                     \
  {                                                                                     \
    visit<1, N, INPUT>(count, value, place, x + in, to, 0, 0, w + lane, g + lane, m); \
    v += N;                                                                             \
  }
      if (left >= 6) HL_VISIT(6)
      else if (left >= 4) HL_VISIT(4)
      else if (left >= 3) HL_VISIT(3)
      else if (left >= 2) HL_VISIT(2)
      else HL_VISIT(1)
#undef HL_VISIT
    }
}

// Undoes the activation behind pooling in the gradients, and adds them up where bias_grad is given.
HL_INLINE void undo_activation(const Layer& l, const float* out, float* delta, float* bias_grad) {
  for (int c = 0; c < l.out_cp; c += W) {
    V total{};
    for (int y = 0; y < l.out_h; y++) {
      const long row = (y + l.out_margin) * l.out_row + (long)l.out_margin * l.out_cp + c;
      for (int x = 0; x < l.out_w; x++) {
        const long at = row + (long)x * l.out_cp;
        V d = load(delta + at);
        if (l.relu) d = load(out + at) > V{} ? d : V{};
        store(delta + at, d);
        total += d;
      }
    }
    if (bias_grad) store(bias_grad + c, load(bias_grad + c) + total);
  }
}

// Lists, for each output channel, the gradients before pooling that are not zero, of the given places or of all; fields
// begin `shift` floats further on.
HL_INLINE void list_gradients(const Layer& l, const float* delta, const int32_t* chosen, const int32_t* list, int count,
                              int32_t shift, Lists& lists) {
  for (int first = 0; first < count; first += W) {
    const int n = count - first < W ? count - first : W;
    for (int c = 0; c < l.out_c; c += W) {
      V values[W];
      VI places[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; i++) {
        values[i] = V{}, places[i] = VI{};
        if (i >= n) continue;
        // Neighbours are listed apart: their fields overlap, and would wait for each other.
        const Window& at = l.window[list ? list[first + i] : l.apart[first + i]];
        values[i] = load(delta + at.out + c);
        places[i] = set1i(shift) + (l.pool == 1 ? set1i(at.field) : load(chosen + at.index + c));
      }
      transpose(values);
      transpose(places);
      const int channels = l.out_c - c < W ? l.out_c - c : W;
#pragma GCC unroll 16
      for (int i = 0; i < W; i++) {
        if (i >= channels) break;
        const int have = lists.count[c + i];
        const long at = (c + i) * lists.capacity + have;
        lists.count[c + i] = have + pack_nonzero(values[i], places[i], lists.value + at, lists.place + at);
      }
    }
  }
}

// The same behind average-pooling, where every place of a window has its share.
inline void list_shares(const Layer& l, const float* delta, const int32_t* chosen, int32_t shift, float* bias_grad,
                        Lists& lists) {
  const int area = l.pool * l.pool;
  for (int place = 0; place < l.out_h * l.out_w; place++) {
    const Window& at = l.window[place];
    for (int c = 0; c < l.out_c; c++) {
      const float share = delta[at.out + c] / area;
      if (share == 0) continue;
      for (int i = 0; i < area; i++) {
        if (!(chosen[at.index + c] >> i & 1)) continue;
        const int n = lists.count[c]++;
        bias_grad[c] += share;
        lists.value[c * lists.capacity + n] = share;
        lists.place[c * lists.capacity + n] =
            shift + (int32_t)(at.field + i / l.pool * l.in_row + (long)(i % l.pool) * l.in_cp);
      }
    }
  }
}

// Backward pass of n images, up to kGroup: adds to the gradients of weights and bias, and sets those of the input where dx
// is given. `list` and `counts` name the places whose fields are not blank, as for the forward pass; null for all.
// The activation is undone in delta.
inline void conv_backward(const Layer& l, const float* params, int n, const float* x, const float* out, float* delta,
                          const int32_t* chosen, const int32_t* list, const int* counts, float* dx, float* grad,
                          Lists& lists) {
  const int fields = l.out_h * l.out_w;
  for (int c = 0; c < l.out_c; c++) lists.count[c] = 0;
  for (int s = 0; s < n; s++) {
    float* d = delta + s * l.out_size;
    const float* h = out + s * l.out_size;
    const int32_t* kept = chosen + (long)s * fields * l.out_cp;
    const auto shift = (int32_t)(s * l.in_size);
    if (l.pool > 1 && l.pool_kind == HL_AVERAGE) {
      undo_activation(l, h, d, nullptr);
      list_shares(l, d, kept, shift, grad + l.bias, lists);
    } else {
      undo_activation(l, h, d, grad + l.bias);
      list_gradients(l, d, kept, list ? list + s * fields : nullptr, list ? counts[s] : fields, shift, lists);
    }
  }
  if (dx) std::memset(dx, 0, sizeof(float) * (size_t)(n * l.in_size));
  const long size = (long)l.kernel * l.row_lanes;
  for (int c = 0; c < l.out_c; c++) {
    if (!lists.count[c]) continue;
    const float* value = lists.value + c * lists.capacity;
    const int32_t* place = lists.place + c * lists.capacity;
    const float* w = params + l.weight + c * size;
    float* g = grad + l.weight + c * size;
    if (dx) visit_channel<true>(l, lists.count[c], value, place, x, dx, w, g);
    else visit_channel<false>(l, lists.count[c], value, place, x, nullptr, w, g);
  }
}

}  // namespace hotlap::HL_SPACE
