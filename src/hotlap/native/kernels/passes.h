// Forward and backward pass of a chunk of images.
#pragma once

#include <cmath>

#include "conv_backward.h"
#include "images.h"
#include "winograd.h"

namespace hotlap::HL_SPACE {

// Forward pass of n images that lie in act[0]; logits end in act[layers], (n, padded classes).
template <bool KEEP>
void forward(const Net& net, Workspace& work, int n) {
  for (int i = 0; i < net.layers; i++) {
    const Layer& l = net.layer[i];
    const float* x = work.act[i];
    float* out = work.act[i + 1];
    if (l.kind == HL_LINEAR) {
      gemm<kSet>(n, l.out_cp, l.in_cp, x, l.in_size, 1, net.w + l.weight, l.out_cp, out, l.out_cp, net.w + l.bias,
                 l.relu);
      continue;
    }
    const long fields = (long)l.out_h * l.out_w;
    for (int s = 0; s < n; s++) {
      const bool listed = i == 0 && l.skip_blank;
      if (l.winograd) {
        winograd_forward<KEEP>(l, net.w, x + s * l.in_size, out + s * l.out_size,
                               KEEP ? work.chosen[i] + s * fields * l.out_cp : nullptr, work.tiles, work.products);
        continue;
      }
      conv_forward<KEEP>(l, net.w, x + s * l.in_size, listed ? work.windows + s * fields : nullptr,
                         listed ? work.window_count[s] : (int)fields, out + s * l.out_size,
                         KEEP ? work.chosen[i] + s * fields * l.out_cp : nullptr);
    }
  }
}

// Cross-entropy with label smoothing: sets the gradients of the logits, times `scale`, and returns the sum of losses.
inline double loss_of(const Net& net, Workspace& work, const int32_t* labels, const int64_t* which, int n,
                      float scale) {
  const Layer& last = net.layer[net.layers - 1];
  const int classes = net.classes;
  const float low = net.smoothing / classes, high = 1 - net.smoothing + low;
  double total = 0;
  for (int s = 0; s < n; s++) {
    const float* logit = work.act[net.layers] + (long)s * last.out_cp;
    float* d = work.delta[net.layers] + (long)s * last.out_cp;
    const int label = labels[which[s]];
    float top = logit[0], all = 0, mean = 0;
    for (int c = 1; c < classes; c++) top = logit[c] > top ? logit[c] : top;
    for (int c = 0; c < classes; c++) {
      d[c] = expf(logit[c] - top);
      all += d[c];
      mean += logit[c] - top;
    }
    const float log_all = logf(all);
    total += log_all - (high - low) * (logit[label] - top) - low * mean;
    for (int c = 0; c < classes; c++) d[c] = scale * (d[c] / all - (c == label ? high : low));
    for (int c = classes; c < last.out_cp; c++) d[c] = 0;
  }
  return total;
}

HL_INLINE void add_columns(float* to, const float* rows, int n, int width) {
  for (int c = 0; c < width; c += W) {
    V s = load(to + c);
    for (int i = 0; i < n; i++) s += load(rows + (long)i * width + c);
    store(to + c, s);
  }
}

// Backward pass of n images; their gradients are added to work.grad.
inline void backward(const Net& net, Workspace& work, int n) {
  int i = net.layers - 1;
  for (; i >= 0 && net.layer[i].kind == HL_LINEAR; i--) {
    const Layer& l = net.layer[i];
    float* d = work.delta[i + 1];
    if (l.relu) {
      const float* h = work.act[i + 1];
      for (long j = 0; j < (long)n * l.out_cp; j += W) store(d + j, load(h + j) > V{} ? load(d + j) : V{});
    }
    gemm<kAdd>(l.in_cp, l.out_cp, n, work.act[i], 1, l.in_size, d, l.out_cp, work.grad + l.weight, l.out_cp);
    add_columns(work.grad + l.bias, d, n, l.out_cp);
    if (i > 0)
      gemm<kSet>(n, l.in_cp, l.out_c, d, l.out_cp, 1, l.derived, l.in_cp, work.delta[i], l.in_cp);
  }
  if (i < 0) return;
  for (int s = 0; s < n; s += kGroup)
    for (int j = i; j >= 0; j--) {
      const Layer& l = net.layer[j];
      const bool listed = j == 0 && l.skip_blank;
      const long fields = (long)l.out_h * l.out_w;
      // Behind a linear layer the gradients of all images are there, behind a convolution only those of the group.
      float* delta = work.delta[j + 1] + (j == i ? s * l.out_size : 0);
      conv_backward(l, net.w, n - s < kGroup ? n - s : kGroup, work.act[j] + s * l.in_size,
                    work.act[j + 1] + s * l.out_size, delta, work.chosen[j] + s * fields * l.out_cp,
                    listed ? work.windows + s * fields : nullptr, work.window_count + s,
                    j > 0 ? work.delta[j] : nullptr, work.grad, work.lists);
    }
}

}  // namespace hotlap::HL_SPACE
