package dev.sae4j;

import dev.sae4j.internal.Native;
import dev.sae4j.internal.bindings.Sae4j;
import java.util.ArrayList;
import java.util.List;

/**
 * Where a model runs, and how. A value: nothing native is held by it.
 *
 * <p>No choice of device, threads, screen or kernel changes a bit of any result (dense projections apart).
 *
 * @param name {@code "cpu"} or {@code "cuda:0"}
 * @param threads how many threads a model's calls use, the caller included; 0 for all cores
 * @param screen the fast product that names candidates: {@code "canonical"} or {@code "sgemm"}; null to choose by shape
 * @param kernel the form of the dot product: {@code "avx512"}, {@code "avx2"} or {@code "portable"}; null for the best
 */
public record Device(String name, int threads, String screen, String kernel) {
  /**
   * A screen of a device.
   *
   * @param name as {@link Device#withScreen} takes it
   * @param byDefault whether batches use it unless told otherwise
   * @param reason why it can't serve here, or null if it serves
   */
  public record Screen(String name, boolean byDefault, String reason) {}

  private static final String NO_CUDA = "this build of sae4j has no CUDA backend";

  public Device {
    if (threads < 0 || threads > 1024) {
      throw new IllegalArgumentException("threads must be 0 (all cores) to 1024, got " + threads);
    }
  }

  /** The CPU, with all cores. */
  public static Device cpu() {
    return new Device("cpu", 0, null, null);
  }

  /** A CUDA device; {@link #reason()} says why it can't serve, where it can't. */
  public static Device cuda(int index) {
    return new Device("cuda:" + index, 0, null, null);
  }

  /** The fastest device that can run here. */
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

  /** Every device that this build knows, those that cannot serve here included. */
  public static List<Device> all() {
    return List.of(cpu(), cuda(0));
  }

  public Device withThreads(int threads) {
    return new Device(name, threads, screen, kernel);
  }

  public Device withScreen(String screen) {
    return new Device(name, threads, screen, kernel);
  }

  public Device withKernel(String kernel) {
    return new Device(name, threads, screen, kernel);
  }

  public boolean isCpu() {
    return name.equals("cpu");
  }

  /** Why this device can't serve here, in one sentence; null if it can. */
  public String reason() {
    if (!isCpu()) {
      return NO_CUDA;
    }
    try {
      Native.load();
      return null;
    } catch (SaeException e) {
      return e.getMessage();
    }
  }

  public boolean isAvailable() {
    return reason() == null;
  }

  /** One line on the hardware and libraries found; empty where the device is not available. */
  public String detail() {
    return isAvailable() ? Native.text(Sae4j.sae_cpu_describe()) : "";
  }

  /** The screens of this device, probed; empty where it is not available. */
  public List<Screen> screens() {
    List<Screen> screens = new ArrayList<>();
    if (isAvailable()) {
      for (int i = 0; i < Sae4j.sae_cpu_screen_count(); i++) {
        String reason = Native.text(Sae4j.sae_cpu_screen_reason(i));
        String screenName = Native.text(Sae4j.sae_cpu_screen_name(i));
        boolean byDefault = screenName.equals("sgemm") && reason.isEmpty();
        screens.add(new Screen(screenName, byDefault, reason.isEmpty() ? null : reason));
      }
    }
    return screens;
  }

  /** The threads a model opened here uses. */
  int effectiveThreads() {
    return threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
  }
}
