#include "fsal/ganesha/read_reply.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace filer::ganesha {
namespace {

// A result over the parts of `texts`, as if each lay in a pool buffer.
engine::ReadResult ResultOf(std::vector<std::string>& texts) {
  engine::ReadResult result;
  for (std::string& text : texts) {
    result.segments.push_back({text.data(), text.size()});
    result.length_bytes += text.size();
  }
  return result;
}

std::string Content(const ReadReply& reply) {
  std::string content;
  for (const iovec& segment : reply.segments) {
    const void* base = segment.iov_base == nullptr ? reply.tail.data() : segment.iov_base;
    content.append(static_cast<const char*>(base), segment.iov_len);
  }
  return content;
}

// What Ganesha takes off the last segment (xdr_io_data_encode) must be in it.
void ExpectPaddable(const ReadReply& reply) {
  ASSERT_FALSE(reply.segments.empty());
  EXPECT_GE(reply.segments.back().iov_len, Content(reply).size() % 4);
}

TEST(MakeReadReply, PassesSegmentsByReference) {
  std::vector<std::string> texts{"aaaaaaaa", "", "bbbbbbb"};
  const ReadReply reply = MakeReadReply(ResultOf(texts), false);
  ASSERT_EQ(reply.segments.size(), 2U) << "no empty segment";
  EXPECT_EQ(reply.segments[0].iov_base, texts[0].data());
  EXPECT_EQ(reply.segments[1].iov_base, texts[2].data());
  EXPECT_EQ(reply.copied_bytes, 0U);
  ExpectPaddable(reply);
}

TEST(MakeReadReply, MovesATailThatSpansSegments) {
  // 4095 + 1 bytes from offset 4095 would end in a segment shorter than what Ganesha takes off it.
  for (const auto& lengths : std::vector<std::vector<std::size_t>>{
           {1, 1}, {2, 1}, {1, 1, 1}, {5, 1}, {5, 1, 1}, {4093, 1, 1}, {1}, {3}, {7}, {4096, 2}}) {
    std::vector<std::string> texts;
    std::string expected;
    for (const std::size_t length : lengths) {
      std::string text;
      for (std::size_t i = 0; i < length; ++i) {
        text.push_back(static_cast<char>('a' + (expected.size() + i) % 26));
      }
      expected += text;
      texts.push_back(std::move(text));
    }
    const ReadReply reply = MakeReadReply(ResultOf(texts), false);
    EXPECT_EQ(Content(reply), expected);
    EXPECT_LE(reply.copied_bytes, 3U);
    ExpectPaddable(reply);
  }
}

TEST(MakeReadReply, CopiesAllForEncryption) {
  std::vector<std::string> texts{"abc", "defgh"};
  const ReadReply reply = MakeReadReply(ResultOf(texts), true);
  EXPECT_EQ(Content(reply), "abcdefgh");
  EXPECT_EQ(reply.copied_bytes, 8U);
  EXPECT_NE(reply.segments[0].iov_base, texts[0].data());
}

TEST(CopyOut, FillsBuffersAcrossSegments) {
  std::vector<std::string> texts{"abc", "defgh", "i"};
  const auto result = ResultOf(texts);
  std::string first(2, '-');
  std::string second(20, '-');
  const std::vector<iovec> to{{first.data(), first.size()}, {second.data(), second.size()}};
  EXPECT_EQ(CopyOut(result, to), 9U);
  EXPECT_EQ(first + second.substr(0, 7), "abcdefghi");
  EXPECT_EQ(second[7], '-');
  EXPECT_EQ(CopyOut(result, std::span(to).first(1)), 2U) << "never beyond the caller's buffers";
}

}  // namespace
}  // namespace filer::ganesha
