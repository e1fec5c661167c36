// NVMe/TCP heads: building the capsule of a 4 KiB command, and framing and checking a C2HData head, with and without
// header digests.
#include <array>

#include <benchmark/benchmark.h>

#include "nvme/nvm_command.h"
#include "nvme/pdu_frame.h"

namespace leap::nvme {
namespace {

constexpr std::uint32_t kData = 4096;

ConnectionParams params(bool digests) {
  return {.hdgst = digests, .ddgst = digests, .maxh2cdata = 8192, .in_capsule_bytes = kData, .max_c2h_bytes = 65536};
}

void encode(benchmark::State& state) {
  const ConnectionParams connection = params(state.range(0) != 0);
  std::array<std::byte, kMaxPduHeadBytes> out{};
  CapsuleCmdPdu pdu;
  std::uint64_t lba = 0;
  for (auto _ : state) {
    pdu.header = make_pdu_header(PduType::kCapsuleCmd, kData, connection);
    pdu.cmd = make_write(Nsid(1), ++lba, 8);
    const std::size_t size = write_head(out, pdu);
    benchmark::DoNotOptimize(size);
    benchmark::DoNotOptimize(out);
  }
}
BENCHMARK(encode)->Name("capsule_cmd/encode/digests")->Arg(0)->Arg(1);

void check(benchmark::State& state) {
  const ConnectionParams connection = params(state.range(0) != 0);
  std::array<std::byte, kMaxPduHeadBytes> head{};
  C2HDataPdu pdu;
  pdu.header = make_pdu_header(PduType::kC2HData, kData, connection);
  pdu.datal = kData;
  const std::size_t size = write_head(head, pdu);
  for (auto _ : state) {
    benchmark::DoNotOptimize(head);
    const PduFrame frame = frame_pdu(std::span(head).first(size), PduDirection::kToHost, connection, true);
    if (frame.state != FrameState::kReady) state.SkipWithError("a good head was refused");
  }
}
BENCHMARK(check)->Name("c2h_data/frame_and_check/digests")->Arg(0)->Arg(1);

}  // namespace
}  // namespace leap::nvme
