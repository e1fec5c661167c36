// A target on the command line, for trying peers by hand: manual_target PORT NQN DEVICE... [core=N] [icd=N] [r2t=N]
//
// Prints "ready ADDRESS", serves until standard input ends, then prints what it did.
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>

#include "base/log.h"
#include "base/sys.h"
#include "target/target_runner.h"

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: manual_target PORT NQN DEVICE... [core=N] [icd=N] [r2t=N]\n";
    return 2;
  }
  leap::TargetRunner::Options options;
  const auto address = leap::SocketAddress::parse(std::string("127.0.0.1:") + argv[1]);
  if (!address.ok()) {
    std::cerr << address.error().to_string() << '\n';
    return 2;
  }
  options.target.listen = {*address};
  options.target.nqn = argv[2];
  for (int i = 3; i < argc; ++i) {
    const std::string text = argv[i];
    const auto number = [&](std::size_t from) { return static_cast<std::uint32_t>(std::stoul(text.substr(from))); };
    if (text.starts_with("core="))
      options.cores.push_back(number(5));
    else if (text.starts_with("icd="))
      options.target.in_capsule_data_size = number(4);
    else if (text.starts_with("r2t="))
      options.target.max_r2t_bytes = number(4);
    else
      options.namespaces.push_back(text);
  }
  auto runner = leap::TargetRunner::create(std::move(options));
  if (!runner.ok()) {
    std::cerr << runner.error().to_string() << '\n';
    return 1;
  }
  if (const auto started = runner.value()->start(); !started.ok()) {
    std::cerr << started.error().to_string() << '\n';
    return 1;
  }
  std::cout << "ready " << runner.value()->target().addresses().front().to_string() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const auto probe = runner.value()->target().probe();
    const auto& poller = runner.value()->pollers().front()->probe();
    std::cout << "connections " << probe.connections_now << " reads " << probe.reads << " writes " << probe.writes
              << " failed " << probe.failed_commands << " r2ts " << probe.r2ts << " syscalls " << poller.syscalls.load()
              << " turns " << poller.turns.load() << std::endl;
  }
  const auto stopped = runner.value()->stop(std::chrono::seconds(5));
  if (!stopped.ok()) std::cerr << stopped.error().to_string() << '\n';
  return stopped.ok() ? 0 : 1;
}
