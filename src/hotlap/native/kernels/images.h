// From stored pixels to the network's input: moved, mirrored, cropped, normalised; and which fields are blank.
#pragma once

#include "net.h"
#include "simd.h"

namespace hotlap::HL_SPACE {

HL_INLINE int reflected(int i, int size) {
  // Shifts are smaller than the image, so one reflection is enough.
  return i < 0 ? -i : i >= size ? 2 * size - 2 - i : i;
}

// Marks which of eight pixels are not 0.
HL_INLINE uint64_t marked(uint64_t eight) {
  // The top bit of each byte that is not 0, then all of them brought together.
  const uint64_t low = 0x7f7f7f7f7f7f7f7f;
  const uint64_t top = ((eight | ((eight & low) + low)) & ~low) >> 7;
  return top * 0x0102040810204080 >> 56;
}

// Marks the columns in which a pixel of some rows is not 0, up to 64 columns.
HL_INLINE uint64_t inked_of(const uint8_t* const* rows, int count, int width) {
  const auto eight_at = [&](int i, int n) {
    uint64_t all = 0;
    for (int r = 0; r < count; r++) {
      uint64_t eight = 0;
      std::memcpy(&eight, rows[r] + i, n);
      all |= eight;
    }
    return marked(all);
  };
  if (width < 8) return eight_at(0, width);
  uint64_t ink = 0;
  for (int i = 0; i + 8 < width; i += 8) ink |= eight_at(i, 8) << i;
  // The last eight overlap those before.
  return ink | eight_at(width - 8, 8) << (width - 8);
}

// Writes one image (channels, height, width) to the first layer's input. Pixel (y, x) of a moved image is pixel
// (y + dy, x + dx) of the image, reflected at its border, and then mirrored left to right where that is asked for.
// Returns how many fields are not blank, listed in `windows`; -1 where that is not looked for.
inline int load_image(const Net& net, const uint8_t* image, int dy, int dx, bool mirrored, float* x,
                      int32_t* windows) {
  const Layer& l = net.layer[0];
  const int channels = net.image_c, height = net.image_h, width = net.image_w;
  int16_t columns[1024];
  for (int i = 0; i < net.crop_w; i++) {
    const int seen = i + net.crop_x;
    columns[i] = (int16_t)reflected((mirrored ? width - 1 - seen : seen) + dx, width);
  }
  // The columns lie in one piece, so that they can be read without the table of places.
  const bool straight = columns[net.crop_w - 1] - columns[0] == net.crop_w - 1 && !mirrored;
  uint64_t inked[64];
  const uint8_t* rows[64];
  const bool look = l.skip_blank, whole = straight && channels == 1;
  const int width_seen = net.crop_w;
  for (int y = 0; y < net.crop_h; y++) {
    const int from = reflected(y + net.crop_y + dy, height);
    float* to = x + (y + l.pad) * l.in_row + (long)l.pad * l.in_cp;
    uint64_t ink = 0;
    for (int c = 0; c < channels; c++) {
      const uint8_t* row = image + ((long)c * height + from) * width;
      const float* table = net.table[c];
      if (whole) {
        row += columns[0];
        for (int i = 0; i < width_seen; i++) to[i] = table[row[i]];
        if (look) rows[y] = row;
      } else {
        for (int i = 0; i < net.crop_w; i++) {
          const uint8_t pixel = row[columns[i]];
          to[(long)i * channels + c] = table[pixel];
          ink |= (uint64_t)(pixel != 0) << (i & 63);
        }
      }
    }
    if (look) inked[y] = ink;
  }
  if (!look) return -1;
  int count = 0;
  const int pool = l.pool, side = l.pool + l.kernel - 1, pad = l.pad, out_w = l.out_w;
  for (int y = 0; y < l.out_h; y++) {
    // What a field has of the margin is blank.
    const int top = y * pool - pad, first = top < 0 ? 0 : top;
    const int last = top + side < net.crop_h ? top + side : net.crop_h;
    uint64_t ink = 0, near = 0;
    if (whole) ink = inked_of(rows + first, last - first, width_seen);
    else
      for (int j = first; j < last; j++) ink |= inked[j];
    ink <<= pad;
    for (int j = 0; j < side; j++) near |= ink >> j;
    for (int i = 0; i < out_w; i++) {
      windows[count] = y * out_w + i;
      count += near & 1;
      near >>= pool;
    }
  }
  return count;
}

}  // namespace hotlap::HL_SPACE
