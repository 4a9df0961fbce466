#include "bindings/cuda_ops.h"
#include "cuda/kernels/norm.h"

namespace py = pybind11;

namespace motet {
namespace {

Array<uint16_t> RmsNorm(const Array<float>& x, const Array<uint16_t>& weight, float eps,
                        const Array<int32_t>& rows) {
  Expect(x.ndim() == 2 && weight.ndim() == 1 && weight.size() == x.shape(1),
         "x [tokens, size], weight [size]");
  const cuda::OwnedStream stream;
  const OnDevice<float> device_x(x, stream);
  const OnDevice<uint16_t> device_weight(weight, stream);
  const OnDevice<int32_t> device_rows(rows, stream);
  const int64_t size = x.shape(1), n = rows.size() ? rows.size() : x.shape(0);
  const OnDevice<uint16_t> out(cuda::RowsBytes(n, size) / 2, stream);
  const cuda::Rows out_rows = cuda::RowsIn(out.data(), size);
  cuda::RmsNorm({static_cast<int>(n), rows.size() ? device_rows.data() : nullptr, device_x.data(),
                 device_weight.data(), size, eps, out_rows},
                stream);
  return out.Host({n, out_rows.stride});
}

}  // namespace

void BindCudaNorm(py::module_& m) {
  using namespace py::literals;
  m.def("rms_norm", &RmsNorm, "x"_a, "weight"_a, "eps"_a, "rows"_a = Array<int32_t>(0),
        "Rows as csrc/cuda/rows.h has them, bit patterns.");
}

}  // namespace motet
