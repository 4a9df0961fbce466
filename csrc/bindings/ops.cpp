// Each kernel on numpy arrays, for tests and benchmarks: one thread, the instruction set named.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>

#include "base/f16.h"
#include "base/mxfp4.h"
#include "bindings/bindings.h"
#include "cpu/append_kv.h"
#include "cpu/backend.h"
#include "cpu/isa.h"
#include "cpu/pack_int8.h"
#include "model/config.h"
#include "ops/kv_page.h"

namespace py = pybind11;

namespace motet {
namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Bits = py::array_t<uint16_t, py::array::c_style>;
using Bytes = py::array_t<uint8_t, py::array::c_style>;
using Ints = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;

const KernelTable& Table(const std::string& isa) {
  for (const KernelTable* table : RunnableKernels()) {
    if (isa == table->name) return *table;
  }
  throw std::invalid_argument("isa: expected one of isas(), found '" + isa + "'");
}

void Expect(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(std::string("expected ") + what);
}

Floats MatmulRows(const KernelTable& table, const WeightMatrix& w, const Floats& x,
                  const std::optional<Bits>& bias) {
  Expect(x.ndim() == 2 && x.shape(1) == w.cols, "x [tokens, cols]");
  Expect(!bias || bias->size() == w.rows, "bias [rows]");
  const int tokens = static_cast<int>(x.shape(0));
  Floats out({static_cast<py::ssize_t>(tokens), static_cast<py::ssize_t>(w.rows)});
  const MatmulArgs args{w,
                        bias ? bias->data() : nullptr,
                        0,
                        w.rows,
                        tokens,
                        x.data(),
                        w.cols,
                        nullptr,
                        out.mutable_data(),
                        w.rows};
  const py::gil_scoped_release release;
  table.matmul(args);
  return out;
}

WeightMatrix Bf16Matrix(const Bits& weight) {
  Expect(weight.ndim() == 2, "weight [rows, cols]");
  return {WeightFormat::kBf16, reinterpret_cast<const uint8_t*>(weight.data()), nullptr,
          weight.shape(0), weight.shape(1)};
}

Floats MatmulBf16(const std::string& isa, const Floats& x, const Bits& weight,
                  const std::optional<Bits>& bias) {
  return MatmulRows(Table(isa), Bf16Matrix(weight), x, bias);
}

WeightMatrix Mxfp4Matrix(const Bytes& blocks, const Bytes& scales) {
  Expect(blocks.ndim() == 3 && blocks.shape(2) == kMxfp4BlockBytes, "blocks [rows, cols/32, 16]");
  Expect(scales.ndim() == 2 && scales.shape(0) == blocks.shape(0) &&
             scales.shape(1) == blocks.shape(1),
         "scales [rows, cols/32]");
  return {WeightFormat::kMxfp4, blocks.data(), scales.data(), blocks.shape(0),
          blocks.shape(1) * kMxfp4BlockSize};
}

Floats MatmulMxfp4(const std::string& isa, const Floats& x, const Bytes& blocks,
                   const Bytes& scales, const std::optional<Bits>& bias) {
  return MatmulRows(Table(isa), Mxfp4Matrix(blocks, scales), x, bias);
}

// Turns x into integers of a precision and multiplies.
Floats FixedRowsOf(const KernelTable& table, Precision precision, const WeightMatrix& w,
                   const Floats& x, const std::optional<Bits>& bias) {
  Expect(x.ndim() == 2 && x.shape(1) == w.cols, "x [tokens, cols]");
  Expect(!bias || bias->size() == w.rows, "bias [rows]");
  const bool int8 = precision == Precision::kInt8;
  const int64_t tokens = x.shape(0);
  FixedBuffer buffer(precision, tokens, w.cols);
  Floats out({static_cast<py::ssize_t>(tokens), static_cast<py::ssize_t>(w.rows)});
  const FixedMatmulArgs args{w,
                             bias ? bias->data() : nullptr,
                             0,
                             w.rows,
                             static_cast<int>(tokens),
                             buffer.Row(0, w.cols),
                             nullptr,
                             out.mutable_data(),
                             w.rows};
  const float* data = x.data();
  const py::gil_scoped_release release;
  for (int64_t t = 0; t < tokens; ++t) {
    const QuantizeArgs row{data + t * w.cols, w.cols, w.format, buffer.Row(t, w.cols)};
    int8 ? table.quantize_int8(row) : table.quantize_fixed(row);
  }
  int8 ? table.matmul_int8(args) : table.matmul_fixed(args);
  return out;
}

Floats MatmulFixedMxfp4(const std::string& isa, const Floats& x, const Bytes& blocks,
                        const Bytes& scales, const std::optional<Bits>& bias) {
  return FixedRowsOf(Table(isa), Precision::kExact, Mxfp4Matrix(blocks, scales), x, bias);
}

Floats MatmulInt8Mxfp4(const std::string& isa, const Floats& x, const Bytes& blocks,
                       const Bytes& scales, const std::optional<Bits>& bias) {
  return FixedRowsOf(Table(isa), Precision::kInt8, Mxfp4Matrix(blocks, scales), x, bias);
}

// bf16 weights as int8 mode packs them.
class Int8Weights {
 public:
  explicit Int8Weights(const Bits& weight) {
    Expect(weight.ndim() == 2, "weight [rows, cols]");
    matrix_ = {WeightFormat::kInt8, nullptr, nullptr, weight.shape(0), weight.shape(1)};
    memory_ = LargeBuffer(matrix_.DataBytes() + matrix_.ScaleBytes(), "weights");
    matrix_.data = memory_.data();
    matrix_.scales = memory_.data() + matrix_.DataBytes();
    const int64_t blocks = matrix_.ScaleCols();
    for (int64_t r = 0; r < matrix_.rows; r += kInt8Rows) {
      const int64_t first = r / kInt8Rows * blocks;
      PackInt8(
          weight.data() + r * matrix_.cols, std::min<int64_t>(kInt8Rows, matrix_.rows - r),
          matrix_.cols, memory_.data() + first * kInt8BlockBytes,
          reinterpret_cast<uint16_t*>(memory_.data() + matrix_.DataBytes()) + first * kInt8Rows);
    }
  }
  const WeightMatrix& matrix() const { return matrix_; }

 private:
  WeightMatrix matrix_;
  LargeBuffer memory_;
};

Floats MatmulInt8(const std::string& isa, const Floats& x, const Int8Weights& weight,
                  const std::optional<Bits>& bias) {
  return FixedRowsOf(Table(isa), Precision::kInt8, weight.matrix(), x, bias);
}

// `scales` are those of the weights as integers, see base/fixed.h.
Floats MatmulFixedBf16(const std::string& isa, const Floats& x, const Bits& weight,
                       const Bytes& scales, const std::optional<Bits>& bias) {
  WeightMatrix w = Bf16Matrix(weight);
  Expect(scales.ndim() == 2 && scales.shape(0) == w.rows && scales.shape(1) == w.ScaleCols(),
         "scales [rows, ceil(cols/32)]");
  w.scales = scales.data();
  return FixedRowsOf(Table(isa), Precision::kExact, w, x, bias);
}

Floats RmsNorm(const std::string& isa, const Floats& x, const Bits& weight, float eps) {
  Expect(x.ndim() == 1 && x.size() == weight.size(), "x [size] and weight [size]");
  Floats out(x.size());
  Table(isa).rms_norm({x.data(), weight.data(), x.size(), eps, out.mutable_data()});
  return out;
}

Floats Rope(const std::string& isa, const Floats& x, const Floats& cos, const Floats& sin) {
  Expect(x.ndim() == 2 && cos.size() * 2 == x.shape(1) && sin.size() == cos.size(),
         "x [heads, head_dim], cos and sin [head_dim/2]");
  Floats out({x.shape(0), x.shape(1)}, x.data());
  Table(isa).rope({out.mutable_data(), cos.data(), sin.data(), x.shape(0), x.shape(1)});
  return out;
}

Floats Swiglu(const std::string& isa, const Floats& gate_up, float limit) {
  Expect(gate_up.ndim() == 1 && gate_up.size() % 2 == 0, "gate_up [2 * size]");
  Floats out(gate_up.size() / 2);
  Table(isa).swiglu({gate_up.data(), out.mutable_data(), out.size(), limit});
  return out;
}

// The arguments of attention but the cache.
struct AttentionCall {
  Floats q;  // [heads, head_dim]
  Ints pages;
  Bits sinks;  // [heads]
  int64_t first, last;
  float scale;

  // Over a cache of `count` pages of `stride` bytes.
  Floats Run(void (*attention)(const AttentionArgs&), const void* keys, const void* values,
             int64_t count, int64_t stride) const {
    Expect(sinks.size() == q.shape(0), "sinks [heads]");
    Expect(first >= 0 && first <= last && last / kPageTokens < pages.size(), "0 <= first <= last");
    for (int64_t p = first / kPageTokens; p <= last / kPageTokens; ++p) {
      Expect(pages.at(p) >= 0 && pages.at(p) < count, "pages inside the cache");
    }
    Floats out({q.shape(0), q.shape(1)});
    attention({q.data(), keys, values, stride, pages.data(), first, last, sinks.data(), q.shape(0),
               q.shape(1), scale, out.mutable_data()});
    return out;
  }
};

int64_t HeadDim(const Floats& q) {
  Expect(q.ndim() == 2 && q.shape(1) % 8 == 0 && q.shape(1) <= kMaxHeadDim,
         "q [heads, head_dim], head_dim a multiple of 8 up to 256");
  return q.shape(1);
}

// Element is uint16_t (half precision) or float.
template <class Element>
Floats Attention(const std::string& isa, const Floats& q,
                 const py::array_t<Element, py::array::c_style>& keys,
                 const py::array_t<Element, py::array::c_style>& values, const Ints& pages,
                 const Bits& sinks, int64_t first, int64_t last, float scale) {
  const int64_t dim = HeadDim(q);
  Expect(keys.ndim() == 3 && keys.shape(1) == dim && keys.shape(2) == kPageTokens,
         "keys [pages, head_dim, 32]");
  Expect(values.ndim() == 3 && values.shape(0) == keys.shape(0) && values.shape(1) == kPageTokens &&
             values.shape(2) == dim,
         "values [pages, 32, head_dim]");
  const KernelTable& table = Table(isa);
  return AttentionCall{q, pages, sinks, first, last, scale}.Run(
      sizeof(Element) == 2 ? table.attention_f16 : table.attention_f32, keys.data(), values.data(),
      keys.shape(0), dim * kPageTokens * static_cast<int64_t>(sizeof(Element)));
}

Floats AttentionInt8(const std::string& isa, const Floats& q, const Bytes& keys,
                     const Bytes& values, const Ints& pages, const Bits& sinks, int64_t first,
                     int64_t last, float scale) {
  const int64_t bytes = KvHeadBytes(HeadDim(q), KvDtype::kInt8);
  Expect(keys.ndim() == 2 && keys.shape(1) == bytes && values.ndim() == 2 &&
             values.shape(0) == keys.shape(0) && values.shape(1) == bytes,
         "keys and values [pages, head_dim * 32 + 128]");
  return AttentionCall{q, pages, sinks, first, last, scale}.Run(
      Table(isa).attention_int8, keys.data(), values.data(), keys.shape(0), bytes);
}

// Tokens [tokens, head_dim] appended to an empty int8 cache: its pages of keys and of values.
std::pair<Bytes, Bytes> AppendInt8(const Floats& k, const Floats& v) {
  Expect(k.ndim() == 2 && v.ndim() == 2 && k.shape(0) == v.shape(0) && k.shape(1) == v.shape(1),
         "k and v [tokens, head_dim]");
  const int64_t tokens = k.shape(0), dim = k.shape(1);
  const int64_t pages = (tokens + kPageTokens - 1) / kPageTokens;
  const int64_t bytes = KvHeadBytes(dim, KvDtype::kInt8);
  Bytes keys({pages, bytes}), values({pages, bytes});
  std::fill_n(keys.mutable_data(), keys.size(), uint8_t{0});
  std::fill_n(values.mutable_data(), values.size(), uint8_t{0});
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t at = t / kPageTokens * bytes;
    AppendKv(KvDtype::kInt8, {k.data() + t * dim, v.data() + t * dim, dim, t % kPageTokens,
                              keys.mutable_data() + at, values.mutable_data() + at});
  }
  return {keys, values};
}

Bits F16Bits(const Floats& x) {
  Bits out(x.size());
  std::transform(x.data(), x.data() + x.size(), out.mutable_data(), FloatToF16);
  return out;
}

std::pair<std::vector<double>, double> Rotary(const ModelConfig& config) {
  RopeTable table = MakeRopeTable(config);
  return {std::move(table.frequencies), table.scale};
}

}  // namespace

void BindOps(py::module_& m) {
  using namespace py::literals;
  py::module_ ops = m.def_submodule("ops", "Single kernels on numpy arrays, for tests and bench.");
  ops.def("matmul_bf16", &MatmulBf16, "isa"_a, "x"_a, "weight"_a, "bias"_a = py::none());
  ops.def("matmul_mxfp4", &MatmulMxfp4, "isa"_a, "x"_a, "blocks"_a, "scales"_a,
          "bias"_a = py::none());
  ops.def("matmul_fixed_bf16", &MatmulFixedBf16, "isa"_a, "x"_a, "weight"_a, "scales"_a,
          "bias"_a = py::none());
  ops.def("matmul_fixed_mxfp4", &MatmulFixedMxfp4, "isa"_a, "x"_a, "blocks"_a, "scales"_a,
          "bias"_a = py::none());
  py::class_<Int8Weights>(ops, "Int8Weights").def(py::init<const Bits&>(), "weight"_a);
  ops.def("matmul_int8", &MatmulInt8, "isa"_a, "x"_a, "weight"_a, "bias"_a = py::none());
  ops.def("matmul_int8_mxfp4", &MatmulInt8Mxfp4, "isa"_a, "x"_a, "blocks"_a, "scales"_a,
          "bias"_a = py::none());
  ops.def("rms_norm", &RmsNorm, "isa"_a, "x"_a, "weight"_a, "eps"_a);
  ops.def("rope", &Rope, "isa"_a, "x"_a, "cos"_a, "sin"_a);
  ops.def("swiglu", &Swiglu, "isa"_a, "gate_up"_a, "limit"_a);
  ops.def("attention_f16", &Attention<uint16_t>, "isa"_a, "q"_a, "keys"_a, "values"_a, "pages"_a,
          "sinks"_a, "first"_a, "last"_a, "scale"_a);
  ops.def("attention_f32", &Attention<float>, "isa"_a, "q"_a, "keys"_a, "values"_a, "pages"_a,
          "sinks"_a, "first"_a, "last"_a, "scale"_a);
  ops.def("attention_int8", &AttentionInt8, "isa"_a, "q"_a, "keys"_a, "values"_a, "pages"_a,
          "sinks"_a, "first"_a, "last"_a, "scale"_a);
  ops.def("append_int8", &AppendInt8, "k"_a, "v"_a,
          "Pages (keys, values) of an int8 KV cache to which tokens were appended.");
  ops.def("f16_bits", &F16Bits, "x"_a, "Half precision as the KV cache keeps it.");
  ops.def("rope_table", &Rotary, "config"_a,
          "(radians a position of each pair [head_dim/2], factor of cos and sin).");
}

}  // namespace motet
