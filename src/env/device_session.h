// DeviceSession: one device string turned into a running environment with that device in it. For tools that work on a
// single device: benchmarks, identify.
//
//   LEAP_TRY(auto session, DeviceSession::open("nvme+tcp://127.0.0.1:4420/nqn...", {.cores = "1"}));
//   run_io_bench(config, session->device(), session->pollers());
//   session->close();
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "env/nvme_env.h"

namespace leap {

class DeviceSession {
 public:
  struct Options {
    std::string cores;                    ///< "1", "0,2-3" or a mask "0x6"; empty: the last core allowed here
    std::uint64_t memory = 256ULL << 20;  ///< bytes of DMA buffers
    std::optional<std::uint32_t> nsid;    ///< overrides the one in the string
    std::uint32_t io_queue_depth = 128;
    bool header_digest = false;
    bool data_digest = false;
    bool protocol_checker = false;  ///< as ControllerConfig
    Nanos connect_timeout = std::chrono::seconds(10);
    bool any_namespace = false;  ///< success without a device, too: only the controller is wanted
  };

  /// Errors: kInvalidArgument (the string, the cores, an NVMe option for a local device), kBusy (an environment or the
  /// file is in use), kNotFound (no such namespace; lists those there are), and whatever connecting or opening reports.
  static Result<std::unique_ptr<DeviceSession>> open(const std::string& device, const Options& options);
  ~DeviceSession() = default;

  /// Not with any_namespace, unless the device is local.
  [[nodiscard]] BlockDevice& device() { return *device_; }
  [[nodiscard]] const std::vector<PollerContext>& pollers() const { return env_->pollers(); }
  [[nodiscard]] NvmeEnv& env() { return *env_; }
  /// The controller behind the device; nullptr for memory and files.
  [[nodiscard]] std::shared_ptr<const NvmeController> controller() const;
  Result<> close();

 private:
  DeviceSession() = default;

  std::unique_ptr<BlockDevice> local_;
  std::unique_ptr<NvmeEnv> env_;
  BlockDevice* device_ = nullptr;
};

/// The core set a user wrote ("1", "0,2-3", "0x6"), as reactor_mask takes it; empty text: the last allowed core.
std::string core_set(const std::string& text);

}  // namespace leap
