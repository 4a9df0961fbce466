// Norm, rotary embedding and SwiGLU. Sums run over eight lanes, then the rest.
#include "cpu/kernels/exp.inl"

namespace motet {
namespace {

void RmsNorm(const RmsNormArgs& a) {
  Vec squares = Set(0);
  int64_t i = 0;
  for (; i + 8 <= a.size; i += 8) {
    const Vec v = Load(a.x + i);
    squares = MulAdd(v, v, squares);
  }
  float sum = ReduceAdd(squares);
  for (; i < a.size; ++i) sum += a.x[i] * a.x[i];
  const float factor = 1.0f / __builtin_sqrtf(sum / static_cast<float>(a.size) + a.eps);
  for (i = 0; i + 8 <= a.size; i += 8) {
    Store(a.out + i, Mul(Mul(Load(a.x + i), Set(factor)), LoadBf16(a.weight + i)));
  }
  for (; i < a.size; ++i) a.out[i] = a.x[i] * factor * Bf16ToFloat(a.weight[i]);
}

void Rope(const RopeArgs& a) {
  const int64_t half = a.head_dim / 2;
  for (int64_t h = 0; h < a.heads; ++h) {
    float* first = a.x + h * a.head_dim;
    float* second = first + half;
    for (int64_t i = 0; i < half; ++i) {
      const float x = first[i], y = second[i];
      first[i] = x * a.cos[i] - y * a.sin[i];
      second[i] = y * a.cos[i] + x * a.sin[i];
    }
  }
}

inline Vec SwigluLanes(Vec gate, Vec up, float limit) {
  gate = Min(gate, Set(limit));
  up = Max(Min(up, Set(limit)), Set(-limit));
  const Vec sigmoid = Div(Set(1), Add(Set(1), Exp(Mul(gate, Set(-1.702f)))));
  return Mul(Mul(Add(up, Set(1)), gate), sigmoid);
}

void Swiglu(const SwigluArgs& a) {
  for (int64_t i = 0; i < a.size; i += 8) {
    const int n = a.size - i < 8 ? static_cast<int>(a.size - i) : 8;
    float gate[8] = {}, up[8] = {}, out[8];
    for (int j = 0; j < n; ++j) {
      gate[j] = a.gate_up[2 * (i + j)];
      up[j] = a.gate_up[2 * (i + j) + 1];
    }
    Store(out, SwigluLanes(Load(gate), Load(up), a.limit));
    for (int j = 0; j < n; ++j) a.out[i + j] = out[j];
  }
}

}  // namespace
}  // namespace motet
