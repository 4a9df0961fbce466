#include "cpu/sample.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"
#include "base/random.h"

namespace motet::cpu {
namespace {

// Sums and maxima run in this many interleaved lanes: a fixed order that compilers can vectorise.
constexpr size_t kLanes = 8;
constexpr size_t kBlock = 1024;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Weights below exp(-80) of the largest are left out of a draw: a whole vocabulary of them is far
// under 2^-53, the finest that the uniform number can tell apart.
constexpr float kSmallestExponent = -80.0f;

// exp(x) for x in [-80, 0]. Ours because it vectorises and gives the same bits on every CPU; its
// error is under 2e-7 of the result.
inline float Exp(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;  // 9 bits, so that its product with n is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  const float n = (x * kLog2E + kRound) - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln(2)/2
  float sum = 1.0f / 5040;  // Taylor: the first term left out is r^8/40320 < 6e-9
  sum = sum * r + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  return std::bit_cast<float>(std::bit_cast<int32_t>(sum) + static_cast<int32_t>(n) * (1 << 23));
}

// f(i, lane) for i in [begin, end): whole rows of lanes first, then the rest.
template <typename F>
inline void ForLanes(size_t begin, size_t end, F f) {
  size_t i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) f(i + lane, lane);
  }
  for (size_t lane = 0; i < end; ++i, ++lane) f(i, lane);
}

struct Peak {
  int32_t id = kNoToken;
  float value = -kInfinity;
};

// The largest value and the first place that holds it.
Peak FindPeak(std::span<const float> x) {
  float best = -kInfinity;
  size_t best_block = 0;
  for (size_t begin = 0; begin < x.size(); begin += kBlock) {
    std::array<float, kLanes> lanes;
    lanes.fill(-kInfinity);
    ForLanes(begin, std::min(begin + kBlock, x.size()), [&](size_t i, size_t lane) {
      lanes[lane] = x[i] > lanes[lane] ? x[i] : lanes[lane];  // false for NaN
    });
    const float block_best = *std::max_element(lanes.begin(), lanes.end());
    if (block_best > best) best = block_best, best_block = begin;
  }
  if (best == -kInfinity) return {};
  const auto at = std::find(x.begin() + static_cast<std::ptrdiff_t>(best_block), x.end(), best);
  return {static_cast<int32_t>(at - x.begin()), best};
}

// The sum of x in double.
double SumOf(std::span<const float> x) {
  std::array<double, kLanes> lanes{};
  ForLanes(0, x.size(), [&](size_t i, size_t lane) { lanes[lane] += static_cast<double>(x[i]); });
  double sum = 0.0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

// weights[i] = exp((x[i] - max) * scale), at least exp(-80); returns their sum.
double Weigh(std::span<const float> x, float max, float scale, float* __restrict weights) {
  // Stands for infinity, since inf - inf is NaN.
  constexpr float kLargest = std::numeric_limits<float>::max();
  const float top = max > kLargest ? kLargest : max;
  for (size_t i = 0; i < x.size(); ++i) {
    const float exponent = ((x[i] > kLargest ? kLargest : x[i]) - top) * scale;
    weights[i] = exponent > kSmallestExponent ? exponent : kSmallestExponent;
  }
  for (size_t i = 0; i < x.size(); ++i) weights[i] = Exp(weights[i]);
  return SumOf({weights, x.size()});
}

bool EditsLogits(const SampleArgs& args) {
  const Sampling& s = *args.sampling;
  return s.repetition_penalty != 1.0f || s.presence_penalty != 0.0f ||
         s.frequency_penalty != 0.0f || !s.bias_ids.empty() || s.min_tokens > 0 ||
         s.logits_processor;
}

// f(id, count) once for each distinct token. Only entries that were touched are cleared again.
template <typename F>
void ForDistinct(std::span<const int32_t> tokens, std::vector<int32_t>& counts, F f) {
  for (const int32_t id : tokens) ++counts[static_cast<size_t>(id)];
  for (const int32_t id : tokens) {
    int32_t& count = counts[static_cast<size_t>(id)];
    if (count > 0) f(static_cast<size_t>(id), static_cast<float>(count));
    count = 0;
  }
}

// Steps 1 to 5 of ops/sample.h, on a copy.
std::span<const float> EditLogits(const SampleArgs& args, SampleScratch& scratch) {
  const Sampling& s = *args.sampling;
  const std::span<float> x(scratch.logits);
  const std::span<const int32_t> output = args.tokens.subspan(args.n_prompt);
  std::copy(args.logits.begin(), args.logits.end(), x.begin());
  if (s.repetition_penalty != 1.0f) {
    ForDistinct(args.tokens, scratch.counts, [&](size_t id, float) {
      x[id] = x[id] > 0.0f ? x[id] / s.repetition_penalty : x[id] * s.repetition_penalty;
    });
  }
  if (s.presence_penalty != 0.0f || s.frequency_penalty != 0.0f) {
    ForDistinct(output, scratch.counts, [&](size_t id, float count) {
      x[id] -= s.frequency_penalty * count + s.presence_penalty;
    });
  }
  for (size_t i = 0; i < s.bias_ids.size(); ++i) {
    x[static_cast<size_t>(s.bias_ids[i])] += s.bias_values[i];
  }
  if (output.size() < static_cast<size_t>(std::max(s.min_tokens, 0))) {
    for (const int32_t id : s.stop_ids) x[static_cast<size_t>(id)] = -kInfinity;
  }
  if (s.logits_processor) s.logits_processor(args.tokens, x);
  return x;
}

// Collects the tokens at or above `floor` and returns how many there are.
size_t Gather(std::span<const float> x, float floor, SampleScratch::Candidates& candidates) {
  size_t n = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    candidates.ids[n] = static_cast<int32_t>(i);
    candidates.logits[n] = x[i];
    n += x[i] >= floor ? 1 : 0;
  }
  return n;
}

struct Range {
  float lowest = kInfinity;
  float highest = -kInfinity;
};

Range RangeOf(std::span<const float> x) {
  std::array<Range, kLanes> lanes;
  ForLanes(0, x.size(), [&](size_t i, size_t lane) {
    lanes[lane].lowest = x[i] < lanes[lane].lowest ? x[i] : lanes[lane].lowest;
    lanes[lane].highest = x[i] > lanes[lane].highest ? x[i] : lanes[lane].highest;
  });
  Range range;
  for (const Range& lane : lanes) {
    range.lowest = std::min(range.lowest, lane.lowest);
    range.highest = std::max(range.highest, lane.highest);
  }
  return range;
}

// Of n candidates, keeps the fewest of highest rank whose weights reach `target`, in their order of
// ids, and returns how many. No sort: a histogram over the range of logits finds the bucket in
// which the target is reached, then a histogram of that bucket follows, until its logits are all
// equal.
size_t KeepTop(size_t n, double target, SampleScratch& scratch) {
  constexpr size_t kBuckets = 2048;
  SampleScratch::Candidates& all = scratch.candidates;
  SampleScratch::Candidates& cut = scratch.cut;  // the bucket in which the target is reached
  const SampleScratch::Candidates* from = &all;
  size_t m = n;
  double above = 0.0;  // weight of what ranks above the cut
  Range range = RangeOf(std::span(all.logits).first(m));
  while (range.lowest < range.highest) {
    const double top = range.highest;
    const double scale = kBuckets / (top - range.lowest);
    const auto bucket_of = [=](float logit) {
      return std::min(static_cast<size_t>((top - logit) * scale), kBuckets - 1);
    };
    std::array<double, kBuckets> weights{};
    for (size_t j = 0; j < m; ++j) weights[bucket_of(from->logits[j])] += from->weights[j];
    size_t bucket = 0;
    while (bucket < kBuckets - 1 && above + weights[bucket] < target) above += weights[bucket++];
    size_t in_bucket = 0, not_below = 0;
    for (size_t j = 0; j < m; ++j) {
      const size_t at = bucket_of(from->logits[j]);
      if (at == bucket) cut.Set(in_bucket++, *from, j);
      if (from == &all) {
        all.Set(not_below, all, j);
        not_below += at <= bucket ? 1 : 0;
      }
    }
    if (from == &all) n = not_below;
    from = &cut;
    m = in_bucket;
    range = RangeOf(std::span(cut.logits).first(m));
  }
  size_t last = 0;
  for (above += from->weights[0]; last + 1 < m && above < target;) above += from->weights[++last];
  const int32_t last_id = from->ids[last];
  size_t kept = 0;
  for (size_t j = 0; j < n; ++j) {
    const bool keep = (all.logits[j] > range.lowest) |
                      ((all.logits[j] == range.lowest) & (all.ids[j] <= last_id));
    all.Set(kept, all, j);
    kept += keep ? 1 : 0;
  }
  return kept;
}

// The index in weights [n] at which their running sum passes u of the total.
size_t InverseCdf(std::span<const float> weights, double u, std::vector<double>& block_sums) {
  const size_t n_blocks = (weights.size() + kBlock - 1) / kBlock;
  double total = 0.0;
  for (size_t b = 0; b < n_blocks; ++b) {
    const size_t begin = b * kBlock;
    total += block_sums[b] =
        SumOf(weights.subspan(begin, std::min(kBlock, weights.size() - begin)));
  }
  double rest = u * total;
  size_t b = 0;
  while (b + 1 < n_blocks && rest >= block_sums[b]) rest -= block_sums[b++];
  size_t i = b * kBlock;
  const size_t end = std::min(i + kBlock, weights.size());
  while (i + 1 < end && rest >= static_cast<double>(weights[i])) {
    rest -= static_cast<double>(weights[i++]);
  }
  return i;
}

// Steps 6 to 10 of ops/sample.h.
int32_t Draw(std::span<const float> x, float max, const SampleArgs& args, SampleScratch& scratch) {
  const Sampling& s = *args.sampling;
  double depth = -static_cast<double>(kSmallestExponent);
  if (s.min_p > 0.0) depth = std::min(depth, -std::log(s.min_p));
  const double floor = static_cast<double>(max) - depth * s.temperature;
  constexpr double kLowest = std::numeric_limits<float>::lowest();  // -inf stays out
  SampleScratch::Candidates& candidates = scratch.candidates;
  size_t n = Gather(x, static_cast<float>(std::max(floor, kLowest)), candidates);
  if (s.top_k > 0 && static_cast<size_t>(s.top_k) < n) {
    std::fill_n(candidates.weights.begin(), n, 1.0f);
    n = KeepTop(n, s.top_k, scratch);
  }
  const double total = Weigh(std::span(candidates.logits).first(n), max,
                             static_cast<float>(1.0 / s.temperature), candidates.weights.data());
  if (s.top_p < 1.0) n = KeepTop(n, s.top_p * total, scratch);
  const double u = UniformAt(s.seed, args.position);
  const std::span<const float> weights = std::span(candidates.weights).first(n);
  return candidates.ids[InverseCdf(weights, u, scratch.block_sums)];
}

// The k largest logits above -inf in scratch.top, by logit, then lower id; logits in the place of
// logprobs.
std::span<TopLogprob> FindTop(std::span<const float> logits, int k, SampleScratch& scratch) {
  const size_t capacity = static_cast<size_t>(std::clamp(k, 0, kMaxTopLogprobs));
  size_t n = 0;
  float cut = capacity > 0 ? -kInfinity : kInfinity;  // what a logit must exceed to get in
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] > cut)) continue;
    size_t place = n < capacity ? n++ : capacity - 1;
    for (; place > 0 && scratch.top[place - 1].logprob < logits[i]; --place) {
      scratch.top[place] = scratch.top[place - 1];
    }
    scratch.top[place] = {static_cast<int32_t>(i), logits[i]};
    if (n == capacity) cut = scratch.top[n - 1].logprob;
  }
  return std::span(scratch.top).first(n);
}

}  // namespace

SampleScratch::SampleScratch(size_t vocab)
    : logits(vocab),
      counts(vocab),
      candidates(vocab),
      cut(vocab),
      block_sums((vocab + kBlock - 1) / kBlock),
      top(kMaxTopLogprobs) {}

void CheckTokenIds(const char* param, std::span<const int32_t> ids, size_t vocab) {
  for (const int32_t id : ids) {
    if (id >= 0 && static_cast<size_t>(id) < vocab) continue;
    throw InvalidRequestError(param, std::string(param) + ": expected token ids in [0, " +
                                         std::to_string(vocab) + "), found " + std::to_string(id));
  }
}

void CheckSampling(const Sampling& sampling, size_t vocab) {
  CheckTokenIds("logit_bias", sampling.bias_ids, vocab);
  CheckTokenIds("stop_token_ids", sampling.stop_ids, vocab);
}

TokenLogprob LogprobOf(std::span<const float> logits, int32_t token, int k,
                       SampleScratch& scratch) {
  const float max = FindPeak(logits).value;
  const double log_sum = std::log(Weigh(logits, max, 1.0f, scratch.candidates.weights.data()));
  const auto logprob = [=](float x) {
    if (!(x > -kInfinity)) return -kInfinity;
    const float below = x == max ? 0.0f : x - max;
    return static_cast<float>(static_cast<double>(below) - log_sum);
  };
  const std::span<TopLogprob> top = FindTop(logits, k, scratch);
  for (TopLogprob& entry : top) entry.logprob = logprob(entry.logprob);
  return {logprob(logits[static_cast<size_t>(token)]), top};
}

SampleResult Sample(const SampleArgs& args, SampleScratch& scratch) {
  const Sampling& s = *args.sampling;
  const std::span<const float> x = EditsLogits(args) ? EditLogits(args, scratch) : args.logits;
  const Peak peak = FindPeak(x);
  if (peak.id == kNoToken) return {kNoToken, kNoLogprobs};
  const bool greedy = s.temperature < kGreedyTemperature;
  const int32_t token = greedy ? peak.id : Draw(x, peak.value, args, scratch);
  if (s.logprobs < 0) return {token, kNoLogprobs};
  return {token, LogprobOf(args.logits, token, s.logprobs, scratch)};
}

}  // namespace motet::cpu
