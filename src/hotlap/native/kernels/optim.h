// Optimizer steps: element by element, then Muon's matrices.
#pragma once

#include <cmath>

#include "gemm.h"
#include "threads.h"

namespace hotlap::HL_SPACE {

HL_INLINE V square_root(V v) {
  for (int i = 0; i < W; i++) v[i] = sqrtf(v[i]);
  return v;
}

// Adds up the threads' gradients from `begin` to `end` of a tensor and takes them to the weights or, for Muon, to the
// direction that is then made orthogonal. The gradients are left at zero.
inline void step_elements(Net& net, const Tensor& t, long begin, long end, float lr) {
  const hl_rule& r = t.rule;
  const double done = (double)net.steps_done + 1;
  const float rate1 = r.kind == HL_ADAM ? (float)(lr / (1 - std::pow((double)r.beta1, done))) : lr;
  const float scale2 = r.kind == HL_ADAM ? (float)(1 / std::sqrt(1 - std::pow((double)r.beta2, done))) : 1;
  for (long i = begin; i < end; i += W) {
    V g = load(net.work[0].grad + i);
    store(net.work[0].grad + i, V{});
    for (int k = 1; k < net.threads; k++) {
      g += load(net.work[k].grad + i);
      store(net.work[k].grad + i, V{});
    }
    if (r.kind == HL_FROZEN) continue;
    V w = load(net.w + i), m = load(net.first + i);
    if (r.kind == HL_ADAM) {
      V v = load(net.second + i);
      m = m * set1(r.beta1) + g * set1(1 - r.beta1);
      v = v * set1(r.beta2) + g * g * set1(1 - r.beta2);
      store(net.second + i, v);
      w -= set1(rate1) * m / (square_root(v) * set1(scale2) + set1(r.eps));
      store(net.w + i, w);
    } else {
      if (r.kind == HL_SGD) g += w * set1(r.weight_decay);
      m = m * set1(r.momentum) + g;
      const V step = r.nesterov ? g + m * set1(r.momentum) : m;
      if (r.kind == HL_SGD) store(net.w + i, w - set1(rate1) * step);
      else store(net.direction + i, step);
    }
    store(net.first + i, m);
  }
}

struct Share {
  long begin, end;
};

HL_INLINE Share share_of(long count, int part, int parts, long unit = 1) {
  const long units = (count + unit - 1) / unit;
  long begin = units * part / parts * unit, end = units * (part + 1) / parts * unit;
  if (begin > count) begin = count;
  if (end > count) end = count;
  return {begin, end};
}

HL_INLINE void copy_matrix(const Tensor& t, const float* from, Share rows, float scale) {
  for (long i = rows.begin; i < rows.end; i++) {
    float* x = t.x + i * t.narrow_p;
    if (t.transposed)
      for (int j = 0; j < t.narrow; j++) x[j] = scale * from[(long)j * t.cols + i];
    else
      for (int j = 0; j < t.narrow_p; j++) x[j] = scale * from[i * t.cols + j];
  }
}

// Rows of a symmetric product that are computed together, from the diagonal on; the rest is mirrored. Whole vectors of
// them, so that no block reaches to the left of its own diagonal, where another thread mirrors.
constexpr long kBlock = W > 8 ? W : 8;

// C = A·B where that is symmetric, of which this thread takes every so-manieth block of rows; then finish(C's row,
// first column) may change what was computed before it is mirrored.
template <class Finish>
HL_INLINE void symmetric_product(int s, long depth, const float* a, long a_row, long a_step, const float* b, float* c,
                                 int part, int parts, Finish finish) {
  for (long i = part * kBlock; i < s; i += parts * kBlock) {
    const long rows = s - i < kBlock ? s - i : kBlock;
    gemm<kSet>(rows, s - i, depth, a + i * a_row, a_row, a_step, b + i, s, c + i * s + i, s);
    for (long k = i; k < i + rows; k++) finish(k, i);
    for (long k = i; k < i + rows; k++)
      for (long j = i + rows; j < s; j++) c[j * s + k] = c[k * s + j];
  }
}

// Brings a direction near to orthogonal by Newton-Schulz, X <- X·P with P = a + b·G + c·G² and G = XᵀX, and steps along
// it. X itself enters only the first and the last product, since the next G is P·G·P and the Ps commute: all others
// are small and symmetric. `parts` threads work together.
template <class Wait>
void step_matrix(Net& net, Tensor& t, float lr, int part, int parts, Wait wait, double* partials) {
  const hl_rule& r = t.rule;
  const int s = t.narrow_p;
  const float* direction = net.direction + t.offset;
  const Share all = share_of(t.size, part, parts, W), tall = share_of(t.tall, part, parts);
  double squares = 0, weight_squares = 0;
  const bool renormalise = r.renormalise_every && net.steps_done % r.renormalise_every == 0;
  for (long i = all.begin; i < all.end; i++) squares += (double)direction[i] * direction[i];
  if (renormalise)
    for (long i = all.begin; i < all.end; i++)
      weight_squares += (double)net.w[t.offset + i] * net.w[t.offset + i];
  partials[2 * part] = squares;
  partials[2 * part + 1] = weight_squares;
  wait();
  squares = weight_squares = 0;
  for (int i = 0; i < parts; i++) squares += partials[2 * i], weight_squares += partials[2 * i + 1];
  copy_matrix(t, direction, tall, 1 / ((float)std::sqrt(squares) + r.eps));
  wait();
  float *gram = t.small[0], *next = t.small[1], *half = t.small[2];
  float *poly = t.small[3], *product = t.small[4], *longer = t.small[5];
  const auto swap = [](float*& one, float*& other) {
    float* const kept = one;
    one = other, other = kept;
  };
  const auto nothing = [](long, long) {};
  symmetric_product(s, t.tall, t.x, 1, s, t.x, gram, part, parts, nothing);
  wait();
  for (int k = 0; k < r.steps; k++) {
    const float* c = r.coefficients[k < 9 ? k : 9];
    symmetric_product(s, s, gram, s, 1, gram, poly, part, parts, [&](long row, long first) {
      float *p = poly + row * s, *g = gram + row * s;
      for (long i = first; i < s; i += W) store(p + i, set1(c[1]) * load(g + i) + set1(c[2]) * load(p + i));
      p[row] += c[0];
    });
    wait();
    if (k + 1 < r.steps) symmetric_product(s, s, gram, s, 1, poly, half, part, parts, nothing);
    if (k > 0) symmetric_product(s, s, product, s, 1, poly, longer, part, parts, nothing);
    wait();
    if (k + 1 < r.steps) {
      symmetric_product(s, s, half, s, 1, poly, next, part, parts, nothing);
      swap(gram, next);
    }
    if (k > 0) swap(product, longer);
    else swap(product, poly);
    wait();
  }
  gemm<kSet>(tall.end - tall.begin, s, s, t.x + tall.begin * s, s, 1, product, s, t.out + tall.begin * s, s);
  const float scale = renormalise ? (float)(std::sqrt((double)t.fan_out) / std::sqrt(weight_squares)) : 1;
  float* w = net.w + t.offset;
  for (long i = tall.begin; i < tall.end; i++) {
    const float* o = t.out + i * s;
    if (t.transposed)
      for (int j = 0; j < t.narrow; j++) w[(long)j * t.cols + i] = scale * w[(long)j * t.cols + i] - lr * o[j];
    else
      for (int j = 0; j < s; j++) w[i * t.cols + j] = scale * w[i * t.cols + j] - lr * o[j];
  }
}

HL_INLINE void step_average(Net& net, const hl_average& action, Share range) {
  const float rate = 1 - action.rate;
  for (long i = range.begin; i < range.end; i += W) {
    const V w = load(net.w + i);
    const V before = action.kind == 1 ? w : load(net.average + i);
    const V average = before + (w - before) * set1(rate);
    store(net.average + i, action.kind == 1 ? w : average);
    if (action.copy_back) store(net.w + i, average);
  }
}

}  // namespace hotlap::HL_SPACE
