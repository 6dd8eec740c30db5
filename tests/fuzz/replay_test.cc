// replay_test.cc: every input of the kept corpus once, without libFuzzer.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "base/file.h"
#include "base/log.h"
#include "tests/fuzz/fuzz_target.h"

namespace filer::fuzz {
namespace {

TEST(Corpus, FindsNothing) {
  InitLog("replay", "critical");
  std::signal(SIGPIPE, SIG_IGN);
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FILER_CORPUS)) {
    const auto bytes = ReadWholeFile(entry.path());
    ASSERT_TRUE(bytes.has_value());
    SCOPED_TRACE(entry.path().string());
    FuzzOne(reinterpret_cast<const std::uint8_t*>(bytes.value().data()), bytes.value().size());
    ++count;
  }
  EXPECT_GE(count, 20u) << "the corpus is gone";
}

}  // namespace
}  // namespace filer::fuzz
