// Vectors of sixteen floats: AVX-512F. Compiled with flags of its own; see setup.py.
#define HL_LANES 16
#define HL_SPACE avx512

#include "conv3.h"
#include "norm.h"
#include "run.h"

namespace hotlap {
const Backend kAvx512 = {"avx512", HL_LANES, avx512::train, avx512::logits, avx512::derive, avx512::conv3_work, avx512::conv3_size, avx512::norm_work};
}
