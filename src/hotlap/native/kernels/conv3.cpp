// The C interface of the 3×3 convolutions of whole batches: memory and threads.
#include <thread>
#include <vector>

#include "backends.h"

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

// Work that is cut into parts, which threads take one after another. Who does which does not matter to the result.
struct Parts {
  const Backend* backend;
  const Conv3Job* job;
  int what;
  long count, next;
  int slots;
};

void work_on(void* data) {
  auto& parts = *static_cast<Parts*>(data);
  const int slot = __atomic_fetch_add(&parts.slots, 1, __ATOMIC_RELAXED);
  for (;;) {
    const long part = __atomic_fetch_add(&parts.next, 1, __ATOMIC_RELAXED);
    if (part >= parts.count) return;
    parts.backend->conv3(*parts.job, parts.what, part, slot);
  }
}

void run(int threads, hl_fork fork, const Backend* backend, const Conv3Job& job, int what, long count) {
  Parts parts{backend, &job, what, count, 0, 0};
  if (threads == 1) return work_on(&parts);
  if (fork) return fork(work_on, &parts, (unsigned)threads, 0);
  std::vector<std::thread> others;
  for (int i = 1; i < threads; i++) others.emplace_back(work_on, &parts);
  work_on(&parts);
  for (auto& other : others) other.join();
}

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
  run(threads, fork, plan.backend, job, kFilters, job.parts);
  run(threads, fork, plan.backend, job, kForward, plan.size.blocks);
  return 0;
}

int32_t hl_conv3_filters(const char* instruction_set, int32_t threads, hl_fork fork, const hl_conv3* conv,
                         const float* x, const float* dy, const uint8_t* index, float* dw, float* workspace) {
  const Plan plan(instruction_set, threads, *conv);
  if (!plan.backend) return HL_BAD_ARGUMENT;
  Conv3Job job = job_of(plan, threads, *conv, workspace);
  job.x = x, job.dy = dy, job.dw = dw, job.index = const_cast<uint8_t*>(index);
  run(threads, fork, plan.backend, job, kSums, job.parts);
  run(threads, fork, plan.backend, job, kGradients, job.parts);
  return 0;
}
