package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.MethodSource;

/** Closing, sharing, leaking, reusing. */
@ParameterizedClass
@MethodSource("dev.sae4j.Devices#each")
class LifecycleTest {
  private final TestSae sae = new TestSae(48, 48, 300);
  private final Device device;

  LifecycleTest(Device device) {
    this.device = device;
  }

  /** Rows for this many calls, or what the device can do of them in seconds. */
  private int rows(int n, int calls) {
    return Devices.rows(device, n, 300L * 128 * calls);
  }

  @Test
  void closedObjectsRefuseAndCloseAgain() {
    SparseAutoencoder engine = sae.open(device);
    SparseCodes codes = engine.encode(sae.normal(48));
    codes.close();
    codes.close();
    assertThrows(IllegalStateException.class, codes::nnz);
    assertThrows(IllegalStateException.class, () -> engine.encode(new float[48], codes));
    assertThrows(IllegalStateException.class, () -> engine.decode(codes));
    engine.close();
    engine.close();
    assertThrows(IllegalStateException.class, () -> engine.encode(new float[48]));
    assertThrows(IllegalStateException.class, engine::describe);
    SaeWeights weights = sae.weights();
    weights.close();
    weights.close();
    assertThrows(IllegalStateException.class, weights::wEnc);
    assertThrows(IllegalStateException.class, () -> SparseAutoencoder.open(weights, device));
  }

  @Test
  void aModelKeepsItsWeightsAlive() {
    float[] x = sae.normal(3 * 48);
    SaeWeights weights = sae.weights();
    try (SparseAutoencoder first = SparseAutoencoder.open(weights, device);
        SparseAutoencoder second = SparseAutoencoder.open(weights, device.withThreads(1))) {
      weights.close();
      first.close();
      try (SparseCodes codes = second.encode(x)) {
        new CanonicalSae(sae).encode(x).assertSame(Csr.of(codes), "after the weights were closed");
      }
    }
  }

  @Test
  void closeWaitsForRunningCalls() throws Exception {
    int n = rows(1000, 10);
    float[] x = sae.normal(n * 48);
    for (int trial = 0; trial < 5; trial++) {
      SparseAutoencoder engine = sae.open(device);
      ExecutorService pool = Executors.newFixedThreadPool(3);
      List<Future<?>> calls = new ArrayList<>();
      for (int t = 0; t < 3; t++) {
        calls.add(
            pool.submit(
                () -> {
                  try (SparseCodes codes = new SparseCodes()) {
                    for (int i = 0; i < 50; i++) {
                      engine.encode(x, codes);
                      assertEquals(n, codes.rows());
                    }
                  } catch (IllegalStateException e) {
                    assertTrue(e.getMessage().contains("closed"), e.getMessage());
                  }
                }));
      }
      Thread.sleep(trial * 3L);
      engine.close();
      for (Future<?> call : calls) {
        call.get(60, TimeUnit.SECONDS);
      }
      pool.shutdown();
    }
  }

  @Test
  void eightThreadsShareAModel() throws Exception {
    share(Executors.newFixedThreadPool(8));
  }

  @Test
  void virtualThreadsShareAModel() throws Exception {
    ExecutorService virtual;
    try {
      virtual = (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
    } catch (NoSuchMethodException e) {
      Assumptions.abort("virtual threads need Java 21, this is " + Runtime.version());
      return;
    }
    share(virtual);
  }

  private void share(ExecutorService pool) throws Exception {
    float[] x = sae.normal(rows(100, 50) * 48);
    Csr expected = new CanonicalSae(sae).encode(x);
    try (SparseAutoencoder engine = sae.open(device)) {
      List<Future<?>> calls = new ArrayList<>();
      for (int t = 0; t < 8; t++) {
        calls.add(
            pool.submit(
                () -> {
                  try (SparseCodes codes = new SparseCodes()) {
                    for (int i = 0; i < 30; i++) {
                      engine.encode(x, codes);
                      expected.assertSame(Csr.of(codes), "a shared model");
                      // The error text is the thread's own.
                      float[] bad = new float[48];
                      bad[i] = Float.NaN;
                      String column = "column " + i;
                      Exception e = assertThrows(IllegalArgumentException.class, () -> engine.encode(bad));
                      assertTrue(e.getMessage().endsWith(column), e.getMessage());
                    }
                  }
                }));
      }
      for (Future<?> call : calls) {
        call.get(120, TimeUnit.SECONDS);
      }
    } finally {
      pool.shutdown();
    }
  }

  @Test
  void codesBelongToOneThreadAtATime() throws Exception {
    float[] x = sae.normal(rows(4000, 1) * 48);
    try (SparseAutoencoder engine = sae.open(device);
        SparseCodes codes = new SparseCodes()) {
      boolean refused = false;
      for (int attempt = 0; attempt < 50 && !refused; attempt++) { // a call may be over before this thread looks
        Thread writer = new Thread(() -> encodeUnlessInUse(engine, x, codes));
        writer.start();
        while (writer.isAlive() && !refused) {
          try {
            codes.nnz();
          } catch (IllegalStateException e) {
            assertTrue(e.getMessage().contains("in use by another thread"), e.getMessage());
            refused = true;
          }
        }
        writer.join();
      }
      assertTrue(refused, "the second thread was never refused");
    }
  }

  private static void encodeUnlessInUse(SparseAutoencoder engine, float[] x, SparseCodes codes) {
    try {
      engine.encode(x, codes);
    } catch (IllegalStateException e) {
      assertTrue(e.getMessage().contains("in use by another thread"), e.getMessage());
    }
  }

  @Test
  void codesUsedManyTimesDoNotGrow() throws Exception {
    Path status = Path.of("/proc/self/status");
    Assumptions.assumeTrue(Files.exists(status), "needs /proc");
    FloatBuffer x = ByteBuffer.allocateDirect(4 * 48 * 4).order(ByteOrder.nativeOrder()).asFloatBuffer();
    x.put(sae.normal(4 * 48)).flip();
    try (SparseAutoencoder engine = sae.open(device);
        SparseCodes codes = new SparseCodes()) {
      int calls = device.isCpu() || !Devices.isEmulated() ? 10_000 : 500;
      for (int i = 0; i < calls / 5; i++) {
        engine.encode(x, codes);
      }
      com.sun.management.ThreadMXBean threads = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
      long self = Thread.currentThread().getId();
      long nativeBefore = residentKib(status);
      long heapBefore = threads.getThreadAllocatedBytes(self);
      for (int i = 0; i < calls; i++) {
        engine.encode(x, codes);
      }
      long heap = threads.getThreadAllocatedBytes(self) - heapBefore;
      long grown = residentKib(status) - nativeBefore;
      assertTrue(heap < 10L * calls, heap + " bytes on the heap for " + calls + " calls");
      assertTrue(grown < 8 << 10, grown + " KiB of resident memory for " + calls + " calls");
    }
  }

  private static long residentKib(Path status) throws Exception {
    String line = Files.readAllLines(status).stream().filter(l -> l.startsWith("VmRSS")).findFirst().orElseThrow();
    return Long.parseLong(line.replaceAll("\\D", ""));
  }

  @Test
  void whatWasNeverClosedIsFreedAndReported() throws Exception {
    Logger logger = Logger.getLogger("dev.sae4j");
    List<String> lines = new ArrayList<>();
    Handler handler =
        new Handler() {
          @Override
          public synchronized void publish(LogRecord line) {
            lines.add(line.getMessage());
          }

          @Override
          public void flush() {}

          @Override
          public void close() {}
        };
    logger.addHandler(handler);
    logger.setUseParentHandlers(false);
    try {
      leak();
      sae.open(device).close(); // closed properly: not reported
      for (int i = 0; i < 100 && lines.size() < 2; i++) {
        System.gc();
        Thread.sleep(20);
      }
      Thread.sleep(50);
      assertEquals(2, lines.size(), lines.toString());
      assertTrue(lines.stream().anyMatch(l -> l.contains("SparseCodes was never closed")), lines.toString());
      assertTrue(lines.stream().anyMatch(l -> l.contains("SparseAutoencoder was never closed")), lines.toString());
      assertFalse(lines.stream().anyMatch(l -> l.contains("SaeWeights")), "the weights were closed");
    } finally {
      logger.removeHandler(handler);
      logger.setUseParentHandlers(true);
    }
  }

  private void leak() {
    SparseAutoencoder engine = sae.open(device);
    SparseCodes codes = engine.encode(sae.normal(48));
    assertArrayEquals(new long[] {0, codes.nnz()}, Csr.of(codes).rowOffsets());
  }
}
