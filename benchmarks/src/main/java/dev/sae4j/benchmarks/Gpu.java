package dev.sae4j.benchmarks;

import org.bytedeco.cuda.cublas.cublasContext;
import org.bytedeco.cuda.global.cublas;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;

/** A CUDA device's memory and cuBLAS, through the JavaCPP presets: loaded where a GPU is measured, and nowhere else. */
final class Gpu {
  private Gpu() {}

  /** Of the calling thread, and of the allocations and products that follow. */
  static void use(int device) {
    check(cudart.cudaSetDevice(device), "cudaSetDevice");
  }

  /** Device memory for count floats. */
  static FloatPointer allocate(long count) {
    FloatPointer array = new FloatPointer((Pointer) null);
    check(cudart.cudaMalloc(array, 4 * count), "cudaMalloc");
    return array.capacity(count);
  }

  static void free(FloatPointer array) {
    check(cudart.cudaFree(array), "cudaFree");
  }

  /** Page-locked host memory for count floats. */
  static FloatPointer allocatePinned(long count) {
    FloatPointer array = new FloatPointer((Pointer) null);
    check(cudart.cudaMallocHost(array, 4 * count), "cudaMallocHost");
    return array.capacity(count);
  }

  static void freePinned(FloatPointer array) {
    check(cudart.cudaFreeHost(array), "cudaFreeHost");
  }

  /** Between any two places; done when it returns. */
  static void copy(Pointer from, Pointer to, long bytes) {
    check(cudart.cudaMemcpy(to, from, bytes, cudart.cudaMemcpyDefault), "cudaMemcpy");
    await();
  }

  static void await() {
    check(cudart.cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  private static void check(int status, String call) {
    if (status != cudart.cudaSuccess) {
      throw new IllegalStateException(call + " failed: " + cudart.cudaGetErrorString(status).getString());
    }
  }

  /** Products of row-major a [n, d] and b [m, d], transposed: c [n, m]. All on the device; done when a call returns. */
  static final class Products implements AutoCloseable {
    private final cublasContext handle = new cublasContext();
    private final FloatPointer one = new FloatPointer(1f);
    private final FloatPointer zero = new FloatPointer(0f);
    private final FloatPointer sum = new FloatPointer(1);

    Products() {
      checkCublas(cublas.cublasCreate_v2(handle), "cublasCreate");
    }

    /** bfloat16 in and out, sums in float32: the fastest plain product that deep-learning libraries offer. */
    void bf16(Pointer a, int n, Pointer b, int m, int d, Pointer c) {
      int type = cudart.CUDA_R_16BF;
      checkCublas(
          cublas.cublasGemmEx(
              handle, cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, m, n, d, one, b, type, d, a, type, d, zero, c, type, m,
              cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
      await();
    }

    /** float32 throughout, without TF32. */
    void float32(FloatPointer a, int n, FloatPointer b, int m, int d, FloatPointer c) {
      checkCublas(
          cublas.cublasSgemm_v2(
              handle, cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, m, n, d, one, b, d, a, d, zero, c, m),
          "cublasSgemm");
      await();
    }

    /** Reads count floats once: the sum of their absolute values. */
    float read(FloatPointer array, int count) {
      checkCublas(cublas.cublasSasum_v2(handle, count, array, 1, sum), "cublasSasum");
      await();
      return sum.get();
    }

    @Override
    public void close() {
      cublas.cublasDestroy_v2(handle);
      one.close();
      zero.close();
      sum.close();
    }

    private static void checkCublas(int status, String call) {
      if (status != cublas.CUBLAS_STATUS_SUCCESS) {
        throw new IllegalStateException(call + " failed: " + cublas.cublasGetStatusString(status).getString());
      }
    }
  }
}
