package dev.sae4j.benchmarks;

import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonParser;
import dev.sae4j.benchmarks.Ratios.Measurement;
import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Font;
import java.io.IOException;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import org.knowm.xchart.BitmapEncoder;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.XYSeries;
import org.knowm.xchart.style.Styler.LegendPosition;
import org.knowm.xchart.style.markers.Marker;
import org.knowm.xchart.style.markers.SeriesMarkers;

/** How the time of a row grows with one quantity: JMH's results of a sweep as one JSON, as .csv and as a chart. */
public final class Sweep {
  /** What is swept: how axis and file are called, and where its value stands in a result. */
  enum Over {
    N("n", "rows in a call (n)"),
    D_SAE("d_sae", "features (d_sae)"),
    L0("L0", "active features a row (L0)"),
    THREADS("threads", "threads, each on a core of its own");

    final String file;
    final String axis;

    Over(String file, String axis) {
      this.file = file;
      this.axis = axis;
    }

    double of(Measurement m) {
      return Double.parseDouble(
          switch (this) {
            case N -> m.n();
            case D_SAE -> m.shape().split("x")[1];
            case L0 -> m.on().l0();
            case THREADS -> m.on().threads();
          });
    }
  }

  /** A time per row in microseconds; the error is half of JMH's 99.9 % confidence interval. */
  record Point(String series, double x, double micros, double error) {}

  private Sweep() {}

  /** Over, conditions for the chart's title, the JSON to write, the folder for .csv and .png, and JMH's files. */
  public static void main(String[] args) throws IOException {
    Over over = Over.valueOf(args[0]);
    String json = merged(List.of(args).subList(4, args.length).stream().map(Path::of).toList());
    Files.writeString(Path.of(args[2]), json);
    List<Point> points = points(over, Ratios.read(new StringReader(json)));
    Path folder = Files.createDirectories(Path.of(args[3]));
    Files.writeString(folder.resolve(over.file + ".csv"), csv(over, points));
    Path png = folder.resolve(over.file + ".png");
    BitmapEncoder.saveBitmap(chart(over, args[1], points), png.toString(), BitmapEncoder.BitmapFormat.PNG);
    System.out.println(png);
  }

  private static String merged(List<Path> files) throws IOException {
    JsonArray all = new JsonArray();
    for (Path file : files) {
      all.addAll(JsonParser.parseString(Files.readString(file)).getAsJsonArray());
    }
    return new GsonBuilder().setPrettyPrinting().serializeSpecialFloatingPointValues().create().toJson(all);
  }

  /** Ascending in x, series as they come. A reading of the matrix does not depend on n: its rows share it. */
  static List<Point> points(Over over, List<Measurement> run) {
    List<String> everyN = run.stream().map(Measurement::n).filter(Objects::nonNull).distinct().toList();
    List<Point> points = new ArrayList<>();
    for (Measurement m : run) {
      if (over != Over.N) {
        points.add(point(m.n() == null ? m.name() : m.name() + ", n = " + m.n(), over.of(m), m, m.n() == null ? 1 : Integer.parseInt(m.n())));
      } else if (m.n() != null) {
        points.add(point(m.name(), over.of(m), m, Integer.parseInt(m.n())));
      } else {
        everyN.forEach(n -> points.add(point(m.name() + " / n", Integer.parseInt(n), m, Integer.parseInt(n))));
      }
    }
    points.sort(Comparator.comparingDouble(Point::x));
    return points;
  }

  private static Point point(String series, double x, Measurement m, int n) {
    double micros = m.nanos() / 1e3 / n;
    return new Point(series, x, micros, micros * m.errorShare());
  }

  static String csv(Over over, List<Point> points) {
    StringBuilder csv = new StringBuilder(over.file + ",series,us_per_row,error_us\n");
    for (Point p : points) {
      String error = Double.isNaN(p.error) ? "" : String.format(Locale.ROOT, "%.6g", p.error);
      csv.append(String.format(Locale.ROOT, "%.0f,\"%s\",%.6g,%s%n", p.x, p.series, p.micros, error));
    }
    return csv.toString();
  }

  // ---- the chart: operations solid, what they are measured against dashed in the same colour

  private record Look(Color color, boolean isRoof, Marker marker) {}

  private static final Color BLUE = new Color(0x1f77b4);
  private static final Color LIGHT_BLUE = new Color(0x17a2c4);
  private static final Color ORANGE = new Color(0xd9640a);

  private static Look look(String series) {
    return switch (series.split("[, ]")[0]) {
      case "encode" -> series.endsWith("n = 1") ? new Look(LIGHT_BLUE, false, SeriesMarkers.SQUARE) : new Look(BLUE, false, SeriesMarkers.CIRCLE);
      case "sgemm" -> new Look(BLUE, true, SeriesMarkers.NONE);
      case "readRoof" -> new Look(LIGHT_BLUE, true, SeriesMarkers.NONE);
      case "decode" -> new Look(ORANGE, false, SeriesMarkers.DIAMOND);
      case "gatherRowByRow" -> new Look(ORANGE, true, SeriesMarkers.NONE);
      default -> throw new IllegalArgumentException("no look for " + series);
    };
  }

  static XYChart chart(Over over, String conditions, List<Point> points) {
    XYChart chart =
        new XYChartBuilder()
            .width(1000)
            .height(620)
            .title("Time per row over " + over.file + " (" + conditions + ")")
            .xAxisTitle(over.axis)
            .yAxisTitle("time per row, µs")
            .build();
    Font font = new Font(Font.SANS_SERIF, Font.PLAIN, 14);
    chart.getStyler()
        .setChartBackgroundColor(Color.WHITE)
        .setPlotBackgroundColor(Color.WHITE)
        .setChartTitleFont(font.deriveFont(Font.BOLD, 16f))
        .setLegendFont(font)
        .setLegendBorderColor(Color.WHITE)
        .setLegendPosition(LegendPosition.OutsideE);
    chart.getStyler()
        .setYAxisLogarithmic(true)
        .setYAxisDecimalPattern("#,##0.###")
        .setAxisTickLabelsFont(font)
        .setAxisTitleFont(font)
        .setErrorBarsColorSeriesColor(true)
        .setPlotGridLinesColor(new Color(0xdddddd))
        .setPlotBorderVisible(false);
    Map<String, List<Point>> series = new TreeMap<>(Comparator.comparingInt(Sweep::place).thenComparing(Comparator.reverseOrder()));
    points.forEach(p -> series.computeIfAbsent(p.series, name -> new ArrayList<>()).add(p));
    series.forEach((name, its) -> addSeries(chart, name, its));
    // x is swept by powers of two: an axis of their exponents has ticks at these, a decimal one has two or three in all.
    chart.setCustomXAxisTickLabelsFormatter(log2 -> log2 % 1 == 0 ? String.format(Locale.ROOT, "%,.0f", Math.pow(2, log2)) : "");
    return chart;
  }

  /** Each roof after its operation: that of one row is the reading. */
  private static int place(String series) {
    String name = series.equals("encode, n = 1") ? "one row" : series.split("[, ]")[0];
    return List.of("encode", "sgemm", "one row", "readRoof", "decode", "gatherRowByRow").indexOf(name);
  }

  private static void addSeries(XYChart chart, String name, List<Point> points) {
    double[] x = points.stream().mapToDouble(p -> log2(p.x)).toArray();
    double[] y = points.stream().mapToDouble(Point::micros).toArray();
    // A logarithmic axis can't show what reaches zero; the .csv has errors as they are.
    double[] error = points.stream().mapToDouble(p -> Double.isNaN(p.error) ? 0 : Math.min(p.error, .9 * p.micros)).toArray();
    Look look = look(name);
    XYSeries series = chart.addSeries(name, x, y, error);
    series.setLineColor(look.color);
    series.setMarkerColor(look.color);
    series.setMarker(look.marker);
    float[] dashes = look.isRoof ? new float[] {8, 6} : null;
    series.setLineStyle(new BasicStroke(2, BasicStroke.CAP_BUTT, BasicStroke.JOIN_ROUND, 10, dashes, 0));
  }

  private static double log2(double x) {
    return Math.log(x) / Math.log(2);
  }
}
