// From stored pixels to the network's input: moved, mirrored, cropped, normalised; and which fields are blank.
#pragma once

#include "net.h"
#include "simd.h"

namespace hotlap::HL_SPACE {

HL_INLINE int reflected(int i, int size) {
  // Shifts are smaller than the image, so one reflection is enough.
  return i < 0 ? -i : i >= size ? 2 * size - 2 - i : i;
}

// Marks the pixels of a row that are not 0, up to 64 of them.
HL_INLINE uint64_t inked_of(const uint8_t* row, int width) {
  uint64_t ink = 0;
  for (int i = 0; i < width; i += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, row + i, width - i < 8 ? width - i : 8);
    // The top bit of each byte that is not 0, then all of them brought together.
    const uint64_t low = 0x7f7f7f7f7f7f7f7f;
    const uint64_t top = ((eight | ((eight & low) + low)) & ~low) >> 7;
    ink |= (top * 0x0102040810204080 >> 56) << i;
  }
  return ink;
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
  const bool look = l.skip_blank;
  for (int y = 0; y < net.crop_h; y++) {
    const int from = reflected(y + net.crop_y + dy, height);
    float* to = x + (y + l.pad) * l.in_row + (long)l.pad * l.in_cp;
    uint64_t ink = 0;
    for (int c = 0; c < channels; c++) {
      const uint8_t* row = image + ((long)c * height + from) * width;
      const float* table = net.table[c];
      if (channels == 1 && straight) {
        row += columns[0];
        for (int i = 0; i < net.crop_w; i++) to[i] = table[row[i]];
        if (look) ink = inked_of(row, net.crop_w);
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
  const int side = l.pool + l.kernel - 1;
  for (int y = 0; y < l.out_h; y++) {
    uint64_t rows = 0, near = 0;
    for (int j = 0; j < side; j++) rows |= inked[y * l.pool + j];
    for (int j = 0; j < side; j++) near |= rows >> j;
    for (int i = 0; i < l.out_w; i++) {
      windows[count] = y * l.out_w + i;
      count += (near >> (i * l.pool)) & 1;
    }
  }
  return count;
}

}  // namespace hotlap::HL_SPACE
