package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.internal.CudaPreset;
import dev.sae4j.io.ChildJvm;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

/** What happens before, and without, a CUDA device: each in a JVM of its own, in which nothing is loaded yet. */
class CudaLoadingTest {
  private static final String LOGGED = "-Xlog:class+load:stdout";

  /** All that the CPU does. */
  static final class OnTheCpu {
    public static void main(String[] args) {
      TestSae sae = new TestSae(4, 4, 8);
      try (SparseAutoencoder engine = sae.open(Device.auto());
          SparseCodes codes = engine.encode(sae.normal(400))) {
        engine.decode(codes);
        engine.project(sae.normal(4), Projection.top(2), codes);
        engine.pursue(sae.normal(4), Pursuit.omp(2), codes);
        System.out.println(engine.describe() + Device.cpu().detail() + Device.cpu().screens());
      }
    }
  }

  /** Asks for a CUDA device, as a program would that insists on one. */
  static final class OnCuda {
    public static void main(String[] args) {
      System.out.println("reason: " + Device.cuda(0).reason());
      System.out.println("again: " + Device.cuda(0).reason());
      try (SparseAutoencoder engine = new TestSae(4, 4, 8).open(Device.cuda(0))) {
        System.out.println("opened: " + engine.describe());
      } catch (SaeException e) {
        System.out.println("refused: " + e.getMessage());
      }
    }
  }

  static final class Preset {
    public static void main(String[] args) {
      System.out.println("first: " + CudaPreset.describe(0));
      System.out.println("again: " + CudaPreset.describe(0));
    }
  }

  @Test
  void theCpuLoadsNothingOfCuda() throws Exception {
    String log = child(LOGGED, OnTheCpu.class);
    assertTrue(log.contains("dev.sae4j.Device ") && log.contains("cpu, kernel"), "the log shows what is loaded");
    assertEquals("", lines(log, "org.bytedeco.cuda"));
    assertEquals("", lines(log, "CudaPreset"));
  }

  @Test
  void aMachineWithoutADeviceLoadsNoPresets() throws Exception {
    String log = child(LOGGED, OnCuda.class);
    Assumptions.assumeTrue(log.contains("refused: "), "there is a CUDA device here");
    assertEquals("", lines(log, "org.bytedeco.cuda"));
  }

  @Test
  void withoutADeviceTheReasonIsOneSentenceAndNothingElseServes() throws Exception {
    String output = child("", OnCuda.class);
    Assumptions.assumeFalse(output.contains("reason: null"), "there is a CUDA device here");
    assertRefused(output);
    // The backend itself where it was built, else how to get it.
    assertTrue(output.contains("CUDA d") || output.contains("add the jar of classifier linux-x86_64-cuda"), output);
  }

  @Test
  void aBackendThatIsNotOneSaysSo() throws Exception {
    String missing = child("-Dsae4j.cuda.library=/nowhere/libsae4j_cuda.so", OnCuda.class);
    assertRefused(missing);
    assertTrue(missing.contains("reason: the CUDA backend cannot be loaded: /nowhere/libsae4j_cuda.so: "), missing);
    String other = child("-Dsae4j.cuda.library=libm.so.6", OnCuda.class);
    assertRefused(other);
    assertTrue(other.contains("reason: libm.so.6 is not this version's CUDA backend: expected "), other);
  }

  @Test
  void withoutTheJarTheReasonSaysHowToGetIt() throws Exception {
    String without =
        Stream.of(ChildJvm.classPath().split(":"))
            .filter(entry -> !entry.endsWith("native-cuda"))
            .collect(Collectors.joining(":"));
    String output = ChildJvm.run(":", "", without, OnCuda.class, "");
    assertRefused(output);
    assertTrue(output.contains("reason: the CUDA backend is not on the class path: add the jar"), output);
  }

  /** The presets need what a system without a driver lacks; with one they name the memory. */
  @Test
  void presetsThatCannotBeLoadedSaySoEachTime() throws Exception {
    String output = child("", Preset.class);
    assertEquals(2, output.lines().count(), output);
    assertTrue(output.contains("MiB free") || output.contains("the CUDA presets cannot be loaded: "), output);
    String first = output.lines().findFirst().orElseThrow().substring("first: ".length());
    assertTrue(first.length() > 40 && (output.contains("MiB free") || output.endsWith("again: " + first)), output);
  }

  private static String child(String options, Class<?> main) throws Exception {
    return ChildJvm.run(":", options, ChildJvm.classPath(), main, "");
  }

  private static void assertRefused(String output) {
    assertEquals(3, output.lines().count(), output);
    String reason = output.lines().findFirst().orElseThrow().substring("reason: ".length());
    assertFalse(reason.isBlank());
    assertTrue(output.contains("again: " + reason + "\n"), output);
    assertTrue(output.endsWith("refused: device cuda:0 is not available: " + reason), output);
  }

  private static String lines(String log, String part) {
    return log.lines().filter(line -> line.contains(part)).collect(Collectors.joining("\n"));
  }
}
