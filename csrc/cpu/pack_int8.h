// bf16 weights to int8 ones, see base/matrix.h.
#pragma once

#include <cstdint>

namespace motet {

// Packs up to kInt8Rows rows [rows, cols]; those missing are zeros. data [ceil(cols/32), 512] and
// scales [ceil(cols/32), 16] are one group of rows. Returns whether all weights are finite.
bool PackInt8(const uint16_t* weights, int64_t rows, int64_t cols, uint8_t* data, uint16_t* scales);

}  // namespace motet
