package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/**
 * Every way in which an operation can run here: what tests go over. Beside the CPU the system property {@code sae4j.device} decides:
 * {@code emulated}, the CUDA kernels on the host, slow and to the bit; {@code cuda}, a GPU, without which all fails; {@code cpu},
 * nothing.
 */
final class Devices {
  private static final String WANTED = System.getProperty("sae4j.device", "cpu");
  private static final List<Device> CUDA = cuda();
  private static final long EMULATED_CELLS = 2_000_000;

  private Devices() {}

  /** The CPU and the CUDA device, in every form: kernels, screens, threads. */
  static List<Device> all() {
    List<Device> devices = cpu();
    devices.addAll(CUDA);
    return devices;
  }

  /** The CPU and the CUDA device, as they are: for what does not depend on the form. */
  static List<Device> each() {
    List<Device> devices = new ArrayList<>(List.of(Device.cpu()));
    CUDA.stream().limit(1).forEach(devices::add);
    return devices;
  }

  /**
   * As many of n rows as a device can do in seconds: all, but on the emulation, which runs a GPU's threads one after another.
   *
   * @param cells multiply-adds a row, with d_in rounded up to 128
   */
  static int rows(Device device, int n, long cells) {
    return device.isCpu() || !isEmulated() ? n : (int) Math.min(n, Math.max(1, EMULATED_CELLS / cells));
  }

  /** As {@link #all()}, with only the default form of the emulation. */
  static List<Device> fast() {
    return isEmulated() ? Stream.concat(cpu().stream(), CUDA.stream().limit(1)).toList() : all();
  }

  static boolean isEmulated() {
    return WANTED.equals("emulated");
  }

  private static List<Device> cpu() {
    Device cpu = Device.cpu();
    List<Device> devices = new ArrayList<>();
    devices.add(cpu);
    devices.add(cpu.withThreads(1).withScreen("canonical").withKernel("portable"));
    devices.add(cpu.withThreads(2).withScreen("canonical"));
    devices.add(cpu.withThreads(3).withScreen("sgemm"));
    if (cpu.detail().contains(" avx2")) {
      devices.add(cpu.withThreads(2).withScreen("sgemm").withKernel("avx2"));
    }
    if (cpu.screens().stream().anyMatch(screen -> screen.name().equals("int8") && screen.reason() == null)) {
      devices.add(cpu.withThreads(3).withScreen("int8"));
    }
    return devices;
  }

  private static List<Device> cuda() {
    switch (WANTED) {
      case "cpu" -> {
        System.out.println("The tests go over the CPU; CUDA is left out: sae4j.device is cpu.");
        return List.of();
      }
      case "emulated" -> System.setProperty("sae4j.cuda.library", System.getProperty("sae4j.test.emulated"));
      case "cuda" -> {}
      default -> throw new IllegalArgumentException("sae4j.device must be cpu, cuda or emulated, got \"" + WANTED + "\"");
    }
    Device gpu = Device.cuda(0);
    assertNull(gpu.reason(), "sae4j.device is " + WANTED + ", but there is none");
    assertEquals(isEmulated(), gpu.detail().startsWith("emulated"), "sae4j.device is " + WANTED + ", got " + gpu.detail());
    List<Device> devices = new ArrayList<>(List.of(gpu));
    for (Device.Screen screen : gpu.screens()) {
      if (screen.reason() != null && screen.reason().contains("needs compute capability")) {
        continue; // made for other cards than this
      }
      assertNull(screen.reason(), "screen " + screen.name() + " was dropped");
      if (!screen.byDefault() || !screen.name().equals("canonical")) { // else it is the same form again
        devices.add(gpu.withThreads(1).withScreen(screen.name()));
      }
    }
    System.out.println("The tests go over the CPU and " + gpu.detail() + ", screens " + gpu.screens().stream().map(Device.Screen::name).toList() + ".");
    return devices;
  }
}
