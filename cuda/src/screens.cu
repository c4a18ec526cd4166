// Devices and screens: what can serve, why not what can't, and what is the default where.
#include <cmath>
#include <map>
#include <random>
#include <utility>

#include "kernels.hpp"
#include "workspace.hpp"

namespace sae::cuda {
namespace {

constexpr int kOldest = 80;  // sm_80: the oldest architecture that the library holds code for

struct NamedScreen {
  const char* name;
  const char* dropped;
};

// In the order of enum Screen. The one list of them.
const NamedScreen kScreens[kScreenCount] = {
    {"canonical", ""},
    {"cublas-bf16", "cuBLAS's bf16 product missed a planted feature: its error exceeds the bound on this device"},
    {"mma-bf16", "mma.sync missed a planted feature: its error exceeds the bound on this device"},
    {"wgmma-bf16", "wgmma missed a planted feature: its error exceeds the bound on this device"},
};

// What was measured to be fastest, by architecture. Nothing was measured yet, so no screen is a default anywhere.
struct Measured {
  int architecture;
  Screen screen;
};
constexpr Measured kMeasured[] = {{0, Screen::kCanonical}};

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

int architecture_of(const cudaDeviceProp& properties) { return 10 * properties.major + properties.minor; }

// Rows and features an ulp inside the decision: the screen must name all that are active.
bool names_planted_features(int device, Screen screen) {
  constexpr int64_t kD = 333, kRows = 70, kFeatures = 300;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(kRows * kD), w(kFeatures * kD), b(kD), threshold(kFeatures), scale(kFeatures, 1.0f), offset(kFeatures);
  for (float& value : x) value = normal(random);
  for (float& value : w) value = normal(random);
  for (int64_t j = 0; j < kFeatures; ++j) {
    const float p = kPortableKernels.dot(&x[j % kRows * kD], &w[j * kD], kD);
    threshold[j] = std::nextafter(p, -INFINITY);
    offset[j] = 2 * std::fabs(p) + 1;  // v = p + offset > 0: the threshold decides
  }
  const sae_weights weights = {kD, kD, kFeatures, w.data(), w.data(), b.data(), nullptr, threshold.data(), scale.data(),
                               offset.data(), SAE_SELECT_GATE, 0, SAE_NORMALIZE_NONE};
  // What a screen names is decided exactly, so it can only lose: as many active features are the same ones.
  const auto active = [&](Screen with) {
    Engine engine(device, weights, 1, screen_name(with), nullptr, true);
    Codes codes(device);
    engine.encode(x.data(), kRows, codes);
    return codes.nnz;
  };
  return active(screen) == active(Screen::kCanonical);
}

// wgmma is an instruction of this one architecture: not of those before it, and not of those after.
std::string wgmma_reason(int device) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "reading the device's properties");
  if (architecture_of(properties) == 90) return "";
  return "wgmma needs compute capability 9.0, got " + std::to_string(properties.major) + "." + std::to_string(properties.minor);
}

std::string probe(int device, Screen screen) {
  if (screen == Screen::kCanonical) return "";
  try {
    std::string reason;
    if (screen == Screen::kCublas && load_cublas(&reason) == nullptr) return reason;
    if (screen == Screen::kWgmma && !(reason = wgmma_reason(device)).empty()) return reason;
    return names_planted_features(device, screen) ? "" : kScreens[static_cast<int>(screen)].dropped;
  } catch (const std::exception& e) {
    return std::string("its probe failed: ") + e.what();
  }
}

}  // namespace

const char* screen_name(Screen screen) { return kScreens[static_cast<int>(screen)].name; }

std::string screen_reason(int device, Screen screen) {
  static std::mutex& probing = *new std::mutex;
  static auto& reasons = *new std::map<std::pair<int, Screen>, std::string>;
  std::lock_guard<std::mutex> lock(probing);
  const auto key = std::make_pair(device, screen);
  const auto known = reasons.find(key);
  if (known != reasons.end()) return known->second;
  return reasons[key] = probe(device, screen);
}

Screen default_screen(int device) {
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) return Screen::kCanonical;
  for (const Measured& measured : kMeasured) {
    if (measured.architecture == architecture_of(properties)) return measured.screen;
  }
  return Screen::kCanonical;
}

std::string device_reason(int device) {
  int driver = 0, runtime = 0, count = 0;
  cudaRuntimeGetVersion(&runtime);
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    cudaGetLastError();
    return "there is no CUDA driver here (libcuda.so.1)";
  }
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    if (error == cudaErrorInsufficientDriver) {
      return "the CUDA driver is too old: expected " + version(runtime) + " or newer, got " + version(driver);
    }
    return std::string("CUDA finds no device: ") + cudaGetErrorString(error);
  }
  if (device < 0 || device >= count) {
    return "there " + std::string(count == 1 ? "is 1 CUDA device" : "are " + std::to_string(count) + " CUDA devices") +
           ", numbered from 0";
  }
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
    cudaGetLastError();
    return "its properties cannot be read";
  }
  if (architecture_of(properties) < kOldest) {
    return std::string(properties.name) + " is too old: expected compute capability 8.0 or newer, got " +
           std::to_string(properties.major) + "." + std::to_string(properties.minor);
  }
  return "";
}

std::string describe_device(int device) {
  cudaDeviceProp properties;
  int driver = 0;
  if (!device_reason(device).empty() || cudaGetDeviceProperties(&properties, device) != cudaSuccess) return "";
  cudaDriverGetVersion(&driver);
  return std::string(properties.name) + ", sm_" + std::to_string(architecture_of(properties)) + ", " +
         std::to_string(properties.totalGlobalMem >> 20) + " MiB, driver " + version(driver);
}

}  // namespace sae::cuda
