#include "base/error.h"

#include <utility>

namespace motet {

CheckpointError::CheckpointError(const std::string& message, std::string tensor,
                                 std::string expected, std::string found)
    : std::runtime_error(message),
      tensor_(std::move(tensor)),
      expected_(std::move(expected)),
      found_(std::move(found)) {}

InvalidRequestError::InvalidRequestError(std::string param, const std::string& message)
    : std::runtime_error(message), param_(std::move(param)) {}

ContextLengthError::ContextLengthError(int64_t n_prompt, int64_t n_ctx)
    : std::runtime_error("prompt: " + std::to_string(n_prompt) +
                         " tokens do not fit the context of " + std::to_string(n_ctx) +
                         (n_prompt == n_ctx ? ", which must have room for the answer too" : "")),
      n_prompt_(n_prompt),
      n_ctx_(n_ctx) {}

}  // namespace motet
