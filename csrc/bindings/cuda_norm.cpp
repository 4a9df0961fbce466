#include "bindings/cuda_ops.h"
#include "cuda/kernels/norm.h"

namespace py = pybind11;

namespace motet {
namespace {

py::tuple RmsNorm(const Array<float>& x, const Array<uint16_t>& weight, float eps, bool split,
                  const Array<int32_t>& rows) {
  Expect(x.ndim() == 2 && weight.ndim() == 1 && weight.size() == x.shape(1),
         "x [tokens, size], weight [size]");
  const cuda::OwnedStream stream;
  const OnDevice<float> device_x(x, stream);
  const OnDevice<uint16_t> device_weight(weight, stream);
  const OnDevice<int32_t> device_rows(rows, stream);
  const int64_t size = x.shape(1), n = rows.size() ? rows.size() : x.shape(0);
  const auto format = split ? cuda::RowFormat::kSplit : cuda::RowFormat::kF16;
  const OnDevice<uint16_t> out(cuda::RowsBytes(format, n, size) / 2, stream);
  const cuda::Rows out_rows = cuda::RowsIn(out.data(), format, n, size);
  cuda::RmsNorm({static_cast<int>(n), rows.size() ? device_rows.data() : nullptr, device_x.data(),
                 device_weight.data(), size, eps, out_rows},
                stream);
  const Array<uint16_t> all = out.Host({split ? 2 : 1, n, out_rows.stride});
  return py::make_tuple(all[py::int_(0)], split ? py::object(all[py::int_(1)]) : py::none());
}

}  // namespace

void BindCudaNorm(py::module_& m) {
  using namespace py::literals;
  m.def("rms_norm", &RmsNorm, "x"_a, "weight"_a, "eps"_a, "split"_a, "rows"_a = Array<int32_t>(0),
        "Rows as csrc/cuda/rows.h has them: (high, low or None), bit patterns of 16 bits.");
}

}  // namespace motet
