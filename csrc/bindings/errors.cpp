// C++ errors become the classes of motet.errors, with their attributes.
#include <new>
#include <string>

#include "base/error.h"
#include "bindings/bindings.h"

namespace py = pybind11;

namespace motet {
namespace {

void Raise(const char* type, const std::string& message, const py::dict& attributes = {}) {
  const py::object exception = py::module_::import("motet.errors").attr(type);
  const py::object value = exception(message, **attributes);
  PyErr_SetObject(exception.ptr(), value.ptr());
}

}  // namespace

void BindErrors() {
  py::register_exception_translator([](std::exception_ptr error) {
    using namespace py::literals;
    try {
      if (error) std::rethrow_exception(error);
    } catch (const CheckpointError& e) {
      Raise("CheckpointError", e.what(),
            py::dict("tensor"_a = e.tensor(), "expected"_a = e.expected(), "found"_a = e.found()));
    } catch (const InvalidRequestError& e) {
      Raise("InvalidRequestError", e.what(), py::dict("param"_a = e.param()));
    } catch (const ContextLengthError& e) {
      Raise("ContextLengthError", e.what(),
            py::dict("n_prompt"_a = e.n_prompt(), "n_ctx"_a = e.n_ctx()));
    } catch (const OutOfMemoryError& e) {
      Raise("OutOfMemoryError", e.what());
    } catch (const DeviceError& e) {
      Raise("DeviceError", e.what());
    } catch (const ModelClosedError& e) {
      Raise("ModelClosedError", e.what());
    } catch (const std::bad_alloc&) {
      Raise("OutOfMemoryError", "the system refused memory; a smaller max_context may fit");
    }
  });
}

}  // namespace motet
