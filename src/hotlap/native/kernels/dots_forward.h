// 3×3 convolutions in bfloat16, as products of tiles: 16 pixels by 32 input channels, times 32 input channels by 16 output
// channels. What comes of it is pooled while it is in the cache.
#pragma once

#include "dots_grid.h"

namespace hotlap {
namespace {

struct ForwardGrid : Grid {
  long wide, cells;  // input channels with zeros to a whole panel; pixels with the zeros around

  // As many pixels as let the images, and a panel of what comes of them, stay in the second-level cache.
  explicit ForwardGrid(const hl_conv3& conv) : Grid(conv, most(conv)) {
    wide = in_panels * kPanel, cells = before + pixels + after;
  }
  static long most(const hl_conv3& conv) {
    const long fit = 131072 / up(conv.in, kPanel);
    return fit < 2048 ? fit : 2048;
  }
  long blocks() const { return (c.n + some - 1) / some; }
  long panel_numbers() const { return 9 * in_panels * kPanel * kPanel; }  // of the filters
  // Numbers of 16 bits of a thread: images, results of a panel, which are floats, and where the pixels lie.
  long numbers() const { return cells * wide + 2 * pixels * kPanel + up(4 * cells, kDepth); }
};

inline uint16_t rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return 0x7fc0;
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <class Tiles>
struct ForwardDots {
  // (tap, panel of inputs, 2 tiles of outputs, pair of inputs, output, 2) of the filters of a panel of outputs.
  static void pack_filters(const DotsJob& job, long panel) {
    const ForwardGrid g(*job.conv);
    uint16_t* to = job.filters_packed + panel * g.panel_numbers();
    alignas(64) uint16_t rows[kTile][kDepth];
    for (int tap = 0; tap < 9; tap++)
      for (long in = 0; in < g.wide; in += kPanel)
        for (int half = 0; half < 2; half++, to += kTile * kDepth) {
          for (int o = 0; o < kTile; o++)
            for (int i = 0; i < kDepth; i++) {
              const long out = panel * kPanel + half * kTile + o;
              const bool inside = out < g.c.out && in + i < g.c.in;
              const float* at = job.filters + out * g.c.filter_out + (in + i) * g.c.filter_in + tap * g.c.filter_tap;
              rows[o][i] = inside ? rounded(*at) : 0;
            }
          Tiles::transpose(rows[0], to);
        }
  }

  // Writes a panel of the results of some images.
  static void put(const ForwardGrid& g, const DotsJob& job, long first, long count, long panel, const float* results) {
    const bool pool = g.c.pool == HL_POOL_OUT;
    const long share = pool ? 2 : 1, height = g.out_h / share, width = g.out_w / share, n = there_are(g.c.out, panel);
    for (long image = 0; image < count; image++)
      for (long row = 0; row < height; row++)
        for (long column = 0; column < width; column++) {
          const float* from = results + (image * g.image + row * share * g.pitch + column * share) * kPanel;
          const long to = (((first + image) * height + row) * width + column) * g.c.out + panel * kPanel;
          if (pool) Tiles::greatest(from, g.pitch * kPanel, n, job.y + to, job.places + to);
          else Tiles::keep(from, n, job.y + to);
        }
  }

  static void block(const DotsJob& job, long block, int slot) {
    const ForwardGrid g(*job.conv);
    auto* images = job.numbers + slot * g.numbers();
    auto* results = reinterpret_cast<float*>(images + g.cells * g.wide);
    auto* at = reinterpret_cast<int64_t*>(results + g.pixels * kPanel);
    const long first = block * g.some, count = g.some_of(first, g.c.n);
    const bool pooled = g.c.pool == HL_POOL_IN;
    const long share = pooled ? 2 : 1;
    places_of(g, {first, count, g.c.height / share, g.c.width / share, g.c.in, pooled}, -g.before, g.cells - g.before, at);
    for (long cell = 0; cell < g.cells; cell++)
      for (long panel = 0; panel < g.in_panels; panel++)
        Tiles::copy({job.x, job.index, at[cell], panel * kPanel}, there_are(g.c.in, panel), images + cell * g.wide + panel * kPanel);
    long moved[9];
    for (int tap = 0; tap < 9; tap++) moved[tap] = g.moved(tap) * g.wide;
    [[maybe_unused]] const Tiles tiles;
    for (long panel = 0; panel < g.out_panels; panel++) {
      const uint16_t* filters = job.filters_packed + panel * g.panel_numbers();
      for (long pixel = 0; pixel < g.pixels; pixel += kDepth)
        Tiles::multiply(images + (g.before + pixel) * g.wide, g.wide, moved, g.in_panels, filters, results + pixel * kPanel);
      put(g, job, first, count, panel, results);
    }
  }
};

}  // namespace
}  // namespace hotlap
