package dev.sae4j.internal;

import org.bytedeco.cuda.cudart.cudaDeviceProp;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.javacpp.SizeTPointer;

/**
 * What CUDA's runtime says of a device, through the JavaCPP Presets for CUDA. All use of the presets is in this class, so that
 * none of theirs is loaded before a CUDA device is there: they need the driver, and a runtime that the system installs. Not part of
 * the API.
 */
public final class CudaPreset {
  private static String failure;

  private CudaPreset() {}

  /** One line on a device that the engine found, beside the engine's own; or why the presets can't be loaded. The engine needs none. */
  public static synchronized String describe(int device) {
    if (failure == null) {
      try {
        return properties(device);
      } catch (LinkageError e) {
        failure = "the CUDA presets cannot be loaded: " + Native.rootMessage(e); // later ones are but NoClassDefFoundErrors
      }
    }
    return failure;
  }

  private static String properties(int device) {
    int[] current = new int[1];
    int[] runtime = new int[1];
    cudart.cudaGetDevice(current);
    try (PointerScope scope = new PointerScope()) {
      cudaDeviceProp properties = new cudaDeviceProp();
      SizeTPointer free = new SizeTPointer(1);
      SizeTPointer total = new SizeTPointer(1);
      int[] statuses = {
        cudart.cudaSetDevice(device),
        cudart.cudaGetDeviceProperties(properties, device),
        cudart.cudaMemGetInfo(free, total),
        cudart.cudaRuntimeGetVersion(runtime)
      };
      for (int status : statuses) {
        if (status != cudart.cudaSuccess) {
          return "the CUDA runtime says: " + cudart.cudaGetErrorString(status).getString();
        }
      }
      return "compute capability %d.%d, %d of %d MiB free, CUDA runtime %d.%d"
          .formatted(
              properties.major(),
              properties.minor(),
              free.get() >> 20,
              total.get() >> 20,
              runtime[0] / 1000,
              runtime[0] % 1000 / 10);
    } finally {
      cudart.cudaSetDevice(current[0]); // the calling thread's, and none of our business
    }
  }
}
