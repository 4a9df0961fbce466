// The scheduler's policies on plain numbers, for tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "engine/drafter.h"
#include "sched/step_cost.h"

namespace py = pybind11;

namespace motet {
namespace {

std::vector<int32_t> Propose(Drafter& drafter, std::vector<int32_t> tokens, int64_t n_prompt,
                             const StepCost& cost) {
  Sequence sequence;
  sequence.tokens = std::move(tokens);
  sequence.n_prompt = n_prompt;
  sequence.max_tokens = sequence.length() + 1000;
  drafter.Propose(sequence, cost, 1);
  return sequence.draft;
}

}  // namespace

void BindSched(py::module_& m) {
  using namespace py::literals;
  py::module_ sched = m.def_submodule("sched", "Policies of the scheduler, for tests.");
  py::class_<StepCost>(sched, "StepCost")
      .def(py::init<>())
      .def("observe", &StepCost::Observe, "tokens"_a, "seconds"_a)
      .def("seconds", &StepCost::Seconds, "tokens"_a)
      .def("seconds_per_token", &StepCost::SecondsPerToken);
  py::class_<PromptBudget>(sched, "PromptBudget")
      .def(py::init<double, int64_t>(), "target_seconds"_a, "most"_a)
      .def("tokens", &PromptBudget::Tokens, "generating"_a, "decode"_a)
      .def("observe", &PromptBudget::Observe, "generating"_a, "prompt_tokens"_a, "seconds"_a,
           "decode"_a);
  py::class_<Drafter>(sched, "Drafter")
      .def(py::init<>())
      .def("expect", &Drafter::Expect, "prediction"_a)
      .def("propose", &Propose, "tokens"_a, "n_prompt"_a, "cost"_a,
           "What is proposed after `tokens`, the first n_prompt of them the prompt.")
      .def("observe", &Drafter::Observe, "proposed"_a, "accepted"_a);
}

}  // namespace motet
