// The C interface of pooling, normalisation and activation: what is done once between the passes over the images.
#include <cmath>
#include <cstring>

#include "backends.h"
#include "fork.h"

using namespace hotlap;

namespace {

// Fixed, so that sums do not depend on the number of threads.
constexpr long kParts = 64;

long parts_of(const hl_norm& norm) {
  const long lines = (long)norm.n / norm.splits * norm.height;
  return lines < kParts ? lines : kParts;
}

bool good(const hl_norm& s, int threads) {
  const int height = s.pool ? s.height_in / 2 : s.height_in, width = s.pool ? s.width_in / 2 : s.width_in;
  return threads >= 1 && threads <= kMaxThreads && s.n >= 1 && s.splits >= 1 && s.n % s.splits == 0 && s.channels >= 1 && s.height >= 1 && s.width >= 1 &&
         s.height == height && s.width == width && s.activation >= HL_RELU && s.activation <= HL_CELU &&
         (s.type == HL_FLOAT32 || s.type == HL_BFLOAT16);
}

// Doubles for the sums of all parts, and behind them floats for five numbers of each channel.
NormJob job_of(const hl_norm& norm, double* workspace) {
  NormJob job{};
  job.norm = norm, job.parts = parts_of(norm), job.sums = workspace;
  auto* floats = reinterpret_cast<float*>(workspace + 2 * job.parts * norm.channels);
  job.scale = floats, job.shift = floats + norm.channels, job.first = floats + 2 * norm.channels;
  job.by_value = floats + 3 * norm.channels, job.constant = floats + 4 * norm.channels;
  return job;
}

// Sum i of a channel over all parts.
double total(const NormJob& job, int i, long c) {
  double sum = 0;
  for (long part = 0; part < job.parts; part++) sum += job.sums[(2 * part + i) * job.norm.channels + c];
  return sum;
}

void set_scales(const NormJob& job, const float* stats, const float* weight, const float* bias) {
  const long channels = job.norm.channels;
  for (long c = 0; c < channels; c++) {
    job.scale[c] = weight[c] * stats[2 * channels + c];
    job.shift[c] = (float)(bias[c] - (double)stats[c] * job.scale[c]);
  }
}

// Of the first image of a split.
float first_of(const hl_norm& norm, const void* x, long split, long c) {
  c += split * norm.height_in * norm.width_in * norm.channels;
  if (norm.type == HL_FLOAT32) return static_cast<const float*>(x)[c];
  const uint32_t bits = (uint32_t) static_cast<const uint16_t*>(x)[c] << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

int64_t hl_norm_workspace(const hl_norm* norm) { return good(*norm, 1) ? (2 * parts_of(*norm) + 3) * norm->channels : HL_BAD_ARGUMENT; }

int32_t hl_norm_forward(const char* instruction_set, int32_t threads, hl_fork fork, const hl_norm* norm, const void* x,
                        const void* added, const float* weight, const float* bias, void* pooled, uint8_t* places,
                        float* stats, void* y, double* workspace) {
  const Backend* backend = backend_of(instruction_set);
  if (!backend || !good(*norm, threads)) return HL_BAD_ARGUMENT;
  NormJob job = job_of(*norm, workspace);
  const long channels = norm->channels;
  job.x = x, job.added = added, job.pooled = pooled, job.places = places, job.y = y;
  const double count = (double)(norm->n / norm->splits) * norm->height * norm->width;
  for (job.split = 0; job.split < norm->splits; job.split++, stats += 3 * channels) {
    // Values are counted from some value of theirs, so that a mean far from zero costs no digits.
    for (long c = 0; c < channels; c++) {
      const float first = first_of(*norm, x, job.split, c);
      job.first[c] = std::isfinite(first) ? first : 0;
    }
    on_threads(threads, fork, job.parts, [&](long part, int) { backend->norm(job, kStatistics, part); });
    for (long c = 0; c < channels; c++) {
      const double mean = total(job, 0, c) / count, square = total(job, 1, c) / count - mean * mean;
      const double variance = square < 0 ? 0 : square;
      stats[c] = (float)(job.first[c] + mean), stats[channels + c] = (float)variance;
      stats[2 * channels + c] = (float)(1 / std::sqrt(variance + norm->eps));
    }
    set_scales(job, stats, weight, bias);
    on_threads(threads, fork, job.parts, [&](long part, int) { backend->norm(job, kNormalise, part); });
  }
  return 0;
}

int32_t hl_norm_backward(const char* instruction_set, int32_t threads, hl_fork fork, const hl_norm* norm,
                         const void* dy, const void* values, const void* added, const uint8_t* places,
                         const float* stats, const float* weight, const float* bias, void* dx, void* to_added,
                         float* sums, double* workspace) {
  const Backend* backend = backend_of(instruction_set);
  if (!backend || !good(*norm, threads)) return HL_BAD_ARGUMENT;
  NormJob job = job_of(*norm, workspace);
  const long channels = norm->channels;
  job.dy = dy, job.x = values, job.pooled = const_cast<void*>(values), job.added = added;
  job.places = const_cast<uint8_t*>(places), job.dx = dx, job.to_added = to_added;
  const double count = (double)(norm->n / norm->splits) * norm->height * norm->width;
  for (job.split = 0; job.split < norm->splits; job.split++, stats += 3 * channels) {
    job.stats = const_cast<float*>(stats);
    set_scales(job, stats, weight, bias);
    on_threads(threads, fork, job.parts, [&](long part, int) { backend->norm(job, kGradientSums, part); });
    for (long c = 0; c < channels; c++) {
      const double plain = total(job, 0, c), with_values = total(job, 1, c);
      sums[c] = (float)plain + (job.split ? sums[c] : 0);
      sums[channels + c] = (float)with_values + (job.split ? sums[channels + c] : 0);
      // The gradient without what moves the mean or the variance.
      const double by_value = -(double)job.scale[c] * with_values / count * stats[2 * channels + c];
      job.by_value[c] = (float)by_value;
      job.constant[c] = (float)(-(double)job.scale[c] * plain / count - by_value * stats[c]);
    }
    on_threads(threads, fork, job.parts, [&](long part, int) { backend->norm(job, kGradientsOfInput, part); });
  }
  return 0;
}
