// Tiles in the matrix registers of Intel's AMX. Compiled with flags of its own; see setup.py.
#include <immintrin.h>

#include "dots_filters.h"
#include "dots_forward.h"

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
    // To some compilers the instruction reads 8 bytes of these 64.
    asm volatile("" ::"r"(&shape) : "memory");
    _tile_loadconfig(&shape);
  }
  ~AmxTiles() {
    _tile_release();
    _mm_sfence();  // what went past the cache is there before other threads go on
  }

  static __m512i some(const Pixel& pixel, long n) {
    if (pixel.blank()) return _mm512_setzero_si512();
    __mmask32 which = first_of(n);
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

  static void copy(const Pixel& pixel, long n, uint16_t* to) { _mm512_store_si512(to, some(pixel, n)); }

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

  // 32 pixels, each moved by every tap, times the filters of 32 outputs.
  static void multiply(const uint16_t* a, long wide, const long* moved, long panels, const uint16_t* b, float* to) {
    const long stride = wide * (long)sizeof(uint16_t), row = kPanel * (long)sizeof(float);
    asm volatile("" ::: "memory");
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (int tap = 0; tap < 9; tap++) {
      const uint16_t* from = a + moved[tap];
      for (long panel = 0; panel < panels; panel++, from += kPanel, b += 2 * kTile * kDepth) {
        _tile_loadd(4, from, stride); _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + kTile * kDepth, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, from + kTile * wide, stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, to, row); _tile_stored(1, to + kTile, row);
    _tile_stored(2, to + kTile * kPanel, row); _tile_stored(3, to + kTile * kPanel + kTile, row);
    asm volatile("" ::: "memory");
  }

  static __mmask32 first_of(long n) { return n >= kPanel ? ~0u : (1u << n) - 1; }

  static void keep(const float* from, long n, uint16_t* to) {
    const __m512bh half = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + kTile), _mm512_loadu_ps(from));
    // Whole lines go past the cache, which is too small for them anyway.
    if (n >= kPanel && reinterpret_cast<uintptr_t>(to) % 64 == 0) _mm512_stream_si512((__m512i*)to, (__m512i)half);
    else _mm512_mask_storeu_epi16(to, first_of(n), (__m512i)half);
  }

  // The greatest of 2×2 pixels; what is not a number is greater than all numbers.
  static void greatest(const float* from, long below, long n, uint16_t* to, uint8_t* place) {
    const float* corners[4] = {from, from + kPanel, from + below, from + below + kPanel};
    __m512 best[2];
    for (int half = 0; half < 2; half++) {
      best[half] = _mm512_loadu_ps(from + half * kTile);
      __m512i which = _mm512_setzero_si512();
      for (int corner = 1; corner < 4; corner++) {
        const __m512 here = _mm512_loadu_ps(corners[corner] + half * kTile);
        const __mmask16 takes = _mm512_cmp_ps_mask(here, best[half], _CMP_GT_OQ) | _mm512_cmp_ps_mask(here, here, _CMP_UNORD_Q);
        best[half] = _mm512_mask_mov_ps(best[half], takes, here);
        which = _mm512_mask_mov_epi32(which, takes, _mm512_set1_epi32(corner));
      }
      const __mmask16 there = (__mmask16)(first_of(n) >> half * kTile);
      _mm512_mask_cvtepi32_storeu_epi8(place + half * kTile, there, which);
    }
    _mm512_mask_storeu_epi16(to, first_of(n), (__m512i)_mm512_cvtne2ps_pbh(best[1], best[0]));
  }
};

}  // namespace

const DotsBackend kAmxDots = {FilterDots<AmxTiles>::part, FilterDots<AmxTiles>::gather, ForwardDots<AmxTiles>::pack_filters,
                              ForwardDots<AmxTiles>::block};

}  // namespace hotlap
