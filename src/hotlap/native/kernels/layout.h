// Laying out a network: sizes, places of the parameters, memory.
#pragma once

#include <memory>
#include <vector>

#include "net.h"

// Behind the opaque pointer of the C interface: the network and the memory that its pointers lead to.
struct hl_network {
  hotlap::Net net{};
  const hotlap::Backend* backend = nullptr;
  std::vector<std::unique_ptr<float[]>> memory;

  // Zeroed, at the beginning of a cache line, with room for a vector that is read beyond the end.
  float* floats(long count);
};

namespace hotlap {

struct Shape {
  int channels, height, width, crop, classes;
};

// Fills in everything but the table of pixels; false where the layers do not fit together or the image.
bool lay_out(hl_network& made, const Shape& shape, const hl_layer* layers, int count, const hl_rule* rules);

// Calls visit(place in PyTorch's layout, place in the padded parameters) for every parameter.
template <class Visit>
void each_parameter(const Net& net, Visit visit) {
  long flat = 0;
  for (int i = 0; i < net.layers; i++) {
    const Layer& l = net.layer[i];
    if (l.kind == HL_CONV) {
      const long size = (long)l.kernel * l.row_lanes;
      for (int o = 0; o < l.out_c; o++)
        for (int c = 0; c < l.in_c; c++)
          for (int y = 0; y < l.kernel; y++)
            for (int x = 0; x < l.kernel; x++)
              visit(flat++, l.weight + o * size + (long)y * l.row_lanes + x * l.in_cp + c);
    } else {
      // After a convolution PyTorch flattens channels first, while they come last here.
      const long area = (long)l.in_h * l.in_w;
      for (int o = 0; o < l.out_c; o++)
        for (int c = 0; c < l.in_c; c++)
          for (long p = 0; p < area; p++)
            visit(flat++, l.weight + (p * (l.in_cp / area) + c) * l.out_cp + o);
    }
    for (int o = 0; o < l.out_c; o++) visit(flat++, l.bias + o);
  }
}

}  // namespace hotlap
