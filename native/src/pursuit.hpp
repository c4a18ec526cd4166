#pragma once
// Pursuit: a direction as a sparse sum of decoder rows. Every backend chooses atoms by its project_top and shares this solver.
#include "model.hpp"
#include "thread_pool.hpp"

namespace sae {

// sae_pursue over a model of any backend. The pool's threads solve different rows; each row's solver is sequential.
void pursue(const sae_model& model, ThreadPool& pool, const float* v, int64_t n, const Pursuit& how, sae_codes& codes);

}  // namespace sae
