// Work that is cut into parts, which threads take one after another.
#pragma once

#include <thread>
#include <vector>

#include "api.h"

namespace hotlap {

// Calls body(part, slot) for each of `count` parts; no two threads have the same slot, which is below `threads`. Which
// thread does which part must not matter. With no `fork`, threads are started.
template <class Body>
void on_threads(int threads, hl_fork fork, long count, const Body& body) {
  struct Parts {
    const Body* body;
    long count, next;
    int slots;

    static void work(void* data) {
      auto& parts = *static_cast<Parts*>(data);
      const int slot = __atomic_fetch_add(&parts.slots, 1, __ATOMIC_RELAXED);
      for (;;) {
        const long part = __atomic_fetch_add(&parts.next, 1, __ATOMIC_RELAXED);
        if (part >= parts.count) return;
        (*parts.body)(part, slot);
      }
    }
  } parts{&body, count, 0, 0};
  if (threads == 1) return Parts::work(&parts);
  if (fork) return fork(Parts::work, &parts, (unsigned)threads, 0);
  std::vector<std::thread> others;
  for (int i = 1; i < threads; i++) others.emplace_back(Parts::work, &parts);
  Parts::work(&parts);
  for (auto& other : others) other.join();
}

}  // namespace hotlap
