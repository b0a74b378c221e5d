// Tiles in the matrix registers of Intel's AMX. Compiled with flags of its own; see setup.py.
#include <immintrin.h>

#include "dots.h"

namespace hotlap {
namespace {

struct AmxTiles {
  AmxTiles() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } shape;
    for (int i = 0; i < 8; i++) shape.row_bytes[i] = 64, shape.rows[i] = kTile;
    _tile_loadconfig(&shape);
  }
  ~AmxTiles() { _tile_release(); }

  static __m512i some(const Pixel& pixel, long n) {
    if (pixel.blank()) return _mm512_setzero_si512();
    __mmask32 which = n >= kPanel ? ~0u : (1u << n) - 1;
    if (pixel.index) {
      const __m256i chosen = _mm256_maskz_loadu_epi8(which, pixel.chosen());
      which &= _mm256_cmpeq_epi8_mask(chosen, _mm256_set1_epi8((char)pixel.corner()));
    }
    return _mm512_maskz_loadu_epi16(which, pixel.first());
  }
  static void interleave(const Pixel& a, const Pixel& b, long n, uint16_t* first, uint16_t* second) {
    const __m512i va = some(a, n), vb = some(b, n);
    _mm512_store_si512(first, _mm512_unpacklo_epi16(va, vb));
    _mm512_store_si512(second, _mm512_unpackhi_epi16(va, vb));
  }

  // Of 16×16 pairs of numbers.
  static void transpose(const uint16_t* from, uint16_t* to) {
    __m512i r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_load_si512(from + i * kDepth);
    for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    for (int i = 0; i < 16; i += 4) {
      r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]), r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
      r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]), r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 16; i += 8)
      for (int j = 0; j < 4; j++) {
        t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
        t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
      }
    for (int j = 0; j < 8; j++) {
      _mm512_store_si512(to + j * kDepth, _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88));
      _mm512_store_si512(to + (j + 8) * kDepth, _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd));
    }
  }

  static void add(long steps, const uint16_t* a, const uint16_t* b0, const uint16_t* b1, float* sums, bool first) {
    constexpr long kSize = kTile * kTile;
    // The compiler does not know that tiles are read from memory and written to it.
    asm volatile("" ::: "memory");
    if (first) {
      _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    } else {
      _tile_loadd(0, sums, 64); _tile_loadd(1, sums + kSize, 64);
      _tile_loadd(2, sums + 2 * kSize, 64); _tile_loadd(3, sums + 3 * kSize, 64);
    }
    for (long step = 0; step < steps; step++) {
      _tile_loadd(4, a, 64); _tile_loadd(6, b0, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, b1, 64);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, a + kTile * kDepth, 64);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      a += 2 * kTile * kDepth, b0 += kTile * kDepth, b1 += kTile * kDepth;
    }
    _tile_stored(0, sums, 64); _tile_stored(1, sums + kSize, 64);
    _tile_stored(2, sums + 2 * kSize, 64); _tile_stored(3, sums + 3 * kSize, 64);
    asm volatile("" ::: "memory");
  }
};

}  // namespace

const DotsBackend kAmxDots = {Dots<AmxTiles>::part, Dots<AmxTiles>::gather};

}  // namespace hotlap
