// limits.h: every depth and bound of the target in one place. A guest may ask for less, never for
// more.
#pragma once

#include <cstdint>

namespace filer::bridge {

inline constexpr std::uint32_t kQueueCountMax = 64;
inline constexpr std::uint32_t kQueueSizeMax = 1024;        // descriptors of a ring
inline constexpr std::uint32_t kChainDescriptorsMax = 256;  // of one chain or indirect table
inline constexpr std::uint32_t kRequestSegmentsMax = 256;   // after splits at region edges
inline constexpr std::uint32_t kSegmentsOffered = 126;      // seg_max of the configuration space
inline constexpr std::uint64_t kRequestBytesMax = 64ULL << 20;
// Pieces that translation finds for one chain, joined or not: the largest request, a page each.
inline constexpr std::uint32_t kTranslationStepsMax = 64 * 256 + 2 * kChainDescriptorsMax;
inline constexpr std::uint64_t kZeroFillBytesMax = 4ULL << 20;  // of a read that fails
inline constexpr std::uint32_t kDiscardSectorsMax = (1U << 30) / 512;
inline constexpr std::uint32_t kWriteZeroesSectorsMax = (64U << 20) / 512;

// Per queue and poll round, so that one queue cannot starve the others, nor one client.
inline constexpr std::uint32_t kRoundRequestsMax = 128;
// Where the backend completes at once, the front end works on what is published while we go on with
// the rest: two fifths of its depth of late, within these.
inline constexpr std::uint32_t kSynchronousRoundRequestsMin = 4;
inline constexpr std::uint32_t kSynchronousRoundRequestsMax = 16;
// Where a round begins with a request as large as this, the ends' overlap is nothing beside the
// copying, and rounds of eight copy 4% to 7% faster than rounds of four.
inline constexpr std::uint64_t kLargeRequestBytes = 64ULL << 10;
inline constexpr std::uint32_t kLargeRoundRequestsMin = 8;
inline constexpr std::uint64_t kRoundBytesMax = 4ULL << 20;  // of a session's queues together
// What a piece to translate counts as: some 100 ns behind a vIOMMU.
inline constexpr std::uint64_t kTranslationStepBytes = 4096;

inline constexpr std::uint32_t kVolumeCountMax = 64;  // of a process
inline constexpr std::uint32_t kPollerCountMax = 16;  // likewise
inline constexpr std::uint32_t kMemoryRegionsMax = 64;
// Of one client. All together leave half of the process's address space free.
inline constexpr std::uint64_t kMemoryBytesMax = 1ULL << 40;
static_assert(kVolumeCountMax * kMemoryBytesMax <= 1ULL << 46);
inline constexpr std::uint32_t kIotlbEntriesMax = 4096;
inline constexpr std::uint64_t kIotlbPageBytes = 4096;     // smaller ones are refused
inline constexpr std::uint32_t kClosingMax = 16;           // replaced channels of a session
inline constexpr std::uint32_t kClosingBacklogMax = 256;   // of whatever it gave away
inline constexpr std::uint32_t kMessagesPerVisitMax = 32;  // of one session, then others' turn

// Of a volume, whoever its clients are: at once, and then one more per period.
inline constexpr std::uint32_t kPeerLogLines = 20;
inline constexpr std::int64_t kPeerLogLineNs = 10'000'000'000;
// A queue's registering of guest memory with the kernel looks at each page, on the poller.
inline constexpr std::uint32_t kRegistrations = 16;
inline constexpr std::int64_t kRegistrationNs = 10'000'000'000;

}  // namespace filer::bridge
