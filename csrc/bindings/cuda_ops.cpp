// CUDA's kernels on numpy arrays, for tests: _core.cuda_ops, which is there only where the backend
// is built.
#include "bindings/cuda_ops.h"

#include "base/matrix.h"
#include "bindings/bindings.h"

namespace motet {

void BindCudaOps(pybind11::module_& m) {
  pybind11::module_ ops = m.def_submodule("cuda_ops");
#ifdef MOTET_CUDA_EMULATED
  ops.attr("emulated") = true;
#else
  ops.attr("emulated") = false;
#endif
  pybind11::enum_<WeightFormat>(ops, "WeightFormat")
      .value("BF16", WeightFormat::kBf16)
      .value("MXFP4", WeightFormat::kMxfp4)
      .value("INT8", WeightFormat::kInt8);
  BindCudaAttention(ops);
  BindCudaDense(ops);
  BindCudaEmbed(ops);
  BindCudaMoe(ops);
  BindCudaMxfp4(ops);
  BindCudaNorm(ops);
  BindCudaRoute(ops);
  BindCudaSample(ops);
}

}  // namespace motet
