package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sae4j.io.ChildJvm;
import java.lang.ref.WeakReference;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A class loader that is dropped goes, with the libraries: nothing of ours holds it, closed or not. */
class UnloadingTest {
  private static final String NO_LOG = "-Djava.util.logging.config.file=/dev/null";

  /** Uses the library in a class loader of its own, {@code closed} or not, and tells what of it is left. */
  static final class Host {
    public static void main(String[] args) throws Exception {
      WeakReference<ClassLoader> loader = use(args[0].equals("closed"));
      for (int i = 0; i < 100 && loader.get() != null; i++) {
        System.gc();
        Thread.sleep(20);
      }
      System.out.println(loader.get() == null ? "collected" : "still there");
      try (Stream<String> maps = Files.lines(Path.of("/proc/self/maps"))) {
        System.out.println(maps.anyMatch(line -> line.contains("libsae4j.so")) ? "mapped" : "unmapped");
      }
    }

    private static WeakReference<ClassLoader> use(boolean closed) throws Exception {
      URL[] classPath =
          Stream.of(System.getProperty("java.class.path").split(":")).map(Host::url).toArray(URL[]::new);
      URLClassLoader loader = new URLClassLoader(classPath, ClassLoader.getPlatformClassLoader());
      Thread.currentThread().setContextClassLoader(loader); // as a container does
      Class<?> type = loader.loadClass("dev.sae4j.SparseAutoencoder");
      Path sae = Path.of(Host.class.getResource("/io/jumprelu-f32").toURI());
      AutoCloseable engine = (AutoCloseable) type.getMethod("open", Path.class).invoke(null, sae);
      int dIn = ((Long) type.getMethod("dIn").invoke(engine)).intValue();
      Object codes = type.getMethod("encode", float[].class).invoke(engine, new float[300 * dIn]);
      codes.getClass().getMethod("values").invoke(codes);
      if (closed) {
        ((AutoCloseable) codes).close();
        engine.close();
      }
      Thread.currentThread().setContextClassLoader(null);
      System.out.println(threads(loader));
      loader.loadClass("org.bytedeco.javacpp.Pointer").getMethod("interruptDeallocatorThread").invoke(null);
      loader.close();
      return new WeakReference<>(loader);
    }

    /** Those that hold the class loader. */
    private static List<String> threads(ClassLoader loader) {
      return Thread.getAllStackTraces().keySet().stream()
          .filter(thread -> thread.getClass().getClassLoader() == loader || thread.getContextClassLoader() == loader)
          .map(Thread::getName)
          .toList();
    }

    private static URL url(String entry) {
      try {
        return Path.of(entry).toUri().toURL();
      } catch (MalformedURLException e) {
        throw new IllegalArgumentException(e);
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"closed", "left open"})
  void aDroppedClassLoaderGoes(String how) throws Exception {
    String output = ChildJvm.run(":", NO_LOG, ChildJvm.classPath(), Host.class, how);
    assertEquals("[JavaCPP Deallocator]\ncollected\nunmapped", output);
  }
}
