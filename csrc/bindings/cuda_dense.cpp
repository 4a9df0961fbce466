#include <pybind11/stl.h>

#include "base/page.h"
#include "bindings/cuda_ops.h"
#include "cuda/kernels/dense.h"
#include "cuda/kernels/pack.h"

namespace py = pybind11;

namespace motet {
namespace {

using Bits = Array<uint16_t>;

// Matrices of a format in one piece of memory.
class PackedOnDevice {
 public:
  PackedOnDevice(const std::vector<Bits>& weights, const std::vector<int64_t>& rope_head_dims,
                 WeightFormat format, cuda::Stream stream)
      : packed_(TotalBytes(weights, format), stream) {
    uint8_t* next = packed_.data();
    for (size_t i = 0; i < weights.size(); ++i) {
      const int64_t rows = weights[i].shape(0), cols = weights[i].shape(1);
      const OnDevice<uint16_t> weight(weights[i], stream);
      const auto order = rope_head_dims[i] ? cuda::RowOrder::kRope : cuda::RowOrder::kPlain;
      cuda::Pack({weight.data(), rows, cols, order, rope_head_dims[i], format, next}, stream);
      cuda::Synchronize(stream);
      matrices_.push_back({format, next, nullptr, rows, cols});
      next += cuda::PackedBytes(format, rows, cols);
    }
  }
  PackedOnDevice(const Bits& weight, WeightFormat format, cuda::Stream stream)
      : PackedOnDevice({weight}, {0}, format, stream) {}

  Array<uint8_t> Host() const {
    const WeightMatrix& m = matrices_[0];
    return packed_.Host({cuda::PackedBytes(m.format, m.rows, m.cols)});
  }
  const WeightMatrix& Matrix(size_t i = 0) const { return matrices_[i]; }

 private:
  static int64_t TotalBytes(const std::vector<Bits>& weights, WeightFormat format) {
    int64_t bytes = 0;
    for (const Bits& w : weights) bytes += cuda::PackedBytes(format, w.shape(0), w.shape(1));
    return bytes;
  }

  OnDevice<uint8_t> packed_;
  std::vector<WeightMatrix> matrices_;
};

// Rows as csrc/cuda/rows.h has them: [tokens, stride].
class RowsOnDevice {
 public:
  RowsOnDevice(const Bits& rows, int64_t size, cuda::Stream stream)
      : size_(size), rows_(rows, stream) {
    Expect(rows.ndim() == 2 && rows.shape(1) == cuda::PaddedColumns(size),
           "rows [tokens, columns padded to a step]");
    n_ = static_cast<int>(rows.shape(0));
  }

  int n() const { return n_; }
  cuda::Rows Rows() const { return cuda::RowsIn(rows_.data(), size_); }

 private:
  int64_t size_;
  int n_;
  OnDevice<uint16_t> rows_;
};

Array<uint8_t> Pack(const Bits& weight, WeightFormat format, int64_t rope_head_dim) {
  const cuda::OwnedStream stream;
  return PackedOnDevice({weight}, {rope_head_dim}, format, stream).Host();
}

py::tuple Qkv(const Bits& rows, const std::vector<Bits>& weights, const std::vector<Bits>& biases,
              int64_t head_dim, const Array<float>& cos, const Array<float>& sin,
              const Array<int32_t>& positions, const Array<int32_t>& slots,
              const Array<int32_t>& page_table, int64_t pages, WeightFormat format, bool append,
              cuda::DenseShape shape) {
  Expect(weights.size() == 3 && biases.size() == 3, "q, k and v");
  const cuda::OwnedStream stream;
  const RowsOnDevice in(rows, weights[0].shape(1), stream);
  const PackedOnDevice packed(weights, {head_dim, head_dim, 0}, format, stream);
  const OnDevice<uint16_t> q_bias(biases[0], stream), k_bias(biases[1], stream),
      v_bias(biases[2], stream);
  const OnDevice<float> device_cos(cos, stream), device_sin(sin, stream);
  const OnDevice<int32_t> device_positions(positions, stream), device_slots(slots, stream),
      device_table(page_table, stream);
  const int64_t heads = weights[0].shape(0) / head_dim, kv_heads = weights[1].shape(0) / head_dim;
  const int64_t cache_size = pages * kv_heads * kPageTokens * head_dim;
  const OnDevice<uint16_t> out_q(in.n() * heads * head_dim, stream), keys(cache_size, stream),
      values(cache_size, stream);
  const OnDevice<float> kv(in.n() * 2 * kv_heads * head_dim, stream);
  cuda::Qkv({in.n(),
             in.Rows(),
             heads,
             kv_heads,
             head_dim,
             packed.Matrix(0),
             packed.Matrix(1),
             packed.Matrix(2),
             q_bias.data(),
             k_bias.data(),
             v_bias.data(),
             device_cos.data(),
             device_sin.data(),
             device_positions.data(),
             device_slots.data(),
             device_table.data(),
             page_table.shape(1),
             out_q.data(),
             keys.data(),
             values.data(),
             append ? nullptr : kv.data(),
             shape},
            stream);
  const std::vector<py::ssize_t> cache = {pages, kv_heads, kPageTokens, head_dim};
  return py::make_tuple(out_q.Host({in.n(), heads, head_dim}), keys.Host(cache), values.Host(cache),
                        kv.Host({in.n(), 2, kv_heads, head_dim}));
}

Array<float> OutProj(const Array<float>& x, const Bits& rows, const Bits& weight, const Bits& bias,
                     WeightFormat format, cuda::DenseShape shape) {
  const cuda::OwnedStream stream;
  const RowsOnDevice in(rows, weight.shape(1), stream);
  const PackedOnDevice packed(weight, format, stream);
  const OnDevice<uint16_t> device_bias(bias, stream);
  const OnDevice<float> out(x, stream);
  cuda::OutProj({in.n(), in.Rows(), packed.Matrix(), device_bias.data(), out.data(), shape},
                stream);
  return out.Host({in.n(), weight.shape(0)});
}

Array<float> LmHead(const Bits& rows, const Bits& weight, WeightFormat format,
                    cuda::DenseShape shape) {
  const cuda::OwnedStream stream;
  const RowsOnDevice in(rows, weight.shape(1), stream);
  const PackedOnDevice packed(weight, format, stream);
  const OnDevice<float> out(in.n() * weight.shape(0), stream);
  cuda::LmHead({in.n(), in.Rows(), packed.Matrix(), out.data(), shape}, stream);
  return out.Host({in.n(), weight.shape(0)});
}

}  // namespace

void BindCudaDense(py::module_& m) {
  using namespace py::literals;
  using cuda::DenseShape;
  py::enum_<DenseShape>(m, "DenseShape")
      .value("AUTO", DenseShape::kAuto)
      .value("ROWS_16_TOKENS_8", DenseShape::k16x8)
      .value("ROWS_32_TOKENS_32", DenseShape::k32x32)
      .value("ROWS_64_TOKENS_64", DenseShape::k64x64)
      .value("ROWS_128_TOKENS_128", DenseShape::k128x128)
      .value("WIDE_ROWS_128_TOKENS_64", DenseShape::kWide128x64);
  m.def("pack", &Pack, "weight"_a, "format"_a, "rope_head_dim"_a = 0,
        "The bytes of csrc/cuda/kernels/pack.h; in the order for RoPE if a head size is given.");
  m.def("dense_qkv", &Qkv, "rows"_a, "weights"_a, "biases"_a, "head_dim"_a, "cos"_a, "sin"_a,
        "positions"_a, "slots"_a, "page_table"_a, "pages"_a, "format"_a, "append"_a = true,
        "shape"_a = DenseShape::kAuto,
        "q, keys and values, bit patterns of half precision; what is left to be appended, floats.");
  m.def("dense_out_proj", &OutProj, "x"_a, "rows"_a, "weight"_a, "bias"_a, "format"_a,
        "shape"_a = DenseShape::kAuto);
  m.def("dense_lm_head", &LmHead, "rows"_a, "weight"_a, "format"_a, "shape"_a = DenseShape::kAuto);
}

}  // namespace motet
