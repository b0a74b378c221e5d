// What one thread does of a training or an evaluation.
#pragma once

#include "optim.h"
#include "passes.h"

namespace hotlap::HL_SPACE {

// Transposes what the backward pass or the forward pass reads the other way round; rows are shared among threads.
inline void derive(Net& net, int thread) {
  for (int i = 0; i < net.layers; i++) {
    const Layer& l = net.layer[i];
    const float* w = net.w + l.weight;
    if (l.winograd) {
      const Share share = share_of(l.in_cp, thread, net.threads, W);
      winograd_weights(l, w, share.begin, share.end);
    } else if (l.kind == HL_CONV) {
      const Share share = share_of((long)l.kernel * l.taps, thread, net.threads);
      const long size = (long)l.kernel * l.row_lanes;
      for (long k = share.begin; k < share.end; k++) {
        const float* from = w + k / l.taps * l.row_lanes + k % l.taps;
        for (int c = 0; c < l.out_c; c++) l.derived[k * l.out_cp + c] = from[c * size];
      }
    } else if (i > 0) {
      const Share share = share_of(l.in_cp, thread, net.threads, W);
      for (long k = share.begin; k < share.end; k += W)
        for (int c = 0; c < l.out_cp; c += W) {
          float block[W][W];
          for (int a = 0; a < W; a++) store(block[a], load(w + (k + a) * l.out_cp + c));
          for (int a = 0; a < W; a++) {
            V column;
            for (int b = 0; b < W; b++) column[b] = block[b][a];
            store(l.derived + (long)(c + a) * l.in_cp + k, column);
          }
        }
    }
  }
}

// Images come in an order that the processor cannot guess, so they are asked for some images ahead; `left` of them are
// still to come, the chunk included.
inline void load_chunk(const Net& net, Workspace& work, const uint8_t* images, const int64_t* which, int n, long left,
                       int dy, int dx, bool mirrored, const int16_t* moves) {
  constexpr int kAhead = 3, kLine = 64;
  const Layer& first = net.layer[0];
  const long pixels = (long)net.image_c * net.image_h * net.image_w;
  const long fields = (long)first.out_h * first.out_w;
  for (int s = 0; s < n; s++) {
    if (s + kAhead < left) {
      const uint8_t* next = images + which[s + kAhead] * pixels;
      for (long i = 0; i < pixels; i += kLine) __builtin_prefetch(next + i);
    }
    if (moves) dy = moves[3 * s], dx = moves[3 * s + 1], mirrored = moves[3 * s + 2];
    work.window_count[s] = load_image(net, images + which[s] * pixels, dy, dx, mirrored,
                                      work.act[0] + s * first.in_size, work.windows + s * fields);
  }
}

inline void optimise(Net& net, const float* rates, const hl_average* average, int thread) {
  const auto together = [&] { wait_for_all(net.barrier); };
  const Share range = share_of(net.params, thread, net.threads, W);
  bool matrices = false;
  for (int i = 0; i < net.tensors; i++) {
    const Tensor& t = net.tensor[i];
    matrices |= t.matrix;
    const long begin = t.offset > range.begin ? t.offset : range.begin;
    const long end = t.offset + t.size < range.end ? t.offset + t.size : range.end;
    if (begin < end) step_elements(net, t, begin, end, rates[i]);
  }
  together();
  if (matrices) {
    double alone[2];
    for (int i = 0; i < net.tensors; i++) {
      Tensor& t = net.tensor[i];
      if (!t.matrix) continue;
      if (t.owner < 0) step_matrix(net, t, rates[i], thread, net.threads, together, net.partials);
      else if (t.owner == thread) step_matrix(net, t, rates[i], 0, 1, [] {}, alone);
    }
    together();
  }
  if (average && average->kind) {
    step_average(net, *average, range);
    together();
  }
  derive(net, thread);
}

inline void train(Net& net, const TrainJob& job, int thread) {
  Workspace& work = net.work[thread];
  for (long step = 0; step < job.steps; step++) {
    const long begin = job.starts[step], count = job.starts[step + 1] - begin;
    const Share mine = share_of(count, thread, net.threads);
    const float scale = 1.0f / count;
    work.loss = 0;
    for (long s = mine.begin; s < mine.end; s += kChunk) {
      const int n = (int)(mine.end - s < kChunk ? mine.end - s : kChunk);
      const int64_t* which = job.order + begin + s;
      load_chunk(net, work, job.images, which, n, mine.end - s, 0, 0, false, job.moves + 3 * (begin + s));
      forward<true>(net, work, n);
      work.loss += loss_of(net, work, job.labels, which, n, scale);
      backward(net, work, n);
    }
    wait_for_all(net.barrier);
    if (thread == 0) {
      double total = 0;
      for (int k = 0; k < net.threads; k++) total += net.work[k].loss;
      job.losses[step] = (float)(total / count);
    }
    if (job.gradients_only) return;
    optimise(net, job.rates + step * net.tensors, job.average ? job.average + step : nullptr, thread);
    wait_for_all(net.barrier);
    if (thread == 0) net.steps_done++;
  }
}

inline void logits(Net& net, const LogitsJob& job, int thread) {
  Workspace& work = net.work[thread];
  const Share mine = share_of(job.count, thread, net.threads);
  const long width = net.layer[net.layers - 1].out_cp;
  for (long s = mine.begin; s < mine.end; s += kChunk) {
    const int n = (int)(mine.end - s < kChunk ? mine.end - s : kChunk);
    for (int v = 0; v < job.view_count; v++) {
      const hl_view& view = job.views[v];
      load_chunk(net, work, job.images, job.which + s, n, mine.end - s, view.dy, view.dx, view.mirrored, nullptr);
      forward<false>(net, work, n);
      for (int i = 0; i < n; i++)
        for (int c = 0; c < net.classes; c++) {
          float* to = job.out + (s + i) * net.classes + c;
          const float value = view.weight * work.act[net.layers][i * width + c];
          *to = v == 0 && !job.add ? value : *to + value;
        }
    }
  }
}

}  // namespace hotlap::HL_SPACE
