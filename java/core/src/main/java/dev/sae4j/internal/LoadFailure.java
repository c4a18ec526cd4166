package dev.sae4j.internal;

import dev.sae4j.internal.bindings.Sae4j;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.CodeSource;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.bytedeco.javacpp.ClassProperties;
import org.bytedeco.javacpp.Loader;

/** Why the native libraries can't serve here, and what to do about it: what follows their name in a sentence. */
final class LoadFailure {
  private static final String LIBRARY = "/libsae4j.so";
  private static final String NOT_EXECUTABLE = "failed to map segment from shared object"; // the dynamic linker's words
  private static final String OTHER_FOLDER =
      "; choose another folder by the JVM option -Dorg.bytedeco.javacpp.cachedir=FOLDER"
          + " (for the command line, in JAVA_TOOL_OPTIONS)";

  private LoadFailure() {}

  /** Why the libraries can't be unpacked or loaded. */
  static String reason(LinkageError e) {
    String loaded = Loader.getLoadedLibraries().get("jniSae4j");
    if (loaded != null) { // by JavaCPP, which loads each library once
      return "cannot be loaded: another class loader, with which this one shares JavaCPP, has loaded " + loaded
          + "; let them share sae4j too, or give each a JavaCPP of its own";
    }
    List<Throwable> causes = new ArrayList<>(causes(e));
    retry().forEach(failure -> causes.addAll(causes(failure)));
    return reason(causes, Native.rootMessage(e));
  }

  /** The first of the causes that says what is amiss with the folder; else {@code otherwise}. */
  static String reason(List<Throwable> causes, String otherwise) {
    for (Throwable cause : causes) {
      if (cause instanceof IOException) {
        return "cannot be unpacked to " + folder() + ": " + Native.firstLine(cause).replaceFirst("\\.$", "") + OTHER_FOLDER;
      }
    }
    for (Throwable cause : causes) {
      if (Native.firstLine(cause).contains(NOT_EXECUTABLE)) {
        return "cannot be loaded from " + folder() + ": " + NOT_EXECUTABLE + ", as where a file system is mounted noexec" + OTHER_FOLDER;
      }
    }
    return "cannot be loaded: " + otherwise;
  }

  private static List<Throwable> causes(Throwable e) {
    return Stream.iterate(e, cause -> cause != null, Throwable::getCause).toList();
  }

  /** Loads each library again: JavaCPP goes on after one that fails, and reports only what this led to. */
  private static List<Throwable> retry() {
    ClassProperties properties = Loader.loadProperties(Sae4j.class, Loader.loadProperties(), true);
    List<String> libraries = new ArrayList<>(properties.get("platform.preload"));
    libraries.addAll(properties.get("platform.link"));
    List<Throwable> failures = new ArrayList<>();
    for (String library : libraries) {
      try {
        Loader.loadLibrary(Sae4j.class, Loader.findLibrary(Sae4j.class, properties, library), library);
      } catch (LinkageError | RuntimeException e) {
        failures.add(e);
      }
    }
    return failures;
  }

  private static String folder() {
    try {
      return Loader.getCacheDir().toString();
    } catch (IOException e) {
      return "any folder";
    }
  }

  /** That the library in this JVM is another version's than the classes: the first that was loaded serves all class loaders. */
  static String versions(String ofClasses, String ofLibrary) {
    return ("cannot be loaded: the classes are of sae4j %s (%s), the library that this JVM has loaded is of %s (%s);"
            + " a JVM can hold one version only")
        .formatted(ofClasses, location(), ofLibrary, String.join(", ", mapped()));
  }

  private static String location() {
    CodeSource source = Native.class.getProtectionDomain().getCodeSource();
    return source == null ? "of unknown origin" : source.getLocation().getPath();
  }

  /** The mapped files of the library; these classes' own only where there is no other. */
  private static List<String> mapped() {
    try {
      String maps = new String(Files.readAllBytes(Path.of("/proc/self/maps")), StandardCharsets.UTF_8);
      List<String> all =
          maps.lines().filter(line -> line.contains(LIBRARY)).map(line -> line.substring(line.indexOf('/'))).distinct().toList();
      String own = Loader.getLoadedLibraries().get("sae4j");
      List<String> others = all.stream().filter(path -> !path.equals(own)).toList();
      return others.isEmpty() ? all : others;
    } catch (IOException e) {
      return List.of("of unknown origin");
    }
  }
}
