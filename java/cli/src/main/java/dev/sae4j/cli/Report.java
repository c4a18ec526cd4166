package dev.sae4j.cli;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import dev.sae4j.SaeException;
import dev.sae4j.io.AtomicFile;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Base64;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

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
    try (AtomicFile atomic = new AtomicFile(file)) {
      atomic.write(StandardCharsets.UTF_8.encode(html(diagnosis, charts)));
      atomic.commit();
    }
  }

  static String html(JsonObject diagnosis, JsonObject charts) throws IOException {
    String page =
        resource("report.html")
            .replace("/*CHART.JS*/", resource(CHART_JS).replaceAll("//# sourceMappingURL=.*", ""))
            .replace("/*DIAGNOSIS*/", safe(diagnosis))
            .replace("/*CHARTS*/", safe(charts));
    return page.replace("/*POLICY*/", policy(page));
  }

  /** A browser runs the page's own scripts, no other one, and loads nothing, whatever a label may hold. */
  private static String policy(String page) {
    return "default-src 'none'; script-src %s; style-src %s; base-uri 'none'; form-action 'none'"
        .formatted(hashes(page, "script"), hashes(page, "style"));
  }

  private static String hashes(String page, String element) {
    return Pattern.compile("<%1$s>(.*?)</%1$s>".formatted(element), Pattern.DOTALL)
        .matcher(page)
        .results()
        .map(found -> "'sha256-" + Base64.getEncoder().encodeToString(sha256(found.group(1))) + "'")
        .collect(Collectors.joining(" "));
  }

  private static byte[] sha256(String text) {
    try {
      return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e); // every Java has it
    }
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
