// Errors that cross into Python: each says what was expected and what was found; the bindings turn
// them into the exception classes of motet.errors.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace motet {

// Hyper-parameters or tensors that do not make a model; what() says no more than what is wrong.
class CheckpointError : public std::runtime_error {
 public:
  CheckpointError(const std::string& message, std::string tensor, std::string expected,
                  std::string found);
  const std::string& tensor() const { return tensor_; }  // a name, or a configuration key
  const std::string& expected() const { return expected_; }
  const std::string& found() const { return found_; }

 private:
  std::string tensor_, expected_, found_;
};

// A caller's argument outside its range; `param` is the argument's public name, which the message
// starts with.
class InvalidRequestError : public std::runtime_error {
 public:
  InvalidRequestError(std::string param, const std::string& message);
  const std::string& param() const { return param_; }

 private:
  std::string param_;
};

class ContextLengthError : public std::runtime_error {
 public:
  ContextLengthError(int64_t n_prompt, int64_t n_ctx);
  int64_t n_prompt() const { return n_prompt_; }
  int64_t n_ctx() const { return n_ctx_; }

 private:
  int64_t n_prompt_, n_ctx_;
};

// Memory that was planned and does not fit; the message says what would.
class OutOfMemoryError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A device that is not there or does not do what it should.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An engine that can't be used any more.
class ModelClosedError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace motet
