#pragma once
// Failures are thrown inside the engine and become a status at the C boundary (c_api.cpp).
#include <cstdio>
#include <new>
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

// Runs the body of a function at a C boundary: what it throws becomes a status, and its text is written. The text is an array of a
// fixed size: remembering an error must not itself run out of memory.
using ErrorText = char[512];

template <typename Body>
sae_status status_of(const Body& body, ErrorText& text) {
  const auto remember = [&text](sae_status status, const char* message) {
    std::snprintf(text, sizeof(text), "%s", message);
    return status;
  };
  try {
    body();
    return SAE_OK;
  } catch (const Error& e) {
    return remember(e.status(), e.what());
  } catch (const std::bad_alloc&) {
    return remember(SAE_OUT_OF_MEMORY, "out of native memory");
  } catch (const std::exception& e) {
    return remember(SAE_INTERNAL, e.what());
  } catch (...) {
    return remember(SAE_INTERNAL, "unknown failure");
  }
}

}  // namespace sae
