// endian.h: integers of fixed byte order, alignment 1, for on-disk and on-wire structs; and the
// concept that such structs meet.
#pragma once

#include <boost/endian/arithmetic.hpp>
#include <type_traits>

namespace filer {

using le16 = boost::endian::little_uint16_t;
using le32 = boost::endian::little_uint32_t;
using le64 = boost::endian::little_uint64_t;
using be16 = boost::endian::big_uint16_t;
using be32 = boost::endian::big_uint32_t;
using be64 = boost::endian::big_uint64_t;

// Trivially copyable, standard layout, alignment 1: no padding, may be copied from and to raw
// bytes.
template <typename T>
concept DiskStruct = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> &&
                     alignof(T) == 1;

}  // namespace filer
