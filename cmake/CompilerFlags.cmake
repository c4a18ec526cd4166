# Flags that every target of ours shares. Results are defined to the bit, so the compiler may neither contract a*b+c nor
# reassociate: no -ffast-math, no -march.
add_library(sae4j_flags INTERFACE)
target_compile_features(sae4j_flags INTERFACE cxx_std_17)
target_compile_options(sae4j_flags INTERFACE
  -O3 -ffp-contract=off -fno-math-errno -ffunction-sections -fdata-sections
  -Wall -Wextra -Werror=return-type)

set(SAE4J_SANITIZE "" CACHE STRING "Build everything with sanitizers: address (and undefined behaviour), or thread")
set(SAE4J_SANITIZERS_address address,undefined)
set(SAE4J_SANITIZERS_thread thread)
if(SAE4J_SANITIZE)
  set(sanitizers ${SAE4J_SANITIZERS_${SAE4J_SANITIZE}})
  if(NOT sanitizers)
    message(FATAL_ERROR "SAE4J_SANITIZE must be address or thread, got ${SAE4J_SANITIZE}")
  endif()
  # Targets with the property SAE4J_UNSANITIZED are left as they are.
  set(wanted "$<NOT:$<BOOL:$<TARGET_PROPERTY:SAE4J_UNSANITIZED>>>")
  target_compile_options(sae4j_flags INTERFACE "$<${wanted}:-fsanitize=${sanitizers};-fno-sanitize-recover=all;-g>")
  target_link_options(sae4j_flags INTERFACE "$<${wanted}:-fsanitize=${sanitizers}>")
endif()
