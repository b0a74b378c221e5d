// Vectors of eight floats: AVX2 with FMA. Compiled with flags of its own; see setup.py.
#define HL_LANES 8
#define HL_SPACE avx2

#include "conv3.h"
#include "norm.h"
#include "run.h"

namespace hotlap {
const Backend kAvx2 = {"avx2", HL_LANES, avx2::train, avx2::logits, avx2::derive, avx2::conv3_work, avx2::conv3_size, avx2::norm_work};
}
