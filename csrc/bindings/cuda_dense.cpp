#include <pybind11/stl.h>

#include "base/page.h"
#include "bindings/cuda_ops.h"
#include "cuda/kernels/dense.h"
#include "cuda/kernels/pack.h"

namespace py = pybind11;

namespace motet {
namespace {

class PackedOnDevice {
 public:
  PackedOnDevice(const Array<uint16_t>& weight, int64_t rope_head_dim, cuda::Stream stream)
      : rows_(weight.shape(0)),
        cols_(weight.shape(1)),
        packed_(cuda::PackedBytes(WeightFormat::kBf16, rows_, cols_), stream) {
    const OnDevice<uint16_t> device_weight(weight, stream);
    const auto order = rope_head_dim ? cuda::RowOrder::kRope : cuda::RowOrder::kPlain;
    cuda::PackBf16({device_weight.data(), rows_, cols_, order, rope_head_dim, packed_.data()},
                   stream);
    cuda::Synchronize(stream);
  }

  Array<uint8_t> Host() const {
    return packed_.Host({cuda::PackedBytes(WeightFormat::kBf16, rows_, cols_)});
  }
  WeightMatrix Matrix() const {
    return {WeightFormat::kBf16, packed_.data(), nullptr, rows_, cols_};
  }

 private:
  int64_t rows_, cols_;
  OnDevice<uint8_t> packed_;
};

// Rows of kSplit.
class SplitOnDevice {
 public:
  SplitOnDevice(const Array<uint16_t>& high, const Array<uint16_t>& low, int64_t size,
                cuda::Stream stream)
      : n_(high.shape(0)), stride_(high.shape(1)), high_(high, stream), low_(low, stream) {
    Expect(stride_ == cuda::PaddedColumns(size) && low.size() == high.size(),
           "high and low [tokens, columns padded to a step]");
  }

  int n() const { return static_cast<int>(n_); }
  cuda::Rows Rows() const { return {cuda::RowFormat::kSplit, high_.data(), low_.data(), stride_}; }

 private:
  int64_t n_, stride_;
  OnDevice<uint16_t> high_, low_;
};

Array<uint8_t> PackBf16(const Array<uint16_t>& weight, int64_t rope_head_dim) {
  const cuda::OwnedStream stream;
  return PackedOnDevice(weight, rope_head_dim, stream).Host();
}

py::tuple Qkv(const Array<uint16_t>& high, const Array<uint16_t>& low,
              const std::vector<Array<uint16_t>>& weights,
              const std::vector<Array<uint16_t>>& biases, int64_t head_dim, const Array<float>& cos,
              const Array<float>& sin, const Array<int32_t>& positions, const Array<int32_t>& slots,
              const Array<int32_t>& page_table, int64_t pages, bool append,
              cuda::DenseShape shape) {
  Expect(weights.size() == 3 && biases.size() == 3, "q, k and v");
  const cuda::OwnedStream stream;
  const SplitOnDevice in(high, low, weights[0].shape(1), stream);
  const PackedOnDevice q(weights[0], head_dim, stream), k(weights[1], head_dim, stream),
      v(weights[2], 0, stream);
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
             q.Matrix(),
             k.Matrix(),
             v.Matrix(),
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

Array<float> OutProj(const Array<float>& x, const Array<uint16_t>& high, const Array<uint16_t>& low,
                     const Array<uint16_t>& weight, const Array<uint16_t>& bias,
                     cuda::DenseShape shape) {
  const cuda::OwnedStream stream;
  const SplitOnDevice in(high, low, weight.shape(1), stream);
  const PackedOnDevice packed(weight, 0, stream);
  const OnDevice<uint16_t> device_bias(bias, stream);
  const OnDevice<float> out(x, stream);
  cuda::OutProj({in.n(), in.Rows(), packed.Matrix(), device_bias.data(), out.data(), shape},
                stream);
  return out.Host({in.n(), weight.shape(0)});
}

Array<float> LmHead(const Array<uint16_t>& high, const Array<uint16_t>& low,
                    const Array<uint16_t>& weight, cuda::DenseShape shape) {
  const cuda::OwnedStream stream;
  const SplitOnDevice in(high, low, weight.shape(1), stream);
  const PackedOnDevice packed(weight, 0, stream);
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
      .value("ROWS_64_TOKENS_32", DenseShape::k64x32)
      .value("ROWS_128_TOKENS_64", DenseShape::k128x64)
      .value("ROWS_256_TOKENS_64", DenseShape::k256x64);
  m.def("pack_bf16", &PackBf16, "weight"_a, "rope_head_dim"_a = 0,
        "The bytes of csrc/cuda/kernels/pack.h; in the order for RoPE if a head size is given.");
  m.def("dense_qkv", &Qkv, "high"_a, "low"_a, "weights"_a, "biases"_a, "head_dim"_a, "cos"_a,
        "sin"_a, "positions"_a, "slots"_a, "page_table"_a, "pages"_a, "append"_a = true,
        "shape"_a = DenseShape::kAuto,
        "q, keys and values, bit patterns of half precision; what is left to be appended, floats.");
  m.def("dense_out_proj", &OutProj, "x"_a, "high"_a, "low"_a, "weight"_a, "bias"_a,
        "shape"_a = DenseShape::kAuto);
  m.def("dense_lm_head", &LmHead, "high"_a, "low"_a, "weight"_a, "shape"_a = DenseShape::kAuto);
}

}  // namespace motet
