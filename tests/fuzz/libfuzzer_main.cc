// libfuzzer_main.cc: a fuzz target as libFuzzer calls it.
#include <csignal>

#include "base/log.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  filer::InitLog("fuzz", "critical");
  std::signal(SIGPIPE, SIG_IGN);  // as in the daemon
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  filer::fuzz::FuzzOne(data, size);
  return 0;
}
