#pragma once
// Failures are thrown inside the engine and become a status at the C boundary (c_api.cpp).
#include <stdexcept>
#include <string>

#include "sae4j.h"

namespace sae {

class Error : public std::runtime_error {
 public:
  Error(sae_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  sae_status status() const { return status_; }

 private:
  sae_status status_;
};

// Throws Error; the message is one line: what, expected and got.
[[noreturn]] __attribute__((format(printf, 2, 3))) void fail(sae_status status, const char* format, ...);

}  // namespace sae
