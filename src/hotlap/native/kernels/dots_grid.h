// A grid of pixels for 3×3 convolutions by products of bfloat16 tiles.
//
// Images lie on it with as many zeros behind each row and each image as the convolution pads. Those are also what lies
// before the next, so every tap of the filters sees the same pixels, moved along the grid.
#pragma once

#include <cstdint>
#include <cstring>

#include "dots_job.h"

// Nameless, since this is compiled for several instruction sets, and the linker must not merge what it is compiled to.
namespace hotlap {
namespace {

constexpr int kTile = 16;          // rows of a tile
constexpr int kDepth = 2 * kTile;  // numbers in a row of a tile
constexpr int kPanel = 2 * kTile;  // channels that are worked on together

inline long up(long n, long to) { return (n + to - 1) / to * to; }

// Sizes of the grid of some images at a time.
struct Grid {
  hl_conv3 c;
  long out_h, out_w;         // of the convolution's output, before pooling
  long pitch, image;         // pixels of the grid from row to row, from image to image
  long some, pixels;         // images at a time, and their pixels
  long before, after;        // pixels of zeros around
  long in_panels, out_panels;

  Grid(const hl_conv3& conv, long most) : c(conv) {
    out_h = c.height + 2L * c.pad - 2, out_w = c.width + 2L * c.pad - 2;
    pitch = c.width + c.pad, image = (c.height + c.pad) * pitch;
    some = most / image > 1 ? most / image : 1;
    pixels = up(some * image, kDepth);
    before = c.pad * (pitch + 1), after = (2 - c.pad) * (pitch + 1);
    in_panels = up(c.in, kPanel) / kPanel, out_panels = up(c.out, kPanel) / kPanel;
  }
  // By how many pixels a tap of the filters is moved.
  long moved(int tap) const { return (tap / 3 - c.pad) * pitch + tap % 3 - c.pad; }
  long some_of(long first, long end) const { return end - first < some ? end - first : some; }
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

// So many of a panel's channels there are.
inline long there_are(long channels, long panel) {
  const long left = channels - panel * kPanel;
  return left < kPanel ? left : kPanel;
}

}  // namespace
}  // namespace hotlap
