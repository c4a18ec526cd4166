package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.bytedeco.openblas.global.openblas_nolapack;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class DeviceTest {
  @BeforeAll
  static void chooseTheCudaBackend() {
    Devices.all(); // before a test asks about a CUDA device: the first to ask loads the backend, for all of the process
  }

  @Test
  void theCpuServesWithEveryScreen() {
    assertTrue(Device.cpu().isAvailable());
    assertTrue(Device.cpu().detail().contains("OpenBLAS"), Device.cpu().detail());
    assertTrue(Device.all().contains(Device.cpu()));
    assertEquals(List.of("canonical", "sgemm", "int8"), Device.cpu().screens().stream().map(Device.Screen::name).toList());
    for (Device.Screen screen : Device.cpu().screens()) {
      boolean lacksInstructions = screen.name().equals("int8") && screen.reason() != null && screen.reason().startsWith("this CPU has no");
      assertTrue(screen.reason() == null || lacksInstructions, screen.name() + " was dropped");
    }
  }

  @Test
  void whatCannotServeSaysWhy() {
    Device gpu = Device.cuda(99);
    assertFalse(gpu.isAvailable());
    assertEquals("", gpu.detail());
    assertEquals(List.of(), gpu.screens());
    assertTrue(gpu.reason().length() > 10 && gpu.reason().lines().count() == 1);
    TestSae sae = new TestSae(2, 2, 2);
    SaeException e = assertThrows(SaeException.class, () -> sae.open(gpu));
    assertTrue(e.getMessage().contains("cuda:99") && e.getMessage().contains(gpu.reason()), e.getMessage());
  }

  @Test
  void namesAreChecked() {
    assertEquals(Device.cuda(0), Device.of("cuda"));
    assertEquals(Device.cuda(3), Device.of("cuda:3"));
    assertThrows(IllegalArgumentException.class, () -> Device.of("gpu"));
    assertThrows(IllegalArgumentException.class, () -> Device.cuda(-1));
    assertThrows(IllegalArgumentException.class, () -> new Device("cuda", 0, null, null, 0));
    assertThrows(IllegalArgumentException.class, () -> Device.cpu().withThreads(-1));
    TestSae sae = new TestSae(2, 2, 2);
    assertThrows(IllegalArgumentException.class, () -> sae.open(Device.cpu().withScreen("int7")));
    assertThrows(IllegalArgumentException.class, () -> sae.open(Device.cpu().withKernel("sse")));
  }

  @Test
  void aForcedScreenAndKernelAreReported() {
    TestSae sae = new TestSae(4, 4, 8);
    try (SparseAutoencoder engine = sae.open(Device.cpu().withThreads(3).withScreen("sgemm").withKernel("portable"))) {
      assertEquals("sgemm", engine.screenFor(1));
      assertTrue(engine.describe().startsWith("cpu, kernel portable, 3 threads, OpenBLAS 0."), engine.describe());
    }
    try (SparseAutoencoder engine = sae.open(Device.cpu())) {
      assertEquals("canonical", engine.screenFor(1)); // a small one
      assertEquals("sgemm", engine.screenFor(1000));
    }
    TestSae larger = new TestSae(128, 128, 2048);
    String byDefault = Device.cpu().screens().stream().filter(Device.Screen::byDefault).findFirst().orElseThrow().name();
    try (SparseAutoencoder engine = larger.open(Device.cpu())) {
      assertEquals(byDefault, engine.screenFor(1000));
      assertEquals(engine.screenFor(1).equals("int8"), engine.screenBytes() > 0);
    }
    try (SparseAutoencoder engine = larger.open(Device.cpu().withScreen("sgemm"))) {
      assertEquals(0, engine.screenBytes());
    }
  }

  @Test
  void kernelsAreTheCpusAndStreamsCudas() {
    assertRefused("a kernel is chosen on the CPU alone, got \"avx2\" for cuda:0", () -> Device.cuda(0).withKernel("avx2"));
    assertRefused("a stream is for CUDA devices, got 0x7f00 for cpu", () -> Device.cpu().withStream(0x7f00));
    assertEquals(Device.cpu(), Device.cpu().withStream(0));
    assertEquals(Device.cuda(1), Device.cuda(1).withKernel(null));
    Device all = Device.cuda(2).withStream(7).withThreads(3).withScreen("canonical");
    assertEquals(new Device("cuda:2", 3, "canonical", null, 7), all);
    assertEquals("avx2", Device.cpu().withKernel("avx2").withThreads(3).withScreen("sgemm").kernel());
  }

  private static void assertRefused(String message, org.junit.jupiter.api.function.Executable call) {
    assertEquals(message, assertThrows(IllegalArgumentException.class, call).getMessage());
  }

  /** The CPU, and what the tests go over beside it. */
  @ParameterizedTest
  @MethodSource("dev.sae4j.Devices#each")
  void aDeviceHasOneDefaultScreenAndReportsWhatIsForced(Device device) {
    assertTrue(Device.all().contains(device), Device.all().toString());
    assertEquals(1, device.detail().lines().count());
    List<Device.Screen> screens = device.screens();
    assertEquals(1, screens.stream().filter(Device.Screen::byDefault).count(), screens.toString());
    TestSae sae = new TestSae(128, 128, 2048);
    for (Device.Screen screen : screens) {
      try (SparseAutoencoder engine = sae.open(device.withScreen(screen.name()).withThreads(2))) {
        assertEquals(screen.name(), engine.screenFor(1000));
        assertTrue(engine.describe().startsWith(device.name() + ", "), engine.describe());
        assertEquals(1, engine.describe().lines().count());
      }
      if (screen.byDefault()) {
        try (SparseAutoencoder engine = sae.open(device)) {
          assertEquals(screen.name(), engine.screenFor(1000));
        }
      }
    }
    assertThrows(IllegalArgumentException.class, () -> sae.open(device.withScreen("int7")));
  }

  @Test
  void theHostsOpenBlasThreadCountIsLeftAlone() {
    int before = openblas_nolapack.blas_get_num_threads();
    try {
      for (int count : new int[] {1, 2}) {
        openblas_nolapack.blas_set_num_threads(count);
        TestSae sae = new TestSae(64, 64, 512);
        try (SparseAutoencoder engine = sae.open(Device.cpu().withThreads(3).withScreen("sgemm"))) {
          engine.encode(sae.normal(64 * 100)).close();
        }
        assertEquals(count, openblas_nolapack.blas_get_num_threads());
        // The same copy of OpenBLAS that the engine calls: otherwise the line above shows nothing.
        String detail = Device.cpu().detail();
        assertTrue(detail.endsWith("with " + count + (count == 1 ? " thread" : " threads")), detail);
      }
    } finally {
      openblas_nolapack.blas_set_num_threads(before);
    }
  }
}
