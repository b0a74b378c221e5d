// The C interface of the 3×3 convolutions of whole batches: memory and threads.
#include "backends.h"
#include "fork.h"

using namespace hotlap;

namespace {

constexpr long kAlign = 16;
long rounded(long floats) { return (floats + kAlign - 1) / kAlign * kAlign; }

// Where everything lies in the workspace.
struct Plan {
  const Backend* backend;
  Conv3Size size;
  long blank, matrices, slots, floats;

  Plan(const char* instruction_set, int threads, const hl_conv3& c) : backend(backend_of(instruction_set)) {
    const bool good = backend && threads >= 1 && threads <= kMaxThreads && c.n >= 0 && c.in >= 1 && c.out >= 1 &&
                      c.pad >= 0 && c.pad <= 2 && c.pool >= 0 && c.pool <= 2 && c.height + 2 * c.pad >= 3 && c.width + 2 * c.pad >= 3 &&
                      (c.tile == 0 || (c.tile >= 2 && c.tile <= 8));
    if (!good) {
      backend = nullptr;
      return;
    }
    size = backend->conv3_size(c);
    if (!size.fits) backend = nullptr;
    blank = 0, matrices = rounded(c.in), slots = matrices + rounded(size.matrices * threads);
    floats = slots + size.slot * threads + kAlign;
  }
};

Conv3Job job_of(const Plan& plan, int threads, const hl_conv3& conv, float* workspace) {
  // On whole cache lines.
  auto* base = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(workspace) + 63) / 64 * 64);
  for (long i = 0; i < conv.in; i++) base[plan.blank + i] = 0;
  Conv3Job job{};
  job.conv = &conv, job.matrices = base + plan.matrices, job.slots = base + plan.slots;
  job.blank = base + plan.blank, job.parts = threads, job.side = plan.size.side;
  return job;
}

}  // namespace

int64_t hl_conv3_workspace(const char* instruction_set, int32_t threads, const hl_conv3* conv) {
  const Plan plan(instruction_set, threads, *conv);
  return plan.backend ? plan.floats : HL_BAD_ARGUMENT;
}

int32_t hl_conv3_forward(const char* instruction_set, int32_t threads, hl_fork fork, const hl_conv3* conv,
                         const float* x, const float* filters, float* y, uint8_t* index, float* workspace) {
  const Plan plan(instruction_set, threads, *conv);
  if (!plan.backend) return HL_BAD_ARGUMENT;
  Conv3Job job = job_of(plan, threads, *conv, workspace);
  job.x = x, job.filters = filters, job.y = y, job.index = index;
  on_threads(threads, fork, job.parts, [&](long part, int slot) { plan.backend->conv3(job, kFilters, part, slot); });
  on_threads(threads, fork, plan.size.blocks, [&](long part, int slot) { plan.backend->conv3(job, kForward, part, slot); });
  return 0;
}

int32_t hl_conv3_filters(const char* instruction_set, int32_t threads, hl_fork fork, const hl_conv3* conv,
                         const float* x, const float* dy, const uint8_t* index, float* dw, float* workspace) {
  const Plan plan(instruction_set, threads, *conv);
  if (!plan.backend) return HL_BAD_ARGUMENT;
  Conv3Job job = job_of(plan, threads, *conv, workspace);
  job.x = x, job.dy = dy, job.dw = dw, job.index = const_cast<uint8_t*>(index);
  on_threads(threads, fork, job.parts, [&](long part, int slot) { plan.backend->conv3(job, kSums, part, slot); });
  on_threads(threads, fork, job.parts, [&](long part, int slot) { plan.backend->conv3(job, kGradients, part, slot); });
  return 0;
}
