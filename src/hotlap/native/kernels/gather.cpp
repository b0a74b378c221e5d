// Chosen images, each shifted and then mirrored or not, in one pass; nothing in it has vectors.
#include <cstring>

#include "fork.h"
#include "net.h"

using namespace hotlap;

namespace {

constexpr long kTogether = 32;  // images of a part

// What comes in is reflected, the outermost pixel itself not repeated.
long reflected(long i, long side) {
  i = i < 0 ? -i : i;
  return i >= side ? 2 * (side - 1) - i : i;
}

// BYTES of a pixel are known to the compiler, or 0.
template <int BYTES>
void line(const uint8_t* from, long width, long shift, bool mirrored, long bytes, uint8_t* to) {
  const long size = BYTES ? BYTES : bytes;
  for (long j = 0; j < width; j++)
    std::memcpy(to + j * size, from + reflected((mirrored ? width - 1 - j : j) + shift, width) * size, size);
}

}  // namespace

int32_t hl_gather(int32_t threads, hl_fork fork, int64_t n, int32_t height, int32_t width, int32_t pixel_bytes,
                  const uint8_t* images, const int64_t* which, const int32_t* moves, uint8_t* out) {
  if (threads < 1 || threads > kMaxThreads || n < 0 || height < 1 || width < 1 || pixel_bytes < 1) return HL_BAD_ARGUMENT;
  for (int64_t i = 0; i < n; i++)
    if (moves[3 * i] <= -height || moves[3 * i] >= height || moves[3 * i + 1] <= -width || moves[3 * i + 1] >= width)
      return HL_BAD_ARGUMENT;
  const long across = (long)width * pixel_bytes, image = height * across;
  on_threads(threads, fork, (n + kTogether - 1) / kTogether, [&](long part, int) {
    for (long k = part * kTogether; k < n && k < (part + 1) * kTogether; k++) {
      const int32_t* by = moves + 3 * k;
      for (long i = 0; i < height; i++) {
        const uint8_t* from = images + which[k] * image + reflected(i + by[0], height) * across;
        uint8_t* to = out + k * image + i * across;
        if (by[1] == 0 && !by[2]) std::memcpy(to, from, across);
        else if (pixel_bytes == 4) line<4>(from, width, by[1], by[2] != 0, 4, to);
        else if (pixel_bytes == 12) line<12>(from, width, by[1], by[2] != 0, 12, to);
        else line<0>(from, width, by[1], by[2] != 0, pixel_bytes, to);
      }
    }
  });
  return 0;
}
