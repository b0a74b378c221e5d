// Max-pooling, batch normalisation and activation of whole batches for the PyTorch engine: two passes over the images
// forwards, two backwards. Images are channels-last, float32 or bfloat16; sums are of float32, and beyond some rows of
// float64.
#pragma once

#include "activations.h"
#include "net.h"
#include "simd.h"

namespace hotlap::HL_SPACE {

typedef uint16_t VH __attribute__((vector_size(2 * W)));
typedef uint32_t VU __attribute__((vector_size(4 * W)));
typedef int8_t VP __attribute__((vector_size(W)));

// Vectors of a type of images, of which at the end of the channels only n lie in memory.
struct Float32 {
  typedef float T;
  static constexpr bool kRough = false;
  HL_INLINE V load(const T* p, int n) {
    V v{};
    if (n >= W) std::memcpy(&v, p, sizeof v);
    else std::memcpy(&v, p, sizeof(T) * n);
    return v;
  }
  HL_INLINE void store(T* p, V v, int n) { std::memcpy(p, &v, n >= W ? sizeof v : sizeof(T) * n); }
};

struct Bfloat16 {
  typedef uint16_t T;
  static constexpr bool kRough = true;
  HL_INLINE V load(const T* p, int n) {
    VH half{};
    if (n >= W) std::memcpy(&half, p, sizeof half);
    else std::memcpy(&half, p, sizeof(T) * n);
    const VU bits = __builtin_convertvector(half, VU) << 16;
    V v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
  }
  // To the nearest, of two the even one.
  HL_INLINE void store(T* p, V v, int n) {
    VU bits;
    std::memcpy(&bits, &v, sizeof bits);
    bits += ((bits >> 16) & 1) + 0x7fff;
    bits = v != v ? VU{} + 0x7fc00000u : bits;
    const VH half = __builtin_convertvector(bits >> 16, VH);
    std::memcpy(p, &half, n >= W ? sizeof half : sizeof(T) * n);
  }
};

HL_INLINE VI load_places(const uint8_t* p, int n) {
  VP v{};
  std::memcpy(&v, p, n >= W ? W : n);
  return __builtin_convertvector(v, VI);
}
HL_INLINE void store_places(uint8_t* p, VI v, int n) {
  const VP bytes = __builtin_convertvector(v, VP);
  std::memcpy(p, &bytes, n >= W ? W : n);
}

// What is not a number is greater than all numbers, so that it is not lost.
HL_INLINE void keep_greater(V& best, VI& place, V here, int corner) {
  const VI takes = (here > best) | (here != here);
  best = takes ? here : best;
  place = takes ? set1i(corner) : place;
}

// Adds what float32 sums hold to those of float64, and clears them.
HL_INLINE void flush(V& from, double* to, int n) {
  for (int i = 0; i < W && i < n; i++) to[i] += from[i];
  from = V{};
}

constexpr long kFlush = 256;  // pixels whose sums float32 holds
constexpr int kTogether = 4;  // vectors of channels that are gone through at once

// The greatest of each 2×2 pixels of a line with its place; sums of what comes of it less `first`, and of their squares.
template <class T, bool POOL, int K>
void statistics_of(const NormJob& job, long line, int c0, V (&sums)[2][kTogether]) {
  typedef typename T::T Number;
  const hl_norm& s = job.norm;
  const long channels = s.channels, at = line * s.width * channels;
  const auto* x = static_cast<const Number*>(job.x);
  auto* pooled = static_cast<Number*>(job.pooled);
  const long image = line / s.height, row = line % s.height;
  const long below = s.width_in * channels;
  const Number* from = POOL ? x + (image * s.height_in + 2 * row) * below : x + at;
  for (long j = 0; j < s.width; j++) {
#pragma GCC unroll 4
    for (int k = 0; k < K; k++) {
      const long c = c0 + k * W;
      const int n = (int)(channels - c);
      V v;
      if (POOL) {
        const Number* here = from + 2 * j * channels + c;
        v = T::load(here, n);
        VI place{};
        keep_greater(v, place, T::load(here + channels, n), 1);
        keep_greater(v, place, T::load(here + below, n), 2);
        keep_greater(v, place, T::load(here + below + channels, n), 3);
        T::store(pooled + at + j * channels + c, v, n);
        store_places(job.places + at + j * channels + c, place, n);
      } else {
        v = T::load(from + j * channels + c, n);
      }
      v -= Float32::load(job.first + c, n);
      sums[0][k] += v, sums[1][k] += v * v;
    }
  }
}

template <class T, int KIND, bool ADD, int K>
void normalise_line(const NormJob& job, long line, int c0) {
  typedef typename T::T Number;
  const hl_norm& s = job.norm;
  const long channels = s.channels, at = line * s.width * channels;
  const auto* values = static_cast<const Number*>(s.pool ? job.pooled : job.x) + at;
  const auto* added = static_cast<const Number*>(job.added) + (ADD ? at : 0);
  auto* y = static_cast<Number*>(job.y) + at;
  const V alpha = set1(s.alpha);
  V scale[kTogether], shift[kTogether];
#pragma GCC unroll 4
  for (int k = 0; k < K; k++) {
    const int c = c0 + k * W, n = (int)channels - c;
    scale[k] = Float32::load(job.scale + c, n), shift[k] = Float32::load(job.shift + c, n);
  }
  for (long j = 0; j < s.width; j++)
#pragma GCC unroll 4
    for (int k = 0; k < K; k++) {
      const long c = j * channels + c0 + k * W;
      const int n = (int)(channels - c0 - k * W);
      V u = T::load(values + c, n) * scale[k] + shift[k];
      if (ADD) u += T::load(added + c, n);
      T::store(y + c, activated<KIND, T::kRough>(u, alpha), n);
    }
}

// Sums of the gradients behind the activation, and of these times the normalised values.
template <class T, int KIND, bool ADD, int K>
void gradient_sums_of(const NormJob& job, long line, int c0, V (&sums)[2][kTogether]) {
  typedef typename T::T Number;
  const hl_norm& s = job.norm;
  const long channels = s.channels, at = line * s.width * channels;
  const auto* values = static_cast<const Number*>(s.pool ? job.pooled : job.x) + at;
  const auto* dy = static_cast<const Number*>(job.dy) + at;
  const auto* added = static_cast<const Number*>(job.added) + (ADD ? at : 0);
  const V alpha = set1(s.alpha);
  V scale[kTogether], shift[kTogether], mean[kTogether], rstd[kTogether];
#pragma GCC unroll 4
  for (int k = 0; k < K; k++) {
    const int c = c0 + k * W, n = (int)channels - c;
    scale[k] = Float32::load(job.scale + c, n), shift[k] = Float32::load(job.shift + c, n);
    mean[k] = Float32::load(job.stats + c, n), rstd[k] = Float32::load(job.stats + 2 * channels + c, n);
  }
  for (long j = 0; j < s.width; j++)
#pragma GCC unroll 4
    for (int k = 0; k < K; k++) {
      const long c = j * channels + c0 + k * W;
      const int n = (int)(channels - c0 - k * W);
      const V value = T::load(values + c, n);
      V u = value * scale[k] + shift[k];
      if (ADD) u += T::load(added + c, n);
      const V g = T::load(dy + c, n) * slope<KIND, T::kRough>(u, alpha);
      sums[0][k] += g, sums[1][k] += g * (value - mean[k]) * rstd[k];
    }
}

template <class T, int KIND, bool ADD, bool POOL, int K>
void gradients_line(const NormJob& job, long line, int c0) {
  typedef typename T::T Number;
  const hl_norm& s = job.norm;
  const long channels = s.channels, at = line * s.width * channels;
  const auto* values = static_cast<const Number*>(s.pool ? job.pooled : job.x) + at;
  const auto* dy = static_cast<const Number*>(job.dy) + at;
  const auto* added = static_cast<const Number*>(job.added) + (ADD ? at : 0);
  auto* to_added = static_cast<Number*>(job.to_added) + (ADD ? at : 0);
  const V alpha = set1(s.alpha);
  const long image = line / s.height, row = line % s.height, below = s.width_in * channels;
  Number* out = static_cast<Number*>(job.dx) + (POOL ? (image * s.height_in + 2 * row) * below : at);
  V scale[kTogether], shift[kTogether], by_value[kTogether], constant[kTogether];
#pragma GCC unroll 4
  for (int k = 0; k < K; k++) {
    const int c = c0 + k * W, n = (int)channels - c;
    scale[k] = Float32::load(job.scale + c, n), shift[k] = Float32::load(job.shift + c, n);
    by_value[k] = Float32::load(job.by_value + c, n), constant[k] = Float32::load(job.constant + c, n);
  }
  for (long j = 0; j < s.width; j++)
#pragma GCC unroll 4
    for (int k = 0; k < K; k++) {
      const long c = j * channels + c0 + k * W;
      const int n = (int)(channels - c0 - k * W);
      const V value = T::load(values + c, n);
      V u = value * scale[k] + shift[k];
      if (ADD) u += T::load(added + c, n);
      const V g = T::load(dy + c, n) * slope<KIND, T::kRough>(u, alpha);
      if (ADD) T::store(to_added + c, g, n);
      const V d = g * scale[k] + value * by_value[k] + constant[k];
      if (!POOL) {
        T::store(out + c, d, n);
        continue;
      }
      const VI place = load_places(job.places + at + c, n);
      Number* square = out + 2 * j * channels + c0 + k * W;
      T::store(square, place == set1i(0) ? d : V{}, n);
      T::store(square + channels, place == set1i(1) ? d : V{}, n);
      T::store(square + below, place == set1i(2) ? d : V{}, n);
      T::store(square + below + channels, place == set1i(3) ? d : V{}, n);
    }
}

// Zeros for the last column and row, where windows leave them out.
template <class T>
void zeros_beside(const NormJob& job, long line) {
  typedef typename T::T Number;
  const hl_norm& s = job.norm;
  const long image = line / s.height, row = line % s.height, across = s.width_in * s.channels;
  Number* out = static_cast<Number*>(job.dx) + (image * s.height_in + 2 * row) * across;
  const long beside = (s.width_in - 2 * s.width) * s.channels;
  for (int i = 1; beside && i <= 2; i++) std::memset(out + i * across - beside, 0, sizeof(Number) * beside);
  if (row == s.height - 1 && s.height_in > 2 * s.height) std::memset(out + 2 * across, 0, sizeof(Number) * across);
}

// Goes through lines begin to end of a split: `each` for K vectors of channels at a time, with the line among all.
template <int K, class Each>
HL_INLINE void each_line(const NormJob& job, long begin, long end, int c0, const Each& each) {
  const long height = job.norm.height, splits = job.norm.splits;
  for (long line = begin; line < end; line++) {
    const long among_all = splits == 1 ? line : (line / height * splits + job.split) * height + line % height;
    each(std::integral_constant<int, K>{}, among_all, c0);
  }
}

// As above for all channels; `done` after so many lines as float32 sums may hold.
template <class Each, class Done>
void through(const NormJob& job, long part, const Each& each, const Done& done) {
  const hl_norm& s = job.norm;
  const long lines = (long)s.n / s.splits * s.height, last = (part + 1) * lines / job.parts;
  const long some = kFlush / s.width > 1 ? kFlush / s.width : 1;
  for (long begin = part * lines / job.parts; begin < last; begin += some) {
    const long end = begin + some < last ? begin + some : last;
    for (int c0 = 0; c0 < s.channels; c0 += kTogether * W) {
      const int vectors = (s.channels - c0 + W - 1) / W;
      if (vectors >= 4) each_line<4>(job, begin, end, c0, each);
      else if (vectors == 3) each_line<3>(job, begin, end, c0, each);
      else if (vectors == 2) each_line<2>(job, begin, end, c0, each);
      else each_line<1>(job, begin, end, c0, each);
      done(c0);
    }
  }
}

template <class T, int KIND, bool ADD>
void norm_part(const NormJob& job, int what, long part) {
  const hl_norm& s = job.norm;
  double* sums = job.sums + 2 * part * s.channels;
  V held[2][kTogether] = {};
  const auto nothing = [](int) {};
  const auto flush_all = [&](int c0) {
    for (int k = 0; k < kTogether && c0 + k * W < s.channels; k++)
      for (int i = 0; i < 2; i++) flush(held[i][k], sums + i * s.channels + c0 + k * W, s.channels - c0 - k * W);
  };
  if (what == kStatistics || what == kGradientSums)
    for (long i = 0; i < 2L * s.channels; i++) sums[i] = 0;
  switch (what) {
    case kStatistics:
      if (s.pool)
        through(job, part, [&](auto k, long line, int c0) { statistics_of<T, true, k>(job, line, c0, held); }, flush_all);
      else
        through(job, part, [&](auto k, long line, int c0) { statistics_of<T, false, k>(job, line, c0, held); }, flush_all);
      break;
    case kNormalise:
      through(job, part, [&](auto k, long line, int c0) { normalise_line<T, KIND, ADD, k>(job, line, c0); }, nothing);
      break;
    case kGradientSums:
      through(job, part, [&](auto k, long line, int c0) { gradient_sums_of<T, KIND, ADD, k>(job, line, c0, held); }, flush_all);
      break;
    default:
      if (s.pool) {
        through(job, part, [&](auto k, long line, int c0) { gradients_line<T, KIND, ADD, true, k>(job, line, c0); }, nothing);
        through(job, part, [&](auto, long line, int c0) { if (c0 == 0) zeros_beside<T>(job, line); }, nothing);
      } else {
        through(job, part, [&](auto k, long line, int c0) { gradients_line<T, KIND, ADD, false, k>(job, line, c0); }, nothing);
      }
  }
}

template <class T, int KIND>
void norm_part(const NormJob& job, int what, long part) {
  if (job.added) norm_part<T, KIND, true>(job, what, part);
  else norm_part<T, KIND, false>(job, what, part);
}

template <class T>
void norm_part(const NormJob& job, int what, long part) {
  switch (job.norm.activation) {
    case HL_RELU: return norm_part<T, HL_RELU>(job, what, part);
    case HL_SILU: return norm_part<T, HL_SILU>(job, what, part);
    case HL_GELU: return norm_part<T, HL_GELU>(job, what, part);
    default: return norm_part<T, HL_CELU>(job, what, part);
  }
}

inline void norm_work(const NormJob& job, int what, long part) {
  if (job.norm.type == HL_BFLOAT16) norm_part<Bfloat16>(job, what, part);
  else norm_part<Float32>(job, what, part);
}

}  // namespace hotlap::HL_SPACE
