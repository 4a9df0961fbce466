// The sampler's row of parameters, and the sample op on numpy arrays for tests and benchmarks.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "bindings/bindings.h"
#include "cpu/sample.h"
#include "ops/sample.h"

namespace py = pybind11;

namespace motet {
namespace {

using Logits = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Tokens = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;
using Top = std::vector<std::pair<int32_t, float>>;

template <typename T, int flags>
std::span<const T> View(const py::array_t<T, flags>& array) {
  return {array.data(), static_cast<size_t>(array.size())};
}

std::string ShapeOf(const py::array& array) {
  return py::str(array.attr("shape")).cast<std::string>();
}

// Calls processor(tokens: list[int], logits: float32 [vocab]) -> None (edited in place) or logits.
// The array is a copy that numpy owns: a processor may keep it.
void CallProcessor(const py::object& processor, std::span<const int32_t> tokens,
                   std::span<float> logits) {
  const py::gil_scoped_acquire gil;
  py::list token_list(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) token_list[i] = tokens[i];
  const Logits array(static_cast<py::ssize_t>(logits.size()), logits.data());
  const py::object returned = processor(token_list, array);
  const Logits edited = returned.is_none() ? array : returned.cast<Logits>();
  if (edited.ndim() != 1 || edited.size() != array.size()) {
    throw InvalidRequestError("logits_processor",
                              "logits_processor: expected None or logits of shape (" +
                                  std::to_string(array.size()) + ",), found " + ShapeOf(edited));
  }
  std::copy_n(edited.data(), logits.size(), logits.begin());
}

// Copies and the last reference may die in native code without the GIL: the object is shared and
// released under the GIL.
auto WrapProcessor(py::object processor) {
  const std::shared_ptr<py::object> shared(new py::object(std::move(processor)),
                                           [](py::object* object) {
                                             const py::gil_scoped_acquire gil;
                                             delete object;
                                           });
  return [shared](std::span<const int32_t> tokens, std::span<float> logits) {
    CallProcessor(*shared, tokens, logits);
  };
}

// Of the calling thread, so that a benchmark measures the op and not the allocation.
cpu::SampleScratch& ScratchFor(size_t vocab) {
  thread_local std::optional<cpu::SampleScratch> scratch;
  if (!scratch || scratch->logits.size() != vocab) scratch.emplace(vocab);
  return *scratch;
}

void CheckLogits(const Logits& logits) {
  if (logits.ndim() == 1 && logits.size() > 0) return;
  throw InvalidRequestError("logits", "logits: expected shape (vocab,), found " + ShapeOf(logits));
}

Top ToPairs(std::span<const TopLogprob> top) {
  Top pairs;
  for (const TopLogprob& entry : top) pairs.emplace_back(entry.token, entry.logprob);
  return pairs;
}

Sampling MakeSampling(double temperature, double top_p, int top_k, double min_p, uint64_t seed,
                      float presence_penalty, float frequency_penalty, float repetition_penalty,
                      std::vector<int32_t> bias_ids, std::vector<float> bias_values, int logprobs,
                      int prompt_logprobs, int min_tokens, std::vector<int32_t> stop_ids,
                      py::object logits_processor) {
  if (bias_ids.size() != bias_values.size()) {
    throw InvalidRequestError("logit_bias", "logit_bias: expected as many values as ids (" +
                                                std::to_string(bias_ids.size()) + "), found " +
                                                std::to_string(bias_values.size()));
  }
  Sampling s;
  s.temperature = temperature;
  s.top_p = top_p;
  s.top_k = top_k;
  s.min_p = min_p;
  s.seed = seed;
  s.presence_penalty = presence_penalty;
  s.frequency_penalty = frequency_penalty;
  s.repetition_penalty = repetition_penalty;
  s.bias_ids = std::move(bias_ids);
  s.bias_values = std::move(bias_values);
  s.logprobs = logprobs;
  s.prompt_logprobs = prompt_logprobs;
  s.min_tokens = min_tokens;
  s.stop_ids = std::move(stop_ids);
  if (!logits_processor.is_none()) s.logits_processor = WrapProcessor(std::move(logits_processor));
  return s;
}

std::tuple<int32_t, float, Top> SampleOnNumpy(const Logits& logits, const Sampling& sampling,
                                              const Tokens& history, size_t n_prompt,
                                              uint64_t position) {
  CheckLogits(logits);
  const std::span<const float> row = View(logits);
  const std::span<const int32_t> tokens = View(history);
  cpu::CheckSampling(sampling, row.size());
  cpu::CheckTokenIds("history", tokens, row.size());
  if (n_prompt > tokens.size()) {
    throw InvalidRequestError("n_prompt", "n_prompt: expected at most the history's " +
                                              std::to_string(tokens.size()) + " tokens, found " +
                                              std::to_string(n_prompt));
  }
  const SampleArgs args{row, tokens, n_prompt, position, &sampling};
  cpu::SampleScratch& scratch = ScratchFor(row.size());
  const py::gil_scoped_release release;
  const SampleResult result = cpu::Sample(args, scratch);
  return {result.token, result.logprobs.logprob, ToPairs(result.logprobs.top)};
}

std::pair<float, Top> LogprobOnNumpy(const Logits& logits, int32_t token, int k) {
  CheckLogits(logits);
  const std::span<const float> row = View(logits);
  cpu::CheckTokenIds("token", {&token, 1}, row.size());
  const TokenLogprob result = cpu::LogprobOf(row, token, k, ScratchFor(row.size()));
  return {result.logprob, ToPairs(result.top)};
}

}  // namespace

void BindSampling(py::module_& m) {
  const Sampling defaults;
  py::class_<Sampling>(m, "Sampling")
      .def(py::init(&MakeSampling), py::kw_only(), py::arg("temperature") = defaults.temperature,
           py::arg("top_p") = defaults.top_p, py::arg("top_k") = defaults.top_k,
           py::arg("min_p") = defaults.min_p, py::arg("seed") = defaults.seed,
           py::arg("presence_penalty") = defaults.presence_penalty,
           py::arg("frequency_penalty") = defaults.frequency_penalty,
           py::arg("repetition_penalty") = defaults.repetition_penalty,
           py::arg("bias_ids") = defaults.bias_ids, py::arg("bias_values") = defaults.bias_values,
           py::arg("logprobs") = defaults.logprobs,
           py::arg("prompt_logprobs") = defaults.prompt_logprobs,
           py::arg("min_tokens") = defaults.min_tokens, py::arg("stop_ids") = defaults.stop_ids,
           py::arg("logits_processor") = py::none())
      .def_readonly("temperature", &Sampling::temperature)
      .def_readonly("top_p", &Sampling::top_p)
      .def_readonly("top_k", &Sampling::top_k)
      .def_readonly("min_p", &Sampling::min_p)
      .def_readonly("seed", &Sampling::seed)
      .def_readonly("presence_penalty", &Sampling::presence_penalty)
      .def_readonly("frequency_penalty", &Sampling::frequency_penalty)
      .def_readonly("repetition_penalty", &Sampling::repetition_penalty)
      .def_readonly("bias_ids", &Sampling::bias_ids)
      .def_readonly("bias_values", &Sampling::bias_values)
      .def_readonly("logprobs", &Sampling::logprobs)
      .def_readonly("prompt_logprobs", &Sampling::prompt_logprobs)
      .def_readonly("min_tokens", &Sampling::min_tokens)
      .def_readonly("stop_ids", &Sampling::stop_ids);
  m.def("sample", &SampleOnNumpy, py::arg("logits"), py::arg("sampling"),
        py::arg("history") = Tokens(0), py::arg("n_prompt") = 0, py::arg("position") = 0,
        "Draw a token from logits [vocab] -> (token, logprob, [(token, logprob), ...]).");
  m.def("logprob_of", &LogprobOnNumpy, py::arg("logits"), py::arg("token"), py::arg("k") = 0,
        "Logprob of a token under logits [vocab] and the k most likely tokens.");
}

}  // namespace motet
