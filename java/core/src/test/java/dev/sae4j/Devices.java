package dev.sae4j;

import java.util.ArrayList;
import java.util.List;

/** Every way in which an operation can run here: what parity tests go over. */
final class Devices {
  private Devices() {}

  static List<Device> all() {
    Device cpu = Device.cpu();
    List<Device> devices = new ArrayList<>();
    devices.add(cpu);
    devices.add(cpu.withThreads(1).withScreen("canonical").withKernel("portable"));
    devices.add(cpu.withThreads(2).withScreen("canonical"));
    devices.add(cpu.withThreads(3).withScreen("sgemm"));
    if (cpu.detail().contains(" avx2")) {
      devices.add(cpu.withThreads(2).withScreen("sgemm").withKernel("avx2"));
    }
    Device gpu = Device.cuda(0);
    if (gpu.isAvailable()) {
      devices.add(gpu);
    }
    return devices;
  }
}
