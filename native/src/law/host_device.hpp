#pragma once
// The files of this folder say what the bits of a result are. They are the same code on the host and on a CUDA device: no allocation, no
// threads.
#if defined(__CUDACC__)
#define SAE_HOST_DEVICE __host__ __device__
#else
#define SAE_HOST_DEVICE
#endif
