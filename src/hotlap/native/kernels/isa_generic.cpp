// Vectors of four floats: SSE2, NEON. Compiled with flags of its own; see setup.py.
#define HL_LANES 4
#define HL_SPACE generic

#include "conv3.h"
#include "norm.h"
#include "run.h"

namespace hotlap {
const Backend kGeneric = {"generic", HL_LANES, generic::train, generic::logits, generic::derive, generic::conv3_work, generic::conv3_size, generic::norm_work};
}
