package dev.sae4j;

import dev.sae4j.internal.CudaPreset;
import dev.sae4j.internal.Native;
import dev.sae4j.internal.bindings.Sae4j;
import java.util.ArrayList;
import java.util.List;

/**
 * Where a model runs, and how. A value: nothing native is held by it.
 *
 * <p>No choice of device, threads, screen or kernel changes a bit of any result (dense projections apart).
 *
 * @param name {@code "cpu"}, or {@code "cuda:i"} with i from 0
 * @param threads how many host threads a model's calls use, the caller included; 0 for all cores
 * @param screen the fast product that names candidates, one of {@link #screens()}; null for the default
 * @param kernel the CPU's form of the dot product: {@code "avx512"}, {@code "avx2"} or {@code "portable"}; null for the best, and
 *     on a CUDA device
 * @param stream address of a CUDA stream of the caller's, whose work each call awaits; 0 for none, and on the CPU
 */
public record Device(String name, int threads, String screen, String kernel, long stream) {
  /**
   * A screen of a device.
   *
   * @param name as {@link Device#withScreen} takes it
   * @param byDefault whether batches use it unless told otherwise
   * @param reason why it can't serve here, or null if it serves
   */
  public record Screen(String name, boolean byDefault, String reason) {}

  public Device {
    if (!name.matches("cpu|cuda:(0|[1-9]\\d{0,3})")) {
      throw new IllegalArgumentException("device must be cpu or cuda:i with i from 0 to 9999, got \"" + name + "\"");
    }
    if (threads < 0 || threads > 1024) {
      throw new IllegalArgumentException("threads must be 0 (all cores) to 1024, got " + threads);
    }
    if (kernel != null && !name.equals("cpu")) {
      throw new IllegalArgumentException("a kernel is chosen on the CPU alone, got \"" + kernel + "\" for " + name);
    }
    if (stream != 0 && name.equals("cpu")) {
      throw new IllegalArgumentException("a stream is for CUDA devices, got 0x%x for cpu".formatted(stream));
    }
  }

  /** The CPU, with all cores. */
  public static Device cpu() {
    return new Device("cpu", 0, null, null, 0);
  }

  /**
   * A CUDA device; {@link #reason()} says why it can't serve, where it can't. Its backend is the library that the system property
   * {@code sae4j.cuda.library} names, or the one in the jar of classifier {@code linux-x86_64-cuda}; it is loaded when a CUDA
   * device is first asked about, once per process.
   */
  public static Device cuda(int index) {
    return new Device("cuda:" + index, 0, null, null, 0);
  }

  /** The device to use unless told otherwise. It is the CPU, as long as no GPU was measured to be faster: ask for one by name. */
  public static Device auto() {
    return cpu();
  }

  /**
   * A device by its name on the command line.
   *
   * @param name {@code auto}, {@code cpu}, {@code cuda} or {@code cuda:i}
   * @throws IllegalArgumentException for any other name
   */
  public static Device of(String name) {
    if (name.equals("auto")) {
      return auto();
    }
    if (name.equals("cpu")) {
      return cpu();
    }
    if (name.matches("cuda(:\\d{1,4})?")) {
      return cuda(name.length() == 4 ? 0 : Integer.parseInt(name.substring(5)));
    }
    throw new IllegalArgumentException("device must be auto, cpu, cuda or cuda:i, got \"" + name + "\"");
  }

  /** The CPU; {@code cuda:0}, whether it can serve here or not; the CUDA devices after it, up to the first that can't. */
  public static List<Device> all() {
    List<Device> all = new ArrayList<>(List.of(cpu(), cuda(0)));
    for (int i = 1; cuda(i - 1).isAvailable() && cuda(i).isAvailable(); i++) {
      all.add(cuda(i));
    }
    return all;
  }

  public Device withThreads(int threads) {
    return new Device(name, threads, screen, kernel, stream);
  }

  public Device withScreen(String screen) {
    return new Device(name, threads, screen, kernel, stream);
  }

  /** @throws IllegalArgumentException on a CUDA device, for any but null */
  public Device withKernel(String kernel) {
    return new Device(name, threads, screen, kernel, stream);
  }

  /**
   * With a stream of the caller's: every call on a model first waits for the work that is in it, so that what this work writes can
   * be given to the call. Calls are synchronous: what they write is there when they return, for this stream and any other.
   *
   * @param cudaStream address of a {@code cudaStream_t} of this device, which must outlive the models; 0 for none
   * @throws IllegalArgumentException on the CPU, for any but 0
   */
  public Device withStream(long cudaStream) {
    return new Device(name, threads, screen, kernel, cudaStream);
  }

  public boolean isCpu() {
    return name.equals("cpu");
  }

  /** Why this device can't serve here, in one sentence; null if it can. */
  public String reason() {
    try {
      if (isCpu()) {
        Native.load();
        return null;
      }
      Native.loadCuda();
      return nullIfEmpty(Native.text(Sae4j.sae_cuda_reason(index())));
    } catch (SaeException e) {
      return e.getMessage();
    }
  }

  public boolean isAvailable() {
    return reason() == null;
  }

  /** One line on the hardware and libraries found; empty where the device is not available. */
  public String detail() {
    if (!isAvailable()) {
      return "";
    }
    if (isCpu()) {
      return Native.text(Sae4j.sae_cpu_describe());
    }
    String engine = Native.text(Sae4j.sae_cuda_describe(index()));
    // The engine's emulation for tests is no device that CUDA knows.
    return engine.startsWith("emulated") ? engine : engine + "; " + CudaPreset.describe(index());
  }

  /** The screens of this device, probed; empty where it is not available. */
  public List<Screen> screens() {
    if (!isAvailable()) {
      return List.of();
    }
    return isCpu() ? cpuScreens() : cudaScreens();
  }

  private static List<Screen> cpuScreens() {
    List<Screen> screens = new ArrayList<>();
    String byDefault = Native.text(Sae4j.sae_cpu_default_screen());
    for (int i = 0; i < Sae4j.sae_cpu_screen_count(); i++) {
      String reason = nullIfEmpty(Native.text(Sae4j.sae_cpu_screen_reason(i)));
      String name = Native.text(Sae4j.sae_cpu_screen_name(i));
      screens.add(new Screen(name, name.equals(byDefault), reason));
    }
    return screens;
  }

  private List<Screen> cudaScreens() {
    List<Screen> screens = new ArrayList<>();
    String byDefault = Native.text(Sae4j.sae_cuda_default_screen(index()));
    for (int i = 0; i < Sae4j.sae_cuda_screen_count(); i++) {
      String reason = nullIfEmpty(Native.text(Sae4j.sae_cuda_screen_reason(index(), i)));
      String name = Native.text(Sae4j.sae_cuda_screen_name(i));
      screens.add(new Screen(name, name.equals(byDefault), reason));
    }
    return screens;
  }

  private static String nullIfEmpty(String text) {
    return text.isEmpty() ? null : text;
  }

  /** i of cuda:i. */
  int index() {
    return Integer.parseInt(name.substring("cuda:".length()));
  }

  /** The threads a model opened here uses. */
  int effectiveThreads() {
    return threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
  }
}
