#include "cuda/launch.h"

#include "cuda/device.h"

namespace motet::cuda {

#ifndef MOTET_CUDA_EMULATED
bool StartsEarly() { return CurrentDevice().major >= 9; }
#endif

}  // namespace motet::cuda
