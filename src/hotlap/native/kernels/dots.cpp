// The C interface of products of bfloat16 tiles, and those in plain C++ for processors without any.
#include "dots_filters.h"
#include "dots_forward.h"

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
  static void copy(const Pixel& pixel, long n, uint16_t* to) {
    for (long c = 0; c < kPanel; c++) to[c] = c < n ? at(pixel, c) : 0;
  }
  static void multiply(const uint16_t* a, long wide, const long* moved, long panels, const uint16_t* b, float* to) {
    std::memset(to, 0, sizeof(float) * kDepth * kPanel);
    for (int tap = 0; tap < 9; tap++)
      for (long c = 0; c < panels * kPanel; c++)
        for (int pixel = 0; pixel < kDepth; pixel++) {
          const float value = number(a[moved[tap] + pixel * wide + c]);
          const uint16_t* filters = b + ((tap * panels + c / kPanel) * 2 * kTile + c % kPanel / 2) * kDepth + c % 2;
          for (int out = 0; out < kPanel; out++)
            to[pixel * kPanel + out] += value * number(filters[out / kTile * kTile * kDepth + out % kTile * 2]);
        }
  }
  static void keep(const float* from, long n, uint16_t* to) {
    for (long c = 0; c < n; c++) to[c] = rounded(from[c]);
  }
  static void greatest(const float* from, long below, long n, uint16_t* to, uint8_t* place) {
    const float* corners[4] = {from, from + kPanel, from + below, from + below + kPanel};
    for (long c = 0; c < n; c++) {
      place[c] = 0;
      for (uint8_t corner = 1; corner < 4; corner++) {
        const float here = corners[corner][c];
        if (here > corners[place[c]][c] || here != here) place[c] = corner;
      }
      to[c] = rounded(corners[place[c]][c]);
    }
  }
};

// Whether the processor has matrix registers, and the operating system lets this process use them.
bool has_amx() {
#if defined(HL_WITH_AMX) && defined(__linux__)
  static const bool found = [] {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1) || !(d >> 22 & 1) || !(b >> 16 & 1)) return false;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return false;  // AVX-512 for bfloat16
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

// The first whole cache line of some memory.
template <class T>
T* whole_lines(float* workspace) {
  return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(workspace) + 63) / 64 * 64);
}

bool good(const char* tiles, int threads, const hl_conv3& c) {
  return backend_of_dots(tiles) && threads >= 1 && threads <= kMaxThreads && c.n >= 1 && c.in >= 1 && c.out >= 1 && c.pad >= 0 &&
         c.pad <= 2 && c.pool >= HL_POOL_NONE && c.pool <= HL_POOL_IN && c.height + 2 * c.pad >= 3 && c.width + 2 * c.pad >= 3;
}

}  // namespace

namespace hotlap {
const DotsBackend kPlainDots = {FilterDots<PlainTiles>::part, FilterDots<PlainTiles>::gather, ForwardDots<PlainTiles>::pack_filters,
                                ForwardDots<PlainTiles>::block};
}

int32_t hl_has_amx(void) { return has_amx(); }

int64_t hl_dots_workspace(const char* tiles, int32_t threads, const hl_conv3* conv) {
  if (!good(tiles, threads, *conv)) return HL_BAD_ARGUMENT;
  const FilterGrid f(*conv);
  const ForwardGrid g(*conv);
  const long filters = threads * (f.sums + f.numbers() / 2);
  const long forward = (g.out_panels * g.panel_numbers() + threads * g.numbers()) / 2;
  return (filters > forward ? filters : forward) + 16;
}

int32_t hl_dots_forward(const char* tiles, int32_t threads, hl_fork fork, const hl_conv3* conv, const uint16_t* x,
                        const float* filters, uint16_t* y, uint8_t* index, float* workspace) {
  if (!good(tiles, threads, *conv) || (conv->pool != HL_POOL_NONE) != (index != nullptr)) return HL_BAD_ARGUMENT;
  const DotsBackend* backend = backend_of_dots(tiles);
  const ForwardGrid g(*conv);
  DotsJob job{};
  job.conv = conv, job.x = x, job.filters = filters, job.y = y, job.places = index;
  job.index = conv->pool == HL_POOL_IN ? index : nullptr;
  job.filters_packed = whole_lines<uint16_t>(workspace);
  job.numbers = job.filters_packed + g.out_panels * g.panel_numbers();
  on_threads(threads, fork, g.out_panels, [&](long panel, int) { backend->pack_filters(job, panel); });
  on_threads(threads, fork, g.blocks(), [&](long block, int slot) { backend->block(job, block, slot); });
  return 0;
}

int32_t hl_dots_filters(const char* tiles, int32_t threads, hl_fork fork, const hl_conv3* conv, const uint16_t* x,
                        const uint16_t* dy, const uint8_t* index, float* dw, float* workspace) {
  const bool fits = good(tiles, threads, *conv) && conv->pool != HL_POOL_IN;
  if (!fits || (conv->pool == HL_POOL_OUT) != (index != nullptr)) return HL_BAD_ARGUMENT;
  const DotsBackend* backend = backend_of_dots(tiles);
  const FilterGrid g(*conv);
  DotsJob job{};
  job.conv = conv, job.x = x, job.dy = dy, job.index = index, job.dw = dw, job.parts = threads;
  job.sums = whole_lines<float>(workspace);
  job.numbers = reinterpret_cast<uint16_t*>(job.sums + threads * g.sums);
  on_threads(threads, fork, job.parts, [&](long part, int slot) { backend->part(job, part, slot); });
  on_threads(threads, fork, g.out_panels, [&](long panel, int) { backend->gather(job, panel); });
  return 0;
}
