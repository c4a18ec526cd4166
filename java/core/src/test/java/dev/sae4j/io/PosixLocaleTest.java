package dev.sae4j.io;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.SaeException;
import dev.sae4j.SaeWeights;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A JVM that was started in the POSIX locale can open no file by a name beyond ASCII. */
class PosixLocaleTest {
  private static final String LETTER = "$(printf '\\303\\251')"; // this JVM may be one of those

  @TempDir private Path folder;

  @ParameterizedTest
  @ValueSource(strings = {"POSIX", "C"})
  void saysWhatStandsInTheWay(String locale) throws Exception {
    String setUp = "export LC_ALL=" + locale;
    String remedy = ": this JVM encodes file names in ANSI_X3.4-1968 (sun.jnu.encoding), expected UTF-8: start it with LC_ALL=C.UTF-8";
    String said = ChildJvm.run(setUp, "", Vector.class, "e acute");
    assertTrue(said.endsWith(remedy) && said.lines().count() == 1, said);
    assertEquals("e.npy: no such file", ChildJvm.run(setUp, "", Vector.class, "e"));
  }

  static final class Vector {
    private Vector() {}

    public static void main(String[] arguments) {
      try {
        ActivationReader.readVector(arguments[0].equals("e") ? "e.npy" : "\u00e9.npy", 4);
      } catch (SaeException e) {
        System.out.println(e.getMessage());
      }
    }
  }

  @Test
  void readsAFolderBesideSuchNames() throws Exception {
    try (Stream<Path> files = Files.list(Fixtures.path("jumprelu-f32"))) {
      for (Path file : files.toList()) {
        Files.copy(file, folder.resolve(file.getFileName().toString()));
      }
    }
    String setUp = "touch '" + folder + "'/" + LETTER + ".npy '" + folder + "'/" + LETTER + ".index.json && export LC_ALL=POSIX";
    assertEquals("saelens", ChildJvm.run(setUp, "", Folder.class, folder.toString()));
  }

  static final class Folder {
    private Folder() {}

    public static void main(String[] arguments) {
      try (SaeWeights weights = SaeReader.read(Path.of(arguments[0]))) {
        System.out.println(weights.info().format());
      }
    }
  }
}
