// engine_fixture.h: an engine on a simulated volume, with short ways to say common things. Every
// fixture ends with a clean unmount and a check that must find nothing.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/engine.h"

namespace filer::engine {

inline const Caller kRootCaller{};

inline std::string FindingsText(const CheckReport& report) {
  std::string text;
  for (const CheckFinding& finding : report.findings) {
    text += finding.what + " (" + finding.where + ", " + finding.path + ")\n";
  }
  return text;
}

// Mounted on `device`; the helpers abort the test's process on errors that the test did not ask
// for.
class TestEngine {
 public:
  explicit TestEngine(BlockDevice& device) : device_(device) {}

  static SimOptions DefaultOptions(std::uint64_t size_bytes = 128ULL << 20) {
    SimOptions options;
    options.size_bytes = size_bytes;
    options.pool_bytes = 32ULL << 20;
    return options;
  }
  void Format() {
    FormatOptions options;
    options.volume_name = "test";
    options.random_seed = 7;
    const auto formatted = Engine::Format(device_, options);
    ASSERT_TRUE(formatted.has_value()) << formatted.error().message();
  }
  MountOptions mount_options;
  const Clock* clock = &SystemClock();
  void Mount() {
    auto mounted = Engine::Mount(device_, *clock, mount_options);
    ASSERT_TRUE(mounted.has_value()) << mounted.error().message();
    engine_ = std::move(mounted).value();
  }
  void Unmount() {
    const auto unmounted = engine_->Unmount();
    ASSERT_TRUE(unmounted.has_value()) << unmounted.error().message();
    engine_.reset();
  }
  void Kill() { engine_.reset(); }
  void CheckIsSound() {
    const auto report = Engine::Check(device_, true);
    ASSERT_TRUE(report.has_value()) << report.error().message();
    EXPECT_EQ(FindingsText(report.value()), "");
  }
  void Remount() {
    Unmount();
    CheckIsSound();
    Mount();
  }

  Engine* operator->() { return engine_.get(); }
  Engine& engine() { return *engine_; }
  NodeId root() { return engine_->Root(); }

  Result<Created> TryCreate(NodeId directory, const std::string& name,
                            NodeKind kind = NodeKind::kFile, std::uint32_t mode = 0644,
                            const Caller& caller = kRootCaller) {
    CreateOptions options;
    options.kind = kind;
    options.attributes.mode = mode;
    if (kind == NodeKind::kSymlink) options.symlink_target = "target";
    return engine_->Create(caller, directory, name, options);
  }
  NodeId Create(NodeId directory, const std::string& name, NodeKind kind = NodeKind::kFile,
                std::uint32_t mode = 0644) {
    return TryCreate(directory, name, kind, mode).value().node.id;
  }
  NodeId Directory(NodeId directory, const std::string& name) {
    return Create(directory, name, NodeKind::kDirectory, 0755);
  }
  Result<WriteResult> TryWrite(NodeId node, std::uint64_t offset, const std::string& bytes,
                               Stability stability = Stability::kUnstable) {
    const iovec data{const_cast<char*>(bytes.data()), bytes.size()};
    return engine_->Write(node, offset, {&data, 1}, stability);
  }
  WriteResult Write(NodeId node, std::uint64_t offset, const std::string& bytes,
                    Stability stability = Stability::kUnstable) {
    return TryWrite(node, offset, bytes, stability).value();
  }
  static std::string Text(const ReadResult& result) {
    std::string text;
    for (const iovec& segment : result.segments) {
      text.append(static_cast<const char*>(segment.iov_base), segment.iov_len);
    }
    EXPECT_EQ(text.size(), result.length_bytes);
    return text;
  }
  std::string Read(NodeId node, std::uint64_t offset, std::uint64_t length) {
    return Text(engine_->Read(node, offset, length).value());
  }
  std::vector<std::string> List(NodeId directory) {
    std::vector<std::string> names;
    EXPECT_TRUE(engine_
                    ->ReadDirectory(directory, 0,
                                    [&](const DirectoryEntry& entry) {
                                      names.push_back(entry.name);
                                      return true;
                                    })
                    .value());
    return names;
  }

 private:
  BlockDevice& device_;
  std::unique_ptr<Engine> engine_;
};

class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = SimDevice::Create(TestEngine::DefaultOptions()).value();
    fs_ = std::make_unique<TestEngine>(*device_);
    fs_->Format();
    fs_->Mount();
  }
  void TearDown() override {
    if (fs_ == nullptr || ::testing::Test::HasFatalFailure()) return;
    fs_->Unmount();
    fs_->CheckIsSound();
  }
  TestEngine& fs() { return *fs_; }
  std::unique_ptr<SimDevice> device_;
  std::unique_ptr<TestEngine> fs_;
};

}  // namespace filer::engine
