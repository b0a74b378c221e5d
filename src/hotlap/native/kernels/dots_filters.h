// Gradients of the filters of 3×3 convolutions in bfloat16, as products of tiles: 16 output channels by 32 pixels, times
// 32 pixels by 16 input channels. `Tiles` computes them, in the processor's matrix registers where it has them.
#pragma once

#include "dots_grid.h"

namespace hotlap {
namespace {

// Interleaving puts four channels into one tile, the next four into the other, and so on.
inline int tile_of(long channel) { return channel % 8 / 4; }
inline int row_of(long channel) { return (int)(channel % kPanel / 8 * 4 + channel % 4); }

struct FilterGrid : Grid {
  long begin, pairs, sums;

  // As many pixels as let a panel of the images and all of the gradients stay in the second-level cache.
  explicit FilterGrid(const hl_conv3& conv) : Grid(conv, 2048) {
    begin = up(before, 2);
    pairs = (begin + pixels + up(after, 2)) / 2 + 1;
    sums = 9 * in_panels * out_panels * kPanel * kPanel;
  }
  long gradient_numbers() const { return out_panels * kPanel * pixels; }
  long image_numbers() const { return 2 * pairs * 2 * kPanel; }  // two phases
  // Pixels of the pairs: those of the last odd one end a pixel later.
  long paired() const { return 2 * pairs + 1; }
  // Numbers of 16 bits of a thread, apart from its sums: gradients, images, and where the pixels lie.
  long numbers() const { return gradient_numbers() + image_numbers() + up(4 * (paired() + pixels), kDepth); }
};

template <class Tiles>
struct FilterDots {
  // (pair, channel, 2) of a panel of the images: phase 0 has pairs that begin with even pixels, phase 1 with odd ones.
  static void pack_images(const FilterGrid& g, const uint16_t* x, const int64_t* at, long panel, uint16_t* to) {
    const long c0 = panel * kPanel, n = there_are(g.c.in, panel);
    for (int phase = 0; phase < 2; phase++)
      for (long pair = 0; pair < g.pairs; pair++) {
        const long q = 2 * pair + phase;
        const int64_t a = at[q], b = at[q + 1];
        uint16_t* half = to + phase * g.pairs * 2 * kPanel + pair * kDepth;
        Tiles::interleave({x, nullptr, a, c0}, {x, nullptr, b, c0}, n, half, half + g.pairs * kDepth);
      }
  }

  // (panel, step, 2, channel, pixel) of the gradients; with an index, each is of one pixel of four.
  static void pack_gradients(const FilterGrid& g, const uint16_t* dy, const uint8_t* index, const int64_t* at, uint16_t* to) {
    for (long panel = 0; panel < g.out_panels; panel++) {
      const long c0 = panel * kPanel, n = there_are(g.c.out, panel);
      for (long q = 0; q < g.pixels; q += kDepth) {
        alignas(64) uint16_t pairs[2][kTile][kDepth];
        for (int i = 0; i < kTile; i++) {
          const int64_t a = at[q + 2 * i], b = at[q + 2 * i + 1];
          Tiles::interleave({dy, index, a, c0}, {dy, index, b, c0}, n, pairs[0][i], pairs[1][i]);
        }
        uint16_t* out = to + (panel * g.pixels + q) * kPanel;
        Tiles::transpose(pairs[0][0], out);
        Tiles::transpose(pairs[1][0], out + kTile * kDepth);
      }
    }
  }

  // Adds what some images give to a panel of input channels' sums, (out panel, tap, 2, 2) tiles.
  static void add(const FilterGrid& g, const uint16_t* gradients, const uint16_t* images, float* sums, bool first) {
    const long phase = g.pairs * 2 * kPanel, half = g.pairs * kDepth;
    for (long panel = 0; panel < g.out_panels; panel++)
      for (int tap = 0; tap < 9; tap++) {
        const long start = g.begin + g.moved(tap);
        const uint16_t* b = images + start % 2 * phase + start / 2 * kDepth;
        const uint16_t* a = gradients + panel * g.pixels * kPanel;
        Tiles::add(g.pixels / kDepth, a, b, b + half, sums + (panel * 9 + tap) * kPanel * kPanel, first);
      }
  }

  static void part(const DotsJob& job, long part, int slot) {
    const FilterGrid g(*job.conv);
    auto* gradients = job.numbers + slot * g.numbers();
    auto* images = gradients + g.gradient_numbers();
    auto* at = reinterpret_cast<int64_t*>(images + g.image_numbers());
    float* sums = job.sums + part * g.sums;
    const long each = g.out_panels * 9 * kPanel * kPanel, end = (part + 1) * g.c.n / job.parts;
    bool begun = false;
    [[maybe_unused]] const Tiles tiles;
    for (long i = part * g.c.n / job.parts; i < end; i += g.some, begun = true) {
      const long count = g.some_of(i, end);
      places_of(g, {i, count, g.c.height, g.c.width, g.c.in, false}, -g.begin, g.paired() - g.begin, at);
      int64_t* of_gradients = at + g.paired();
      const bool pooled = g.c.pool == HL_POOL_OUT;
      const long share = pooled ? 2 : 1;
      places_of(g, {i, count, g.out_h / share, g.out_w / share, g.c.out, pooled}, 0, g.pixels, of_gradients);
      pack_gradients(g, job.dy, job.index, of_gradients, gradients);
      for (long panel = 0; panel < g.in_panels; panel++) {
        pack_images(g, job.x, at, panel, images);
        add(g, gradients, images, sums + panel * each, !begun);
      }
    }
    if (!begun) std::memset(sums, 0, sizeof(float) * g.sums);
  }

  // Gradients of the filters of a panel of outputs: what the parts' sums come to.
  static void gather(const DotsJob& job, long panel) {
    const FilterGrid g(*job.conv);
    const hl_conv3& c = g.c;
    for (long out = panel * kPanel; out < (panel + 1) * kPanel && out < c.out; out++)
      for (int tap = 0; tap < 9; tap++)
        for (long in = 0; in < c.in; in++) {
          const long tiles = ((in / kPanel * g.out_panels + panel) * 9 + tap) * kPanel * kPanel;
          const long tile = tiles + (tile_of(out) * 2 + tile_of(in)) * kTile * kTile;
          float sum = 0;
          for (long part = 0; part < job.parts; part++)
            sum += job.sums[part * g.sums + tile + row_of(out) * kTile + row_of(in)];
          job.dw[out * c.filter_out + in * c.filter_in + tap * c.filter_tap] = sum;
        }
  }
};

}  // namespace
}  // namespace hotlap
