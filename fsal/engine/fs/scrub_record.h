// scrub_record.h: what a scrub leaves in the store: how far it came (C scrub_cursor), and what it
// found (C scrub_finding/NUMBER). Decoders take hostile bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "fsal/engine/engine.h"

namespace filer::engine {

inline constexpr std::string_view kScrubCursor = "scrub_cursor";
inline constexpr std::string_view kScrubFinding = "scrub_finding/";
inline constexpr std::size_t kScrubFindingsMax = 256;

enum class ScrubPhase : std::uint8_t { kNodes = 0, kData = 1 };

struct ScrubCursor {
  bool is_running = false;  // goes on at the next mount
  bool is_at_start = true;  // no pass is half done
  bool yields_to_clients = true;
  bool has_more_findings = false;
  ScrubPhase phase = ScrubPhase::kNodes;
  std::uint64_t passes = 0;
  std::uint64_t nodes = 0, bytes = 0;
  std::uint64_t bytes_per_second = 0;
  std::int64_t started_ns = 0, finished_ns = 0;
  std::uint32_t tree = 0;  // ids below it are done; 0: the lists of the snapshots
  std::string key;         // everything below it in this phase of the tree is done
};

struct ScrubFinding {
  std::uint64_t pass = 0;  // which one has seen it last: passes + 1 of then
  CheckFinding finding;
};

std::string EncodeScrubCursor(const ScrubCursor& cursor);
Result<ScrubCursor> DecodeScrubCursor(std::string_view bytes);
std::string EncodeScrubFinding(const ScrubFinding& finding);
Result<ScrubFinding> DecodeScrubFinding(std::string_view bytes);
std::string ScrubFindingKey(std::size_t number);

}  // namespace filer::engine
