#pragma once
// Screens of the CPU: fast products that name candidates. A screen never decides: the canonical dot does. law/bound.hpp has the bound.
#include <cstdint>

#include "law/bound.hpp"

namespace sae {

enum class Screen { kCanonical, kSgemm, kInt8 };  // canonical: no screen at all, the dot decides every feature

constexpr int kScreenCount = 3;
const char* screen_name(Screen screen);

// "" if the screen serves here, else why it was dropped. Probes it the first time.
const char* screen_reason(Screen screen);

// Throws Error if no screen has this name or it was dropped.
Screen screen_by_name(const char* name);

// c[i * stride + j] = <a_i, b_j> for rows a_i of a [m, d] and b_j of b [n, d], by SGEMM: within the bound of the exact product.
void sgemm(const float* a, int64_t m, const float* b, int64_t n, int64_t d, float* c, int64_t stride);

// Test hook: the bound is multiplied by this. 1 but in tests, which must see 0 lose features.
extern double bound_scale_for_tests;

// Test hook: the int8 screen serves dense batches, too.
extern bool never_gives_way_for_tests;

// Test hook: called with sgemm's arguments after the product, if not null, to err as badly as the bound admits.
extern void (*worst_sgemm_for_tests)(const float* a, int64_t m, const float* b, int64_t n, int64_t d, float* c, int64_t stride);

// Plants rows and features an ulp either side of the decision, and sees whether the screen names all that are active.
bool probe_sgemm();
bool probe_int8();

}  // namespace sae
