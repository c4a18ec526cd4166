package dev.sae4j.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.io.ChildJvm;
import java.io.IOException;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What is said where the libraries can't be unpacked or loaded: in JVMs of their own, in which nothing is loaded yet. */
class LoadFailureTest {
  private static final String ADVICE = "; choose another folder by the JVM option -Dorg.bytedeco.javacpp.cachedir=FOLDER";

  /** Asks a class loader for each argument, a class path, why the CPU can't serve; the first may be a parent of the others. */
  static final class Loaders {
    public static void main(String[] args) throws Exception {
      String[] classPaths = args[0].split(" ");
      ClassLoader parent = loader(classPaths[0], ClassLoader.getPlatformClassLoader());
      for (int i = 1; i < classPaths.length; i++) {
        Class<?> device = loader(classPaths[i], parent).loadClass("dev.sae4j.Device");
        System.out.println(device.getMethod("reason").invoke(device.getMethod("cpu").invoke(null)));
      }
    }

    private static ClassLoader loader(String classPath, ClassLoader parent) {
      return new URLClassLoader(Stream.of(classPath.split(":")).map(Loaders::url).toArray(URL[]::new), parent);
    }

    private static URL url(String entry) {
      try {
        return Path.of(entry).toUri().toURL();
      } catch (MalformedURLException e) {
        throw new IllegalArgumentException(e);
      }
    }
  }

  @TempDir Path folder;

  private List<String> reasons(String setUp, String options, String... classPaths) throws Exception {
    String cache = " -Dorg.bytedeco.javacpp.cachedir='" + folder + "/cache'";
    return ChildJvm.run(setUp, options + cache, ChildJvm.classPath(), Loaders.class, String.join(" ", classPaths)).lines().toList();
  }

  /** The tests' class path before which there are these classes' version in another's name. */
  private String anotherVersion() throws IOException {
    Path file = folder.resolve("other/dev/sae4j/internal/version");
    Files.createDirectories(file.getParent());
    Files.writeString(file, "9.8.7\n");
    return folder.resolve("other") + ":" + ChildJvm.classPath();
  }

  @Test
  void oneVersionServesManyClassLoaders() throws Exception {
    assertEquals(List.of("null", "null"), reasons(":", "", "/none", ChildJvm.classPath(), ChildJvm.classPath()));
  }

  @Test
  void anotherVersionIsRefusedByName() throws Exception {
    List<String> reasons = reasons(":", "", "/none", ChildJvm.classPath(), anotherVersion());
    assertEquals("null", reasons.get(0));
    assertTrue(reasons.get(1).startsWith("the native engine cannot be loaded: the classes are of sae4j 9.8.7 (/"), reasons.get(1));
    assertTrue(reasons.get(1).matches(".*, the library that this JVM has loaded is of \\d[^ ]* \\(/.*/libsae4j\\.so\\);.*"), reasons.get(1));
  }

  @Test
  void aSharedJavaCppServesOneClassLoader() throws Exception {
    String parent = entries(false);
    List<String> reasons = reasons(":", "--add-opens java.base/java.lang=ALL-UNNAMED", parent, entries(true), entries(true));
    assertEquals("null", reasons.get(0));
    assertTrue(reasons.get(1).contains("another class loader, with which this one shares JavaCPP, has loaded /"), reasons.get(1));
  }

  /** Of the tests' class path our folders, or the libraries. */
  private static String entries(boolean ours) {
    return String.join(":", Stream.of(ChildJvm.classPath().split(":")).filter(entry -> entry.endsWith(".jar") != ours).toList());
  }

  /** As on a full disk: a file can't grow to what OpenBLAS needs. */
  @Test
  void whatCannotBeUnpackedIsSaid() throws Exception {
    List<String> reasons = reasons("ulimit -f 8000", "", "/none", ChildJvm.classPath());
    String expected = "the native engine cannot be unpacked to " + folder.toRealPath() + "/cache: File too large" + ADVICE;
    assertTrue(reasons.get(0).startsWith(expected), reasons.get(0));
  }

  @Test
  void noFolderAtAllIsSaid() throws Exception {
    String nowhere = "-Duser.home=/dev/null -Djava.io.tmpdir=/dev/null -Dorg.bytedeco.javacpp.cacheDir=/dev/null";
    String output =
        ChildJvm.run(
            ":", nowhere, ChildJvm.classPath(), Loaders.class, "/none " + ChildJvm.classPath());
    String expected = "the native engine cannot be unpacked to any folder: Could not create the cache: ";
    assertTrue(output.contains(expected) && output.contains(ADVICE), output); // newer JVMs say something of their own first
  }

  @Test
  void aFolderMountedNoexecIsSaid() {
    Throwable e = new UnsatisfiedLinkError("/c/libjniSae4j.so: /c/libjniSae4j.so: failed to map segment from shared object");
    String reason = LoadFailure.reason(List.of(new NoClassDefFoundError("x"), e), "x");
    assertTrue(reason.startsWith("cannot be loaded from /"), reason);
    assertTrue(reason.contains("noexec" + ADVICE), reason);
  }

  @Test
  void anythingElseIsSaidAsItIs() {
    assertEquals("cannot be loaded: x", LoadFailure.reason(List.of(new UnsatisfiedLinkError("y")), "x"));
  }
}
