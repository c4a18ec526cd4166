# The OpenBLAS of the JavaCPP preset (headers and libopenblas.so.0, unpacked from its jar) as the target openblas.
set(OPENBLAS_DIR "" CACHE PATH "Folder with include/ and libopenblas.so.0 of the JavaCPP OpenBLAS preset")
if(NOT EXISTS "${OPENBLAS_DIR}/libopenblas.so.0")
  message(FATAL_ERROR "OPENBLAS_DIR must hold libopenblas.so.0, got \"${OPENBLAS_DIR}\": build through Maven, or pass "
                      "-DOPENBLAS_DIR=java/core/target/openblas/org/bytedeco/openblas/linux-x86_64")
endif()
add_library(openblas SHARED IMPORTED)
set_target_properties(openblas PROPERTIES
  IMPORTED_LOCATION "${OPENBLAS_DIR}/libopenblas.so.0"
  IMPORTED_SONAME libopenblas.so.0
  INTERFACE_INCLUDE_DIRECTORIES "${OPENBLAS_DIR}/include")
target_link_options(openblas INTERFACE "-Wl,-rpath-link,${OPENBLAS_DIR}")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64" AND CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # OpenBLAS's header has a type that this g++ knows under another name.
  target_compile_definitions(openblas INTERFACE $<$<COMPILE_LANGUAGE:CXX>:_Float16=__fp16>)
endif()
