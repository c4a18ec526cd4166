/*
 * What libsae4j_cuda.so gives to libsae4j: one table of functions. Both libraries carry a C++ library of their own, so nothing but
 * C passes between them: a status, and the text of the failure. Not part of the API.
 */
#ifndef SAE4J_CUDA_BACKEND_H
#define SAE4J_CUDA_BACKEND_H

#include "sae4j.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SAE_CUDA_BACKEND_VERSION 2

typedef struct sae_cuda_engine sae_cuda_engine; /* a model's weights and scratch on a device */
typedef struct sae_cuda_codes sae_cuda_codes;   /* CSR on a device; grows, never shrinks */

/* Functions that return a status leave the text of a failure in last_error (the calling thread's). */
typedef struct sae_cuda_backend {
  int32_t version;
  int32_t screen_count;
  const char* (*last_error)(void);
  const char* (*reason)(int32_t device);
  const char* (*describe)(int32_t device);
  const char* (*screen_name)(int32_t screen);
  const char* (*screen_reason)(int32_t device, int32_t screen);
  const char* (*default_screen)(int32_t device);

  sae_status (*open)(int32_t device, const sae_weights* weights, int32_t threads, const char* screen,
                     void* stream, sae_cuda_engine** engine);
  void (*close)(sae_cuda_engine* engine);
  const char* (*description)(const sae_cuda_engine* engine);
  const char* (*screen_for)(const sae_cuda_engine* engine, int64_t n);

  sae_status (*codes_create)(const sae_cuda_engine* engine, sae_cuda_codes** codes);
  void (*codes_destroy)(sae_cuda_codes* codes);
  /* Whether these codes lie on the engine's device. */
  int32_t (*codes_fit)(const sae_cuda_engine* engine, const sae_cuda_codes* codes);
  int64_t (*codes_nnz)(const sae_cuda_codes* codes);
  /* scale and shift: [n] of a model that normalises, else null. */
  sae_status (*codes_upload)(sae_cuda_engine* engine, sae_cuda_codes* codes, int64_t n, const int64_t* row_offsets, const int32_t* indices,
                             const float* values, const float* scale, const float* shift);
  sae_status (*codes_download)(const sae_cuda_codes* codes, int64_t* row_offsets, int32_t* indices, float* values, float* scale,
                               float* shift);

  sae_status (*encode)(sae_cuda_engine* engine, const float* x, int64_t n, sae_cuda_codes* codes);
  sae_status (*decode)(sae_cuda_engine* engine, const sae_cuda_codes* codes, const float* x, int32_t direction, float* x_hat);
  sae_status (*project_dense)(sae_cuda_engine* engine, const float* v, int64_t n, sae_readout readout, int32_t unit,
                              float* coefficients);
  sae_status (*project_top)(sae_cuda_engine* engine, const float* v, int64_t n, sae_readout readout, int32_t unit, int64_t k,
                            int32_t per_sign, sae_cuda_codes* codes);
  /* count floats from host or device memory into host memory. */
  sae_status (*to_host)(sae_cuda_engine* engine, const float* from, int64_t count, float* to);
} sae_cuda_backend;

/* The one symbol that libsae4j looks up. */
SAE_API const sae_cuda_backend* sae_cuda_backend_table(void);

#ifdef __cplusplus
}
#endif
#endif
