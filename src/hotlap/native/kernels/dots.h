// Gradients of the filters of 3×3 convolutions in bfloat16, as products of tiles: 16 output channels by 32 pixels, times
// 32 pixels by 16 input channels. `Tiles` computes them, in the processor's matrix registers where it has them.
//
// Gradients and images lie on one grid of pixels, with as many zeros behind each row and each image as the convolution
// pads: those are also what lies before the next. So every tap is the same product with the images moved along the grid.
#pragma once

#include <cstdint>
#include <cstring>

#include "dots_job.h"

// Nameless, since this is compiled for several instruction sets, and the linker must not merge what it is compiled to.
namespace hotlap {
namespace {

constexpr int kTile = 16;         // rows of a tile; channels
constexpr int kDepth = 2 * kTile;  // pixels that a product of two tiles goes over
constexpr int kPanel = 2 * kTile;  // channels that are worked on together

// Interleaving puts four channels into one tile, the next four into the other, and so on.
inline int tile_of(long channel) { return channel % 8 / 4; }
inline int row_of(long channel) { return (int)(channel % kPanel / 8 * 4 + channel % 4); }

inline long up(long n, long to) { return (n + to - 1) / to * to; }

// Sizes of the grid, and what a thread has in hand: some images at a time.
struct Grid {
  hl_conv3 c;
  long out_h, out_w;  // of the gradients
  long pitch, image;  // pixels of the grid from row to row, from image to image
  long some, pixels;  // images at a time, and their pixels
  long before, pairs;
  long in_panels, out_panels, sums;

  explicit Grid(const hl_conv3& conv) : c(conv) {
    out_h = c.height + 2L * c.pad - 2, out_w = c.width + 2L * c.pad - 2;
    pitch = c.width + c.pad, image = (c.height + c.pad) * pitch;
    // As many pixels as let a panel of the images and all of the gradients stay in the second-level cache.
    some = kPixels / image > 1 ? kPixels / image : 1;
    pixels = up(some * image, kDepth);
    before = up(c.pad * (pitch + 1), 2);
    pairs = (before + pixels + up((2 - c.pad) * (pitch + 1), 2)) / 2 + 1;
    in_panels = up(c.in, kPanel) / kPanel, out_panels = up(c.out, kPanel) / kPanel;
    sums = 9 * in_panels * out_panels * kPanel * kPanel;
  }
  static constexpr long kPixels = 2048;

  long gradient_numbers() const { return out_panels * kPanel * pixels; }
  long image_numbers() const { return 2 * pairs * 2 * kPanel; }  // two phases
  // Numbers of 16 bits of a thread, apart from its sums: gradients, images, and where the pixels lie.
  long numbers() const { return up(gradient_numbers(), 32) + up(image_numbers(), 32) + up(4 * (2 * pairs + pixels), 32); }
};

// Images of height×width pixels, of which some lie on the grid.
struct Images {
  long first, count, height, width, channels;
  bool pooled;  // there is one pixel for four
};

// Where each pixel of the grid lies in the images, or -1 for a zero; with pooling four times that, and which of four it is.
inline void places_of(const Grid& g, const Images& of, long from, long to, int64_t* at) {
  const long share = of.pooled ? 2 : 1;
  for (long q = from; q < to; q++) {
    const long image = q < 0 ? of.count : q / g.image, rest = q - image * g.image;
    const long row = rest / g.pitch, column = rest % g.pitch;
    const bool inside = image < of.count && row < of.height * share && column < of.width * share;
    const long place = (((of.first + image) * of.height + row / share) * of.width + column / share) * of.channels;
    at[q - from] = !inside ? -1 : of.pooled ? 4 * place + row % 2 * 2 + column % 2 : place;
  }
}

// Some channels of a pixel, all zeros if `at` is negative. With an index, only those count that chose this pixel.
struct Pixel {
  const uint16_t* numbers;
  const uint8_t* index;
  int64_t at;
  long channel;

  bool blank() const { return at < 0; }
  int corner() const { return (int)(at % 4); }
  const uint16_t* first() const { return numbers + (index ? at / 4 : at) + channel; }
  const uint8_t* chosen() const { return index + at / 4 + channel; }
};

template <class Tiles>
struct Dots {
  // (pair, channel, 2) of a panel of the images: phase 0 has pairs that begin with even pixels, phase 1 with odd ones.
  static void pack_images(const Grid& g, const uint16_t* x, const int64_t* at, long panel, uint16_t* to) {
    const long c0 = panel * kPanel, n = g.c.in - c0 < kPanel ? g.c.in - c0 : kPanel;
    for (int phase = 0; phase < 2; phase++)
      for (long pair = 0; pair < g.pairs; pair++) {
        const long q = 2 * pair + phase;
        const int64_t a = at[q], b = at[q + 1];
        uint16_t* half = to + phase * g.pairs * 2 * kPanel + pair * kDepth;
        Tiles::interleave({x, nullptr, a, c0}, {x, nullptr, b, c0}, n, half, half + g.pairs * kDepth);
      }
  }

  // (panel, step, 2, channel, pixel) of the gradients; with an index, each is of one pixel of four.
  static void pack_gradients(const Grid& g, const uint16_t* dy, const uint8_t* index, const int64_t* at, uint16_t* to) {
    for (long panel = 0; panel < g.out_panels; panel++) {
      const long c0 = panel * kPanel, n = g.c.out - c0 < kPanel ? g.c.out - c0 : kPanel;
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
  static void add(const Grid& g, const uint16_t* gradients, const uint16_t* images, float* sums, bool first) {
    const long phase = g.pairs * 2 * kPanel, half = g.pairs * kDepth;
    for (long panel = 0; panel < g.out_panels; panel++)
      for (int tap = 0; tap < 9; tap++) {
        const long start = g.before + (tap / 3 - g.c.pad) * g.pitch + tap % 3 - g.c.pad;
        const uint16_t* b = images + start % 2 * phase + start / 2 * kDepth;
        const uint16_t* a = gradients + panel * g.pixels * kPanel;
        Tiles::add(g.pixels / kDepth, a, b, b + half, sums + (panel * 9 + tap) * kPanel * kPanel, first);
      }
  }

  static void part(const DotsJob& job, long part, int slot) {
    const Grid g(*job.conv);
    auto* gradients = job.numbers + slot * g.numbers();
    auto* images = gradients + up(g.gradient_numbers(), 32);
    auto* at = reinterpret_cast<int64_t*>(images + up(g.image_numbers(), 32));
    float* sums = job.sums + part * g.sums;
    const long each = g.out_panels * 9 * kPanel * kPanel, end = (part + 1) * g.c.n / job.parts;
    bool begun = false;
    [[maybe_unused]] const Tiles tiles;
    for (long i = part * g.c.n / job.parts; i < end; i += g.some, begun = true) {
      const long count = end - i < g.some ? end - i : g.some;
      places_of(g, {i, count, g.c.height, g.c.width, g.c.in, false}, -g.before, 2 * g.pairs - g.before, at);
      int64_t* of_gradients = at + 2 * g.pairs;
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
    const Grid g(*job.conv);
    const hl_conv3& c = g.c;
    for (long out = panel * kPanel; out < (panel + 1) * kPanel && out < c.out; out++)
      for (int tap = 0; tap < 9; tap++)
        for (long in = 0; in < c.in; in++) {
          const long tiles = ((in / kPanel * g.out_panels + panel) * 9 + tap) * kPanel * kPanel;
          const long tile = tiles + (tile_of(out) * 2 + tile_of(in)) * kTile * kTile;
          float sum = 0;
          for (long part = 0; part < job.parts; part++) sum += job.sums[part * g.sums + tile + row_of(out) * kTile + row_of(in)];
          job.dw[out * c.filter_out + in * c.filter_in + tap * c.filter_tap] = sum;
        }
  }
};

}  // namespace
}  // namespace hotlap
