package dev.sae4j.cli;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import dev.sae4j.SaeException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

/** A diagnosis as one HTML file that needs nothing else: template, chart library and figures. */
final class Report {
  /** From the WebJar; its notice is the comment that the file begins with. */
  private static final String CHART_JS = "/META-INF/resources/webjars/chart.js/4.5.1/dist/chart.umd.min.js";

  /** Escapes {@code < > & = '} and the separators U+2028 and U+2029: no label can end the script that it stands in. */
  private static final Gson SAFE = new GsonBuilder().serializeNulls().create();

  private Report() {}

  /**
   * Writes a report; an earlier file stays whole until the new one is complete.
   *
   * @param diagnosis as {@code sae4j diagnose --json} gives it
   * @param charts what is drawn beside it, {@link Diagnose.Charts}
   */
  static void write(Path file, JsonObject diagnosis, JsonObject charts) throws IOException {
    if (Files.isDirectory(file) || file.getFileName() == null) {
      throw new SaeException(file + ": is a folder, expected a file to write");
    }
    if (!Files.isDirectory(file.toAbsolutePath().getParent())) {
      throw new NoSuchFileException(file.toString());
    }
    String page = html(diagnosis, charts);
    Path temporary = file.resolveSibling("." + file.getFileName() + "." + ProcessHandle.current().pid() + ".tmp");
    try {
      Files.writeString(temporary, page);
      Files.move(temporary, file, StandardCopyOption.REPLACE_EXISTING);
    } finally {
      Files.deleteIfExists(temporary);
    }
  }

  static String html(JsonObject diagnosis, JsonObject charts) throws IOException {
    return resource("report.html")
        .replace("/*CHART.JS*/", resource(CHART_JS).replaceAll("//# sourceMappingURL=.*", ""))
        .replace("/*DIAGNOSIS*/", safe(diagnosis))
        .replace("/*CHARTS*/", safe(charts));
  }

  /** Nor can a label stand for a place of the template. */
  private static String safe(JsonObject figures) {
    return SAFE.toJson(figures).replace("/*", "\\u002f*");
  }

  private static String resource(String name) throws IOException {
    try (InputStream bytes = Report.class.getResourceAsStream(name)) {
      if (bytes == null) {
        throw new SaeException("this build lacks " + name);
      }
      return new String(bytes.readAllBytes(), StandardCharsets.UTF_8);
    }
  }
}
