// What a network is to the kernels: plain data, laid out once and shared by every instruction set.
//
// Images are channels-last in memory. The channels of every layer but the first are padded with zeros to whole vectors
// of `lanes` floats, and stay zero. A buffer between two layers has the margin of zeros that the later one pads with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "api.h"

namespace hotlap {

constexpr int kMaxLayers = 32;
constexpr int kMaxTensors = 2 * kMaxLayers;
constexpr int kMaxThreads = 64;
// Images that go through all layers together: enough rows for the matrix products, few enough to stay in cache.
constexpr int kChunk = 24;
// Images whose gradients are listed together: longer lists, as long as the images fit the first-level cache.
constexpr int kGroup = 4;
// Tiles of a Winograd convolution that are worked on together.
constexpr int kTiles = 16;

// Where a pooled output is: its field in the input, its place in the output and in the list of chosen fields.
struct Window {
  int32_t field, out, index;
};

struct Layer {
  int kind;  // HL_CONV or HL_LINEAR
  int kernel, pad, pool, pool_kind, relu, relu_first;
  int in_c, in_cp, in_h, in_w;    // channels, padded channels, size of the input without its margin
  int out_c, out_cp, out_h, out_w;  // after pooling
  int out_margin;                 // margin of the output's buffer
  long in_row, in_size;           // floats of one row and one image of the input's buffer, margin included
  long out_row, out_size;         // the same of the output
  int taps;                       // kernel · in_cp: floats of one row of a kernel's field
  int row_lanes;                  // taps rounded up to whole vectors
  int skip_blank;                 // fields of zeros only need no arithmetic
  long weight, bias;              // places in the parameters
  int winograd;                   // 3×3 convolution by transformed tiles, one for each window
  float* derived;                 // convolution: (kernel, taps, out_cp), or (16, in_cp, out_cp) of transformed tiles;
                                  // linear: (out_cp, in_cp), the transpose
  const Window* window;           // convolution: (out_h, out_w)
  const int32_t* apart;           // the same places in an order in which neighbours are not next to each other
  const float* lane_mask;         // convolution: (row_lanes), 1 where a lane holds a weight
};

struct Tensor {
  long offset, size;    // in floats, padded
  long rows, cols;      // as stored
  int matrix;           // trained as a matrix where the rule asks for it
  int fan_out;          // length of the first axis in PyTorch's layout
  hl_rule rule;
  // Muon: the smaller side goes into the lanes.
  int transposed, tall, narrow, narrow_p;
  float *x, *out;                     // (tall, narrow_p)
  float* small[6];                    // (narrow_p, narrow_p)
  int owner;                          // thread that works on it alone; -1 for all of them together
};

// Of each output channel: gradients that are not zero, and where their fields begin in the input.
struct Lists {
  float* value;
  int32_t* place;
  int* count;
  long capacity;
};

struct Workspace {
  float* act[kMaxLayers + 1];   // kChunk images each; 0 is the input
  int32_t* chosen[kMaxLayers];  // max-pooling: where the field of the largest begins; average: which were positive
  float* delta[kMaxLayers + 1];  // gradients of act: of all images behind a linear layer, of one behind a convolution
  float* grad;                  // of all parameters
  int32_t* windows;             // places that are not blank, kChunk images
  int* window_count;
  Lists lists;
  float *tiles, *products;      // Winograd: (16, kTiles, in_cp) and (16, kTiles, out_cp)
  double loss;
};

struct Barrier {
  alignas(64) int arrived;
  alignas(64) int generation;
  int parties;
};

struct Net {
  int lanes, threads, layers, tensors, classes;
  int image_c, image_h, image_w;   // of the data
  int crop_h, crop_w, crop_y, crop_x;
  long params;                      // floats, padded
  float table[HL_MAX_CHANNELS][256];  // pixel to normalised value
  int blank_is_zero;
  float smoothing;
  Layer layer[kMaxLayers];
  Tensor tensor[kMaxTensors];
  float *w, *first, *second, *direction, *average;
  long steps_done;
  int averaging;
  Workspace work[kMaxThreads];
  double partials[2 * kMaxThreads];
  Barrier barrier;
};

struct TrainJob {
  const uint8_t* images;
  const int32_t* labels;
  const int64_t* order;
  const int16_t* moves;      // (images, 3): rows, columns, mirrored
  const int64_t* starts;     // (steps + 1)
  const float* rates;        // (steps, tensors)
  const hl_average* average;  // (steps) or null
  long steps;
  float* losses;
  int gradients_only;
};

struct LogitsJob {
  const uint8_t* images;
  const int64_t* which;
  long count;
  const hl_view* views;
  int view_count;
  float* out;  // (count, classes)
  int add;
};

// What a thread does of a 3×3 convolution of batches: transform the filters, convolve a block of tiles, add up what some
// blocks give to the filters' gradients, transform those back. All but the second are cut into `parts`.
enum { kFilters, kForward, kSums, kGradients };

struct Conv3Job {
  const hl_conv3* conv;
  const float *x, *filters, *dy;
  float *y, *dw;
  uint8_t* index;      // of the largest in each 2×2, where there is pooling
  float* matrices;     // of the filters, or for each part those of their gradients
  float* slots;        // of each thread
  const float* blank;  // as many zeros as there are channels
  long parts;
  int side;            // outputs of a tile are side×side
};

// Side of the tiles, and whether they will do; blocks of rows; floats of a thread's memory, and of the filters' matrices.
struct Conv3Size {
  int side;
  bool fits;
  long blocks, slot, matrices;
};

// What is done to a part of the images: sums for the statistics, with pooling; all else; sums for the gradients; the gradients.
enum { kStatistics, kNormalise, kGradientSums, kGradientsOfInput };

struct NormJob {
  hl_norm norm;
  long parts, split;  // which of the batch's own batches it is about
  const void *x, *added, *dy;
  void *pooled, *y, *dx, *to_added;
  uint8_t* places;
  float* stats;                    // (3, channels) of the split
  float *scale, *shift, *first;    // of each channel: normalised values are value · scale + shift
  float *by_value, *constant;      // the gradient is behind · scale + value · by_value + constant
  double* sums;                    // (parts, 2, channels)
};

// What an instruction set provides.
struct Backend {
  const char* name;
  int lanes;
  void (*train)(Net&, const TrainJob&, int thread);
  void (*logits)(Net&, const LogitsJob&, int thread);
  void (*derive)(Net&, int thread);
  void (*conv3)(const Conv3Job&, int what, long part, int slot);
  Conv3Size (*conv3_size)(const hl_conv3&);
  void (*norm)(const NormJob&, int what, long part);
};

extern const Backend kGeneric;
#ifdef HL_WITH_AVX2
extern const Backend kAvx2;
#endif
#ifdef HL_WITH_AVX512
extern const Backend kAvx512;
#endif

}  // namespace hotlap
