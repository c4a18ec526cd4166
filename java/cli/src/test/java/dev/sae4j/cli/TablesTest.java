package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.List;
import org.junit.jupiter.api.Test;

class TablesTest {
  private static String table(int columns, List<List<String>> rows) {
    StringWriter text = new StringWriter();
    Tables.table(new PrintWriter(text), columns, List.of("feature", "coefficient", "label"), rows);
    return text.toString();
  }

  @Test
  void numbersToTheRightTextToTheLeft() {
    assertEquals(
        """
          feature  coefficient  label
                7      -0.5000  a
              123     +12.0000  longer
        """,
        table(Integer.MAX_VALUE, List.of(List.of("7", "-0.5000", "a"), List.of("123", "+12.0000", "longer"))));
  }

  @Test
  void labelsEndAtTheEdgeOfTheTerminal() {
    List<List<String>> rows = List.of(List.of("7", "-0.5", "one two three four five"));
    assertEquals("        7         -0.5  one two three f\u2026", table(40, rows).lines().toList().get(1));
    assertEquals("        7         -0.5  one two thr\u2026", table(1, rows).lines().toList().get(1));
  }

  @Test
  void wideCharactersTakeTwoColumns() {
    String sea = "\u6d77";
    List<List<String>> rows = List.of(List.of("7", "-0.5", "a" + sea.repeat(9)), List.of("7", "-0.5", "e\u0301".repeat(16)));
    List<String> lines = table(40, rows).lines().toList();
    assertEquals("        7         -0.5  a" + sea.repeat(7) + "\u2026", lines.get(1));
    assertEquals("        7         -0.5  " + "e\u0301".repeat(16), lines.get(2));
  }

  @Test
  void whatALabelHoldsIsSeenNotObeyed() {
    List<List<String>> rows = List.of(List.of("7", "-0.5", "a\u001b[31m b\u009b c\u202e\u2066 d\u2028 e\nf \u00e9\ud83d\ude00\u200d"));
    assertEquals(
        "        7         -0.5  a\\u001b[31m b\\u009b c\\u202e\\u2066 d\\u2028 e f \u00e9\ud83d\ude00\u200d",
        table(Integer.MAX_VALUE, rows).lines().toList().get(1));
  }

  @Test
  void noRows() {
    assertEquals("  feature  coefficient  label\n", table(80, List.of()));
  }

  @Test
  void numbersKeepFourDigits() {
    assertEquals("+1.5000", Tables.signed(1.5));
    assertEquals("-0.00001234", Tables.signed(-0.00001234));
    assertEquals("0.0000", Tables.number(0));
    assertEquals("-", Tables.number(Double.NaN));
    assertEquals("1,234,567", Tables.count(1234567));
  }
}
