package dev.sae4j.benchmarks;

import static org.bytedeco.cuda.global.cublas.CUBLAS_COMPUTE_32F;
import static org.bytedeco.cuda.global.cublas.CUBLAS_GEMM_DEFAULT;
import static org.bytedeco.cuda.global.cublas.CUBLAS_OP_N;
import static org.bytedeco.cuda.global.cublas.CUBLAS_OP_T;
import static org.bytedeco.cuda.global.cublas.CUBLAS_STATUS_SUCCESS;
import static org.bytedeco.cuda.global.cublas.cublasCreate_v2;
import static org.bytedeco.cuda.global.cublas.cublasDestroy_v2;
import static org.bytedeco.cuda.global.cublas.cublasGemmEx;
import static org.bytedeco.cuda.global.cublas.cublasGetStatusString;
import static org.bytedeco.cuda.global.cublas.cublasSasum_v2;
import static org.bytedeco.cuda.global.cublas.cublasSetMathMode;
import static org.bytedeco.cuda.global.cublas.cublasSetStream_v2;
import static org.bytedeco.cuda.global.cublas.cublasSgemm_v2_64;
import static org.bytedeco.cuda.global.cudart.CUDA_R_16BF;
import static org.bytedeco.cuda.global.cudart.cudaDeviceSynchronize;
import static org.bytedeco.cuda.global.cudart.cudaFree;
import static org.bytedeco.cuda.global.cudart.cudaFreeHost;
import static org.bytedeco.cuda.global.cudart.cudaGetErrorString;
import static org.bytedeco.cuda.global.cudart.cudaMalloc;
import static org.bytedeco.cuda.global.cudart.cudaMallocHost;
import static org.bytedeco.cuda.global.cudart.cudaMemcpy;
import static org.bytedeco.cuda.global.cudart.cudaMemcpyDefault;
import static org.bytedeco.cuda.global.cudart.cudaSetDevice;
import static org.bytedeco.cuda.global.cudart.cudaStreamCreate;
import static org.bytedeco.cuda.global.cudart.cudaStreamDestroy;
import static org.bytedeco.cuda.global.cudart.cudaStreamSynchronize;
import static org.bytedeco.cuda.global.cudart.cudaSuccess;

import org.bytedeco.cuda.cublas.cublasContext;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;

/** Memory, a stream and cuBLAS of a CUDA device, through the JavaCPP presets: what a caller has who keeps data there. */
final class Cuda implements AutoCloseable {
  private final CUstream_st stream = new CUstream_st();
  private final cublasContext cublas = new cublasContext();
  private final FloatPointer one = new FloatPointer(1f);
  private final FloatPointer zero = new FloatPointer(0f);
  private final FloatPointer sum = new FloatPointer(1);

  /** On the calling thread, which must make all the calls. */
  Cuda(int device) {
    check(cudaSetDevice(device), "cudaSetDevice");
    check(cudaStreamCreate(stream), "cudaStreamCreate");
    checkBlas(cublasCreate_v2(cublas), "cublasCreate");
    checkBlas(cublasSetStream_v2(cublas, stream), "cublasSetStream");
  }

  /** As {@link dev.sae4j.Device#withStream} takes it. */
  long stream() {
    return stream.address();
  }

  /** Floats on the device, not initialised; free them. */
  FloatPointer allocate(long count) {
    FloatPointer array = new FloatPointer();
    check(cudaMalloc(array, count * Float.BYTES), "cudaMalloc of " + count + " floats");
    return array.capacity(count);
  }

  void free(FloatPointer array) {
    check(cudaFree(array), "cudaFree");
  }

  /** Page-locked floats of the host, not initialised; free them as such. */
  FloatPointer allocatePinned(long count) {
    FloatPointer array = new FloatPointer();
    check(cudaMallocHost(array, count * Float.BYTES), "cudaMallocHost of " + count + " floats");
    return array.capacity(count);
  }

  void freePinned(FloatPointer array) {
    check(cudaFreeHost(array), "cudaFreeHost");
  }

  /** Count floats between host and device, in whichever direction, or within one; done when it returns. */
  void copy(Pointer from, Pointer to, long count) {
    check(cudaMemcpy(to, from, count * Float.BYTES, cudaMemcpyDefault), "cudaMemcpy of " + count + " floats");
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); // within a device it has but begun
  }

  /**
   * c [n, m] = a [n, d] b [m, d]^T on the stream; returns before it is done.
   *
   * @param math a cublasMath_t: CUBLAS_DEFAULT_MATH is float32 throughout, CUBLAS_TF32_TENSOR_OP_MATH rounds to 10 bits
   */
  void sgemm(FloatPointer a, long n, FloatPointer b, long m, long d, FloatPointer c, int math) {
    checkBlas(cublasSetMathMode(cublas, math), "cublasSetMathMode");
    // cuBLAS is column-major: c^T [m, n] = b a^T.
    checkBlas(cublasSgemm_v2_64(cublas, CUBLAS_OP_T, CUBLAS_OP_N, m, n, d, one, b, d, a, d, zero, c, m), "cublasSgemm");
  }

  /** As {@link #sgemm}, bfloat16 in and out, sums in float32: the fastest plain product that deep-learning libraries offer. */
  void gemmBf16(Pointer a, int n, Pointer b, int m, int d, Pointer c) {
    checkBlas(
        cublasGemmEx(
            cublas, CUBLAS_OP_T, CUBLAS_OP_N, m, n, d, one, b, CUDA_R_16BF, d, a, CUDA_R_16BF, d, zero, c, CUDA_R_16BF, m,
            CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
  }

  /** Reads count floats once, on the stream: the sum of their absolute values. */
  float read(FloatPointer array, int count) {
    checkBlas(cublasSasum_v2(cublas, count, array, 1, sum), "cublasSasum");
    return sum.get();
  }

  /** Waits for the stream. */
  void await() {
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  }

  @Override
  public void close() {
    checkBlas(cublasDestroy_v2(cublas), "cublasDestroy");
    check(cudaStreamDestroy(stream), "cudaStreamDestroy");
    one.close();
    zero.close();
    sum.close();
  }

  private static void check(int status, String what) {
    if (status != cudaSuccess) {
      throw new IllegalStateException(what + " failed: " + cudaGetErrorString(status).getString());
    }
  }

  private static void checkBlas(int status, String what) {
    if (status != CUBLAS_STATUS_SUCCESS) {
      throw new IllegalStateException(what + " failed: " + cublasGetStatusString(status).getString());
    }
  }
}
