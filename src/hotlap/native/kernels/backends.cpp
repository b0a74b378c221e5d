#include "backends.h"

#include <string>

namespace hotlap {

std::vector<const Backend*> backends() {
  std::vector<const Backend*> found;
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
#ifdef HL_WITH_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    found.push_back(&kAvx512);
#endif
#ifdef HL_WITH_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kAvx2);
#endif
#endif
  found.push_back(&kGeneric);
  return found;
}

const Backend* backend_of(const char* name) {
  for (const Backend* b : backends())
    if (std::string(name) == b->name) return b;
  return nullptr;
}

}  // namespace hotlap
