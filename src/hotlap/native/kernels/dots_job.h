// Products of bfloat16 tiles: what they work on, and what computes them.
#pragma once

#include "api.h"

namespace hotlap {

struct DotsJob {
  const hl_conv3* conv;
  const uint16_t *x, *dy;
  const uint8_t* index;  // which of four pixels each of dy belongs to, or with HL_POOL_IN of x
  const float* filters;
  uint16_t* y;
  uint8_t* places;  // which of four pixels each of y is
  float* dw;
  uint16_t* filters_packed;
  uint16_t* numbers;  // of each slot
  float* sums;        // of each part
  long parts;
};

struct DotsBackend {
  void (*part)(const DotsJob&, long part, int slot);
  void (*gather)(const DotsJob&, long panel);
  void (*pack_filters)(const DotsJob&, long panel);
  void (*block)(const DotsJob&, long block, int slot);
};

extern const DotsBackend kPlainDots;
#ifdef HL_WITH_AMX
extern const DotsBackend kAmxDots;
#endif

}  // namespace hotlap
