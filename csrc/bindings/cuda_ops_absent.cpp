#include "bindings/bindings.h"

namespace motet {

void BindCudaOps(pybind11::module_&) {}

}  // namespace motet
