package dev.sae4j.cli;

import java.io.PrintWriter;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import org.jline.utils.WCWidth;

/** Aligned text for people. */
final class Tables {
  private static final Pattern NUMBER = Pattern.compile("[+-]?\\d[\\d.,]*(e[+-]?\\d+)?( of \\d+)?|-|");
  private static final String GAP = "  ";
  private static final int MIN_LAST = 12;

  private Tables() {}

  /** Names and values, one pair a line; a pair whose value is null is left out. */
  static void facts(PrintWriter out, Object... namesAndValues) {
    int width = 0;
    for (int i = 0; i < namesAndValues.length; i += 2) {
      width = Math.max(width, namesAndValues[i].toString().length());
    }
    for (int i = 0; i < namesAndValues.length; i += 2) {
      if (namesAndValues[i + 1] != null) {
        out.println(GAP + pad(namesAndValues[i].toString(), width, false) + GAP + Output.line(namesAndValues[i + 1]));
      }
    }
  }

  /**
   * A header and rows of as many cells. Columns of numbers are aligned right; the last column is cut at the terminal's edge.
   *
   * @param columns of the terminal
   */
  static void table(PrintWriter out, int columns, List<String> header, List<List<String>> unsafe) {
    List<List<String>> rows = unsafe.stream().map(row -> row.stream().map(Tables::cell).toList()).toList();
    int count = header.size();
    int[] widths = new int[count];
    boolean[] isNumeric = new boolean[count];
    for (int c = 0; c < count; c++) {
      int column = c;
      isNumeric[c] = rows.stream().allMatch(row -> NUMBER.matcher(row.get(column)).matches());
      widths[c] = Math.max(length(header.get(c)), rows.stream().mapToInt(row -> length(row.get(column))).max().orElse(0));
    }
    int before = Arrays.stream(widths, 0, count - 1).sum() + GAP.length() * count;
    widths[count - 1] = Math.min(widths[count - 1], Math.max(MIN_LAST, columns - before));
    line(out, header, widths, isNumeric);
    for (List<String> row : rows) {
      line(out, row, widths, isNumeric);
    }
  }

  private static void line(PrintWriter out, List<String> cells, int[] widths, boolean[] isNumeric) {
    StringBuilder line = new StringBuilder();
    for (int c = 0; c < cells.size(); c++) {
      line.append(GAP).append(pad(cut(cells.get(c), widths[c]), widths[c], isNumeric[c]));
    }
    out.println(line.toString().stripTrailing());
  }

  private static String pad(String text, int width, boolean isRight) {
    String space = " ".repeat(Math.max(0, width - length(text)));
    return isRight ? space + text : text + space;
  }

  /** A label may have several lines. */
  private static String cell(String text) {
    return Output.line(text.replaceAll("[\\n\\r\\t]", " "));
  }

  private static String cut(String text, int width) {
    if (length(text) <= width) {
      return text;
    }
    int end = 0;
    for (int left = width - 1 - length(text.codePointAt(0)); left >= 0; left -= length(text.codePointAt(end))) {
      end = text.offsetByCodePoints(end, 1);
    }
    return text.substring(0, end) + "\u2026";
  }

  /** In columns of a terminal, of which Chinese or Japanese take two a character, and accents none. */
  private static int length(String text) {
    return text.codePoints().map(Tables::length).sum();
  }

  private static int length(int codePoint) {
    return Math.max(0, WCWidth.wcwidth(codePoint));
  }

  /** With its sign; "-" where undefined. */
  static String signed(double value) {
    return Double.isFinite(value) ? String.format(Locale.ROOT, "%+." + decimals(value) + "f", value) : "-";
  }

  /** "-" where undefined. */
  static String number(double value) {
    return Double.isFinite(value) ? String.format(Locale.ROOT, "%." + decimals(value) + "f", value) : "-";
  }

  /** Four decimals, more for small numbers. */
  private static int decimals(double value) {
    double size = Math.abs(value);
    return size >= 0.001 || size == 0 ? 4 : Math.min(12, 3 - (int) Math.floor(Math.log10(size)));
  }

  static String count(long value) {
    return String.format(Locale.ROOT, "%,d", value);
  }
}
