// The instruction sets that were compiled in and that this processor has.
#pragma once

#include <vector>

#include "net.h"

namespace hotlap {

// Best first.
std::vector<const Backend*> backends();
// The one of that name; null where there is none.
const Backend* backend_of(const char* name);

}  // namespace hotlap
