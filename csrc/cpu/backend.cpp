#include "cpu/backend.h"

#include <cmath>
#include <cstring>

#include "base/bf16.h"
#include "cpu/append_kv.h"
#include "cpu/isa.h"
#include "ops/kv_page.h"

namespace motet {
namespace {

// Rows of one matmul task: enough work to hide the hand-over, few enough to balance the team.
constexpr int64_t kTaskRows = 32;

int64_t Tasks(int64_t rows) { return (rows + kTaskRows - 1) / kTaskRows; }

}  // namespace

CpuBackend::CpuBackend(const ModelConfig& config, Precision precision, KvDtype kv_dtype,
                       int threads, int64_t max_tokens, int64_t max_logit_rows)
    : config_(config),
      precision_(precision),
      kv_dtype_(ResolveKvDtype(kv_dtype, precision)),
      rope_(MakeRopeTable(config)),
      ws_(config, max_tokens, max_logit_rows),
      kernels_(SelectKernels()),
      matmul_fixed_(precision == Precision::kInt8 ? kernels_.matmul_int8 : kernels_.matmul_fixed),
      quantize_(precision == Precision::kInt8 ? kernels_.quantize_int8 : kernels_.quantize_fixed),
      pool_(threads),
      pair_of_choice_(max_tokens * config.experts_per_token),
      pair_token_(max_tokens * config.experts_per_token),
      expert_begin_(config.num_experts + 1),
      fixed_inputs_(precision, fixed() ? max_tokens : 0,
                    std::max(config.hidden_size, config.QuerySize())),
      fixed_activations_(precision, fixed() ? max_tokens * config.experts_per_token : 0,
                         config.intermediate_size),
      activations_(fixed() ? 0 : max_tokens * config.experts_per_token * config.intermediate_size) {
  used_experts_.reserve(config.num_experts);
}

std::span<const float> CpuBackend::Logits(int row) const {
  return {ws_.logits.data() + row * config_.vocab_size, static_cast<size_t>(config_.vocab_size)};
}

int64_t CpuBackend::bytes() const {
  return ws_.bytes() + fixed_inputs_.bytes() + fixed_activations_.bytes() +
         static_cast<int64_t>(activations_.size() * sizeof(float)) + dense_.size();
}

void CpuBackend::Quantize(const float* x, int64_t size, WeightFormat weights, int tokens) {
  pool_.ParallelFor(tokens, [&](int64_t t) {
    quantize_({x + t * size, size, weights, fixed_inputs_.Row(t, size)});
  });
}

template <int N>
void CpuBackend::Matmuls(const MatmulOp (&ops)[N], const float* x, int tokens) {
  const int64_t cols = ops[0].weight.cols;
  if (fixed()) Quantize(x, cols, ops[0].weight.format, tokens);
  const FixedRows fixed_x = fixed_inputs_.Row(0, cols);
  int64_t tasks = 0;
  for (const MatmulOp& op : ops) tasks += Tasks(op.weight.rows);
  pool_.ParallelFor(tasks, [&](int64_t task) {
    const MatmulOp* op = ops;
    while (task >= Tasks(op->weight.rows)) task -= Tasks((op++)->weight.rows);
    const int64_t begin = task * kTaskRows;
    const int64_t end = std::min(begin + kTaskRows, op->weight.rows);
    float* out = op->out + begin;
    if (fixed()) {
      matmul_fixed_(
          {op->weight, op->bias, begin, end, tokens, fixed_x, nullptr, out, op->weight.rows});
    } else {
      kernels_.matmul(
          {op->weight, op->bias, begin, end, tokens, x, cols, nullptr, out, op->weight.rows});
    }
  });
}

void CpuBackend::Norm(const float* x, Bf16Vector weight, float* out) {
  kernels_.rms_norm(
      {x, weight, config_.hidden_size, static_cast<float>(config_.rms_norm_eps), out});
}

void CpuBackend::CopyPages(const CopyPagesArgs& args) {
  const int64_t bytes = KvPageBytes(config_, kv_dtype_);
  for (const LayerCache& layer : args.layers) {
    for (const auto [from, to] : layer.window ? args.sliding : args.full) {
      for (void* cache : {layer.keys, layer.values}) {
        std::memcpy(static_cast<char*>(cache) + to * bytes,
                    static_cast<char*>(cache) + from * bytes, static_cast<size_t>(bytes));
      }
    }
  }
}

void CpuBackend::Embed(const EmbedArgs& args) {
  const int64_t hidden = config_.hidden_size;
  const auto* table = reinterpret_cast<const uint16_t*>(args.embedding.data);
  for (int t = 0; t < args.tokens.num_tokens; ++t) {
    const uint16_t* row = table + args.tokens.ids[t] * hidden;
    for (int64_t i = 0; i < hidden; ++i) ws_.x[t * hidden + i] = Bf16ToFloat(row[i]);
  }
}

void CpuBackend::Rotary(const RotaryArgs& args) {
  const int64_t half = config_.head_dim / 2;
  pool_.ParallelFor(args.tokens.num_tokens, [&](int64_t t) {
    for (int64_t i = 0; i < half; ++i) {
      // In double: a float angle at position 100000 is already off by 0.01.
      const double angle = args.tokens.positions[t] * rope_.frequencies[i];
      ws_.cos[t * half + i] = static_cast<float>(std::cos(angle) * rope_.scale);
      ws_.sin[t * half + i] = static_cast<float>(std::sin(angle) * rope_.scale);
    }
  });
}

void CpuBackend::Append(const QkvArgs& args, int64_t token) {
  const int64_t dim = config_.head_dim, heads = config_.num_kv_heads;
  const int64_t head_bytes = KvHeadBytes(dim, kv_dtype_);
  const int64_t position = args.tokens.positions[token];
  const int32_t page =
      args.cache.page_table[args.tokens.slots[token] * args.cache.pages_per_sequence +
                            position / kPageTokens];
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t at = (page * heads + h) * head_bytes, row = (token * heads + h) * dim;
    AppendKv(kv_dtype_, {ws_.k.data() + row, ws_.v.data() + row, dim, position % kPageTokens,
                         static_cast<char*>(args.cache.keys) + at,
                         static_cast<char*>(args.cache.values) + at});
  }
}

void CpuBackend::Qkv(const QkvArgs& args) {
  const LayerWeights& w = *args.layer;
  const int tokens = args.tokens.num_tokens;
  const int64_t hidden = config_.hidden_size, dim = config_.head_dim;
  float *q = ws_.q.data(), *k = ws_.k.data(), *v = ws_.v.data();
  pool_.ParallelFor(tokens, [&](int64_t t) {
    Norm(ws_.x.data() + t * hidden, w.input_norm, ws_.normed.data() + t * hidden);
  });
  Matmuls({{w.q_proj, w.q_bias, q}, {w.k_proj, w.k_bias, k}, {w.v_proj, w.v_bias, v}},
          ws_.normed.data(), tokens);
  pool_.ParallelFor(tokens, [&](int64_t t) {
    const float* cos = ws_.cos.data() + t * dim / 2;
    const float* sin = ws_.sin.data() + t * dim / 2;
    kernels_.rope({q + t * config_.QuerySize(), cos, sin, config_.num_heads, dim});
    kernels_.rope({k + t * config_.KvSize(), cos, sin, config_.num_kv_heads, dim});
    Append(args, t);
  });
}

void CpuBackend::Attention(const AttentionOpArgs& args) {
  const int64_t dim = config_.head_dim, kv_heads = config_.num_kv_heads;
  const int64_t group = config_.HeadsPerKvHead();
  const int64_t head_bytes = KvHeadBytes(dim, kv_dtype_);
  const int64_t page_bytes = KvPageBytes(config_, kv_dtype_);
  const auto attention = kv_dtype_ == KvDtype::kInt8  ? kernels_.attention_int8
                         : kv_dtype_ == KvDtype::kF32 ? kernels_.attention_f32
                                                      : kernels_.attention_f16;
  // A head's tokens follow each other: those of one sequence find its cache still near.
  pool_.ParallelFor(kv_heads * args.tokens.num_tokens, [&](int64_t task) {
    const int64_t h = task / args.tokens.num_tokens, t = task % args.tokens.num_tokens;
    const int64_t last = args.tokens.positions[t];
    const int64_t first =
        args.cache.window ? std::max(last - args.cache.window + 1, int64_t{0}) : 0;
    const int64_t at = (t * kv_heads + h) * group * dim;
    attention({ws_.q.data() + at, static_cast<const char*>(args.cache.keys) + h * head_bytes,
               static_cast<const char*>(args.cache.values) + h * head_bytes, page_bytes,
               args.cache.page_table + args.tokens.slots[t] * args.cache.pages_per_sequence, first,
               last, args.layer->sinks + h * group, group, dim,
               1.0f / std::sqrt(static_cast<float>(dim)), ws_.attention.data() + at});
  });
}

void CpuBackend::OutProj(const OutProjArgs& args) {
  const int64_t hidden = config_.hidden_size;
  Matmuls({{args.layer->o_proj, args.layer->o_bias, ws_.projected.data()}}, ws_.attention.data(),
          args.tokens.num_tokens);
  for (int64_t i = 0; i < args.tokens.num_tokens * hidden; ++i) ws_.x[i] += ws_.projected[i];
}

void CpuBackend::LmHead(const LmHeadArgs& args) {
  const int64_t hidden = config_.hidden_size;
  for (int i = 0; i < args.num_rows; ++i) {
    Norm(ws_.x.data() + args.rows[i] * hidden, args.norm, ws_.normed.data() + i * hidden);
  }
  Matmuls({{args.weight, nullptr, ws_.logits.data()}}, ws_.normed.data(), args.num_rows);
}

}  // namespace motet
