// What the engine says: events, and what it counts.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "engine/metrics.h"
#include "engine/request.h"

namespace py = pybind11;

namespace motet {
namespace {

const char* FinishName(Finish finish) {
  switch (finish) {
    case Finish::kStop:
      return "stop";
    case Finish::kLength:
      return "length";
    case Finish::kCancelled:
      return "cancelled";
    case Finish::kTimeout:
      return "timeout";
    case Finish::kError:
      return "error";
    case Finish::kNone:
      break;
  }
  return nullptr;
}

py::dict HistogramDict(const Histogram& histogram) {
  py::list buckets;
  int64_t count = 0;
  for (size_t i = 0; i <= Histogram::kBounds.size(); ++i) {
    count += histogram.count(i);
    buckets.append(
        py::make_tuple(i < Histogram::kBounds.size() ? Histogram::kBounds[i] : kNever, count));
  }
  using namespace py::literals;
  return py::dict("buckets"_a = buckets, "sum"_a = histogram.sum(), "count"_a = count);
}

}  // namespace

py::dict MetricsDict(const Metrics& m) {
  using namespace py::literals;
  py::dict finished;
  for (int i = 1; i < kNumFinishes; ++i) {
    finished[FinishName(static_cast<Finish>(i))] = m.requests_finished[i];
  }
  return py::dict(
      "requests_submitted"_a = m.requests_submitted, "requests_finished"_a = finished,
      "requests_running"_a = m.requests_running, "requests_waiting"_a = m.requests_waiting,
      "prompt_tokens"_a = m.prompt_tokens, "cached_tokens"_a = m.cached_tokens,
      "generated_tokens"_a = m.generated_tokens, "computed_tokens"_a = m.computed_tokens,
      "steps"_a = m.steps, "pauses"_a = m.pauses, "draft_tokens"_a = m.draft_tokens,
      "accepted_draft_tokens"_a = m.accepted_draft_tokens, "full_pages"_a = m.full_pages,
      "sliding_pages"_a = m.sliding_pages, "full_pages_used"_a = m.full_pages_used,
      "sliding_pages_used"_a = m.sliding_pages_used, "full_pages_kept"_a = m.full_pages_kept,
      "sliding_pages_kept"_a = m.sliding_pages_kept,
      "step_seconds"_a = HistogramDict(m.step_seconds),
      "queue_seconds"_a = HistogramDict(m.queue_seconds),
      "prefill_seconds"_a = HistogramDict(m.prefill_seconds),
      "first_token_seconds"_a = HistogramDict(m.first_token_seconds),
      "inter_token_seconds"_a = HistogramDict(m.inter_token_seconds));
}

void BindEvents(py::module_& m) {
  py::class_<Event>(m, "Event")
      .def_readonly("request", &Event::request)
      .def_readonly("token", &Event::token)
      .def_readonly("position", &Event::position)
      .def_readonly("logprob", &Event::logprob)
      .def_readonly("is_prompt", &Event::is_prompt)
      .def_property_readonly("top",
                             [](const Event& e) {
                               std::vector<std::pair<int32_t, float>> top;
                               for (const TopLogprob& t : e.top)
                                 top.emplace_back(t.token, t.logprob);
                               return top;
                             })
      .def_property_readonly("finish", [](const Event& e) { return FinishName(e.finish); })
      .def_readonly("time", &Event::time)
      .def_readonly("submitted", &Event::submitted)
      .def_readonly("started", &Event::started)
      .def_readonly("cached_tokens", &Event::cached_tokens)
      .def_readonly("error", &Event::error);
}

}  // namespace motet
