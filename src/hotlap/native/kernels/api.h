// The plain C interface of the compiled kernels; library.py holds the same declarations for Python.
//
// All functions return 0 or a negative code; hl_message says what it means. Nothing is shared between networks, so that
// several may be trained at once from several threads.
#pragma once

#include <stdint.h>

#define HL_ABI 5
#define HL_MAX_CHANNELS 16

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define HL_EXPORT __declspec(dllexport)
#else
#define HL_EXPORT __attribute__((visibility("default")))
#endif

enum { HL_CONV = 0, HL_LINEAR = 1 };
enum { HL_MAX = 0, HL_AVERAGE = 1 };
enum { HL_FROZEN = 0, HL_SGD = 1, HL_ADAM = 2, HL_MUON = 3 };
enum { HL_POOL_NONE = 0, HL_POOL_OUT = 1, HL_POOL_IN = 2 };
enum { HL_RELU = 1, HL_SILU = 2, HL_GELU = 3, HL_CELU = 4 };
enum { HL_FLOAT32 = 0, HL_BFLOAT16 = 1 };
enum { HL_BAD_ARGUMENT = -1, HL_NO_MEMORY = -2 };

typedef struct {
  int32_t kind, out, kernel, pad, pool, pool_kind, relu, relu_first;
} hl_layer;

// How one parameter is trained; a layer has two, weight and bias, in this order.
typedef struct {
  int32_t kind, nesterov, steps, renormalise_every;
  float momentum, weight_decay, beta1, beta2, eps;
  float coefficients[10][3];  // of the first Newton-Schulz steps; the last is repeated
} hl_rule;

typedef struct {
  int32_t kind;  // 0 nothing, 1 begin, 2 blend
  int32_t copy_back;
  float rate;
} hl_average;

typedef struct {
  int16_t dy, dx, mirrored, unused;
  float weight;
} hl_view;

typedef struct hl_network hl_network;

// A 3×3 convolution with stride 1 of `n` images, channels-last. `pad` is 0, 1 or 2. Element (out, in, tap) of the filters
// lies at out · filter_out + in · filter_in + tap · filter_tap floats; the taps go row by row.
//
// With HL_POOL_OUT the largest of each 2×2 outputs is kept, and `index` (as y, bytes) tells which: 0 to 3, row by row;
// y, and dy where the filters' gradients are asked for, have half the size. With HL_POOL_IN, x has: its values belong to
// the places that `index` tells, and all others are 0.
//
// `tile` is the side, 2 to 8, of the tiles that are computed at once, or 0 for the one that takes the fewest products. Not
// every one will do with HL_POOL_OUT: no window may lie in two tiles.
typedef struct {
  int32_t n, height, width, in, out, pad, pool, tile;
  int64_t filter_out, filter_in, filter_tap;
} hl_conv3;

// Max-pooling by 2 where `pool` is set, batch normalisation, addition and activation of `n` images, channels-last, of
// float32 or bfloat16. `alpha` is that of HL_CELU. Image i belongs to part i mod `splits` of the batch, which is normalised
// as a batch of its own; `splits` divides `n`.
typedef struct {
  int32_t n, channels, height_in, width_in, height, width;  // before and after pooling
  int32_t pool, activation, type, splits;
  float alpha, eps;
} hl_norm;

// Calls work(data) on that many threads, and returns when all are done; GOMP_parallel is one, so that the threads that
// PyTorch keeps can be used.
typedef void (*hl_fork)(void (*work)(void*), void* data, unsigned threads, unsigned flags);

HL_EXPORT int32_t hl_abi(void);
HL_EXPORT const char* hl_message(int32_t code);
// Names of the instruction sets that were compiled in and that this processor has, best first, separated by spaces.
HL_EXPORT const char* hl_instruction_sets(void);

HL_EXPORT int32_t hl_create(const char* instruction_set, int32_t threads, int32_t channels, int32_t height,
                            int32_t width, int32_t crop, int32_t classes, const hl_layer* layers,
                            int32_t layer_count, const hl_rule* rules, const float* mean, const float* std,
                            float smoothing, hl_network** made);
HL_EXPORT void hl_destroy(hl_network* network);

// Parameters in PyTorch's layout, one after another: weight and bias of each layer (a missing bias is zeros).
HL_EXPORT int64_t hl_parameter_count(const hl_network* network);
HL_EXPORT int32_t hl_set_parameters(hl_network* network, const float* values);
HL_EXPORT int32_t hl_get_parameters(const hl_network* network, float* values);
HL_EXPORT int32_t hl_get_gradients(const hl_network* network, float* values);

// Everything that the next steps depend on, in a layout of this build and instruction set.
HL_EXPORT int64_t hl_state_count(const hl_network* network);
HL_EXPORT int32_t hl_get_state(const hl_network* network, float* values, int64_t* steps);
HL_EXPORT int32_t hl_set_state(hl_network* network, const float* values, int64_t steps);

// Optimizer steps: step s trains on images order[starts[s] .. starts[s + 1]), each moved as moves says.
HL_EXPORT int32_t hl_train(hl_network* network, const uint8_t* images, const int32_t* labels, const int64_t* order,
                           const int16_t* moves, const int64_t* starts, const float* rates,
                           const hl_average* average, int64_t steps, float* losses);
// Loss and gradients of one batch; the parameters stay as they are.
HL_EXPORT int32_t hl_gradients(hl_network* network, const uint8_t* images, const int32_t* labels,
                               const int64_t* order, const int16_t* moves, int64_t count, float* loss);
// Begins the average with the parameters as they are.
HL_EXPORT int32_t hl_begin_average(hl_network* network);
// Sets the parameters to their average where one has begun.
HL_EXPORT int32_t hl_finish(hl_network* network);
// Weighted sum over views of the logits of images[which], added to out where add is not zero.
HL_EXPORT int32_t hl_logits(hl_network* network, const uint8_t* images, const int64_t* which, int64_t count,
                            const hl_view* views, int32_t view_count, int32_t add, float* out);


// Floats of the workspace that the two functions below want.
HL_EXPORT int64_t hl_conv3_workspace(const char* instruction_set, int32_t threads, const hl_conv3* conv);
// Sets y (n, height + 2 pad - 2, width + 2 pad - 2, out). With no `fork`, threads are started. The gradients of x are the
// convolution of those of y with pad 2 - pad and the filters read from their end, with `out` and `in` exchanged.
HL_EXPORT int32_t hl_conv3_forward(const char* instruction_set, int32_t threads, hl_fork fork, const hl_conv3* conv,
                                   const float* x, const float* filters, float* y, uint8_t* index,
                                   float* workspace);
// Sets dw, laid out as the filters, to their gradients.
HL_EXPORT int32_t hl_conv3_filters(const char* instruction_set, int32_t threads, hl_fork fork, const hl_conv3* conv,
                                   const float* x, const float* dy, const uint8_t* index, float* dw,
                                   float* workspace);

// Doubles of the workspace that the two functions below want.
HL_EXPORT int64_t hl_norm_workspace(const hl_norm* norm);
// Sets y to activation(normalised x + added), where `added` is not null and there is no pooling; stats (splits, 3, channels) to
// mean, biased variance and 1 / sqrt(variance + eps); and with pooling `pooled` and `places` (bytes, 0 to 3).
HL_EXPORT int32_t hl_norm_forward(const char* instruction_set, int32_t threads, hl_fork fork, const hl_norm* norm,
                                  const void* x, const void* added, const float* weight, const float* bias,
                                  void* pooled, uint8_t* places, float* stats, void* y, double* workspace);
// Sets dx, `to_added` where there is `added`, and sums (2, channels) to the gradients of bias and weight. `values` is x, or
// `pooled` with pooling.
HL_EXPORT int32_t hl_norm_backward(const char* instruction_set, int32_t threads, hl_fork fork, const hl_norm* norm,
                                   const void* dy, const void* values, const void* added, const uint8_t* places,
                                   const float* stats, const float* weight, const float* bias, void* dx,
                                   void* to_added, float* sums, double* workspace);

// Copies images `which`, channels-last with pixels of so many bytes, shifted by rows and columns with what comes in reflected,
// and then mirrored or not: `moves` (n, 3). Shifts are shorter than the images.
HL_EXPORT int32_t hl_gather(int32_t threads, hl_fork fork, int64_t n, int32_t height, int32_t width,
                            int32_t pixel_bytes, const uint8_t* images, const int64_t* which, const int32_t* moves,
                            uint8_t* out);

// Whether the processor has Intel's matrix registers (AMX) and this process may use them.
HL_EXPORT int32_t hl_has_amx(void);
// Floats of the workspace that the two functions below want. `tiles` is "amx" or "plain", which is slow.
HL_EXPORT int64_t hl_dots_workspace(const char* tiles, int32_t threads, const hl_conv3* conv);
// As hl_conv3_forward, for images of bfloat16; filters are rounded to it, sums are of float32.
HL_EXPORT int32_t hl_dots_forward(const char* tiles, int32_t threads, hl_fork fork, const hl_conv3* conv,
                                  const uint16_t* x, const float* filters, uint16_t* y, uint8_t* index,
                                  float* workspace);
// Sets dw, laid out as the filters, to the gradients of the filters of a convolution of bfloat16 images; sums are of float32.
// With HL_POOL_OUT, dy and `index` are as in hl_conv3_filters.
HL_EXPORT int32_t hl_dots_filters(const char* tiles, int32_t threads, hl_fork fork, const hl_conv3* conv,
                                  const uint16_t* x, const uint16_t* dy, const uint8_t* index, float* dw,
                                  float* workspace);

#ifdef __cplusplus
}
#endif
