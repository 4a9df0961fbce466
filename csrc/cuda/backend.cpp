#include "cuda/backend.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "cuda/kernels/append_kv.h"
#include "cuda/kernels/dense.h"
#include "cuda/kernels/embed.h"
#include "cuda/kernels/moe.h"
#include "cuda/kernels/norm.h"
#include "cuda/kernels/route.h"
#include "ops/kv_page.h"

namespace motet::cuda {
namespace {

void Require(bool ok, const char* name, const char* expected, int64_t found) {
  if (ok) return;
  throw InvalidRequestError("device", "device: 'cuda' needs a model whose " + std::string(name) +
                                          " is " + expected + ", found " + std::to_string(found));
}

ModelConfig Checked(const ModelConfig& c) {
  constexpr int64_t kDimStep = 16, kMaxDim = 128;
  Require(c.head_dim % kDimStep == 0 && c.head_dim <= kMaxDim, "head_dim",
          "a multiple of 16 up to 128", c.head_dim);
  Require(c.HeadsPerKvHead() <= kMaxGroup, "number of heads a KV head", "at most 16",
          c.HeadsPerKvHead());
  Require(c.num_experts <= kMaxExperts, "number of experts", "at most 128", c.num_experts);
  Require(c.experts_per_token <= kMaxExpertsPerToken, "experts_per_token", "at most 4",
          c.experts_per_token);
  return c;
}

const uint16_t* Bf16(const WeightMatrix& w) { return reinterpret_cast<const uint16_t*>(w.data); }

}  // namespace

Backend::Backend(const ModelConfig& config, Precision precision, KvDtype cache_type,
                 const StepLimits& limits, int device, Stream stream,
                 std::function<void(double)> progress)
    : config_(Checked(config)),
      precision_(precision),
      cache_type_(cache_type),
      device_(device),
      stream_(stream),
      progress_(std::move(progress)),
      memory_(WorkspaceBytes(config, limits), "work space"),
      ws_(config, limits, memory_.as<char>()) {
  const RopeTable rope = MakeRopeTable(config);
  const auto bytes = static_cast<int64_t>(rope.frequencies.size() * sizeof(double));
  rope_scale_ = rope.scale;
  frequencies_ = DeviceMemory(bytes, "rotary frequencies");
  PinnedMemory pinned(bytes, "rotary frequencies");
  std::copy(rope.frequencies.begin(), rope.frequencies.end(), pinned.as<double>());
  CopyToDevice(frequencies_.as<char>(), pinned.as<char>(), bytes, stream_);
  Fill(ws_.router_ticket, 0, sizeof(*ws_.router_ticket), stream_);
  Fill(ws_.attention_tickets, 0, limits.tokens * config.num_kv_heads * sizeof(unsigned), stream_);
  Synchronize(stream_);
}

int64_t Backend::WorkspaceBytes(const ModelConfig& config, const StepLimits& limits) {
  return Workspace(config, limits, nullptr).bytes;
}

void Backend::Prepare(Weights& weights) {
  weights_ = WeightStore(config_, precision_, weights, device_, progress_);
}

void Backend::CopyPages(const motet::CopyPagesArgs& args) {
  const PageCopy* copies = extras_.copies;
  const auto num_full = static_cast<int>(args.full.size());
  for (const LayerCache& layer : args.layers) {
    const bool sliding = layer.window != 0;
    const auto count = sliding ? static_cast<int>(args.sliding.size()) : num_full;
    if (count == 0) continue;
    const int64_t values = static_cast<char*>(layer.values) - static_cast<char*>(layer.keys);
    cuda::CopyPages({layer.keys, values, 2, KvPageBytes(config_, cache_type_),
                     sliding ? copies + num_full : copies, count},
                    stream_);
  }
}

void Backend::Embed(const motet::EmbedArgs& args) {
  cuda::Embed(
      {args.tokens.num_tokens, args.tokens.ids, Bf16(args.embedding), config_.hidden_size, ws_.x},
      stream_);
}

void Backend::Rotary(const motet::RotaryArgs& args) {
  cuda::Rotary({args.tokens.num_tokens, args.tokens.positions, frequencies_.as<double>(),
                rope_scale_, static_cast<int>(config_.head_dim / 2), ws_.cos, ws_.sin},
               stream_);
}

void Backend::Qkv(const motet::QkvArgs& args) {
  const LayerWeights& w = *args.layer;
  const int tokens = args.tokens.num_tokens;
  const Rows normed = Normed();
  if (normed_ != args.layer) {
    RmsNorm({tokens, nullptr, ws_.x, w.input_norm, config_.hidden_size,
             static_cast<float>(config_.rms_norm_eps), normed},
            stream_);
  }
  QkvArgs qkv{};
  qkv.num_tokens = tokens;
  qkv.in = normed;
  qkv.heads = config_.num_heads;
  qkv.kv_heads = config_.num_kv_heads;
  qkv.head_dim = config_.head_dim;
  qkv.q = w.q_proj, qkv.k = w.k_proj, qkv.v = w.v_proj;
  qkv.q_bias = w.q_bias, qkv.k_bias = w.k_bias, qkv.v_bias = w.v_bias;
  qkv.cos = ws_.cos, qkv.sin = ws_.sin;
  qkv.positions = args.tokens.positions;
  qkv.slots = args.tokens.slots;
  qkv.page_table = args.cache.page_table;
  qkv.pages_per_sequence = args.cache.pages_per_sequence;
  qkv.out_q = ws_.q;
  if (cache_type_ == KvDtype::kInt8) {
    qkv.kv = ws_.unappended_kv();
    cuda::Qkv(qkv, stream_);
    AppendInt8({tokens, args.tokens.positions, args.tokens.slots, args.cache, qkv.kv,
                static_cast<int>(config_.num_kv_heads), static_cast<int>(config_.head_dim)},
               stream_);
    return;
  }
  qkv.keys = static_cast<uint16_t*>(args.cache.keys);
  qkv.values = static_cast<uint16_t*>(args.cache.values);
  cuda::Qkv(qkv, stream_);
}

void Backend::Attention(const motet::AttentionOpArgs& args) {
  const AttentionArgs attention{args.tokens.positions,
                                args.tokens.slots,
                                args.cache,
                                cache_type_,
                                ws_.q,
                                args.layer->sinks,
                                static_cast<int>(config_.num_heads),
                                static_cast<int>(config_.num_kv_heads),
                                static_cast<int>(config_.head_dim),
                                AttentionOut()};
  if (extras_.num_runs > 0) AttendRuns(attention, extras_.num_runs, extras_.runs, stream_);
  AttendTokensArgs few = extras_.few;
  few.num_chunks = NumChunks(extras_.context, args.cache.window);
  few.chunks_per_block = ChunksPerBlock(few.count, attention.kv_heads, few.num_chunks);
  few.scratch = ws_.attention_scratch;
  few.scratch_bytes = ws_.attention_scratch_bytes;
  few.tickets = ws_.attention_tickets;
  if (few.count > 0) AttendTokens(attention, few, stream_);
}

void Backend::OutProj(const motet::OutProjArgs& args) {
  const LayerWeights& w = *args.layer;
  cuda::OutProj({args.tokens.num_tokens, AttentionOut(), w.o_proj, w.o_bias, ws_.x}, stream_);
}

void Backend::Route(const motet::RouteArgs& args) {
  const LayerWeights& w = *args.layer;
  const int tokens = args.tokens.num_tokens, k = static_cast<int>(config_.experts_per_token);
  cuda::Route({tokens, args.tokens.slots, ws_.x, w.post_attention_norm,
               static_cast<float>(config_.rms_norm_eps), Bf16(w.router), w.router_bias,
               static_cast<int>(config_.hidden_size), static_cast<int>(config_.num_experts), k,
               ws_.router_logits, ws_.router_ticket, Normed(), ws_.experts, ws_.expert_weights,
               ExpertListsIn(ws_.expert_lists, tokens, config_.num_experts, k)},
              stream_);
}

void Backend::Moe(const motet::MoeArgs& args) {
  const LayerWeights& w = *args.layer;
  const int tokens = args.tokens.num_tokens, k = static_cast<int>(config_.experts_per_token);
  NextNorm next{};
  if (args.next) {
    next = {args.next->input_norm, static_cast<float>(config_.rms_norm_eps), Normed()};
  }
  cuda::Moe({tokens, static_cast<int>(config_.num_experts), k, w.gate_up.first, w.down.first,
             w.gate_up_bias, w.down_bias, static_cast<float>(config_.swiglu_limit), Normed(),
             ExpertListsIn(ws_.expert_lists, tokens, config_.num_experts, k), ws_.expert_weights,
             ws_.moe_scratch, ws_.x, next},
            stream_);
  normed_ = args.next;
}

void Backend::LmHead(const motet::LmHeadArgs& args) {
  const Rows normed = Normed();
  RmsNorm({args.num_rows, args.rows, ws_.x, args.norm, config_.hidden_size,
           static_cast<float>(config_.rms_norm_eps), normed},
          stream_);
  cuda::LmHead({args.num_rows, normed, args.weight, ws_.logits}, stream_);
}

void Backend::Draw(int num_rows) {
  Sample({num_rows, ws_.logits, config_.vocab_size, extras_.draws, ws_.drawn, ws_.sample_scratch},
         stream_);
}

}  // namespace motet::cuda
