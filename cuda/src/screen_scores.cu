// The gate over scores that a GEMM left in the second-level cache: a warp takes a feature and 32 rows, and its ballot is the word.
#include "kernels.cuh"

namespace sae::cuda {
namespace {

constexpr int kThreads = 256;

template <typename Gate>
__global__ void screen_scores_kernel(const float* scores, Features features, int64_t first, int64_t count, Batch batch, Gate gate,
                                     Mask mask) {
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  const int64_t local = warp / mask.words;
  const int word = static_cast<int>(warp % mask.words), r = 32 * word + static_cast<int>(threadIdx.x & 31);
  if (local >= count) return;
  const int64_t j = first + local;
  bool candidate = false;
  if (r < batch.rows) {
    candidate = gate.may_be_active(scores[local * 32 * mask.words + r], bound_of(batch.bounds[r], features.bounds[j]), j, r);
  }
  const unsigned bits = __ballot_sync(kAllLanes, candidate);
  if ((threadIdx.x & 31) == 0) mask.bits[j * mask.words + word] = bits;
}

}  // namespace

template <typename Gate>
void launch_screen_scores(const float* scores, const Features& features, int64_t first, int64_t count, const Batch& batch,
                          const Gate& gate, Mask mask, cudaStream_t stream) {
  launch(screen_scores_kernel<Gate>, divide_up(count * mask.words * 32, kThreads), kThreads, 0, stream, scores, features, first,
         count, batch, gate, mask);
}

template void launch_screen_scores(const float*, const Features&, int64_t, int64_t, const Batch&, const EncodeGate&, Mask,
                                   cudaStream_t);
template void launch_screen_scores(const float*, const Features&, int64_t, int64_t, const Batch&, const TopGate&, Mask,
                                   cudaStream_t);
template void launch_screen_scores(const float*, const Features&, int64_t, int64_t, const Batch&, const ProjectGate&, Mask,
                                   cudaStream_t);

}  // namespace sae::cuda
