// The engine.
#include "engine/engine.h"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <chrono>
#include <iterator>
#include <mutex>
#include <string>
#include <utility>

#include "base/error.h"
#include "bindings/bindings.h"
#include "cpu/isa.h"
#include "cpu/peaks.h"
#include "cuda/device.h"
#include "engine/engine_thread.h"

namespace py = pybind11;

namespace motet {
namespace {

using Ids = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;

Precision ParsePrecision(const std::string& name) {
  if (name == "exact") return Precision::kExact;
  if (name == "int8") return Precision::kInt8;
  if (name == "f32") return Precision::kF32;
  throw InvalidRequestError("precision",
                            "precision: expected 'exact', 'int8' or 'f32', found '" + name + "'");
}

KvDtype ParseKvDtype(const std::string& name) {
  if (name == "auto") return KvDtype::kAuto;
  if (name == "int8") return KvDtype::kInt8;
  throw InvalidRequestError("kv_cache_dtype",
                            "kv_cache_dtype: expected 'auto' or 'int8', found '" + name + "'");
}

std::vector<int32_t> TokenVector(const Ids& ids) {
  if (ids.ndim() != 1) {
    throw InvalidRequestError("prompt", "prompt: expected ids of shape [n], found " +
                                            std::to_string(ids.ndim()) + " dimensions");
  }
  return {ids.data(), ids.data() + ids.size()};
}

// Arrays must be C-contiguous and aligned: kernels read them where they are.
TensorView View(const std::string& name, const py::array& array) {
  const bool bf16 = py::isinstance<py::array_t<uint16_t>>(array);
  if (!bf16 && !py::isinstance<py::array_t<uint8_t>>(array)) {
    throw CheckpointError("unexpected dtype", name, "uint16 (BF16) or uint8 (U8)",
                          py::str(array.dtype()).cast<std::string>());
  }
  if (!(array.flags() & py::array::c_style) ||
      reinterpret_cast<uintptr_t>(array.data()) % (bf16 ? 2 : 1)) {
    throw CheckpointError("unexpected layout", name, "a C-contiguous aligned array", "another");
  }
  return {bf16 ? DType::kBf16 : DType::kU8,
          {array.shape(), array.shape() + array.ndim()},
          array.data()};
}

// None stands for tensors that a GPU makes up.
TensorMap Views(const ModelConfig& config, const py::object& tensors) {
  if (tensors.is_none()) return ShapesOnly(config);
  TensorMap views;
  for (const auto& [name, array] : tensors.cast<py::dict>()) {
    const auto key = name.cast<std::string>();
    views.emplace(key, View(key, py::cast<py::array>(array)));
  }
  return views;
}

// Lets Python handle Ctrl-C during a long step. Taking the GIL costs, so it is rare.
class SignalPoll {
 public:
  void operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(50)) return;
    last_ = now;
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// A Python object that the engine keeps, and may let go of without the GIL.
std::shared_ptr<void> Kept(py::object object) {
  return {new py::object(std::move(object)), [](void* kept) {
            const py::gil_scoped_acquire gil;
            delete static_cast<py::object*>(kept);
          }};
}

// The engine with what keeps its weights' memory mapped. It is stepped by its own thread after
// `start`, by its callers otherwise.
class PyEngine {
 public:
  PyEngine(const ModelConfig& config, py::object tensors, const EngineOptions& options,
           const std::function<void(double)>& progress)
      : tensors_(std::move(tensors)) {
    const TensorMap views = Views(config, tensors_);
    const py::gil_scoped_release release;  // weights are read meanwhile, which takes a while
    engine_ = std::make_unique<Engine>(config, views, options, progress);
  }

  ~PyEngine() {
    if (getpid() != owner_) {  // no thread is there to be joined, and locks may be held for ever
      static_cast<void>(thread_.release());
      static_cast<void>(engine_.release());
      return;
    }
    const py::gil_scoped_release release;
    thread_.reset();
    engine_.reset();
  }

  Engine& engine() const {
    if (getpid() != owner_) {
      throw ModelClosedError(
          "the model was loaded before fork(); load it in the process that uses it");
    }
    return *engine_;
  }

  int64_t Submit(const Ids& ids, const Sampling& sampling, int64_t max_new_tokens, int64_t n,
                 uint64_t cache_salt, double timeout, int64_t window, const Ids& prediction,
                 int64_t id) {
    return engine().Submit(
        TokenVector(ids), sampling,
        {id, max_new_tokens, n, cache_salt, timeout, window, TokenVector(prediction)});
  }

  std::pair<int64_t, py::array_t<float>> SubmitLogits(const Ids& ids, int64_t chunk, int64_t id) {
    std::vector<int32_t> tokens = TokenVector(ids);
    py::array_t<float> out({static_cast<py::ssize_t>(tokens.size()),
                            static_cast<py::ssize_t>(engine().config().vocab_size)});
    float* data = out.mutable_data();
    return {engine().SubmitLogits(std::move(tokens), chunk, data, Kept(out), id), out};
  }

  void Start() {
    if (!thread_) thread_ = std::make_unique<EngineThread>(engine());
  }

  std::vector<Event> WaitEvents() {
    std::vector<Event> events;
    const py::gil_scoped_release release;
    if (thread_) thread_->Wait(events);
    return events;
  }

  void Stop() {
    const py::gil_scoped_release release;
    if (thread_) thread_->Stop();
  }

  std::vector<Event> Step() {
    RequireNoThread();
    std::vector<Event> events;
    const py::gil_scoped_release release;
    engine().Step(events, SignalPoll());
    const std::lock_guard lock(held_mutex_);
    events.insert(events.begin(), std::move_iterator(held_.begin()),
                  std::move_iterator(held_.end()));
    held_.clear();
    return events;
  }

  py::array_t<float> Logits(const Ids& ids, int64_t chunk) {
    RequireNoThread();
    const auto [id, out] = SubmitLogits(ids, chunk, -1);
    const py::gil_scoped_release release;
    try {
      while (!StepFor(id)) continue;
    } catch (...) {
      engine().Cancel(id);
      throw;
    }
    return out;
  }

  bool Idle() {
    const py::gil_scoped_release release;
    const std::lock_guard lock(held_mutex_);
    return engine().idle() && held_.empty();
  }

 private:
  void RequireNoThread() const {
    if (thread_) throw std::logic_error("the engine's own thread steps it");
  }

  // Runs a step unless the request has ended; whether it has. Other requests' events are held for
  // whoever steps next.
  bool StepFor(int64_t id) {
    const auto ends = [&](const Event& event) {
      return event.request == id && event.finish != Finish::kNone;
    };
    {
      const std::lock_guard lock(held_mutex_);
      if (std::erase_if(held_, ends) > 0) return true;
    }
    std::vector<Event> events;
    engine().Step(events, SignalPoll());
    const bool ended = std::erase_if(events, ends) > 0;
    const std::lock_guard lock(held_mutex_);
    held_.insert(held_.end(), std::move_iterator(events.begin()), std::move_iterator(events.end()));
    return ended;
  }

  pid_t owner_ = getpid();
  py::object tensors_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<EngineThread> thread_;
  std::mutex held_mutex_;
  std::vector<Event> held_;
};

py::dict MemoryDict(const Engine& engine) {
  using namespace py::literals;
  const Metrics m = engine.metrics();
  return py::dict("max_context"_a = engine.options().max_context,
                  "kv_cache_bytes"_a = engine.kv_cache_bytes(),
                  "workspace_bytes"_a = engine.workspace_bytes(),
                  "pages_in_use"_a = m.full_pages_used + m.sliding_pages_used);
}

EngineOptions Options(int device, const std::string& precision, int64_t max_context,
                      int64_t max_batch, const std::string& kv_cache_dtype) {
  EngineOptions options;
  options.device = device;
  options.precision = ParsePrecision(precision);
  options.kv_dtype = ParseKvDtype(kv_cache_dtype);
  options.max_context = max_context;
  options.max_batch = max_batch;
  return options;
}

std::unique_ptr<PyEngine> MakeEngine(const ModelConfig& config, py::object tensors, int device,
                                     const std::string& precision, int64_t max_context,
                                     int64_t kv_cache_bytes, int threads, int64_t max_batch,
                                     bool prefix_cache, bool speculation, double target_itl,
                                     const std::string& kv_cache_dtype,
                                     const std::function<void(double)>& progress) {
  EngineOptions options = Options(device, precision, max_context, max_batch, kv_cache_dtype);
  options.kv_cache_bytes = kv_cache_bytes;
  options.threads = threads;
  options.prefix_cache = prefix_cache;
  options.speculation = speculation;
  options.target_itl = target_itl;
  return std::make_unique<PyEngine>(config, std::move(tensors), options, progress);
}

}  // namespace

void BindEngine(py::module_& m) {
  using namespace py::literals;
  m.def("peak_read_rate", &PeakReadRate, "threads"_a, py::call_guard<py::gil_scoped_release>(),
        "Bytes a second that so many threads together read from memory, measured.");
  m.def(
      "peak_multiply_rate",
      [](const std::string& precision, int threads) {
        const Precision parsed = ParsePrecision(precision);
        const py::gil_scoped_release release;
        return PeakMultiplyRate(parsed, threads);
      },
      "precision"_a, "threads"_a,
      "Multiply-accumulates a second of so many threads on the precision's integers, measured.");
  m.def(
      "kv_cache_bytes",
      [](const ModelConfig& config, const std::string& precision, int64_t max_context,
         int64_t max_batch, const std::string& kv_cache_dtype, int device) {
        return Engine::MinimalCacheBytes(
            config, Options(device, precision, max_context, max_batch, kv_cache_dtype));
      },
      "config"_a, "precision"_a, "max_context"_a, "max_batch"_a, "kv_cache_dtype"_a = "auto",
      "device"_a = kCpu,
      "Bytes of the smallest cache in which one request can fill `max_context`.");
  m.def(
      "cuda_memory",
      [](const ModelConfig& config, const std::string& precision, int device, int64_t max_context,
         int64_t max_batch) {
        const CudaMemoryPlan plan = Engine::DeviceMemory(
            config, Options(device, precision, max_context, max_batch, "auto"));
        return py::dict("weights"_a = plan.weights, "workspace"_a = plan.workspace,
                        "free"_a = plan.free, "total"_a = plan.total);
      },
      "config"_a, "precision"_a, "device"_a, "max_context"_a, "max_batch"_a,
      "Bytes that a model's weights and workspace take of a GPU, and what it has.");
  py::class_<PyEngine>(m, "Engine")
      .def(py::init(&MakeEngine), "config"_a, "tensors"_a, py::kw_only(), "device"_a = kCpu,
           "precision"_a = "exact", "max_context"_a, "kv_cache_bytes"_a, "threads"_a,
           "max_batch"_a = 1, "prefix_cache"_a = true, "speculation"_a = false,
           "target_itl"_a = 0.0, "kv_cache_dtype"_a = "auto", "progress"_a = py::none())
      .def(
          "reserve", [](PyEngine& self, int64_t n) { return self.engine().Reserve(n); }, "n"_a)
      .def("submit", &PyEngine::Submit, "ids"_a, "sampling"_a, "max_new_tokens"_a, py::kw_only(),
           "n"_a = 1, "cache_salt"_a = 0, "timeout"_a = kNever, "window"_a = 0,
           "prediction"_a = Ids(0), "request"_a = -1)
      .def("submit_logits", &PyEngine::SubmitLogits, "ids"_a, "chunk"_a = 0, py::kw_only(),
           "request"_a = -1)
      .def(
          "cancel", [](PyEngine& self, int64_t request) { self.engine().Cancel(request); },
          "request"_a)
      .def(
          "grant",
          [](PyEngine& self, int64_t request, int64_t tokens) {
            self.engine().Grant(request, tokens);
          },
          "request"_a, "tokens"_a)
      .def("start", &PyEngine::Start)
      .def("wait_events", &PyEngine::WaitEvents)
      .def("stop", &PyEngine::Stop)
      .def("step", &PyEngine::Step)
      .def("logits", &PyEngine::Logits, "ids"_a, "chunk"_a = 0)
      .def("metrics", [](const PyEngine& self) { return MetricsDict(self.engine().metrics()); })
      .def("memory", [](const PyEngine& self) { return MemoryDict(self.engine()); })
      .def(
          "audit", [](const PyEngine& self) { self.engine().Audit(); },
          py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("idle", &PyEngine::Idle)
      .def_property_readonly("isa",
                             [](const PyEngine& self) { return self.engine().device().kernels(); })
      .def_property_readonly("threads",
                             [](const PyEngine& self) { return self.engine().device().threads(); });
  m.def("cpu_features", [] {
    py::dict features;
    for (const auto& [name, present] : CpuFeatures()) features[py::str(name)] = present;
    return features;
  });
  m.def(
      "cuda_devices",
      [] {
        py::list devices;
        for (const auto& d : cuda::Devices()) {
          devices.append(py::dict("name"_a = d.name,
                                  "compute_capability"_a = py::make_tuple(d.major, d.minor),
                                  "multiprocessors"_a = d.multiprocessors, "memory"_a = d.memory,
                                  "l2_bytes"_a = d.l2_bytes));
        }
        return devices;
      },
      "Properties of each GPU; none where the core was built without CUDA or finds no driver.");
  m.def("cuda_driver", &cuda::DriverVersion,
        "The newest CUDA that the driver knows, 1000 * major + 10 * minor; 0 without a driver.");
  m.def(
      "cuda_problem",
      [] {
        std::string problem;
        if (cuda::Devices(&problem).empty() && problem.empty()) problem = "no device";
        return problem;
      },
      "Why there are no devices.");
  m.def("isas", [] {
    std::vector<std::string> names;
    for (const KernelTable* table : RunnableKernels()) names.emplace_back(table->name);
    return names;
  });
}

}  // namespace motet
