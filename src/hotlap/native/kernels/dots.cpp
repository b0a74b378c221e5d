// The C interface of products of bfloat16 tiles, and those in plain C++ for processors without any.
#include "dots.h"

#include <string>

#include "fork.h"
#include "net.h"

#if defined(HL_WITH_AMX) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

using namespace hotlap;

namespace {

struct PlainTiles {
  static uint16_t at(const Pixel& pixel, long c) {
    if (pixel.blank() || (pixel.index && pixel.chosen()[c] != pixel.corner())) return 0;
    return pixel.first()[c];
  }
  static void interleave(const Pixel& a, const Pixel& b, long n, uint16_t* first, uint16_t* second) {
    for (long c = 0; c < kPanel; c++) {
      uint16_t* to = (tile_of(c) == 0 ? first : second) + row_of(c) * 2;
      to[0] = c < n ? at(a, c) : 0, to[1] = c < n ? at(b, c) : 0;
    }
  }
  static void transpose(const uint16_t* from, uint16_t* to) {
    for (int i = 0; i < kTile; i++)
      for (int j = 0; j < kTile; j++) std::memcpy(to + (i * kTile + j) * 2, from + (j * kTile + i) * 2, 4);
  }
  static float number(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  static void add(long steps, const uint16_t* a, const uint16_t* b0, const uint16_t* b1, float* sums, bool first) {
    if (first) std::memset(sums, 0, sizeof(float) * kPanel * kPanel);
    for (long step = 0; step < steps; step++)
      for (int tile = 0; tile < 4; tile++) {
        const uint16_t* left = a + (step * 2 + tile / 2) * kTile * kDepth;
        const uint16_t* right = (tile % 2 ? b1 : b0) + step * kTile * kDepth;
        float* to = sums + tile * kTile * kTile;
        for (int m = 0; m < kTile; m++)
          for (int k = 0; k < kDepth; k++) {
            const float value = number(left[m * kDepth + k]);
            for (int n = 0; n < kTile; n++) to[m * kTile + n] += value * number(right[(k / 2 * kTile + n) * 2 + k % 2]);
          }
      }
  }
};

// Whether the processor has matrix registers, and the operating system lets this process use them.
bool has_amx() {
#if defined(HL_WITH_AMX) && defined(__linux__)
  static const bool found = [] {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1) || !(d >> 22 & 1) || !(b >> 16 & 1)) return false;
    constexpr long kAskFor = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kAskFor, kTileData) == 0;
  }();
  return found;
#else
  return false;
#endif
}

const DotsBackend* backend_of_dots(const char* name) {
  if (std::string(name) == "plain") return &kPlainDots;
#ifdef HL_WITH_AMX
  if (std::string(name) == "amx" && has_amx()) return &kAmxDots;
#endif
  return nullptr;
}

bool good(const char* tiles, int threads, const hl_conv3& c) {
  return backend_of_dots(tiles) && threads >= 1 && threads <= kMaxThreads && c.n >= 1 && c.in >= 1 && c.out >= 1 && c.pad >= 0 &&
         c.pad <= 2 && (c.pool == HL_POOL_NONE || c.pool == HL_POOL_OUT) && c.height + 2 * c.pad >= 3 && c.width + 2 * c.pad >= 3;
}

}  // namespace

namespace hotlap {
const DotsBackend kPlainDots = {Dots<PlainTiles>::part, Dots<PlainTiles>::gather};
}

int32_t hl_has_amx(void) { return has_amx(); }

int64_t hl_dots_workspace(const char* tiles, int32_t threads, const hl_conv3* conv) {
  if (!good(tiles, threads, *conv)) return HL_BAD_ARGUMENT;
  const Grid g(*conv);
  return threads * (g.sums + g.numbers() / 2) + 16;
}

int32_t hl_dots_filters(const char* tiles, int32_t threads, hl_fork fork, const hl_conv3* conv, const uint16_t* x,
                        const uint16_t* dy, const uint8_t* index, float* dw, float* workspace) {
  if (!good(tiles, threads, *conv) || (conv->pool == HL_POOL_OUT) != (index != nullptr)) return HL_BAD_ARGUMENT;
  const DotsBackend* backend = backend_of_dots(tiles);
  const Grid g(*conv);
  auto* base = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(workspace) + 63) / 64 * 64);
  DotsJob job{conv, x, dy, index, dw, nullptr, base, threads};
  job.numbers = reinterpret_cast<uint16_t*>(base + threads * g.sums);
  on_threads(threads, fork, job.parts, [&](long part, int slot) { backend->part(job, part, slot); });
  on_threads(threads, fork, g.out_panels, [&](long panel, int) { backend->gather(job, panel); });
  return 0;
}
