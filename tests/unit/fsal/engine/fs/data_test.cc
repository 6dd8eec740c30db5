// Contents of files: write, read, commit, truncate, holes, space, damage.
#include <atomic>
#include <cstring>
#include <thread>

#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/store.h"
#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {
namespace {

using Data = EngineTest;

std::string Pattern(std::size_t bytes, std::uint32_t seed) {
  std::string text(bytes, '\0');
  for (char& byte : text) {
    seed = seed * 1664525 + 1013904223;
    byte = static_cast<char>(seed >> 24);
  }
  return text;
}

AttributeChange SizeChange(std::uint64_t size) {
  AttributeChange change;
  change.size_bytes = size;
  return change;
}

TEST_F(Data, UnstableWriteIsReadAtOnceAndSurvivesRemount) {
  const NodeId file = fs().Create(fs().root(), "a");
  const std::string text = Pattern(3'000'000, 1);
  fs().Write(file, 0, text.substr(0, 1'000'001));
  fs().Write(file, 1'000'001, text.substr(1'000'001));
  EXPECT_EQ(fs().Read(file, 0, text.size()), text);
  EXPECT_EQ(fs()->GetAttributes(file).value().size_bytes, text.size());
  ASSERT_TRUE(fs()->Commit(file, 0, 0).has_value());
  EXPECT_EQ(fs().Read(file, 777, 2'000'000), text.substr(777, 2'000'000));
  fs().Remount();
  EXPECT_EQ(fs().Read(file, 0, text.size()), text);
  EXPECT_EQ(fs().Read(file, 4095, 4098), text.substr(4095, 4098));
  EXPECT_EQ(fs()->Counters().copied_read_bytes, 0U);
}

TEST_F(Data, KilledEngineKeepsWhatWasStable) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs().Write(file, 0, "stable", Stability::kFileSync);
  const auto before = fs()->Verifier();
  fs().Write(file, 100'000, "lost");
  fs().Kill();
  fs().Mount();
  EXPECT_EQ(fs().Read(file, 0, 1000), "stable");
  EXPECT_EQ(fs()->GetAttributes(file).value().size_bytes, 6U);
  EXPECT_NE(fs()->Verifier(), before);
}

// What is committed is a hole, and only a write behind it, which may be lost, makes it part of the
// file.
TEST_F(Data, ACommittedHoleIsPartOfTheFile) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs().Write(file, 0, "stable", Stability::kFileSync);
  fs().Write(file, 100'000, "lost");
  fs()->Commit(file, 10'000, 2'000).value();
  fs().Kill();
  fs().Mount();
  EXPECT_EQ(fs()->GetAttributes(file).value().size_bytes, 12'288U);
  EXPECT_EQ(fs().Read(file, 0, 12'288), "stable" + std::string(12'288 - 6, '\0'));
}

TEST_F(Data, OverwriteDoesNotChangeWhatAReaderHolds) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs().Write(file, 0, std::string(10'000, 'a'));
  const ReadResult held = fs()->Read(file, 0, 10'000).value();
  fs().Write(file, 10, std::string(9'000, 'b'));
  fs()->Commit(file, 0, 0).value();
  EXPECT_EQ(TestEngine::Text(held), std::string(10'000, 'a'));
  EXPECT_EQ(fs().Read(file, 9, 2), "ab");
}

TEST_F(Data, TruncateZeroesTheTailAlsoOnTheVolume) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs().Write(file, 0, std::string(10'000, 'x'), Stability::kFileSync);
  fs()->SetAttributes(kRootCaller, file, SizeChange(5'000)).value();
  fs().Kill();
  fs().Mount();
  EXPECT_EQ(fs().Read(file, 0, 20'000), std::string(5'000, 'x'));
  fs()->SetAttributes(kRootCaller, file, SizeChange(9'000)).value();
  EXPECT_EQ(fs().Read(file, 0, 20'000), std::string(5'000, 'x') + std::string(4'000, '\0'));
  EXPECT_TRUE(fs()->SetAttributes(kRootCaller, file, SizeChange(kFileBytesMax + 1)).error() ==
              Errc::kFileTooBig);
  EXPECT_TRUE(fs()->SetAttributes(kRootCaller, fs().root(), SizeChange(0)).error() ==
              Errc::kIsDirectory);
}

TEST_F(Data, SparseFilesAndSeek) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs().Write(file, 1 << 20, "data");
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(fs()->Seek(file, 0, true).value(), 1U << 20);
    EXPECT_EQ(fs()->Seek(file, 0, false).value(), 0U);
    EXPECT_EQ(fs()->Seek(file, (1 << 20) + 1, false).value(), (1U << 20) + 4);
    EXPECT_TRUE(fs()->Seek(file, (1 << 20) + 4, true).error() == Errc::kOutOfRange);
    EXPECT_EQ(fs().Read(file, (1 << 20) - 3, 100), std::string(3, '\0') + "data");
    fs()->Commit(file, 0, 0).value();
  }
  EXPECT_EQ(fs()->GetAttributes(file).value().used_bytes, 4096U);
  fs().Write(file, kFileBytesMax - 1, "z", Stability::kFileSync);
  EXPECT_EQ(fs().Read(file, kFileBytesMax - 1, 5), "z");
  EXPECT_TRUE(fs().TryWrite(file, kFileBytesMax, "z").error() == Errc::kFileTooBig);
}

TEST_F(Data, DeallocateAndAllocate) {
  const NodeId file = fs().Create(fs().root(), "a");
  std::string text = Pattern(50'000, 3);
  fs().Write(file, 0, text, Stability::kFileSync);
  ASSERT_TRUE(fs()->Deallocate(kRootCaller, file, 5'000, 30'000).has_value());
  text.replace(5'000, 30'000, std::string(30'000, '\0'));
  EXPECT_EQ(fs().Read(file, 0, 60'000), text);
  EXPECT_EQ(fs()->Seek(file, 8'192, false).value(), 8'192U);
  ASSERT_TRUE(fs()->Allocate(kRootCaller, file, 0, 100'000, true).has_value());
  EXPECT_EQ(fs()->GetAttributes(file).value().size_bytes, 50'000U);
  EXPECT_EQ(fs()->GetAttributes(file).value().used_bytes, 25U * 4096);
  ASSERT_TRUE(fs()->Allocate(kRootCaller, file, 0, 80'000, false).has_value());
  EXPECT_EQ(fs()->GetAttributes(file).value().size_bytes, 80'000U);
  text.resize(80'000, '\0');
  fs().Remount();
  EXPECT_EQ(fs().Read(file, 0, 90'000), text);
}

TEST_F(Data, FullVolumeSaysSoAtTheWriteAndCanBeEmptied) {
  const std::uint64_t free_before = fs()->Counters().free_blocks;
  for (int round = 0; round < 2; ++round) {
    const NodeId file = fs().Create(fs().root(), "big");
    const std::string piece = Pattern(1 << 20, 4);
    std::uint64_t size = 0;
    while (true) {
      const auto written = fs().TryWrite(file, size, piece);
      if (!written.has_value()) {
        EXPECT_TRUE(written.error() == Errc::kNoSpace) << written.error().message();
        break;
      }
      size += piece.size();
    }
    EXPECT_GT(size, 40ULL << 20);
    ASSERT_TRUE(fs()->Commit(file, 0, 0).has_value());  // was promised
    EXPECT_EQ(fs().Read(file, size - piece.size(), piece.size()), piece);
    // Truncation needs a block for the new tail.
    ASSERT_TRUE(fs()->SetAttributes(kRootCaller, file, SizeChange(size - 100)).has_value());
    ASSERT_TRUE(fs()->Remove(kRootCaller, fs().root(), "big", RemoveKind::kAny).has_value());
    ASSERT_TRUE(fs()->SyncAll().has_value());
    EXPECT_EQ(fs()->Counters().free_blocks, free_before);
  }
}

TEST_F(Data, SmallCacheServesBigFiles) {
  fs().Unmount();
  fs().mount_options.cache_bytes = 1 << 20;
  fs().mount_options.dirty_bytes_max = 1 << 20;
  fs().Mount();
  const NodeId file = fs().Create(fs().root(), "a");
  const std::string text = Pattern(12 << 20, 5);
  for (std::size_t at = 0; at < text.size(); at += 300'000) {
    fs().Write(file, at, text.substr(at, 300'000));
  }
  for (std::size_t at = 0; at < text.size(); at += 1 << 20) {
    EXPECT_EQ(fs().Read(file, at, 1 << 20) == text.substr(at, 1 << 20), true) << at;
  }
  EXPECT_LE(fs()->Counters().cached_bytes, 4U << 20);
  EXPECT_LE(fs()->Counters().dirty_bytes, 3U << 20);
}

TEST_F(Data, FlippedBitIsAnErrorOfThatReadOnly) {
  const NodeId file = fs().Create(fs().root(), "a");
  const std::string text = Pattern(200'000, 6);
  fs().Write(file, 0, text, Stability::kFileSync);
  fs().Unmount();
  // Find the data on the volume by its contents.
  SimImage image = device_->CurrentImage();
  std::vector<std::byte> block(4096);
  bool is_found = false;
  for (std::uint64_t at = 0; at < image.size_bytes() && !is_found; at += 4096) {
    image.Read(at, block);
    is_found = std::memcmp(block.data(), text.data() + 4096 * 3, 4096) == 0;
    if (is_found) image.FlipBit(at + 100, 3);
  }
  ASSERT_TRUE(is_found);
  const auto damaged = SimDevice::Create(TestEngine::DefaultOptions(), image).value();
  TestEngine other(*damaged);
  other.Mount();
  EXPECT_TRUE(other->Read(file, 0, 200'000).error() == Errc::kCorrupt);
  EXPECT_EQ(other.Read(file, 0, 4096 * 3), text.substr(0, 4096 * 3));
  EXPECT_EQ(other.Read(file, 4096 * 4, 100'000), text.substr(4096 * 4, 100'000));
  other.Unmount();
  const auto report = Engine::Check(*damaged, true).value();
  ASSERT_EQ(report.findings.size(), 1U);
  EXPECT_EQ(report.findings.front().path, "/a");
  fs().Mount();
}

TEST_F(Data, ExtentsThatContradictEachOtherAreAnErrorNotZeroes) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs().Write(file, 0, Pattern(8 * 4096, 6), Stability::kFileSync);
  fs().Unmount();
  const auto damaged =
      SimDevice::Create(TestEngine::DefaultOptions(), device_->CurrentImage()).value();
  {
    const auto opened = Store::Open(*damaged, SystemClock(), false);
    ASSERT_TRUE(opened.has_value()) << opened.error().message();
    const auto& store = opened.value();
    Extent second;  // of blocks that another one holds
    second.file_block = 2;
    second.length = 1;
    second.physical = store->Geometry().data_first_block + store->Geometry().data_block_count - 1;
    second.checksums = {0};
    Transaction transaction;
    transaction.Put(ExtentKey(file.inode, 2), EncodeExtent(second));
    ASSERT_TRUE(store->Commit(std::move(transaction)).has_value());
    ASSERT_TRUE(store->Close().has_value());
  }
  TestEngine other(*damaged);
  other.Mount();
  const auto read = other->Read(file, 0, 8 * 4096);
  ASSERT_FALSE(read.has_value());
  EXPECT_TRUE(read.error() == Errc::kCorrupt);
  // Nor does the rest of a block that is written in part come from nowhere.
  const auto written = other.TryWrite(file, 2 * 4096 + 100, "part", Stability::kFileSync);
  ASSERT_FALSE(written.has_value());
  EXPECT_TRUE(written.error() == Errc::kCorrupt);
  other.Kill();
  fs().Mount();
}

TEST_F(Data, FailedWriteBackKeepsTheDataAndChangesTheVerifier) {
  const NodeId file = fs().Create(fs().root(), "a");
  const auto before = fs().Write(file, 0, "precious").verifier;
  // The file's own block only: a checkpoint at the same time must not fail, or the mount is over.
  device_->SetFaultHook([](const BlockRequest& request, std::uint64_t) {
    SimVerdict verdict;
    if (request.operation == BlockOperation::kWrite &&
        std::memcmp(request.segments.front().iov_base, "precious", 8) == 0) {
      verdict.fault = SimFault::kFail;
    }
    return verdict;
  });
  EXPECT_FALSE(fs()->Commit(file, 0, 0).has_value());
  device_->SetFaultHook(nullptr);
  EXPECT_NE(fs()->Verifier(), before);
  EXPECT_EQ(fs().Read(file, 0, 10), "precious");
  ASSERT_TRUE(fs()->Commit(file, 0, 0).has_value());
}

TEST_F(Data, AFailedLogRefusesChangesAsReadOnlyAndSaysWhy) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs().Write(file, 0, "durable");
  ASSERT_TRUE(fs()->Commit(file, 0, 0).has_value());
  EXPECT_TRUE(fs()->Health().has_value());
  device_->SetFaultHook([](const BlockRequest& request, std::uint64_t) {
    SimVerdict verdict;
    if (request.operation == BlockOperation::kWrite) verdict.fault = SimFault::kFail;
    return verdict;
  });
  const auto create = [&](const char* name) { return fs()->Create({}, fs().root(), name, {}); };
  ASSERT_FALSE(create("b").has_value());
  device_->SetFaultHook(nullptr);  // the device is well again, the log is not

  ASSERT_FALSE(fs()->Health().has_value());
  EXPECT_NE(fs()->Health().error().message().find("until it is mounted again"), std::string::npos);
  EXPECT_TRUE(create("c").error() == Errc::kReadOnly);
  std::string text = "more";
  const iovec data{text.data(), text.size()};
  EXPECT_TRUE(fs()->Write(file, 0, {&data, 1}, Stability::kUnstable).error() == Errc::kReadOnly);
  EXPECT_EQ(fs().Read(file, 0, 10), "durable");
  fs().Kill();
  fs().Mount();
  EXPECT_TRUE(fs()->Health().has_value());
  EXPECT_TRUE(create("c").has_value());
}

TEST_F(Data, AsyncFormsAnswerOnce) {
  const NodeId file = fs().Create(fs().root(), "a");
  const std::string text = Pattern(500'000, 8);
  const iovec data{const_cast<char*>(text.data()), text.size()};
  std::atomic<int> answers{0};
  for (const Stability stability : {Stability::kUnstable, Stability::kFileSync}) {
    fs()->WriteAsync(file, 0, {&data, 1}, stability, [&](Result<WriteResult> result) {
      EXPECT_TRUE(result.has_value());
      ++answers;
    });
  }
  while (answers < 2) std::this_thread::yield();
  fs().Remount();
  for (int round = 0; round < 2; ++round) {
    fs()->ReadAsync(file, 0, text.size(), [&](Result<ReadResult> result) {
      EXPECT_EQ(TestEngine::Text(result.value()), text);
      ++answers;
    });
    while (answers < 3 + round) std::this_thread::yield();
  }
}

TEST_F(Data, BigFileIsTruncatedAndRemovedInSteps) {
  const NodeId file = fs().Create(fs().root(), "a");
  const std::uint64_t free_before = fs()->Counters().free_blocks;
  for (std::uint64_t index = 0; index < 1500; ++index) fs().Write(file, index * 8192, "x");
  ASSERT_TRUE(fs()->Commit(file, 0, 0).has_value());
  EXPECT_EQ(fs()->GetAttributes(file).value().used_bytes, 1500U * 4096);
  ASSERT_TRUE(fs()->SetAttributes(kRootCaller, file, SizeChange(8192 * 900)).has_value());
  EXPECT_EQ(fs()->GetAttributes(file).value().used_bytes, 900U * 4096);
  fs()->Remove(kRootCaller, fs().root(), "a", RemoveKind::kAny).value();
  for (int tries = 0; tries < 500 && fs()->Counters().inodes > 1; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_TRUE(fs()->SyncAll().has_value());
  EXPECT_EQ(fs()->Counters().free_blocks, free_before);
}

}  // namespace
}  // namespace filer::engine
