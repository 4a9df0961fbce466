#include "bindings/cuda_ops.h"
#include "cuda/kernels/pack_mxfp4.h"

namespace py = pybind11;

namespace motet {
namespace {

Array<uint8_t> Pack(const Array<uint8_t>& blocks, const Array<uint8_t>& scales) {
  Expect(blocks.ndim() == 4 && blocks.shape(3) == kMxfp4BlockBytes && scales.ndim() == 3 &&
             scales.size() * kMxfp4BlockBytes == blocks.size(),
         "blocks [count, rows, columns/32, 16], scales [count, rows, columns/32]");
  const int64_t count = blocks.shape(0), rows = blocks.shape(1);
  const int64_t columns = blocks.shape(2) * kMxfp4BlockSize;
  const cuda::OwnedStream stream;
  const OnDevice<uint8_t> device_blocks(blocks, stream), device_scales(scales, stream);
  const int64_t bytes = cuda::PackedBytes(WeightFormat::kMxfp4, rows, columns);
  const OnDevice<uint8_t> out(count * bytes, stream);
  cuda::PackMxfp4({device_blocks.data(), device_scales.data(), count, rows, columns, out.data()},
                  stream);
  return out.Host({count, bytes});
}

Array<float> Unpack(const Array<uint8_t>& packed, int64_t rows, int64_t columns) {
  Expect(packed.size() == cuda::PackedBytes(WeightFormat::kMxfp4, rows, columns),
         "one packed matrix");
  Array<float> out({rows, columns});
  cuda::UnpackMxfp4(packed.data(), rows, columns, out.mutable_data());
  return out;
}

}  // namespace

void BindCudaMxfp4(py::module_& m) {
  using namespace py::literals;
  m.def("pack_mxfp4", &Pack, "blocks"_a, "scales"_a);
  m.def("unpack_mxfp4", &Unpack, "packed"_a, "rows"_a, "columns"_a, "On the host.");
}

}  // namespace motet
