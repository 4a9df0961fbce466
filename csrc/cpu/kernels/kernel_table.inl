// The table of what an instruction set's files have by these names.

namespace motet {
namespace {

constexpr KernelTable TableNamed(const char* name) {
  return {
      .name = name,
      .matmul = Matmul,
      .matmul_fixed = MatmulFixed,
      .quantize_fixed = QuantizeFixed,
      .matmul_int8 = MatmulInt8,
      .quantize_int8 = QuantizeInt8,
      .rms_norm = RmsNorm,
      .rope = Rope,
      .swiglu = Swiglu,
      .attention_f16 = Attention<uint16_t>,
      .attention_f32 = Attention<float>,
      .attention_int8 = Attention<int8_t>,
      .peak_fixed_dots = PeakDots<int16_t>,
      .peak_int8_dots = PeakDots<int8_t>,
  };
}

}  // namespace
}  // namespace motet
