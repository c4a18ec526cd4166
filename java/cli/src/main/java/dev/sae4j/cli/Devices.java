package dev.sae4j.cli;

import com.google.gson.annotations.SerializedName;
import dev.sae4j.Device;
import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "devices",
    mixinStandardHelpOptions = true,
    description = "Lists what can run here, with which screens, and why not what can't.")
final class Devices implements Callable<Integer> {
  record Result(List<Entry> devices, String version) {}

  record Entry(String name, String kind, boolean available, String reason, String detail, List<Screen> screens) {}

  record Screen(String name, @SerializedName("default") boolean byDefault, String reason) {}

  @Spec private CommandSpec spec;

  @Option(names = "--json", description = "Print one JSON object.")
  private boolean json;

  @Override
  public Integer call() {
    Result result = new Result(Device.all().stream().map(Devices::entry).toList(), Main.version());
    PrintWriter out = spec.commandLine().getOut();
    if (json) {
      out.println(Json.of(result));
    } else {
      print(result, out);
    }
    return 0;
  }

  private static Entry entry(Device device) {
    String reason = device.reason();
    List<Screen> screens = device.screens().stream().map(s -> new Screen(s.name(), s.byDefault(), s.reason())).toList();
    String kind = device.isCpu() ? "cpu" : "cuda";
    return new Entry(device.name(), kind, reason == null, reason, reason == null ? device.detail() : null, screens);
  }

  private static void print(Result result, PrintWriter out) {
    List<List<String>> devices = new ArrayList<>();
    List<List<String>> screens = new ArrayList<>();
    for (Entry entry : result.devices()) {
      boolean isAvailable = entry.available();
      devices.add(List.of(entry.name(), isAvailable ? "yes" : "no", isAvailable ? entry.detail() : entry.reason()));
      for (Screen screen : entry.screens()) {
        String use = screen.byDefault() ? "yes, by default" : "yes";
        screens.add(List.of(entry.name(), screen.name(), screen.reason() == null ? use : "no: " + screen.reason()));
      }
    }
    int columns = Terminal.columns();
    out.println("sae4j " + result.version());
    out.println();
    Tables.table(out, columns, List.of("device", "available", ""), devices);
    out.println();
    Tables.table(out, columns, List.of("device", "screen", "available"), screens);
  }
}
