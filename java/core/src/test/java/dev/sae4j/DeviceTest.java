package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.bytedeco.openblas.global.openblas_nolapack;
import org.junit.jupiter.api.Test;

class DeviceTest {
  @Test
  void theCpuServesWithEveryScreen() {
    assertTrue(Device.cpu().isAvailable());
    assertTrue(Device.cpu().detail().contains("OpenBLAS"), Device.cpu().detail());
    assertTrue(Device.all().contains(Device.cpu()));
    assertEquals(2, Device.cpu().screens().size());
    for (Device.Screen screen : Device.cpu().screens()) {
      assertNull(screen.reason(), screen.name() + " was dropped");
    }
  }

  @Test
  void whatCannotServeSaysWhy() {
    Device gpu = Device.cuda(99);
    assertFalse(gpu.isAvailable());
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
      assertEquals("canonical", engine.screenFor(1));
      assertEquals("sgemm", engine.screenFor(1000));
    }
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
