// The frames of Curvine's data plane, byte for byte: the wire that must never change. Values: block 16793993217,
// capacity 134217728, length 4100, client c0ffee00-..., version 0.4.1.
#pragma once

#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace leap::rpc::golden {

struct Frame {
  std::string_view name;
  std::string_view hex;
};

inline constexpr std::array<Frame, 19> kFrames{{
    {"A1 WriteBlock Open, client to worker",
     "0000007b0000006950f29e3779b97f4a7c15000000000a0c08818080c83e1000180420011000188080804020002a246330666665"
     "6530302d303030302d343030302d383030302d30303030303030303030303130808008c23e250a06636c69656e741205302e342e"
     "311a08626666346537646322002a046d61696e30013801"},
    {"A2 reply to A1 (no path: raw-device worker)",
     "000000210000000f50029e3779b97f4a7c150000000008818080c83e180020808080402805"},
    {"A3 WriteBlock Running, 12 data bytes, no header",
     "0000001e0000000050f39e3779b97f4a7c150000000168656c6c6f20776f726c6421"},
    {"A4 reply to A3 (22 bytes, no header, no data)", "000000120000000050039e3779b97f4a7c1500000001"},
    {"A5 WriteBlock Running with a seek: DataHeader{offset=4096,flush=0,is_last=0} + 4 bytes tail",
     "0000001d0000000750f39e3779b97f4a7c1500000002088020100018007461696c"},
    {"A6 WriteBlock Running, flush: DataHeader{offset=4100,flush=1,is_last=0}",
     "000000190000000750f39e3779b97f4a7c150000000308842010011800"},
    {"A7 WriteBlock Complete, final length 4100",
     "0000007b0000006950f59e3779b97f4a7c15000000040a0d08818080c83e10842018042001108420188080804020002a24633066"
     "66656530302d303030302d343030302d383030302d3030303030303030303030313000c23e250a06636c69656e741205302e342e"
     "311a08626666346537646322002a046d61696e30013801"},
    {"A8 reply to A7", "000000120000000050059e3779b97f4a7c1500000004"},
    {"A9 WriteBlock Cancel (what a client sends after an Open that asked short_circuit and got no path: seq 0 again)",
     "000000790000006750f49e3779b97f4a7c15000000000a0c08818080d03e1000180420011000188080804020002a246330666665"
     "6530302d303030302d343030302d383030302d3030303030303030303030313000c23e250a06636c69656e741205302e342e311a"
     "08626666346537646322002a046d61696e30013801"},
    {"A10 ReadBlock Open, len 4100, chunk 131072, short_circuit=1",
     "000000550000004351f29e3779b97f4a7c150000000008818080c83e100018842020808008280140014880804050808040c23e25"
     "0a06636c69656e741205302e342e311a08626666346537646322002a046d61696e30013801"},
    {"A11 reply to A10 (no path: the session stays open as a remote one)",
     "0000001d0000000b51029e3779b97f4a7c150000000008818080c83e1084202005"},
    {"A12 ReadBlock Running, no header", "000000120000000051f39e3779b97f4a7c1500000001"},
    {"A13 reply shape for a 12-byte chunk (a block of logical length 12)",
     "0000001e0000000051039e3779b97f4a7c150000000168656c6c6f20776f726c6421"},
    {"A14 ReadBlock Running with a seek to 4096", "000000190000000751f39e3779b97f4a7c150000000208802010001800"},
    {"A15 ReadBlock Complete (prost defaults in fields 8, 9, 10)",
     "000000530000004151f59e3779b97f4a7c150000000308818080c83e10001800200028004001488080800250808040c23e250a06"
     "636c69656e741205302e342e311a08626666346537646322002a046d61696e30013801"},
    {"A16 reply to A15", "000000120000000051059e3779b97f4a7c1500000003"},
    {"A17 error reply to a ReadBlock Open of an unknown block: kind 29, text Block 16827547649 not found",
     "000000390000000051129e3779b97f4a7c15000000000000001d0000001b426c6f636b203136383237353437363439206e6f7420"
     "666f756e6400000000"},
    {"A18 error reply to a WriteBlock Running: kind 10000, text bad request",
     "000000290000000050139e3779b97f4a7c1500000001000027100000000b626164207265717565737400000000"},
    {"A19 keep-alive frame of an idle client (swallowed, no reply)", "000000120000000000f0ffffffffffffffffffffffff"},
}};

inline std::vector<std::byte> bytes_of(std::string_view hex) {
  const auto digit = [](char c) -> unsigned {
    if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
    throw std::invalid_argument("not a hex digit");
  };
  std::vector<std::byte> out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<std::byte>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  }
  return out;
}

/// Frame A<number>.
inline std::vector<std::byte> frame(std::size_t number) { return bytes_of(kFrames.at(number - 1).hex); }

}  // namespace leap::rpc::golden
