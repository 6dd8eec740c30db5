// fuzz_input.h: the fuzzer's bytes as a stream of choices. When they are used up, every choice is
// 0.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace filer::fuzz {

class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}
  bool is_empty() const { return left_ == 0; }

  template <typename T>
  T Take() {
    T value{};
    const std::size_t piece = std::min(sizeof(T), left_);
    std::memcpy(&value, data_, piece);
    data_ += piece;
    left_ -= piece;
    return value;
  }
  // 0 to count - 1.
  std::uint32_t Below(std::uint32_t count) { return Take<std::uint8_t>() % count; }
  bool Flip() { return (Take<std::uint8_t>() & 1) != 0; }
  template <typename T, std::size_t N>
  T Pick(const T (&list)[N]) {
    return list[Below(N)];
  }
  void Fill(std::byte* into, std::size_t size) {
    const std::size_t piece = std::min(size, left_);
    std::memcpy(into, data_, piece);
    data_ += piece;
    left_ -= piece;
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

// Where sums overflow and comparisons turn over.
inline constexpr std::uint64_t kEdges[] = {0,
                                           1,
                                           15,
                                           16,
                                           511,
                                           512,
                                           4095,
                                           4096,
                                           0xffff,
                                           0x10000,
                                           0x7fffffff,
                                           0x80000000,
                                           0xffffffff,
                                           0x100000000,
                                           0x7fffffffffffffff,
                                           0x8000000000000000,
                                           0xfffffffffffff000,
                                           0xffffffffffffffff};

// A number near an edge, any small one, or any at all.
inline std::uint64_t TakeNumber(FuzzInput& input) {
  switch (input.Below(4)) {
    case 0:
      return input.Pick(kEdges) + input.Below(3) - 1;
    case 1:
      return input.Take<std::uint8_t>();
    case 2:
      return input.Take<std::uint16_t>();
    default:
      return input.Take<std::uint64_t>();
  }
}

}  // namespace filer::fuzz
