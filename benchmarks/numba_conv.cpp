// Convolution with 2×2 max-pooling and ReLU of the compiled kernels, alone, for numba_conv.py, which compiles this file
// together with layout.cpp for one instruction set.
#include "layout.h"
#include "run.h"

using namespace hotlap;
using namespace hotlap::HL_SPACE;

namespace {

struct Bench {
  hl_network network;
  Layer direct;  // the same layer by plain sums of products
};

}  // namespace

extern "C" {

// `values`: weights and biases in PyTorch's layout, of this layer and of the linear one that a network ends in.
Bench* bench_make(int side, int in, int out, int kernel, const float* values) {
  auto* bench = new Bench;
  hl_network& made = bench->network;
  Net& net = made.net;
  const hl_layer layers[] = {{HL_CONV, out, kernel, 0, 2, HL_MAX, 1, 0}, {HL_LINEAR, 1, 1, 0, 1, HL_MAX, 0, 0}};
  const hl_rule rules[4] = {};
  net.lanes = W, net.threads = 1;
  if (!lay_out(made, {in, side, side, 0, 1}, layers, 2, rules)) {
    delete bench;
    return nullptr;
  }
  each_parameter(net, [&](long flat, long place) { net.w[place] = values[flat]; });
  derive(net, 0);
  Layer& l = bench->direct = net.layer[0];
  if (l.winograd) {
    l.winograd = 0;
    l.derived = made.floats((long)l.kernel * l.taps * l.out_cp);
    for (long k = 0; k < (long)l.kernel * l.taps; k++)
      for (int c = 0; c < l.out_c; c++)
        l.derived[k * l.out_cp + c] =
            net.w[l.weight + c * (long)l.kernel * l.row_lanes + k / l.taps * l.row_lanes + k % l.taps];
  }
  return bench;
}

void bench_delete(Bench* bench) { delete bench; }

// n images; all arrays are channels-last, with room for a vector behind their end.
void bench_forward(Bench* bench, int plain, int n, const float* x, float* out, int32_t* chosen) {
  const Net& net = bench->network.net;
  const Layer& l = plain ? bench->direct : net.layer[0];
  const int fields = l.out_h * l.out_w;
  for (int s = 0; s < n; s++) {
    const float* image = x + s * l.in_size;
    float* to = out + s * l.out_size;
    int32_t* kept = chosen + (long)s * fields * l.out_cp;
    if (l.winograd) winograd_forward<true>(l, net.w, image, to, kept, net.work[0].tiles, net.work[0].products);
    else conv_forward<true>(l, net.w, image, nullptr, fields, to, kept);
  }
}

// Adds to the gradients that bench_gradients returns, and sets those of x where dx is given.
void bench_backward(Bench* bench, int n, const float* x, const float* out, float* delta, const int32_t* chosen,
                    float* dx) {
  Net& net = bench->network.net;
  const Layer& l = net.layer[0];
  Workspace& work = net.work[0];
  for (int s = 0; s < n; s += kGroup)
    conv_backward(l, net.w, n - s < kGroup ? n - s : kGroup, x + s * l.in_size, out + s * l.out_size,
                  delta + s * l.out_size, chosen + (long)s * l.out_h * l.out_w * l.out_cp, nullptr, nullptr,
                  dx ? dx + s * l.in_size : nullptr, work.grad, work.lists);
}

// Copies the gradients in PyTorch's layout, and sets them to zero.
void bench_gradients(Bench* bench, float* values) {
  Net& net = bench->network.net;
  each_parameter(net, [&](long flat, long place) { values[flat] = net.work[0].grad[place]; });
  std::memset(net.work[0].grad, 0, sizeof(float) * net.params);
}

}  // extern "C"
