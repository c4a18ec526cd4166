# Flags that every target of ours shares. Results are defined to the bit, so the compiler may neither contract a*b+c nor
# reassociate: no -ffast-math, no -march.
add_library(sae4j_flags INTERFACE)
target_compile_features(sae4j_flags INTERFACE cxx_std_17)
target_compile_options(sae4j_flags INTERFACE
  -O3 -ffp-contract=off -fno-math-errno -ffunction-sections -fdata-sections
  -Wall -Wextra -Werror=return-type)

option(SAE4J_SANITIZE "Build everything with AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
if(SAE4J_SANITIZE)
  target_compile_options(sae4j_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -g)
  target_link_options(sae4j_flags INTERFACE -fsanitize=address,undefined)
endif()
