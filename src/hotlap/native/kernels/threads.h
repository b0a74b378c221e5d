// A barrier for a few threads that are busy all the time.
#pragma once

#include <sched.h>

#include "net.h"
#include "simd.h"

namespace hotlap::HL_SPACE {

HL_INLINE void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline void wait_for_all(Barrier& b) {
  if (b.parties == 1) return;
  const int now = __atomic_load_n(&b.generation, __ATOMIC_RELAXED);
  if (__atomic_add_fetch(&b.arrived, 1, __ATOMIC_ACQ_REL) == b.parties) {
    __atomic_store_n(&b.arrived, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&b.generation, now + 1, __ATOMIC_RELEASE);
    return;
  }
  // Spinning answers within a microsecond; where there are more threads than cores, the core goes to another.
  for (int spins = 0; __atomic_load_n(&b.generation, __ATOMIC_ACQUIRE) == now;) {
    pause();
    if (++spins > 4000) {
      sched_yield();
      spins = 0;
    }
  }
}

}  // namespace hotlap::HL_SPACE
